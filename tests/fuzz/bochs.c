/* Bochs' CPU (the library inside the Python package bochscpu-python), driven as an oracle: one call sets a whole
 * processor state, runs, and reads the state back.
 *
 * The library is loaded behind this one, so the functions of its names that are defined here take the place of its own
 * (its static member functions are plain C functions under their mangled names):
 *   enter_sleep_state    HLT and shutdown end the run
 *   bx_instr_*           its instrumentation: counts instructions and exceptions, ends what runs too long
 *   bx_devices_c::inp    a port answers with its own number; outp: nothing
 *   __isoc23_*           what the library was built to find in a newer C library
 *
 * The state is one array of 64-bit words, in the order of processor_state.py.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GPRS = 0, RIP = 16, RFLAGS, SEGMENTS, GDTR_BASE = SEGMENTS + 8 * 4, GDTR_LIMIT, IDTR_BASE, IDTR_LIMIT };
enum { CR0 = IDTR_LIMIT + 1, CR2, CR3, CR4, EFER, DRS, DR6 = DRS + 4, DR7, STAR, LSTAR, CSTAR, FMASK };
enum { KERNEL_GS_BASE = FMASK + 1, SYSENTER_CS, SYSENTER_ESP, SYSENTER_EIP, PAT, TSC_AUX, STATE_WORDS };
enum { SELECTOR, BASE, LIMIT, RIGHTS };
enum { CR4_PAE = 0x20, EFER_LMA = 0x400 };
enum { LDTR = 6, TR = 7, UNUSABLE = 0x10000 };
enum { ENDED_LIMIT, ENDED_HALT, ENDED_SHUTDOWN, ENDED_STATE };
enum { ACTIVITY_HLT = 1, RESET_HARDWARE = 11, SUMMARY = 0x80, NUMERIC_ERROR = 0x20, HANDLERS_BYTES = 0x1000 };

/* name, place, how many of its 64 bits the library gives back */
#define WORDS(X)                                                                                                      \
    X(cr0, CR0, 32)                                                                                                   \
    X(cr2, CR2, 64)                                                                                                   \
    X(cr3, CR3, 64)                                                                                                   \
    X(cr4, CR4, 32) X(efer, EFER, 32) X(dr6, DR6, 32) X(dr7, DR7, 32) X(star, STAR, 64) X(lstar, LSTAR, 64)           \
        X(cstar, CSTAR, 64) X(fmask, FMASK, 32) X(kernel_gs_base, KERNEL_GS_BASE, 64) X(sysenter_cs, SYSENTER_CS, 32) \
            X(sysenter_esp, SYSENTER_ESP, 64) X(sysenter_eip, SYSENTER_EIP, 64) X(pat, PAT, 64)                       \
                X(tsc_aux, TSC_AUX, 32)
#define DECLARE(name, at, bits)        \
    uint64_t cpu_get_##name(uint32_t); \
    void cpu_set_##name(uint32_t, uint64_t);
