/* The test kernels' driver of a VIF (vif.h): finds it, attaches a page to it, sends and receives frames.
 *
 *   struct vif vif = vif_find();          the PCI function, its registers mapped
 *   vif_start(&vif);                     page, buffers, upcalls
 *   while ((frame = vif_receive(&vif, &length))) { ...; vif_give_back(&vif); }
 *   vif_wait(&vif)                        halts until a frame is there or an interrupt was
 *
 * Interrupts are off but in vif_wait(): what is written here never races with a handler.
 */
#ifndef VIF_DRIVER_H
#define VIF_DRIVER_H

#include "apic.h"
#include "guest.h"
#include "pci.h"
#include "vif.h"

#define VIF_UPCALL_VECTOR 0xf3
#define VIF_BUFFER_BYTES 2048 /* two in a page */

struct vif {
    unsigned slot;
    uint64_t registers;
    bool notifies; /* by hypercall: a driver domain carries the frames */
    uint8_t mac[6];
    struct vif_page *page;
    uint8_t *send_buffers, *receive_buffers;       /* one per descriptor */
    unsigned send_next, send_oldest, receive_next; /* count on; a descriptor is one modulo VIF_DESCRIPTORS */
    uint64_t sent, send_errors, receive_errors, upcalls;
};

static struct vif *vif_upcalled; /* whose upcalls come by VIF_UPCALL_VECTOR */

static inline int64_t vif_hypercall(uint64_t number, uint64_t first, uint64_t second) {
    int64_t result;
    asm volatile("vmcall" : "=a"(result) : "a"(number), "D"(first), "S"(second) : "memory");
    return result;
}

static inline uint32_t vif_read(const struct vif *vif, unsigned offset) { return mmio_read32(vif->registers + offset); }
static inline void vif_write(const struct vif *vif, unsigned offset, uint32_t value) {
    mmio_write32(vif->registers + offset, value);
}

/* The function where firmware has put it, registers mapped, bus mastering on. */
static inline struct vif vif_find(void) {
    struct vif vif = {0};
    for (unsigned slot = 1; slot < SLOTS && !vif.slot; slot++)
        if (config_read(slot, PCI_ID) == (VIF_PCI_DEVICE << 16 | VIF_PCI_VENDOR)) vif.slot = slot;
    if (!vif.slot) skip("no PCI function vif");
    vif.registers = config_read(vif.slot, PCI_BAR0) & ~0xfu;
    map_page(current_pml4(), vif.registers, vif.registers, PTE_P | PTE_W | 1ul << 4);
    config_write(vif.slot, PCI_COMMAND, COMMAND_MEMORY | COMMAND_MASTER);
    for (unsigned i = 0; i < 6; i++) vif.mac[i] = vif_read(&vif, i < 4 ? VIF_MAC_LOW : VIF_MAC_HIGH) >> i % 4 * 8;
    return vif;
}

/* What the device made of it: VIF_IS_*. */
static inline uint32_t vif_attach(const struct vif *vif, uint64_t page) {
    vif_write(vif, VIF_PAGE, (uint32_t)page);
    vif_write(vif, VIF_PAGE + 4, page >> 32);
    vif_write(vif, VIF_CONTROL, VIF_ATTACH);
    return vif_read(vif, VIF_CONTROL);
}

static inline void vif_give(struct vif_descriptor *descriptor, uint64_t address, uint32_t length) {
    descriptor->address = address;
    descriptor->length = length;
    descriptor->state = VIF_OWNED; /* the last store: from now on the descriptor is the device's */
}

static inline uint8_t *vif_buffers_alloc(void) {
    uint8_t *first = (uint8_t *)page_alloc(); /* page_alloc() gives one page after the other */
    for (unsigned i = 1; i < VIF_DESCRIPTORS * VIF_BUFFER_BYTES / PAGE_BYTES; i++) page_alloc();
    return first;
}

static inline void vif_give_receive(struct vif *vif, unsigned count) {
    unsigned index = count % VIF_DESCRIPTORS;
    vif_give(&vif->page->receive[index], (uint64_t)(vif->receive_buffers + index * VIF_BUFFER_BYTES), VIF_FRAME_MOST);
}

