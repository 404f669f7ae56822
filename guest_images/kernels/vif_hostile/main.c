/* Claim: whatever a guest writes into its rings and registers, the machine goes on, and when it behaves again its VIF works.
 * What the device writes stays in this guest's memory: who runs it looks at the memory of others.
 *
 *   rounds=10000 seed=1         of nonsense, one descriptor or register in each
 *   peer=02:5c:00:00:02:01      where frames that happen to be good go
 *   from=02:5c:00:00:01:02      whom the last frame says it is from; without: this guest
 */
#include "command_line.h"
#include "vif_driver.h"

#define GAP_CYCLES 2000 /* time for the device to look */

static struct vif vif;
static uint8_t peer[6], from[6];
static uint64_t state, memory_end, targets;

static uint64_t next(uint64_t below) {
    state = state * 6364136223846793005ul + 1442695040888963407ul;
    return (state >> 33) % below;
}

/* Where a buffer may be said to lie. In memory only where nothing of this kernel's is: it has to give a verdict. */
static uint64_t any_address(void) {
    switch (next(9)) {
    case 0: return targets + next(64 * PAGE_BYTES);
    case 1: return memory_end - next(2000);
    case 2: return memory_end + next(1ul << 20);
    case 3: return (uint64_t)vif.page + next(PAGE_BYTES);
    case 4: return vif.registers + next(PAGE_BYTES);
    case 5: return 0xfee00000 + next(PAGE_BYTES);
    case 6: return ~next(1ul << 20);
    case 7: return next(1ul << 31) << 33 | next(1ul << 31);
    default: return (uint64_t)(vif.receive_buffers + next(VIF_DESCRIPTORS) * VIF_BUFFER_BYTES);
    }
}

static uint32_t any_number(void) {
    static const uint32_t numbers[] = {0,    1,    13,   14,   60,     64,         1513,
                                       1514, 1515, 2048, 4096, 0xffff, 0x7fffffff, 0xffffffff};
    return next(4) ? numbers[next(sizeof numbers / sizeof *numbers)] : (uint32_t)next(1ul << 31) * 3;
}

static void scribble(void) {
    struct vif_descriptor *ring = next(2) ? vif.page->send : vif.page->receive;
    struct vif_descriptor *descriptor = &ring[next(VIF_DESCRIPTORS)];
    switch (next(12)) {
    case 0: vif_write(&vif, VIF_CONTROL, any_number()); break;
    case 1: vif_attach(&vif, any_address()); break;
    case 2: vif_write(&vif, (unsigned)next(PAGE_BYTES / 4) * 4, any_number()); break;
    case 3: vif_attach(&vif, (uint64_t)vif.page); break;
    case 4: vif.page->pending = any_number(); break;
    case 5: vif.page->masked = any_number(); break;
    case 6: descriptor->state = any_number(); break;
    case 7: descriptor->length = any_number(); break;
    case 8: *((volatile uint8_t *)vif.page + next(PAGE_BYTES)) = (uint8_t)any_number(); break;
    default:
        descriptor->address = any_address();
        descriptor->length = any_number();
        descriptor->state = next(4) ? VIF_OWNED : any_number();
    }
}

static void ignore(struct trap_frame *frame) { (void)frame; }

/* The scribbled vectors are all taken, for an upcall that nobody expects is no fault of the machine's. */
static void take_all_vectors(void) {
    for (unsigned vector = VIF_UPCALL_LEAST; vector < 256; vector++) trap_set_handler(vector, ignore);
}

static uint64_t find_memory_end(void) {
    uint64_t end = 0;
    for (unsigned i = 0; i < boot_params->e820_count; i++) {
        const struct e820_entry *entry = &boot_params->e820[i];
        if (entry->type == E820_RAM && entry->address + entry->size_bytes > end)
            end = entry->address + entry->size_bytes;
    }
    return end;
}

static bool is_sent(void) {
    const struct vif_descriptor *descriptor = &vif.page->send[0];
    uint8_t *frame = vif_send_buffer(&vif);
    memcpy(frame, peer, 6);
    memcpy(frame + 6, from, 6);
    frame[12] = 0x88, frame[13] = 0xb5;
    vif_send(&vif, 64);
    for (uint64_t start = read_tsc(); descriptor->state == VIF_OWNED && read_tsc() - start < 100000000;)
        asm volatile("pause");
    return descriptor->state == VIF_DONE;
}

void guest_main(void) {
    uint64_t rounds = word_number("rounds", 10000);
    state = word_number("seed", 1);
    vif = vif_find();
    if (!word_mac("peer", peer)) memcpy(peer, vif.mac, 6);
    if (!word_mac("from", from)) memcpy(from, vif.mac, 6);
    memory_end = find_memory_end();
    vif_start(&vif);
    targets = (uint64_t)page_alloc();
    for (unsigned i = 1; i < 66; i++) page_alloc();
    for (unsigned i = 0; i < 64; i++) memcpy((uint8_t *)targets + i * PAGE_BYTES, peer, 6);
    take_all_vectors();
    for (uint64_t i = 0; i < rounds; i++) {
        scribble();
        for (uint64_t start = read_tsc(); read_tsc() - start < GAP_CYCLES;) asm volatile("pause");
        interrupts_on();
        asm volatile("nop");
        interrupts_off();
    }
    vif_write(&vif, VIF_CONTROL, VIF_DETACH);
    check_equal("it can be detached after all that", vif_read(&vif, VIF_CONTROL), VIF_IS_DETACHED);
    vif.send_next = vif.send_oldest = vif.receive_next = 0;
    vif_start(&vif);
    check_true("with a page of order it sends again", is_sent());
}
