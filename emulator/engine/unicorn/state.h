/* What only this folder knows: where Unicorn keeps a CPU's raw state, and the memory beside the host's.
 *
 * Engine memory at ARENA. MODEL: a native guest that maps this address sees it; a VMM never gives it to a guest.
 *   0x0000 VMCB | 0x1000 host save | 0x4000 I/O map | 0x8000 MSR permission map | 0x10000 stub | 0x20000.. nested tables
 */
#ifndef SC_UNICORN_STATE_H
#define SC_UNICORN_STATE_H
#include <unicorn/unicorn.h>
#include "engine.h"

/* An Intel model: SYSENTER and SYSCALL then behave as Intel's. It has no SVM, but the engine asks only the SVME bit.
 * The last without RDRAND and RDSEED: those read the workstation's entropy, and nothing can intercept them. */
#define CPU_MODEL UC_CPU_X86_SANDYBRIDGE
#define ARENA 0x4000000000ull
enum { ARENA_BYTES = 8 << 20, HOST_SAVE = 0x1000, IO_MAP = 0x4000, MSR_MAP = 0x8000, STUB = 0x10000, NESTED = 0x20000 };
#define NOWHERE 0xfffffffffffffff1ull /* an address no guest fetches from: uc_emu_start wants an end */

/* CPUX86State of Unicorn 2.1.4; verify_layout() compares every one with what VMRUN loads. */
enum {
    RAW_REGS = 0,
    RAW_EIP = 128,
    RAW_EFLAGS = 136,
    RAW_HFLAGS = 176,
    RAW_HFLAGS2 = 180,
    RAW_SEGS = 184,
    RAW_LDT = 328,
    RAW_TR = 352,
    RAW_GDT = 376,
    RAW_IDT = 400,
    RAW_CR = 424,
    RAW_ERROR_CODE = 5384,
    RAW_DR = 5400,
    RAW_OLD_EXCEPTION = 5496,
    RAW_VMCB = 5504,
    RAW_INTERCEPT = 5520,
    RAW_CR_READ = 5528,
    RAW_CR_WRITE = 5530,
    RAW_DR_READ = 5532,
    RAW_DR_WRITE = 5534,
    RAW_EXCEPTIONS = 5536,
    RAW_NESTED_CR3 = 5544,
    RAW_NESTED_MODE = 5552,
    RAW_END = 5560
};
#define DR6_NOTHING 0xffff0ff0ull
enum { SEGMENT_BYTES = 24, SEGMENT_BASE = 8, SEGMENT_LIMIT = 16, SEGMENT_FLAGS = 20 };
enum {
    HF_INHIBIT_IRQ = 1 << 3,
    HF_CS32 = 1 << 4,
    HF_SS32 = 1 << 5,
    HF_ADDSEG = 1 << 6,
    HF_PE = 1 << 7,
    HF_MP = 1 << 9,
    HF_EM = 1 << 10,
    HF_TS = 1 << 11,
    HF_LMA = 1 << 14,
    HF_CS64 = 1 << 15,
    HF_SVME = 1 << 20,
    HF_GUEST = 1 << 21,
    HF_OSFXSR = 1 << 22
};
enum { HF2_NPT = 1 << 6, NESTED_MODE_LONG_NX = 0xf }; /* PAE, LMA, NXE, PSE */
/* CR0, CR4 and EFER bits that change how addresses translate */
#define CR0_PAGING (CR0_PG | CR0_WP | CR0_PE)
#define CR4_PAGING (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP)
#define EFER_PAGING (EFER_LME | EFER_LMA | EFER_NXE)

#define R16(at) (*(uint16_t *)(cpu->port.raw + (at)))
#define R32(at) (*(uint32_t *)(cpu->port.raw + (at)))
#define R64(at) (*(uint64_t *)(cpu->port.raw + (at)))
#define A64(at) (*(uint64_t *)(cpu->port.arena + (at)))

