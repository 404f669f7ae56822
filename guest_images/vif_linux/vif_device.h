/* SPDX-License-Identifier: GPL-2.0 */
/* What the driver keeps for a VIF. */
#ifndef VIF_DEVICE_H
#define VIF_DEVICE_H

#include <linux/ethtool.h>
#include <linux/netdevice.h>
#include <linux/pci.h>

#include "vif.h"

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
};

extern const struct ethtool_ops vif_ethtool_operations;

#endif
