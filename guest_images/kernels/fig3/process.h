/* Processes in ring 3 for a test kernel: an address space and a kernel stack each, one demand-paged region, pipes.
 *
 *   PML4[0]    the kernel's own tables, shared by all: identity map; .user_text and .user_data belong to ring 3
 *   PML4[128]  the process's own, from TEST_VA on: its region, all absent until touched; 1 GiB higher, its stack
 *
 * A page fault in the region walks the process's tables, finds or fills a frame and sets the entry by sidecore_set_pte().
 * Nothing preempts: a process runs until it reads an empty pipe. Whoever waited for a pipe is queued by the write.
 * The kernel's own thread, guest_main(), is a process like the others. No memory of these is given back.
 */
#ifndef PROCESS_H
#define PROCESS_H

#include <stdint.h>

#define REGION_VA 0x0000400000000000ul /* TEST_VA */

enum { SYSCALL_MAP, SYSCALL_UNMAP, SYSCALL_READ, SYSCALL_WRITE, SYSCALL_COUNT };

/* What MAP puts at REGION_VA: the frames of a file that is in memory, or, without one, new frames full of a word. */
struct region {
    uint64_t page_count;
    const uint64_t *file;
    uint64_t fill;
};

struct process;
typedef void user_function(uint64_t argument); /* marked USER_TEXT, never returns */

void processes_init(unsigned pipe_count);
/* Runs function(argument) up to where it waits. */
struct process *process_new(user_function *function, uint64_t argument, const struct region *region);
void process_drop_pages(
    struct process *process); /* every entry of the region that is set is cleared, its frame freed */
void pipe_write(uint64_t pipe, uint64_t token);
uint64_t pipe_read(uint64_t pipe); /* waits */
uint64_t page_fault_count(void);

/* For ring 3: arguments in RSI and RDX, the result in RAX; what a C function may change is changed (entry.S). */
static inline __attribute__((always_inline)) uint64_t user_syscall(uint64_t number, uint64_t first, uint64_t second) {
    uint64_t result;
    asm volatile("syscall"
                 : "=a"(result), "+D"(number), "+S"(first), "+d"(second)
                 :
                 : "rcx", "r8", "r9", "r10", "r11", "memory", "cc");
    return result;
}

#endif
