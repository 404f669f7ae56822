/* Sidecalls: the ABI between a guest and the sidecore, a core of the host that serves requests over a shared page and
 * never enters a guest. The VMM's side of the same table is vmm/sidecore/abi.py; a test compares the two.
 *
 *   page, 4 KiB:  slot 0 | slot 1 | ... | slot 63       each a cache line, used by one vCPU at a time
 *
 *   byte  0  state      SIDECORE_FREE, _POSTED (the guest writes it last), _DONE (the sidecore does), plus _CLOSED
 *         4  sequence   the guest's: another one with each request
 *         8  operation  SIDECORE_OP_*
 *        12  status     the answer: 0, or a negative SIDECORE_E*
 *        16  arguments  three words
 *        40  results    three words
 *
 * Discovery: CPUID leaf SIDECORE_CPUID, EAX = SIDECORE_ABI, EBX bit 0: there is a sidecore. Set-up: a hypercall (VMCALL,
 * RAX = number, RDI, RSI = arguments, RAX = result, negative for an error) registers the page. A slot whose state has
 * SIDECORE_CLOSED takes no request: the sidecalls are switched off, and the guest does what it did without them.
 */
#ifndef SIDECORE_H
#define SIDECORE_H

#define SIDECORE_ABI 1
#define SIDECORE_CPUID 0x40000001
#define SIDECORE_CPUID_PRESENT 1 /* in EBX */

#define SIDECORE_SLOT_BYTES 64
#define SIDECORE_SLOTS_MAX 64

#define SIDECORE_FREE 0
#define SIDECORE_POSTED 1
#define SIDECORE_DONE 2
#define SIDECORE_STATE 0xff
#define SIDECORE_CLOSED 0x100

#define SIDECORE_OP_NULL 0    /* does nothing; result 0 is argument 0 */
#define SIDECORE_OP_CPUID 1   /* leaf, subleaf -> EAX | EBX << 32, ECX | EDX << 32, of CPU 0 */
#define SIDECORE_OP_PTE_SET 2 /* guest-physical address of an entry that is not present, new entry */

#define SIDECORE_OP_PTE_CHANGE 3 /* the same for any entry: all TLBs of the guest are flushed before the answer */

#define SIDECORE_EOPERATION -1 /* no such operation */
#define SIDECORE_ESEQUENCE -2  /* the slot's last request had the same sequence number */
#define SIDECORE_EADDRESS -3   /* not an aligned address in the guest's memory */
#define SIDECORE_EVALUE -4     /* an entry that would lead out of the guest's memory, or that is not of this kind */
#define SIDECORE_ECLOSED -5    /* switched off meanwhile */

#define SIDECORE_CALL_NULL 0x5c00       /* a hypercall that does nothing: what a null sidecall compares with */
#define SIDECORE_CALL_REGISTER 0x5c01   /* guest-physical address of a page, number of slots in use */
#define SIDECORE_CALL_UNREGISTER 0x5c02 /* the page */
#define SIDECORE_CALL_SWITCH 0x5c03     /* 0: close all slots, 1: open them */

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stdint.h>

struct sidecore_slot {
    volatile uint32_t state;
    volatile uint32_t sequence, operation;
    volatile int32_t status;
    volatile uint64_t arguments[3], results[3];
};

bool sidecore_init(unsigned slots); /* discover and register; false: there is none */
struct sidecore_slot *sidecore_slot(unsigned index);
int64_t sidecore_switch(bool on); /* hypercall */
int64_t sidecore_unregister(void);

/* Post without waiting; false when the slot is closed: do it without. Then collect, which waits. */
bool sidecore_post(struct sidecore_slot *slot, uint32_t operation, uint64_t argument0, uint64_t argument1);
int sidecore_collect(struct sidecore_slot *slot);

/* The call sites of a guest: a sidecall when the switch is on, else what exits. */
void sidecore_null(void);
struct cpuid_result sidecore_cpuid(uint32_t leaf, uint32_t subleaf);
void sidecore_set_pte(uint64_t *entry, uint64_t value);
void sidecore_change_pte(uint64_t *entry, uint64_t value, uint64_t va); /* and flush the page at `va` */

int64_t hypercall(uint64_t number, uint64_t first, uint64_t second);
#endif
#endif
