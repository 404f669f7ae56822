/* Single instructions and register bits (SDM 2 and 3A chapter 2), as inline functions. */
#ifndef CPU_H
#define CPU_H

#include <stdbool.h>
#include <stdint.h>

#define CR0_PE (1ul << 0)
#define CR0_MP (1ul << 1)
#define CR0_EM (1ul << 2)
#define CR0_TS (1ul << 3)
#define CR0_ET (1ul << 4)
#define CR0_NE (1ul << 5)
#define CR0_WP (1ul << 16)
#define CR0_AM (1ul << 18)
#define CR0_NW (1ul << 29)
#define CR0_CD (1ul << 30)
#define CR0_PG (1ul << 31)
#define CR4_TSD (1ul << 2)
#define CR4_DE (1ul << 3)
#define CR4_PAE (1ul << 5)
#define CR4_PGE (1ul << 7)
#define CR4_OSFXSR (1ul << 9)
#define CR4_OSXMMEXCPT (1ul << 10)
#define CR4_FSGSBASE (1ul << 16)
#define CR4_SMEP (1ul << 20)

#define RFLAGS_FIXED (1ul << 1)
#define RFLAGS_CF (1ul << 0)
#define RFLAGS_ZF (1ul << 6)
#define RFLAGS_TF (1ul << 8)
#define RFLAGS_IF (1ul << 9)
#define RFLAGS_DF (1ul << 10)
#define RFLAGS_IOPL (3ul << 12)
#define RFLAGS_NT (1ul << 14)
#define RFLAGS_RF (1ul << 16)
#define RFLAGS_AC (1ul << 18)

#define MSR_SYSENTER_CS 0x174
#define MSR_SYSENTER_ESP 0x175
#define MSR_SYSENTER_EIP 0x176
#define MSR_PAT 0x277
#define MSR_EFER 0xc0000080
#define MSR_STAR 0xc0000081
#define MSR_LSTAR 0xc0000082
#define MSR_CSTAR 0xc0000083
#define MSR_FMASK 0xc0000084
#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102
#define MSR_TSC_AUX 0xc0000103
#define EFER_SCE (1ul << 0)
#define EFER_LME (1ul << 8)
#define EFER_LMA (1ul << 10)
#define EFER_NXE (1ul << 11)

#define DEFINE_CR(name)                                                 \
    static inline uint64_t read_##name(void) {                          \
        uint64_t value;                                                 \
        asm volatile("mov %%" #name ", %0" : "=r"(value) : : "memory"); \
        return value;                                                   \
    }                                                                   \
    static inline void write_##name(uint64_t value) { asm volatile("mov %0, %%" #name : : "r"(value) : "memory"); }
DEFINE_CR(cr0)
DEFINE_CR(cr2)
DEFINE_CR(cr3)
DEFINE_CR(cr4)
DEFINE_CR(cr8)
DEFINE_CR(dr0)
DEFINE_CR(dr6)
DEFINE_CR(dr7)
#undef DEFINE_CR

#define DEFINE_PORT(width, type)                                          \
    static inline type in##width(uint16_t port) {                         \
        type value;                                                       \
        asm volatile("in %1, %0" : "=a"(value) : "Nd"(port) : "memory");  \
        return value;                                                     \
    }                                                                     \
    static inline void out##width(uint16_t port, type value) {            \
        asm volatile("out %0, %1" : : "a"(value), "Nd"(port) : "memory"); \
    }
DEFINE_PORT(8, uint8_t)
DEFINE_PORT(16, uint16_t)
DEFINE_PORT(32, uint32_t)
#undef DEFINE_PORT

struct cpuid_result {
    uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid_result cpuid(uint32_t leaf, uint32_t subleaf) {
    struct cpuid_result result;
    asm volatile("cpuid"
                 : "=a"(result.eax), "=b"(result.ebx), "=c"(result.ecx), "=d"(result.edx)
                 : "a"(leaf), "c"(subleaf));
    return result;
}

static inline uint64_t read_msr(uint32_t msr) {
    uint32_t low, high;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
    return (uint64_t)high << 32 | low;
}

static inline void write_msr(uint32_t msr, uint64_t value) {
    asm volatile("wrmsr" : : "a"((uint32_t)value), "d"((uint32_t)(value >> 32)), "c"(msr) : "memory");
}

static inline uint64_t read_rflags(void) {
    uint64_t value;
    asm volatile("pushfq; popq %0" : "=r"(value) : : "memory");
    return value;
}

static inline void write_rflags(uint64_t value) { asm volatile("pushq %0; popfq" : : "r"(value) : "memory", "cc"); }

static inline void invlpg(uint64_t address) { asm volatile("invlpg (%0)" : : "r"(address) : "memory"); }

static inline void interrupts_on(void) { asm volatile("sti" : : : "memory"); }
static inline void interrupts_off(void) { asm volatile("cli" : : : "memory"); }

/* Sleep until an interrupt: nothing can come between STI and HLT (SDM 2B, "STI"). */
static inline void wait_for_interrupt(void) { asm volatile("sti; hlt; cli" : : : "memory"); }

/* LFENCE keeps the reads from moving (SDM 2B, "RDTSC"). */
static inline uint64_t read_tsc(void) {
    uint32_t low, high;
    asm volatile("lfence; rdtsc; lfence" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

#endif
