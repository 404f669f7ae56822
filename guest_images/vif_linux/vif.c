// SPDX-License-Identifier: GPL-2.0
/*
 * A network driver for a VIF of sidecore's self-virtualized NIC (vif.h has the registers, the page and the signal).
 *
 *   send     ndo_start_xmit gives the next send descriptor to the device; nobody tells when it is done: the next sends
 *            and polls take back what is, and a full ring is polled until it has room; where a driver domain carries the
 *            frames, it wants to be told of them now and then
 *   receive  MSI -> mask, NAPI -> frames up to the budget -> none left: clear pending and masked, look once more
 *
 * The MAC address is read whenever the interface goes up: clones of one snapshot differ only in what the device says.
 */
#include <linux/dma-mapping.h>
#include <linux/etherdevice.h>
#include <linux/interrupt.h>
#include <linux/module.h>

#include "vif_device.h"

static void vif_give(struct vif_descriptor *descriptor, dma_addr_t dma, u32 length) {
    descriptor->address = dma;
    descriptor->length = length;
    dma_wmb();
    descriptor->state = VIF_OWNED; /* from now on the descriptor is the device's */
}

/* A new buffer for receive descriptor `index`; false, and the old one stays, when there is no memory. */
static bool vif_refill(struct vif_device *vif, unsigned int index) {
    struct sk_buff *skb = netdev_alloc_skb_ip_align(vif->netdev, VIF_ROOM_BYTES);
    dma_addr_t dma;

    if (!skb) return false;
    dma = dma_map_single(&vif->pci->dev, skb->data, VIF_ROOM_BYTES, DMA_FROM_DEVICE);
    if (dma_mapping_error(&vif->pci->dev, dma)) {
        dev_kfree_skb(skb);
        return false;
    }
    vif->receive[index] = (struct vif_buffer){skb, dma};
    return true;
}

static void vif_collect(struct vif_device *vif, int budget) {
    for (; vif->send_oldest != vif->send_next; vif->send_oldest++) {
        struct vif_descriptor *descriptor = &vif->page->send[vif->send_oldest % VIF_DESCRIPTORS];
        struct vif_buffer *buffer = &vif->send[vif->send_oldest % VIF_DESCRIPTORS];

        if (descriptor->state == VIF_OWNED) break;
        if (descriptor->state == VIF_DONE) {
            vif->netdev->stats.tx_packets++;
            vif->netdev->stats.tx_bytes += buffer->skb->len;
        } else {
            vif->netdev->stats.tx_errors++;
        }
        dma_unmap_single(&vif->pci->dev, buffer->dma, buffer->skb->len, DMA_TO_DEVICE);
        napi_consume_skb(buffer->skb, budget);
        buffer->skb = NULL;
    }
}

static netdev_tx_t vif_start_xmit(struct sk_buff *skb, struct net_device *netdev) {
    struct vif_device *vif = netdev_priv(netdev);
    unsigned int index = vif->send_next % VIF_DESCRIPTORS;
    dma_addr_t dma;

    vif_collect(vif, 0);
    dma = dma_map_single(&vif->pci->dev, skb->data, skb->len, DMA_TO_DEVICE);
    if (dma_mapping_error(&vif->pci->dev, dma)) {
        netdev->stats.tx_dropped++;
        dev_kfree_skb_any(skb);
        return NETDEV_TX_OK;
    }
    skb_tx_timestamp(skb);
    skb_orphan(skb); /* it may lie here long after it has been sent: its socket need not wait */
    vif->send[index] = (struct vif_buffer){skb, dma};
    vif_give(&vif->page->send[index], dma, skb->len);
    vif->send_next++;
    if (vif->notifies) {
        mb(); /* the look comes behind the store */
        if (vif->page->notify_wanted) vif_hypercall(VIF_CALL_NOTIFY, 0, 0);
    }
    if (!vif_room(vif)) {
        vif->full_rings++;
        netif_stop_queue(netdev);
        napi_schedule(&vif->napi);
    }
    return NETDEV_TX_OK;
}