WORDS(DECLARE)
void cpu_new(uint32_t);
uint16_t cpu_get_fp_sw(uint32_t);
void cpu_exception(uint32_t, unsigned vector, uint16_t error_code);
void cpu_loop(uint32_t);
void cpu_set_cr8(uint32_t, uint32_t);
void cpu_bail(uint32_t);
void cpu_set_killbit(uint32_t);
void cpu_clear_killbit(uint32_t);
uint32_t cpu_killbit(uint32_t);
void cpu_set_mode(uint32_t);
uint64_t cpu_get_pc(uint32_t);
void cpu_set_pc(uint32_t, uint64_t);
void cpu_set_sp(uint32_t, uint64_t);
uint64_t cpu_get_reg64(uint32_t, uint32_t);
void cpu_set_reg64(uint32_t, uint32_t, uint64_t);
uint32_t cpu_get_eflags(uint32_t);
void cpu_set_eflags(uint32_t, uint32_t);
uint64_t cpu_get_dr(uint32_t, uint32_t);
void cpu_set_dr(uint32_t, uint32_t, uint64_t);
#define GET_SEGMENT uint32_t *present, uint16_t *selector, uint64_t *base, uint32_t *limit, uint16_t *rights
#define SET_SEGMENT uint32_t present, uint16_t selector, uint64_t base, uint32_t limit, uint16_t rights
void cpu_get_seg(uint32_t, uint32_t, GET_SEGMENT);
void cpu_set_seg(uint32_t, uint32_t, SET_SEGMENT);
void cpu_get_ldtr(uint32_t, GET_SEGMENT);
void cpu_set_ldtr(uint32_t, SET_SEGMENT);
void cpu_get_tr(uint32_t, GET_SEGMENT);
void cpu_set_tr(uint32_t, SET_SEGMENT);
void cpu_get_gdtr(uint32_t, uint64_t *, uint16_t *);
void cpu_set_gdtr(uint32_t, uint64_t, uint16_t);
void cpu_get_idtr(uint32_t, uint64_t *, uint16_t *);
void cpu_set_idtr(uint32_t, uint64_t, uint16_t);
void bochscpu_mem_page_insert(uint64_t gpa, void *hva);
void bochscpu_mem_missing_page(void (*)(uint64_t));
void _ZN8BX_CPU_C11force_flagsEv(void);
void _ZN8BX_CPU_C22handleFpuMmxModeChangeEv(void);
void _ZN8BX_CPU_C5resetEj(unsigned);
bool _ZN8BX_CPU_C10CheckPDPTREm(uint64_t cr3); /* loads the PDPTEs; false: one is malformed */

/* Its cache of decoded instructions does not see what Python stores: for each page with decoded code the table has one
 * bit per 128 bytes. */
static struct {
    uint32_t pages;
    uint32_t *lines;
} *decoded; /* pageWriteStampTable: found when needed, as data of the other library is not there when this one loads */
void _Z9handleSMCmj(uint64_t gpa, uint32_t lines);

static uint64_t memory_pages;

static void forget_decoded_code(void) {
    for (uint64_t page = 0; page < memory_pages; page++) {
        uint32_t lines = decoded->lines[page];
        if (!lines) continue;
        decoded->lines[page] = 0;
        _Z9handleSMCmj(page << 12, lines);
    }
}

static uint64_t code_start, code_bytes, handlers_start;
static uint64_t low_bytes, tables_start, tables_bytes;
static bool strayed;
static uint64_t executed, limit_instructions, ended;

static void end(int how) {
    ended = (uint64_t)how;
    cpu_set_killbit(0);
    cpu_bail(0);
}

unsigned long long __isoc23_strtoull(const char *text, char **rest, int base) { return strtoull(text, rest, base); }
int __isoc23_sscanf(const char *text, const char *format, ...) {
    va_list list;
    va_start(list, format);
    int count = vsscanf(text, format, list);
    va_end(list);
    return count;
}

void _ZN8BX_CPU_C17enter_sleep_stateEj(unsigned state) { end(state == ACTIVITY_HLT ? ENDED_HALT : ENDED_SHUTDOWN); }
void bx_instr_before_execution(uint32_t cpu, void *instruction) {
    (void)cpu, (void)instruction;
    uint64_t at = cpu_get_pc(0);
    if (at - code_start >= code_bytes && at - handlers_start >= HANDLERS_BYTES) strayed = true;
    if (executed++ >= limit_instructions) end(ENDED_LIMIT);
}
void bx_instr_lin_access(uint32_t cpu, uint64_t linear, uint64_t gpa, uint32_t bytes, uint32_t type, uint32_t rw) {
    (void)cpu, (void)linear, (void)type;
    if (gpa + bytes > low_bytes && gpa - tables_start >= tables_bytes) strayed = true;
    bool is_code = gpa - code_start < code_bytes || gpa - handlers_start < HANDLERS_BYTES;
    if ((rw & 1) && is_code) strayed = true; /* it runs on with what it has fetched */
}
void bx_instr_repeat_iteration(uint32_t cpu, void *instruction) {
    (void)cpu, (void)instruction;
    if (executed++ >= limit_instructions) end(ENDED_LIMIT);
}
void bx_instr_after_execution(uint32_t cpu, void *instruction) { (void)cpu, (void)instruction; }
void bx_instr_exception(uint32_t cpu, uint32_t vector, uint32_t error) {
    (void)cpu, (void)vector, (void)error;
    if (executed++ >= limit_instructions) end(ENDED_LIMIT); /* code that cannot be fetched may fault for ever */
}
void bx_instr_interrupt(uint32_t cpu, uint32_t vector) { (void)cpu, (void)vector; }
void bx_instr_hlt(uint32_t cpu) { (void)cpu; }
uint32_t _ZN12bx_devices_c3inpEtj(void *devices, uint16_t port, unsigned bytes) {
    (void)devices;
    uint32_t value = port * 0x01010101u;
    return bytes == 4 ? value : value & ((1u << 8 * bytes) - 1);
}
void _ZN12bx_devices_c4outpEtjj(void *devices, uint16_t port, uint32_t value, unsigned bytes) {
    (void)devices, (void)port, (void)value, (void)bytes;
}

