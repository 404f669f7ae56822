/* Checks and the verdict; what a test kernel prints.
 *
 *   PASS name                                    each check, once
 *   FAIL name: got 0x1 expected 0x2
 *   PASS: all 12 checks                          the last line, always one of these four; then the debug exit
 *   FAILURE 1 of 12 checks                       with EXIT_...
 *   SKIP why
 *   ERROR why
 *
 * Nothing printed depends on time, except lines that start with `~`.
 */
#ifndef REPORT_H
#define REPORT_H

#include <stdbool.h>
#include <stdint.h>

#define DEBUG_EXIT_PORT 0xf4
#define POST_PORT 0x80

enum { EXIT_SUCCESS, EXIT_FAILURE, EXIT_ERROR, EXIT_SKIP };

void check_equal(const char *name, uint64_t got, uint64_t expected);
void check_true(const char *name, bool condition);

/* Many comparisons that count as one check; the first difference is shown with its index. */
struct tally {
    uint64_t count, differences, index, got, expected;
};
void tally_equal(struct tally *tally, uint64_t got, uint64_t expected);
void check_tally(const char *name, const struct tally *tally);

void print_verdict(void);
_Noreturn void finish(void); /* verdict, then exit */
_Noreturn void skip(const char *why);
_Noreturn void error(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