/* What is in receive descriptor `index` goes up the stack; what is no frame, or finds no memory, is counted. */
static void vif_take(struct vif_device *vif, unsigned int index) {
    struct vif_descriptor *descriptor = &vif->page->receive[index];
    struct vif_buffer old = vif->receive[index];
    u32 length = descriptor->length;

    if (descriptor->state != VIF_DONE || length > VIF_ROOM_BYTES) {
        vif->netdev->stats.rx_errors++;
    } else if (!vif_refill(vif, index)) {
        vif->netdev->stats.rx_dropped++;
    } else {
        dma_unmap_single(&vif->pci->dev, old.dma, VIF_ROOM_BYTES, DMA_FROM_DEVICE);
        skb_put(old.skb, length);
        old.skb->protocol = eth_type_trans(old.skb, vif->netdev);
        vif->netdev->stats.rx_packets++;
        vif->netdev->stats.rx_bytes += length;
        napi_gro_receive(&vif->napi, old.skb);
    }
    vif_give(descriptor, vif->receive[index].dma, VIF_ROOM_BYTES);
}

static bool vif_has_frame(const struct vif_device *vif) {
    return vif->page->receive[vif->receive_next % VIF_DESCRIPTORS].state != VIF_OWNED;
}

static bool vif_has_work(struct vif_device *vif) {
    return vif_has_frame(vif) || (vif->backend && vif_backend_has_work(vif));
}

/* Whether the send ring is still full, what has been sent taken back. */
static bool vif_poll_send(struct vif_device *vif, int budget) {
    struct netdev_queue *queue = netdev_get_tx_queue(vif->netdev, 0);
    bool is_full;

    __netif_tx_lock(queue, smp_processor_id());
    vif_collect(vif, budget);
    is_full = !vif_room(vif);
    if (!is_full && netif_queue_stopped(vif->netdev)) netif_wake_queue(vif->netdev);
    __netif_tx_unlock(queue);
    return is_full;
}

static int vif_poll(struct napi_struct *napi, int budget) {
    struct vif_device *vif = container_of(napi, struct vif_device, napi);
    bool is_full = vif_poll_send(vif, budget);
    int done = 0;

    vif->polls++;
    if (vif->backend) done = vif_backend_poll(vif, budget / 2);
    for (; done < budget && vif_has_frame(vif); done++) {
        dma_rmb(); /* the state before the rest of the descriptor, and the frame */
        vif_take(vif, vif->receive_next++ % VIF_DESCRIPTORS);
    }
    if (is_full) return budget; /* nobody calls when it has room: look again */
    if (done < budget && napi_complete_done(napi, done)) {
        vif->page->pending = 0;
        vif->page->masked = 0;
        mb(); /* the look at the ring comes behind the stores */
        if (vif_has_work(vif)) {
            vif->page->masked = 1;
            napi_schedule(napi);
        }
    }
    return done;
}

static irqreturn_t vif_interrupt(int irq, void *data) {
    struct vif_device *vif = data;

    vif->interrupts++;
    vif->page->masked = 1;
    napi_schedule(&vif->napi);
    return IRQ_HANDLED;
}

static void vif_read_address(struct vif_device *vif) {
    u32 low = readl(vif->registers + VIF_MAC_LOW), high = readl(vif->registers + VIF_MAC_HIGH);
    u8 address[ETH_ALEN] = {low, low >> 8, low >> 16, low >> 24, high, high >> 8};

    eth_hw_addr_set(vif->netdev, address);
}

static void vif_free_buffers(struct vif_device *vif) {
    unsigned int i;

    for (i = 0; i < VIF_DESCRIPTORS; i++) {
        if (vif->receive[i].skb) {
            dma_unmap_single(&vif->pci->dev, vif->receive[i].dma, VIF_ROOM_BYTES, DMA_FROM_DEVICE);
            dev_kfree_skb(vif->receive[i].skb);
        }
        if (vif->send[i].skb) {
            dma_unmap_single(&vif->pci->dev, vif->send[i].dma, vif->send[i].skb->len, DMA_TO_DEVICE);
            dev_kfree_skb(vif->send[i].skb);
        }
        vif->receive[i].skb = vif->send[i].skb = NULL;
    }
    dma_free_coherent(&vif->pci->dev, VIF_PAGE_BYTES, vif->page, vif->page_dma);
}

/* Buffers for all receive descriptors; vif_free_buffers() is due even when it fails. */
static int vif_fill_buffers(struct vif_device *vif) {
    unsigned int i;

    for (i = 0; i < VIF_DESCRIPTORS; i++) {
        if (!vif_refill(vif, i)) return -ENOMEM;
        vif_give(&vif->page->receive[i], vif->receive[i].dma, VIF_ROOM_BYTES);
    }
    return 0;
}