/* Its log would print the instructions around a triple fault. */
bool _ZN8BX_MEM_C13dbg_fetch_memEP8BX_CPU_CmjPh(void *cpu, uint64_t at, unsigned bytes, uint8_t *ret) {
    (void)cpu, (void)at, (void)bytes, (void)ret;
    return false;
}

/* With CR0.NE clear it would raise the line of an interrupt controller that is not there. */
void _ZN8BX_CPU_C28FPU_check_pending_exceptionsEv(void) {
    if ((cpu_get_fp_sw(0) & SUMMARY) && (cpu_get_cr0(0) & NUMERIC_ERROR)) cpu_exception(0, 16, 0);
}

static uint8_t nobody[4096] __attribute__((aligned(4096)));
static uint64_t absent_page;
static int absent_pages;

/* Where nobody answers: all ones. What is stored there is seen again until the run ends, which ends the case. */
static void on_missing_page(uint64_t gpa) {
    memset(nobody, 0xff, sizeof nobody);
    absent_page = gpa;
    absent_pages++;
    bochscpu_mem_page_insert(gpa & ~0xfffull, nobody);
}

void *sim_new_param_bool(const char *name, uint32_t value);
static void *(*library_param_bool)(const char *name);

/* The library leaves out a switch that its CPU asks for when it denies a port. */
void *sim_get_param_bool(const char *name) {
    static void *off;
    if (!strstr(name, "port_e9_hack")) return library_param_bool(name);
    if (!off) off = sim_new_param_bool(name, 0);
    return off;
}

/* Load the library and make its CPU, over `memory`. False: the library is not the one this file was made for. */
bool oracle_open(const char *library_path, uint8_t *memory, uint64_t memory_bytes) {
    void *library = dlopen(library_path, RTLD_LAZY | RTLD_GLOBAL);
    if (!library) return false;
    decoded = dlsym(library, "pageWriteStampTable");
    *(void **)&library_param_bool = dlsym(library, "sim_get_param_bool");
    if (!decoded || !library_param_bool || decoded->pages < memory_bytes >> 12) return false;
    memory_pages = memory_bytes >> 12;
    bochscpu_mem_missing_page(on_missing_page);
    for (uint64_t at = 0; at < memory_bytes; at += 4096) bochscpu_mem_page_insert(at, memory + at);
    cpu_new(0);
    return true;
}

static void set_segment(int index, const uint64_t *s) {
    uint32_t present = !(s[RIGHTS] & UNUSABLE), limit = (uint32_t)s[LIMIT];
    uint16_t selector = (uint16_t)s[SELECTOR], rights = (uint16_t)s[RIGHTS];
    if (index == LDTR)
        cpu_set_ldtr(0, present, selector, s[BASE], limit, rights);
    else if (index == TR)
        cpu_set_tr(0, present, selector, s[BASE], limit, rights);
    else
        cpu_set_seg(0, (uint32_t)index, present, selector, s[BASE], limit, rights);
}

