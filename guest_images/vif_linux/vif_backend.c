// SPDX-License-Identifier: GPL-2.0
/*
 * A driver domain: its VIF is the NIC's only one, and it carries the frames of the host's other guests. Each of them has
 * a network interface here, `guest<number>`, which the kernel's own bridge joins to that of the VIF.
 *
 *   from a guest  bit of `requests` in the page, interrupt of the VIF, its NAPI -> VIF_CALL_FETCH -> up the stack
 *   to a guest    ndo_start_xmit -> VIF_CALL_DELIVER; a guest without room loses the frame
 *   who is there  `changes` in the page -> VIF_CALL_ADDRESS for each number: an interface that is new is registered, one
 *                 whose guest has gone has no carrier
 *
 * A guest is not trusted: what it sends has its own address as source, or it is dropped, so that no bridge learns others'.
 */
#include <linux/etherdevice.h>
#include <linux/io.h>
#include <linux/rtnetlink.h>

#include "vif_device.h"

#define VIF_INTERFACES 64
#define VIF_FIRST 1  /* number of an interface */
#define VIF_BURST 16 /* frames of one guest, before others have theirs */

struct vif_guest {
    struct vif_backend *backend;
    unsigned int number;
    u8 address[ETH_ALEN]; /* the guest's, not that of the interface here */
};

struct vif_backend {
    struct vif_device *vif;
    struct net_device *guests[VIF_INTERFACES];
    struct work_struct look;
    atomic64_t requests, up; /* bits of interfaces: may have something to send; are up here, and the bridge knows it */
    unsigned int next;       /* who is first */
    u32 changes;
    struct sk_buff *spare; /* a frame that is fetched is fetched into it */
};

static int vif_guest_open(struct net_device *netdev) {
    struct vif_guest *guest = netdev_priv(netdev);

    netif_start_queue(netdev);
    schedule_work(&guest->backend->look);
    return 0;
}

static int vif_guest_stop(struct net_device *netdev) {
    struct vif_guest *guest = netdev_priv(netdev);

    netif_stop_queue(netdev);
    atomic64_andnot(BIT_ULL(guest->number), &guest->backend->up);
    return 0;
}

static netdev_tx_t vif_guest_start_xmit(struct sk_buff *skb, struct net_device *netdev) {
    struct vif_guest *guest = netdev_priv(netdev);
    u64 what = (u64)guest->number << 16 | skb->len;

    if (vif_hypercall(VIF_CALL_DELIVER, virt_to_phys(skb->data), what)) {
        netdev->stats.tx_dropped++;
    } else {
        netdev->stats.tx_packets++;
        netdev->stats.tx_bytes += skb->len;
    }
    dev_consume_skb_any(skb);
    return NETDEV_TX_OK;
}

static const struct net_device_ops vif_guest_operations = {
    .ndo_open = vif_guest_open,
    .ndo_stop = vif_guest_stop,
    .ndo_start_xmit = vif_guest_start_xmit,
    .ndo_validate_addr = eth_validate_addr,
};

/* A frame that `guest` has sent, in `skb`, goes up the stack. */
static void vif_guest_take(struct net_device *netdev, struct sk_buff *skb, u32 length) {
    struct vif_guest *guest = netdev_priv(netdev);

    skb->dev = netdev;
    skb_put(skb, length);
    skb->protocol = eth_type_trans(skb, netdev);
    if (!ether_addr_equal(eth_hdr(skb)->h_source, guest->address)) {
        netdev->stats.rx_errors++;
        dev_kfree_skb_any(skb);
        return;
    }
    netdev->stats.rx_packets++;
    netdev->stats.rx_bytes += length;
    napi_gro_receive(&guest->backend->vif->napi, skb);
}

/* At most `most` frames of one guest; how many. When it may have more, its bit of `requests` is set again. */
static int vif_guest_fetch(struct vif_backend *backend, unsigned int number, int most) {
    int done;

    atomic64_andnot(BIT_ULL(number), &backend->requests);
    for (done = 0; done < most; done++) {
        s64 length;

        if (!backend->spare) backend->spare = netdev_alloc_skb_ip_align(backend->vif->netdev, VIF_ROOM_BYTES);
        if (!backend->spare) break;
        length = vif_hypercall(VIF_CALL_FETCH, virt_to_phys(backend->spare->data), number);
        if (length < ETH_HLEN || length > VIF_FRAME_MOST) return done;
        vif_guest_take(backend->guests[number], backend->spare, length);
        backend->spare = NULL;
    }
    atomic64_or(BIT_ULL(number), &backend->requests);
    return done;
}

