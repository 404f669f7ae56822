/* Words `name=value` of the kernel's command line. */
#ifndef COMMAND_LINE_H
#define COMMAND_LINE_H

#include "guest.h"

/* What is behind `name=` in the first word that begins so; NULL: there is none. It ends at a space or a NUL. */
static inline const char *word_of(const char *name) {
    const char *at = (const char *)(uint64_t)boot_params->command_line;
    for (bool begins = true; at && *at; begins = *at++ == ' ') {
        unsigned i = 0;
        while (name[i] && at[i] == name[i]) i++;
        if (begins && !name[i] && at[i] == '=') return at + i + 1;
    }
    return NULL;
}

static inline bool word_is(const char *name, const char *value) {
    const char *at = word_of(name);
    if (!at) return false;
    while (*value && *at == *value) at++, value++;
    return !*value && (!*at || *at == ' ');
}

static inline uint64_t word_number(const char *name, uint64_t otherwise) {
    const char *at = word_of(name);
    if (!at || *at < '0' || *at > '9') return otherwise;
    uint64_t value = 0;
    for (; *at >= '0' && *at <= '9'; at++) value = value * 10 + *at - '0';
    return value;
}

/* Six bytes like 02:5c:00:00:01:07. */
static inline bool word_mac(const char *name, uint8_t ret[6]) {
    const char *at = word_of(name);
    for (unsigned i = 0; at && i < 12; i++) {
        if (i && !(i & 1) && *at++ != ':') return false;
        unsigned digit = *at <= '9' ? *at - '0' : (*at | 0x20) - 'a' + 10;
        if (digit > 15) return false;
        ret[i / 2] = ret[i / 2] << 4 | digit;
        at++;
    }
    return at != NULL;
}

#endif