/* MSRs whose place is found at start-up */
static const uint32_t ENGINE_MSRS[8] = {IA32_STAR,           IA32_LSTAR,   IA32_CSTAR, IA32_FMASK,
                                        IA32_KERNEL_GS_BASE, IA32_TSC_AUX, IA32_EFER,  IA32_SYSENTER_CS};
enum {
    OWN_MSRS = 6,
    MSR_AT_TSC_AUX = 5,
    MSR_AT_EFER = 6,
    MSR_AT_SYSENTER_CS = 7
}; /* EFER, SYSENTER_CS: VMCS fields too */

/* Translations: so many instructions, with the weight of each block, take half of the buffer at most. */
enum { BUFFER_BYTES = 256 << 20, TRANSLATED_MAX = 1 << 19, BLOCK_WEIGHT = 2 };

/* code.c */
bool code_open(sc_cpu *cpu, sc_code_map *map);
void code_close(sc_cpu *cpu);
void code_begin_run(sc_cpu *cpu);
void code_forget_pages(sc_cpu *cpu);

/* layout.c */
bool find_raw_state(sc_cpu *cpu, const char **problem);
bool verify_layout(sc_cpu *cpu, const char **problem);

/* state.c */
void reset_state(sc_cpu *cpu);

/* nested.c */
void forget_nested(sc_cpu *cpu);

/* memory.c */
bool wants_accesses(const sc_cpu *cpu);
void engine_watch_memory(sc_cpu *cpu, bool watch); /* call sc_access for every load and store, or stop that */
bool map_memory(sc_cpu *cpu);

/* spans.c */
bool engine_hook_spans(sc_cpu *cpu); /* false: Unicorn has no memory for hooks */
void take_edits(sc_cpu *cpu);        /* the slots become what somebody wants them to be */

/* places.c */
bool are_places_told(const sc_cpu *cpu); /* is there something to tell of them? */
void note_access(sc_cpu *cpu, uint64_t hpa, unsigned bytes, bool is_write);
void forget_accesses_at(sc_cpu *cpu, uint64_t pc); /* the instruction there did not end */

/* run.c */
void engine_escape_edit(sc_cpu *cpu); /* leave the block before its instruction, and take the edits; does not return */

/* Of Unicorn, by our edits: see emulator/unicorn_build/edits.py. */
void sc_set_owner(uc_engine *uc, void *owner);
void sc_tell_accesses(uc_engine *uc, bool tells);                  /* code that is translated from now on */
void sc_slow_code_stores(uc_engine *uc);                           /* in its TLB, on pages that have code */
void sc_forget_code(uc_engine *uc, uint8_t *host, uint64_t bytes); /* translations of what lies there */

/* What Unicorn calls of ours, by the same: */
void helper_sc_block(void *begun);
void *sc_next_block(void *owner);
void sc_block_translated(void *owner, uint64_t pc, uint32_t bytes, uint32_t instructions, uint32_t hflags,
                         const uint8_t *first, const uint8_t *second);
void sc_code_begins(void *owner, const uint8_t *host);
void sc_code_ends(void *owner, const uint8_t *host);
bool sc_has_code(void *owner, const uint8_t *host);
void sc_code_stored(void *owner, const uint8_t *host, uint64_t bytes);
void sc_entry_marked(void *owner, uint64_t hpa);
void sc_access(void *owner, uint64_t hpa, uint64_t linear, uint64_t bytes, bool is_write);
void *sc_ram(void *owner, uint64_t hpa);
struct timeval;
void sc_engine_time(struct timeval *ret);

/* clock.c */
void show_clock(const sc_cpu *cpu);

/* abort.c */
enum { ABORTS_MAX = 48 };
void catch_aborts(void);
bool start_guarded(sc_cpu *cpu, uc_err *ret);
void *lift_guard(void);
void restore_guard(void *before);
#endif
