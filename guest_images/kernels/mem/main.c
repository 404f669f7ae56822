/* Claim: memory gives back what was stored, near and far; and what loads, page walks and streams cost, as the guest
 * sees it (after LMbench's lat_mem_rd, tlb and bw_mem). benchmarks/mem/measure.py reads the lines.
 *
 *   load_latency/SIZE/STRIDE   one load that the next one waits for: a ring of pointers, each to its lower neighbour
 *   page_latency/PAGES         the same with one line on each of so many 4 KiB pages
 *   read_, write_, copy_bandwidth/SIZE   64-bit words in ascending order; a copy has as much memory again to go to
 *
 * The array lies in 2 MiB pages, so that what its curve shows is the caches.
 */
#include "guest.h"
#include "measure.h"

/* A round goes many times around a small ring, and of a large one does a part: the next round goes on there. It is
 * long enough that what the mark before it has cost the caches and TLBs (a VM exit, perhaps) is little. */
#define ROUND_LOADS_MIN 2048ul
#define ROUND_LOADS_MAX 4096ul
#define UNROLLED_LOADS 32
#define CHUNK_BYTES 4096ul
#define ROUND_CHUNKS 16u
#define LINE_BYTES 64ul
#define ARRAY_BYTES (64ul << 20)
#define COPY_DISTANCE ((16ul << 20) + 2 * PAGE_BYTES + 512) /* not a multiple of what a cache's way holds */
#define STREAM_BYTES_MIN 4096ul
#define STREAM_BYTES_MAX (8ul << 20)
#define PAGES_MIN 16u
#define PAGES_MAX 4096u

static const struct {
    uint64_t stride_bytes, size_bytes_max;
} sweeps[] = {{16, 4ul << 20}, {64, ARRAY_BYTES}, {256, ARRAY_BYTES}};
static uint64_t array, pages, next, links_per_call, chunk, stream_bytes;
static struct tally rings, streams;

static uint64_t clamp(uint64_t value, uint64_t least, uint64_t most) {
    return value < least ? least : value > most ? most : value;
}

/* 1024, 1536, 2048, 3072, ...: half-way steps between the powers of two. */
static uint64_t step_up(uint64_t value) { return value & (value - 1) ? value / 3 * 4 : value / 2 * 3; }

/* The pointer stays in a register, so that each load waits for the one before and for nothing else. */
static void do_chase(unsigned index) {
    (void)index;
    uint64_t count = links_per_call / UNROLLED_LOADS;
    asm volatile("1: .rept 32; movq (%0), %0; .endr; decq %1; jnz 1b" : "+r"(next), "+r"(count) : : "cc", "memory");
}

/* Once around, so that what can be cached is; it ends where it began. */
static void go_around(uint64_t links) {
    uint64_t start = next;
    links_per_call = links;
    if (links >= UNROLLED_LOADS) do_chase(0);
    for (uint64_t i = 0; i < links % UNROLLED_LOADS; i++) next = load64(next);
    tally_equal(&rings, next, start);
}

static void measure_chase(const char *name, uint64_t links, unsigned parameter_count, uint64_t first, uint64_t second) {
    go_around(links);
    links_per_call = clamp(links, ROUND_LOADS_MIN, ROUND_LOADS_MAX) & -UNROLLED_LOADS;
    measure(&(struct measurement){.name = name,
                                  .calls = 1,
                                  .per_call = links_per_call,
                                  .operation = do_chase,
                                  .parameter_count = parameter_count,
                                  .parameters = {first, second}});
}

static void measure_loads(uint64_t size_bytes, uint64_t stride_bytes) {
    uint64_t last = array + size_bytes - stride_bytes;
    for (uint64_t at = last; at > array; at -= stride_bytes) store64(at, at - stride_bytes);
    store64(array, last);
    next = last;
    measure_chase("load_latency", size_bytes / stride_bytes, 2, size_bytes, stride_bytes);
}

/* A line of each page, so chosen that no set of a cache gets more than its share. */
static uint64_t line_of_page(uint64_t page) { return pages + page * PAGE_BYTES + (page + page / 64) % 64 * LINE_BYTES; }

static void measure_pages(unsigned count) {
    for (unsigned page = count; page-- > 1;) store64(line_of_page(page), line_of_page(page - 1));
    store64(line_of_page(0), line_of_page(count - 1));
    next = line_of_page(count - 1);
    measure_chase("page_latency", count, 1, count, 0);
}

/* Bandwidth: a call does the next CHUNK_BYTES. */
static uint64_t take_chunk(void) {
    uint64_t start = array + chunk;
    chunk = (chunk + CHUNK_BYTES) & (stream_bytes - 1); /* a power of two */
    return start;
}