static void get_segment(int index, uint64_t *s) {
    uint32_t present = 0, limit = 0;
    uint16_t selector = 0, rights = 0;
    if (index == LDTR)
        cpu_get_ldtr(0, &present, &selector, &s[BASE], &limit, &rights);
    else if (index == TR)
        cpu_get_tr(0, &present, &selector, &s[BASE], &limit, &rights);
    else
        cpu_get_seg(0, (uint32_t)index, &present, &selector, &s[BASE], &limit, &rights);
    s[SELECTOR] = selector, s[LIMIT] = limit, s[RIGHTS] = (rights & 0xf0ff) | (present ? 0 : UNUSABLE);
}

/* Where instructions are expected, and where memory is used: below `low`, and in the tables. oracle_strayed() tells whether
 * the last run did anything else, or changed its code. */
void oracle_expect(uint64_t code, uint64_t bytes, uint64_t handlers, uint64_t low, uint64_t tables,
                   uint64_t tables_end) {
    code_start = code, code_bytes = bytes, handlers_start = handlers;
    low_bytes = low, tables_start = tables, tables_bytes = tables_end - tables;
}
bool oracle_strayed(void) { return strayed || absent_pages; }

/* Run from `state` for at most `limit` instructions and REP iterations; `state` is then what it came to. Returns how it
 * ended. */
uint64_t oracle_run(uint64_t *state, uint64_t limit) {
    uint64_t *s = state;
    forget_decoded_code();
    executed = 0;
    strayed = false;
    limit_instructions = limit;
    absent_pages = 0;
    ended = ENDED_LIMIT;
#define SET(name, at, bits) cpu_set_##name(0, s[at]);
    WORDS(SET)
    for (int i = 0; i < 16; i++) cpu_set_reg64(0, (uint32_t)i, s[GPRS + i]);
    cpu_set_sp(0, s[GPRS + 4]);
    cpu_set_pc(0, s[RIP]);
    for (int i = 0; i < 4; i++) cpu_set_dr(0, (uint32_t)i, s[DRS + i]);
    for (int i = 0; i < 8; i++) set_segment(i, &s[SEGMENTS + 4 * i]);
    cpu_set_gdtr(0, s[GDTR_BASE], (uint16_t)s[GDTR_LIMIT]);
    cpu_set_idtr(0, s[IDTR_BASE], (uint16_t)s[IDTR_LIMIT]);
    cpu_set_mode(0);
    cpu_clear_killbit(0);
    cpu_set_cr8(0, 0);
    cpu_set_eflags(0, (uint32_t)s[RFLAGS]); /* with TF it asks for attention, which clearing the kill bit takes back */
    cpu_set_mode(0);
    _ZN8BX_CPU_C22handleFpuMmxModeChangeEv();
    bool pae = (s[CR0] >> 31 & 1) && (s[CR4] & CR4_PAE) && !(s[EFER] & EFER_LMA);
    if (pae && !_ZN8BX_CPU_C10CheckPDPTREm(s[CR3])) return ENDED_STATE;
    while (!cpu_killbit(0)) cpu_loop(0);
    cpu_clear_killbit(0);
    _ZN8BX_CPU_C11force_flagsEv();
#define GET(name, at, bits) s[at] = bits == 32 ? (uint32_t)cpu_get_##name(0) : cpu_get_##name(0);
    WORDS(GET)
    for (int i = 0; i < 16; i++) s[GPRS + i] = cpu_get_reg64(0, (uint32_t)i);
    s[RIP] = cpu_get_pc(0);
    s[RFLAGS] = cpu_get_eflags(0);
    for (int i = 0; i < 4; i++) s[DRS + i] = cpu_get_dr(0, (uint32_t)i);
    for (int i = 0; i < 8; i++) get_segment(i, &s[SEGMENTS + 4 * i]);
    uint16_t table_limit = 0;
    cpu_get_gdtr(0, &s[GDTR_BASE], &table_limit);
    s[GDTR_LIMIT] = table_limit;
    cpu_get_idtr(0, &s[IDTR_BASE], &table_limit);
    s[IDTR_LIMIT] = table_limit;
    if (ended == ENDED_SHUTDOWN) _ZN8BX_CPU_C5resetEj(RESET_HARDWARE); /* it would not forget the exceptions it met */
    return ended;
}
