/* Claim: none; a stub domain that has the NIC's only VIF and carries the frames of the host's other guests, and does nothing
 * else. It copies by hypercalls (vif.h: VIF_CALL_*), and learns which interface has which address from them, too.
 *
 *   from the wire:   receive --> whose address? --> VIF_CALL_DELIVER
 *   from a guest:    VIF_CALL_FETCH --> whose address? --> VIF_CALL_DELIVER, or send
 */
#include "vif_driver.h"

#define INTERFACES 64
#define BURST 16 /* frames of one guest, before others have theirs; of the wire so many for each guest */

static struct vif vif;
static uint64_t addresses[INTERFACES]; /* as VIF_CALL_ADDRESS says; 0: none */
static unsigned interface_count;

static uint64_t address_of(const uint8_t *frame) {
    uint64_t address = 0;
    for (unsigned i = 0; i < 6; i++) address |= (uint64_t)frame[i] << 8 * i;
    return address;
}

/* Which interfaces there are now; as a map of bits. Any of them may have something to send. */
static uint64_t learn(void) {
    uint64_t found = 0;
    interface_count = 0;
    for (unsigned i = 0; i < INTERFACES; i++) {
        int64_t address = vif_hypercall(VIF_CALL_ADDRESS, i, 0);
        addresses[i] = address > 0 ? (uint64_t)address : 0;
        if (!addresses[i]) continue;
        interface_count = i + 1;
        found |= 1ul << i;
    }
    return found;
}

static void deliver(const uint8_t *frame, unsigned interface, uint32_t length) {
    vif_hypercall(VIF_CALL_DELIVER, (uint64_t)frame, (uint64_t)interface << 16 | length);
}

/* To the interfaces that it is for, but not to `from`; whether it is for the wire, too. */
static bool switch_frame(const uint8_t *frame, uint32_t length, unsigned from) {
    uint64_t address = address_of(frame);
    bool is_group = frame[0] & 1, is_found = false;
    for (unsigned i = 0; i < interface_count; i++) {
        if (!addresses[i] || (!is_group && addresses[i] != address)) continue;
        is_found = true;
        if (i != from || !is_group) deliver(frame, i, length);
    }
    return is_group || !is_found;
}

/* Whether there may be more. */
static bool carry_from_wire(unsigned most) {
    for (unsigned i = 0; i < most; i++) {
        uint32_t length;
        const uint8_t *frame = vif_receive(&vif, &length);
        if (!frame) return false;
        switch_frame(frame, length, INTERFACES);
        vif_give_back(&vif);
    }
    return true;
}

/* Whether it may have more. */
static bool carry_from_guest(unsigned interface) {
    for (unsigned i = 0; i < BURST; i++) {
        uint8_t *buffer = vif_send_buffer(&vif);
        if (!buffer) return true;
        int64_t length = vif_hypercall(VIF_CALL_FETCH, (uint64_t)buffer, interface);
        if (length <= 0) return false;
        if (switch_frame(buffer, (uint32_t)length, interface)) vif_send(&vif, (uint32_t)length);
    }
    return true;
}

void guest_main(void) {
    uint64_t requests = 0;
    vif = vif_find();
    vif_start(&vif);
    uint32_t changes = vif.page->changes - 1;
    print("~ bridge\n");
    for (;;) {
        if (vif.page->changes != changes) {
            changes = vif.page->changes;
            requests |= learn();
        }
        requests |= __atomic_exchange_n(&vif.page->requests, 0, __ATOMIC_SEQ_CST);
        bool has_more = carry_from_wire(BURST * (interface_count ? interface_count : 1));
        for (unsigned i = 0; i < INTERFACES; i++)
            if (requests >> i & 1 && !carry_from_guest(i)) requests &= ~(1ul << i);
        if (has_more || requests || vif_listen(&vif) || vif.page->requests || vif.page->changes != changes) continue;
        wait_for_interrupt();
    }
}