static int vif_attach(struct vif_device *vif) {
    u32 status;

    writel(lower_32_bits(vif->page_dma), vif->registers + VIF_PAGE);
    writel(upper_32_bits(vif->page_dma), vif->registers + VIF_PAGE + 4);
    writel(VIF_UPCALL_MSI, vif->registers + VIF_UPCALL);
    writel(VIF_ATTACH, vif->registers + VIF_CONTROL);
    status = readl(vif->registers + VIF_CONTROL);
    if (status == VIF_IS_ATTACHED) return 0;
    netdev_err(vif->netdev, "the VIF is not attached: status %u\n", status);
    return -ENODEV;
}

static int vif_open(struct net_device *netdev) {
    struct vif_device *vif = netdev_priv(netdev);
    int irq = pci_irq_vector(vif->pci, 0), error;

    vif_read_address(vif);
    vif->page = dma_alloc_coherent(&vif->pci->dev, VIF_PAGE_BYTES, &vif->page_dma, GFP_KERNEL);
    if (!vif->page) return -ENOMEM;
    vif->send_next = vif->send_oldest = vif->receive_next = 0;
    vif->notifies = readl(vif->registers + VIF_NOTIFY);
    napi_enable(&vif->napi);
    error = vif_fill_buffers(vif);
    if (error) goto free_buffers;
    error = request_irq(irq, vif_interrupt, 0, netdev->name, vif);
    if (error) goto free_buffers;
    error = vif_attach(vif);
    if (error) goto free_irq;
    netif_carrier_on(netdev);
    netif_start_queue(netdev);
    vif_backend_start(vif);
    return 0;

free_irq:
    free_irq(irq, vif);
free_buffers:
    napi_disable(&vif->napi);
    vif_free_buffers(vif);
    return error;
}

static int vif_stop(struct net_device *netdev) {
    struct vif_device *vif = netdev_priv(netdev);

    netif_stop_queue(netdev);
    netif_carrier_off(netdev);
    writel(VIF_DETACH, vif->registers + VIF_CONTROL);
    free_irq(pci_irq_vector(vif->pci, 0), vif);
    vif_backend_stop(vif);
    napi_disable(&vif->napi);
    vif_free_buffers(vif);
    return 0;
}

static const struct net_device_ops vif_operations = {
    .ndo_open = vif_open,
    .ndo_stop = vif_stop,
    .ndo_start_xmit = vif_start_xmit,
    .ndo_validate_addr = eth_validate_addr,
};

/* What is managed goes by itself when this fails or the device goes. */
static int vif_probe(struct pci_dev *pci, const struct pci_device_id *id) {
    struct net_device *netdev = devm_alloc_etherdev(&pci->dev, sizeof(struct vif_device));
    struct vif_device *vif;
    int error;

    if (!netdev) return -ENOMEM;
    SET_NETDEV_DEV(netdev, &pci->dev);
    vif = netdev_priv(netdev);
    vif->netdev = netdev;
    vif->pci = pci;
    error = pcim_enable_device(pci);
    if (!error) error = pcim_iomap_regions(pci, BIT(0), KBUILD_MODNAME);
    if (!error) error = dma_set_mask_and_coherent(&pci->dev, DMA_BIT_MASK(64));
    if (error) return error;
    pci_set_master(pci);
    vif->registers = pcim_iomap_table(pci)[0];
    if (readl(vif->registers + VIF_IDENTIFICATION) != VIF_IDENTIFICATION_VALUE) return -ENODEV;
    vif_read_address(vif);
    error = pci_alloc_irq_vectors(pci, 1, 1, PCI_IRQ_MSI);
    if (error < 0) return error;
    netdev->netdev_ops = &vif_operations;
    netdev->ethtool_ops = &vif_ethtool_operations;
    netdev->max_mtu = VIF_FRAME_MOST - ETH_HLEN;
    netif_napi_add(netdev, &vif->napi, vif_poll);
    netif_carrier_off(netdev);
    pci_set_drvdata(pci, vif);
    return register_netdev(netdev);
}

static void vif_remove(struct pci_dev *pci) {
    struct vif_device *vif = pci_get_drvdata(pci);

    unregister_netdev(vif->netdev);
}

static const struct pci_device_id vif_ids[] = {{PCI_DEVICE(VIF_PCI_VENDOR, VIF_PCI_DEVICE)}, {}};
MODULE_DEVICE_TABLE(pci, vif_ids);

static struct pci_driver vif_driver = {
    .name = KBUILD_MODNAME,
    .id_table = vif_ids,
    .probe = vif_probe,
    .remove = vif_remove,
};
module_pci_driver(vif_driver);

MODULE_DESCRIPTION("A virtual interface of sidecore's self-virtualized NIC");
MODULE_LICENSE("GPL");
