/* The clock that the engine sees: not the workstation's, but that of the CPU it runs.
 *
 * The engine makes its TLB smaller when little of it was used for 100 ms. A guest that changes a mapping without flushing
 * it can tell from what it still finds there, so this must not depend on the workstation: the engine's gettimeofday() is
 * ours. It calls through a table of addresses in its library (procedure linkage), of which one is set.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <string.h>
#include <sys/time.h>
#include "state.h"

/* So that the 100 ms are a million cycles: about as long as they last where the engine is at its slowest, filling its TLB
 * and flushing it again and again. */
enum { CYCLES_PER_US = 10 };

static _Thread_local const sc_cpu *shown; /* whose clock it is */

static int tell_time(struct timeval *ret, void *zone) {
    uint64_t us = shown ? shown->s.clock_cycles / CYCLES_PER_US : 0;
    (void)zone;
    *ret = (struct timeval){.tv_sec = us / 1000000, .tv_usec = us % 1000000};
    return 0;
}

/* From now on the engine sees the clock of `cpu`; NULL: of none. */
void show_clock(const sc_cpu *cpu) { shown = cpu; }

/* Let the engine ask us for the time; false: it does not ask as expected. Doing it again for each CPU changes nothing. */
bool replace_clock(void) {
    Dl_info info;
    struct link_map *library = NULL;
    const ElfW(Rela) *entries = NULL;
    const ElfW(Sym) *symbols = NULL;
    const char *names = NULL;
    size_t count = 0;
    bool found = false;
    if (!dladdr1((void *)uc_open, &info, (void **)&library, RTLD_DL_LINKMAP) || !library) return false;
    for (const ElfW(Dyn) *d = library->l_ld; d->d_tag != DT_NULL; d++) {
        if (d->d_tag == DT_JMPREL) entries = (const void *)d->d_un.d_ptr;
        if (d->d_tag == DT_PLTRELSZ) count = d->d_un.d_val / sizeof *entries;
        if (d->d_tag == DT_SYMTAB) symbols = (const void *)d->d_un.d_ptr;
        if (d->d_tag == DT_STRTAB) names = (const void *)d->d_un.d_ptr;
    }
    if (!entries || !symbols || !names) return false;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names + symbols[ELF64_R_SYM(entries[i].r_info)].st_name, "gettimeofday")) continue;
        *(void **)(library->l_addr + entries[i].r_offset) = (void *)tell_time;
        found = true;
    }
    return found;
}
