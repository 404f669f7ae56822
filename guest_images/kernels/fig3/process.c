/* Processes, pipes, demand paging: see process.h. */
#include "process.h"

#include "guest.h"
#include "sidecore.h"

#define STAR_VALUE ((uint64_t)0x20 << 48 | (uint64_t)SEL_KERNEL_CODE << 32)
#define STACK_VA (REGION_VA + HUGE_PAGE_BYTES)
#define PROCESSES_MAX 32
#define PIPES_MAX 64
#define SAVED_REGISTERS 6 /* what process_switch pops */
#define PAGE_FLAGS (PTE_P | PTE_W | PTE_U | PTE_A | PTE_D)

struct process {
    uint64_t kernel_rsp; /* while another one runs */
    uint64_t kernel_stack_top;
    uint64_t *pml4;
    struct region region;
    bool is_mapped;
};
struct pipe {
    bool is_full;
    uint32_t token;
    struct process *reader; /* that waits */
};

extern const char process_syscall_entry[], process_start[];
void process_switch(uint64_t *old_rsp, uint64_t new_rsp);
uint64_t process_syscall(uint64_t number, uint64_t first, uint64_t second);

static struct process processes[PROCESSES_MAX], *current = processes; /* the first is the kernel's own thread */
static unsigned process_count = 1, pipe_count;
static struct pipe pipes[PIPES_MAX];
static struct process *ready[PROCESSES_MAX]; /* a ring: each process is in it at most once */
static unsigned ready_first, ready_end;
static uint64_t *free_frames; /* a list: the first word of each is the next one */
static volatile uint64_t page_faults;

uint64_t page_fault_count(void) { return page_faults; }

static void make_ready(struct process *process) { ready[ready_end++ % PROCESSES_MAX] = process; }

static void run_next(void) {
    struct process *previous = current;
    if (ready_first == ready_end) error("every process waits");
    current = ready[ready_first++ % PROCESSES_MAX];
    if (current == previous) return;
    tss.rsp[0] = current->kernel_stack_top;
    write_cr3((uint64_t)current->pml4);
    process_switch(&previous->kernel_rsp, current->kernel_rsp);
}

static struct pipe *pipe_at(uint64_t index) {
    if (index >= pipe_count) error("no pipe %lu", index);
    return pipes + index;
}

uint64_t pipe_read(uint64_t index) {
    struct pipe *pipe = pipe_at(index);
    if (!pipe->is_full) {
        pipe->reader = current;
        run_next();
    }
    pipe->is_full = false;
    return pipe->token;
}

void pipe_write(uint64_t index, uint64_t token) {
    struct pipe *pipe = pipe_at(index);
    if (pipe->is_full) error("pipe %lu is full", index);
    pipe->is_full = true;
    pipe->token = token;
    if (pipe->reader) make_ready(pipe->reader);
    pipe->reader = NULL;
}

static uint64_t *frame_filled(uint64_t word) {
    uint64_t *frame = free_frames;
    if (frame)
        free_frames = (uint64_t *)*frame;
    else
        frame = page_alloc();
    for (unsigned i = 0; i < PAGE_BYTES / sizeof word; i++) frame[i] = word;
    return frame;
}

static void on_page_fault(struct trap_frame *frame) {
    uint64_t va = read_cr2(), index = (va - REGION_VA) / PAGE_BYTES;
    const struct region *region = &current->region;
    if (!current->is_mapped || va < REGION_VA || index >= region->page_count || frame->error_code & PF_PRESENT)
        error("page fault at 0x%lx, rip 0x%lx, error code 0x%lx", va, frame->rip, frame->error_code);
    uint64_t *entry = entry_make(current->pml4, va, LEVEL_PT);
    uint64_t pa = region->file ? region->file[index] : (uint64_t)frame_filled(region->fill);
    page_faults++;
    sidecore_set_pte(entry, pa | PAGE_FLAGS);
}

/* An entry is cleared by a store, in either way: other processors' TLBs could hold it. */
void process_drop_pages(struct process *process) {
    bool has_dropped = false;
    for (uint64_t index = 0; index < process->region.page_count; index++) {
        uint64_t *entry = entry_of(process->pml4, REGION_VA + index * PAGE_BYTES, LEVEL_PT);
        if (!entry || !(*entry & PTE_P)) continue;
        uint64_t *frame = (uint64_t *)(*entry & PTE_ADDRESS);
        *(volatile uint64_t *)entry = 0;
        has_dropped = true;
        if (process->region.file) continue;
        *frame = (uint64_t)free_frames;
        free_frames = frame;
    }
    if (has_dropped && process == current) write_cr3((uint64_t)current->pml4); /* else the next switch flushes */
}

uint64_t process_syscall(uint64_t number, uint64_t first, uint64_t second) {
    switch (number) {
    case SYSCALL_MAP: return current->is_mapped = true;
    case SYSCALL_UNMAP: process_drop_pages(current); return current->is_mapped = false;
    case SYSCALL_READ: return pipe_read(first);
    case SYSCALL_WRITE: pipe_write(first, second); return 0;
    default: error("no system call %lu", number);
    }
}

/* The stack that process_switch() takes up: its registers, its return address, the argument, RIP CS RFLAGS RSP SS. */
struct process *process_new(user_function *function, uint64_t argument, const struct region *region) {
    if (process_count == PROCESSES_MAX) error("no process left");
    struct process *process = processes + process_count++;
    *process = (struct process){.pml4 = page_alloc(), .region = *region};
    process->pml4[0] = processes->pml4[0];
    map_page(process->pml4, STACK_VA, (uint64_t)page_alloc(), PAGE_FLAGS);
    process->kernel_stack_top = (uint64_t)page_alloc() + PAGE_BYTES;
    const uint64_t start[] = {(uint64_t)process_start,   argument,     (uint64_t)function, SEL_USER_CODE, RFLAGS_FIXED,
                              STACK_VA + PAGE_BYTES - 8, SEL_USER_DATA};
    uint64_t *stack = (uint64_t *)process->kernel_stack_top - sizeof start / sizeof *start;
    for (unsigned i = 0; i < sizeof start / sizeof *start; i++) stack[i] = start[i];
    process->kernel_rsp = (uint64_t)(stack - SAVED_REGISTERS);
    make_ready(process);
    make_ready(current);
    run_next();
    return process;
}

void processes_init(unsigned count) {
    pipe_count = count < PIPES_MAX ? count : PIPES_MAX;
    current->pml4 = current_pml4();
    current->kernel_stack_top = trap_stack_top();
    write_msr(MSR_EFER, read_msr(MSR_EFER) | EFER_SCE);
    write_msr(MSR_STAR, STAR_VALUE);
    write_msr(MSR_LSTAR, (uint64_t)process_syscall_entry);
    write_msr(MSR_FMASK, RFLAGS_IF | RFLAGS_DF | RFLAGS_TF);
    trap_set_handler(VECTOR_PF, on_page_fault);
}