static void do_read(unsigned index) {
    (void)index;
    uint64_t at = take_chunk(), end = at + CHUNK_BYTES;
    asm volatile("1: movq (%0), %%rax; movq 8(%0), %%rcx; movq 16(%0), %%rdx; movq 24(%0), %%rsi;"
                 "movq 32(%0), %%r8; movq 40(%0), %%r9; movq 48(%0), %%r10; movq 56(%0), %%r11;"
                 "addq $64, %0; cmpq %1, %0; jb 1b"
                 : "+r"(at)
                 : "r"(end)
                 : "rax", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "cc", "memory");
}

static void do_write(unsigned index) {
    (void)index;
    uint64_t at = take_chunk(), end = at + CHUNK_BYTES;
    asm volatile("1: movq %0, (%0); movq %0, 8(%0); movq %0, 16(%0); movq %0, 24(%0);"
                 "movq %0, 32(%0); movq %0, 40(%0); movq %0, 48(%0); movq %0, 56(%0);"
                 "addq $64, %0; cmpq %1, %0; jb 1b"
                 : "+r"(at)
                 : "r"(end)
                 : "cc", "memory");
}

static void do_copy(unsigned index) {
    (void)index;
    uint64_t at = take_chunk(), end = at + CHUNK_BYTES, to = at + COPY_DISTANCE;
    asm volatile("1: movq (%0), %%rax; movq 8(%0), %%rcx; movq 16(%0), %%rdx; movq 24(%0), %%rsi;"
                 "movq %%rax, (%2); movq %%rcx, 8(%2); movq %%rdx, 16(%2); movq %%rsi, 24(%2);"
                 "movq 32(%0), %%r8; movq 40(%0), %%r9; movq 48(%0), %%r10; movq 56(%0), %%r11;"
                 "movq %%r8, 32(%2); movq %%r9, 40(%2); movq %%r10, 48(%2); movq %%r11, 56(%2);"
                 "addq $64, %0; addq $64, %2; cmpq %1, %0; jb 1b"
                 : "+r"(at)
                 : "r"(end), "r"(to)
                 : "rax", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "cc", "memory");
}

static void measure_stream(const char *name, void (*operation)(unsigned), uint64_t size_bytes) {
    chunk = 0;
    stream_bytes = size_bytes;
    for (uint64_t i = 0; i < size_bytes / CHUNK_BYTES; i++) operation(i);
    measure(&(struct measurement){.name = name,
                                  .calls = ROUND_CHUNKS,
                                  .per_call = CHUNK_BYTES,
                                  .operation = operation,
                                  .parameter_count = 1,
                                  .parameters = {size_bytes, 0}});
}

static void measure_streams(uint64_t size_bytes) {
    measure_stream("read_bandwidth", do_read, size_bytes);
    measure_stream("write_bandwidth", do_write, size_bytes);
    measure_stream("copy_bandwidth", do_copy, size_bytes);
    for (uint64_t at = array; at < array + size_bytes; at += PAGE_BYTES - LINE_BYTES) {
        tally_equal(&streams, load64(at + 56), at);
        tally_equal(&streams, load64(at + COPY_DISTANCE + 56), at);
    }
}

/* Memory of its own, in one piece and not zeroed. */
static uint64_t allocate(uint64_t bytes) {
    uint64_t start = (uint64_t)large_page_alloc();
    for (uint64_t have = LARGE_PAGE_BYTES; have < bytes; have += LARGE_PAGE_BYTES) large_page_alloc();
    return start;
}

static void set_up(void) {
    array = allocate(ARRAY_BYTES);
    uint64_t frames = allocate(PAGES_MAX * PAGE_BYTES);
    pages = TEST_VA;
    for (uint64_t at = 0; at < PAGES_MAX * PAGE_BYTES; at += PAGE_BYTES)
        map_page(current_pml4(), pages + at, frames + at, PTE_P | PTE_W);
}

void guest_main(void) {
    set_up();
    for (unsigned i = 0; i < sizeof sweeps / sizeof *sweeps; i++)
        for (uint64_t size = 1024; size <= sweeps[i].size_bytes_max; size = step_up(size))
            measure_loads(size, sweeps[i].stride_bytes);
    for (unsigned count = PAGES_MIN; count <= PAGES_MAX; count = step_up(count)) measure_pages(count);
    for (uint64_t size = STREAM_BYTES_MIN; size <= STREAM_BYTES_MAX; size *= 2) measure_streams(size);
    check_tally("every ring of pointers leads back to where it began", &rings);
    check_tally("every word written is read, where it was written and where it was copied", &streams);
}