static void vif_on_upcall(struct trap_frame *frame) {
    (void)frame; /* no EOI: the local APIC knows nothing of it */
    vif_upcalled->page->masked = 1;
    vif_upcalled->upcalls++;
}

/* Attach a page with 64 receive buffers, and take upcalls. Ends the run where the VIF does not take it. */
static inline void vif_start(struct vif *vif) {
    vif->page = (struct vif_page *)page_alloc();
    vif->send_buffers = vif_buffers_alloc();
    vif->receive_buffers = vif_buffers_alloc();
    vif_upcalled = vif;
    vif->notifies = vif_read(vif, VIF_NOTIFY);
    trap_set_handler(VIF_UPCALL_VECTOR, vif_on_upcall);
    vif_write(vif, VIF_UPCALL, VIF_UPCALL_VECTOR);
    uint32_t status = vif_attach(vif, (uint64_t)vif->page);
    if (status != VIF_IS_ATTACHED) error("the VIF is not attached: status %u", status);
    for (unsigned i = 0; i < VIF_DESCRIPTORS; i++) vif_give_receive(vif, i);
}

/* Take back what the device has sent. */
static inline void vif_collect(struct vif *vif) {
    for (; vif->send_oldest != vif->send_next; vif->send_oldest++) {
        uint32_t state = vif->page->send[vif->send_oldest % VIF_DESCRIPTORS].state;
        if (state == VIF_OWNED) return;
        vif->sent += state == VIF_DONE;
        vif->send_errors += state != VIF_DONE;
    }
}

/* Where to write the next frame, or NULL while the device has all 64 descriptors. */
static inline uint8_t *vif_send_buffer(struct vif *vif) {
    if (vif->send_next - vif->send_oldest == VIF_DESCRIPTORS) vif_collect(vif);
    if (vif->send_next - vif->send_oldest == VIF_DESCRIPTORS) return NULL;
    return vif->send_buffers + vif->send_next % VIF_DESCRIPTORS * VIF_BUFFER_BYTES;
}

/* Send what is in vif_send_buffer(). */
static inline void vif_send(struct vif *vif, uint32_t length) {
    unsigned index = vif->send_next++ % VIF_DESCRIPTORS;
    vif_give(&vif->page->send[index], (uint64_t)(vif->send_buffers + index * VIF_BUFFER_BYTES), length);
    if (!vif->notifies) return;
    asm volatile("mfence" : : : "memory"); /* the look comes behind the store (SDM 3A 8.2.3.4) */
    if (vif->page->notify_wanted) vif_hypercall(VIF_CALL_NOTIFY, 0, 0);
}

/* The frame that is next in the ring, or NULL; it is the kernel's until vif_give_back(). */
static inline uint8_t *vif_receive(struct vif *vif, uint32_t *ret_length) {
    for (;; vif->receive_errors++, vif_give_receive(vif, vif->receive_next++)) {
        const struct vif_descriptor *descriptor = &vif->page->receive[vif->receive_next % VIF_DESCRIPTORS];
        uint32_t state = descriptor->state;
        if (state == VIF_OWNED) return NULL;
        *ret_length = descriptor->length;
        if (state == VIF_DONE && *ret_length <= VIF_FRAME_MOST)
            return vif->receive_buffers + vif->receive_next % VIF_DESCRIPTORS * VIF_BUFFER_BYTES;
    }
}

static inline void vif_give_back(struct vif *vif) { vif_give_receive(vif, vif->receive_next++); }

static inline bool vif_has_frame(const struct vif *vif) {
    return vif->page->receive[vif->receive_next % VIF_DESCRIPTORS].state != VIF_OWNED;
}

/* All frames are taken: let the device call again. True when a frame came meanwhile: then it may not call. */
static inline bool vif_listen(struct vif *vif) {
    vif->page->pending = 0;
    vif->page->masked = 0;
    asm volatile("mfence" : : : "memory"); /* the look at the ring comes behind the stores (SDM 3A 8.2.3.4) */
    return vif_has_frame(vif);
}

/* Halt until an interrupt, if no frame is there: an upcall, or another one that the kernel has asked for. */
static inline void vif_wait(struct vif *vif) {
    if (!vif_listen(vif)) wait_for_interrupt();
}

#endif
