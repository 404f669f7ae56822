/* 16550 output by polling (PC16550D data sheet) and formatted printing. */
#include "console.h"

#include "cpu.h"

enum { REG_DATA, REG_IER, REG_FCR, REG_LCR, REG_MCR, REG_LSR };
#define LCR_8N1 0x03
#define LCR_DLAB 0x80
#define FCR_ENABLE_AND_CLEAR 0x07
#define MCR_DTR_RTS 0x03
#define LSR_THR_EMPTY 0x20

void console_init(void) {
    out8(COM1 + REG_IER, 0);
    out8(COM1 + REG_LCR, LCR_8N1 | LCR_DLAB);
    out8(COM1 + REG_DATA, 1); /* divisor 1: 115200 baud */
    out8(COM1 + REG_IER, 0);
    out8(COM1 + REG_LCR, LCR_8N1);
    out8(COM1 + REG_FCR, FCR_ENABLE_AND_CLEAR);
    out8(COM1 + REG_MCR, MCR_DTR_RTS);
}

void console_put(char character) {
    if (character == '\n') console_put('\r');
    while (!(in8(COM1 + REG_LSR) & LSR_THR_EMPTY));
    out8(COM1 + REG_DATA, (uint8_t)character);
}

struct field {
    int width;
    char pad;
    bool left, wide;
};

static void put_text(const char *text, size_t length, struct field field) {
    int padding = field.width > (int)length ? field.width - (int)length : 0;
    for (int i = 0; !field.left && i < padding; i++) console_put(field.pad);
    for (size_t i = 0; i < length; i++) console_put(text[i]);
    for (int i = 0; field.left && i < padding; i++) console_put(' ');
}

static void put_number(uint64_t value, bool negative, unsigned base, struct field field) {
    char digits[24];
    char *next = digits + sizeof digits;
    do {
        *--next = "0123456789abcdef"[value % base];
    } while (value /= base);
    if (negative) *--next = '-';
    put_text(next, (size_t)(digits + sizeof digits - next), field);
}

static const char *parse_field(const char *format, struct field *ret) {
    *ret = (struct field){.pad = ' '};
    for (; *format == '-' || *format == '0'; format++) {
        if (*format == '-')
            ret->left = true;
        else
            ret->pad = '0';
    }
    for (; *format >= '0' && *format <= '9'; format++) ret->width = ret->width * 10 + *format - '0';
    for (; *format == 'l'; format++) ret->wide = true;
    return format;
}

static void put_signed(int64_t value, struct field field) {
    put_number(value < 0 ? -(uint64_t)value : (uint64_t)value, value < 0, 10, field);
}

void print_list(const char *format, va_list arguments) {
    for (; *format; format++) {
        if (*format != '%') {
            console_put(*format);
            continue;
        }
        struct field field;
        format = parse_field(format + 1, &field);
        if (*format == 's') {
            const char *text = va_arg(arguments, const char *);
            size_t length = 0;
            while (text[length]) length++;
            put_text(text, length, field);
        } else if (*format == 'd') {
            put_signed(field.wide ? va_arg(arguments, int64_t) : va_arg(arguments, int), field);
        } else if (*format == 'u' || *format == 'x') {
            uint64_t value = field.wide ? va_arg(arguments, uint64_t) : va_arg(arguments, unsigned);
            put_number(value, false, *format == 'x' ? 16 : 10, field);
        } else {
            console_put(*format == 'c' ? (char)va_arg(arguments, int) : *format);
        }
    }
}

void print(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print_list(format, arguments);
    va_end(arguments);
}

void *memset(void *destination, int value, size_t length) {
    void *next = destination;
    asm volatile("rep stosb" : "+D"(next), "+c"(length) : "a"(value) : "memory");
    return destination;
}

void *memcpy(void *destination, const void *source, size_t length) {
    void *next = destination;
    asm volatile("rep movsb" : "+D"(next), "+S"(source), "+c"(length) : : "memory");
    return destination;
}

void *memmove(void *destination, const void *source, size_t length) {
    if ((uintptr_t)destination - (uintptr_t)source >= length) return memcpy(destination, source, length);
    for (volatile char *next = destination; length--;) next[length] = ((const char *)source)[length];
    return destination;
}

int memcmp(const void *left, const void *right, size_t length) {
    const uint8_t *a = left, *b = right;
    for (; length; a++, b++, length--)
        if (*a != *b) return *a - *b;
    return 0;
}