static u64 vif_backend_ready(struct vif_backend *backend) {
    return atomic64_read(&backend->requests) & atomic64_read(&backend->up);
}

/*
 * No more is fetched than the VIF's own ring has room for: behind a full one is a queue of Linux's, which drops what it
 * has no place for and tells nobody. What is not fetched waits in the rings of guests, who see that they are full.
 */
int vif_backend_poll(struct vif_device *vif, int budget) {
    struct vif_backend *backend = vif->backend;
    u32 changes = vif->page->changes;
    int most = min_t(int, budget, vif_room(vif)), done = 0;
    unsigned int i;

    if (changes != backend->changes) {
        backend->changes = changes;
        schedule_work(&backend->look);
    }
    if (vif->page->requests) atomic64_or(xchg(&vif->page->requests, 0), &backend->requests);
    for (i = 0; i < VIF_INTERFACES && done < most; i++) {
        unsigned int number = backend->next++ % VIF_INTERFACES;

        if (vif_backend_ready(backend) & BIT_ULL(number))
            done += vif_guest_fetch(backend, number, min(VIF_BURST, most - done));
    }
    return done;
}

bool vif_backend_has_work(struct vif_device *vif) {
    struct vif_backend *backend = vif->backend;

    return vif->page->requests || vif->page->changes != backend->changes || vif_backend_ready(backend);
}

static void vif_guest_create(struct vif_backend *backend, unsigned int number) {
    struct device *parent = &backend->vif->pci->dev;
    struct net_device *netdev = devm_alloc_etherdev(parent, sizeof(struct vif_guest));
    struct vif_guest *guest;

    if (!netdev) return;
    SET_NETDEV_DEV(netdev, parent);
    guest = netdev_priv(netdev);
    guest->backend = backend;
    guest->number = number;
    snprintf(netdev->name, IFNAMSIZ, "guest%u", number);
    eth_hw_addr_random(netdev);
    netdev->netdev_ops = &vif_guest_operations;
    netdev->max_mtu = VIF_FRAME_MOST - ETH_HLEN;
    backend->guests[number] = netdev;
    if (devm_register_netdev(parent, netdev)) backend->guests[number] = NULL;
}

/* Which interfaces there are, and which of them are up. Who opens one holds the lock until a bridge knows of it. */
static void vif_backend_look(struct work_struct *work) {
    struct vif_backend *backend = container_of(work, struct vif_backend, look);
    u64 up = 0;
    unsigned int number;

    for (number = VIF_FIRST; number < VIF_INTERFACES; number++) {
        s64 address = vif_hypercall(VIF_CALL_ADDRESS, number, 0);
        struct net_device *netdev;
        struct vif_guest *guest;

        if (address > 0 && !backend->guests[number]) vif_guest_create(backend, number);
        netdev = backend->guests[number];
        if (netdev && address <= 0) netif_carrier_off(netdev);
        if (!netdev || address <= 0) continue;
        guest = netdev_priv(netdev);
        u64_to_ether_addr(swab64(address) >> 16, guest->address);
        netif_carrier_on(netdev);
    }
    rtnl_lock();
    for (number = VIF_FIRST; number < VIF_INTERFACES; number++)
        if (backend->guests[number] && netif_running(backend->guests[number])) up |= BIT_ULL(number);
    atomic64_set(&backend->up, up);
    rtnl_unlock();
    atomic64_or(up, &backend->requests); /* any of them may have something to send */
    local_bh_disable();
    napi_schedule(&backend->vif->napi);
    local_bh_enable();
}

/* The VIF is attached: is this a driver domain? Then look who is there. */
void vif_backend_start(struct vif_device *vif) {
    struct vif_backend *backend = vif->backend;

    if (vif_hypercall(VIF_CALL_ADDRESS, VIF_FIRST, 0) == -ENOSYS) return;
    if (!backend) {
        backend = devm_kzalloc(&vif->pci->dev, sizeof *backend, GFP_KERNEL);
        if (!backend) return;
        backend->vif = vif;
        INIT_WORK(&backend->look, vif_backend_look);
    }
    backend->changes = vif->page->changes;
    vif->backend = backend;
    schedule_work(&backend->look);
}

void vif_backend_stop(struct vif_device *vif) {
    struct vif_backend *backend = vif->backend;

    if (!backend) return;
    cancel_work_sync(&backend->look);
    dev_kfree_skb(backend->spare);
    backend->spare = NULL;
}
