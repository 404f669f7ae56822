/* SPDX-License-Identifier: GPL-2.0 */
/* What the driver keeps for a VIF. */
#ifndef VIF_DEVICE_H
#define VIF_DEVICE_H

#include <linux/ethtool.h>
#include <linux/netdevice.h>
#include <linux/pci.h>

#include "vif.h"

#define VIF_ROOM_BYTES 1536 /* of a buffer */

struct vif_backend;

struct vif_buffer {
    struct sk_buff *skb;
    dma_addr_t dma;
};

struct vif_device {
    struct net_device *netdev;
    struct pci_dev *pci;
    void __iomem *registers;
    struct vif_page *page;
    dma_addr_t page_dma;
    struct napi_struct napi;
    unsigned int send_next, send_oldest, receive_next; /* count on; a descriptor is one modulo VIF_DESCRIPTORS */
    struct vif_buffer send[VIF_DESCRIPTORS], receive[VIF_DESCRIPTORS];
    u64 interrupts, polls, full_rings;
    bool notifies;               /* by hypercall: a driver domain carries the frames */
    struct vif_backend *backend; /* of a driver domain, which carries those of others */
};

/* Frames that the send ring has room for. */
static inline unsigned int vif_room(const struct vif_device *vif) {
    return VIF_DESCRIPTORS - (vif->send_next - vif->send_oldest);
}

static inline s64 vif_hypercall(u64 number, u64 first, u64 second) {
    s64 result;

    asm volatile("vmcall" : "=a"(result) : "a"(number), "D"(first), "S"(second) : "memory");
    return result;
}

/* vif_backend.c; poll and has_work are NAPI's, and only of one that has a backend */
void vif_backend_start(struct vif_device *vif);
void vif_backend_stop(struct vif_device *vif);
int vif_backend_poll(struct vif_device *vif, int budget);
bool vif_backend_has_work(struct vif_device *vif);

extern const struct ethtool_ops vif_ethtool_operations;

#endif
