/* Counting checks and ending the run. */
#include "report.h"

#include "console.h"
#include "cpu.h"

static uint64_t check_count, failure_count;

static bool count_check(const char *name, bool passed) {
    check_count++;
    failure_count += !passed;
    print("%s %s", passed ? "PASS" : "FAIL", name);
    return passed;
}

void check_equal(const char *name, uint64_t got, uint64_t expected) {
    if (!count_check(name, got == expected)) print(": got 0x%lx expected 0x%lx", got, expected);
    print("\n");
}

void check_true(const char *name, bool condition) {
    if (!count_check(name, condition)) print(": does not hold");
    print("\n");
}

void tally_equal(struct tally *tally, uint64_t got, uint64_t expected) {
    if (got != expected && !tally->differences++) {
        tally->index = tally->count;
        tally->got = got;
        tally->expected = expected;
    }
    tally->count++;
}

void check_tally(const char *name, const struct tally *tally) {
    if (!count_check(name, tally->count && !tally->differences))
        print(": %lu of %lu differ, first at %lu: got 0x%lx expected 0x%lx", tally->differences, tally->count,
              tally->index, tally->got, tally->expected);
    print("\n");
}

static _Noreturn void debug_exit(uint8_t status) {
    out8(DEBUG_EXIT_PORT, status);
    for (;;) asm volatile("cli; hlt");
}

void print_verdict(void) {
    if (failure_count)
        print("FAILURE %lu of %lu checks\n", failure_count, check_count);
    else
        print("PASS: all %lu checks\n", check_count);
}

void finish(void) {
    if (!check_count) error("no check was made");
    print_verdict();
    debug_exit(failure_count ? EXIT_FAILURE : EXIT_SUCCESS);
}

void skip(const char *why) {
    print("SKIP %s\n", why);
    debug_exit(EXIT_SKIP);
}

void error(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print("ERROR ");
    print_list(format, arguments);
    print("\n");
    va_end(arguments);
    debug_exit(EXIT_ERROR);
}
