/* A virtual interface (VIF) of the self-virtualized NIC: what a guest shares with it. The device's side of the same table is
 * devices/nic/vif_page.py; a test compares the two. Linux's driver (vif_linux/vif.c) includes this file, too.
 *
 *   page, 4 KiB, of the guest's memory          a descriptor, 16 bytes
 *      0  pending, masked: the signal              0  address   gpa of the buffer
 *     64  received: for the VMM, read only
 *   1024  64 send descriptors                      8  length    of the frame; of a receive buffer its room, until it is DONE;
 *   2048  64 receive descriptors                                of an ERROR its reason
 *                                                 12  state     whose it is; written last
 *
 * Both rings are used in order, from descriptor 0 on. The guest fills a descriptor and gives it away as OWNED, the device
 * gives it back as DONE or ERROR.
 *
 * The signal: when a receive descriptor is DONE and `pending` is 0, it becomes 1, and unless `masked` is set the guest is
 * called: by an MSI, or by the vector it has asked for, which is no business of the local APIC (no EOI). The guest then
 * sets `masked`, takes frames until there are none, clears `pending` and `masked`, and looks once more.
 *
 * Set-up: a PCI function with 4 KiB of registers; each access is a VM exit, and nothing there is needed while frames go.
 */
#ifndef VIF_H
#define VIF_H

#define VIF_PCI_VENDOR 0x1234
#define VIF_PCI_DEVICE 0x5c01

/* Registers, 32 bits wide; VIF_PAGE has 64. */
#define VIF_IDENTIFICATION 0x00 /* RO VIF_IDENTIFICATION_VALUE */
#define VIF_NUMBER 0x04         /* RO all ones: there is no VIF */
#define VIF_MAC_LOW 0x08        /* RO bytes 0 to 3 of the address, byte 0 in bits 7:0 */
#define VIF_MAC_HIGH 0x0c       /* RO bytes 4 and 5 */
#define VIF_PAGE 0x10           /* RW gpa of the page */
#define VIF_CONTROL 0x18        /* W VIF_ATTACH, VIF_DETACH; R VIF_IS_* */
#define VIF_UPCALL 0x1c         /* RW vector of the upcall; VIF_UPCALL_MSI */
#define VIF_SENT 0x20           /* RO counters from here on: frames */
#define VIF_RECEIVED 0x24
#define VIF_SEND_ERRORS 0x28 /* descriptors */
#define VIF_RECEIVE_ERRORS 0x2c
#define VIF_RECEIVE_DROPS 0x30 /* frames that found no OWNED descriptor */
#define VIF_SIGNALS 0x34

#define VIF_NOTIFY 0x38 /* RO 1: a driver domain carries the frames; see VIF_CALL_NOTIFY */

#define VIF_IDENTIFICATION_VALUE 0x5c010001
#define VIF_DETACH 0
#define VIF_ATTACH 1
#define VIF_IS_DETACHED 0
#define VIF_IS_ATTACHED 1
#define VIF_IS_REFUSED 2 /* the page is not aligned, or no RAM */
#define VIF_IS_GONE 3    /* there is no VIF, or no more */
#define VIF_UPCALL_MSI 0
#define VIF_UPCALL_LEAST 32

#define VIF_PAGE_BYTES 4096
#define VIF_PENDING_AT 0
#define VIF_MASKED_AT 4
#define VIF_NOTIFY_WANTED_AT 8 /* 1: VIF_CALL_NOTIFY after descriptors were given away, please */
#define VIF_REQUESTS_AT 16     /* a driver domain's page: bit n is set when guest n notifies; taken by an exchange */
#define VIF_CHANGES_AT 24      /* the same: counts on when interfaces come and go */
#define VIF_RECEIVED_AT 64 /* receive descriptors that the device has given back: a sidecore polls it */
#define VIF_SEND_AT 1024
#define VIF_RECEIVE_AT 2048
#define VIF_DESCRIPTORS 64 /* of each ring */
#define VIF_DESCRIPTOR_BYTES 16
#define VIF_FRAME_LEAST 14
#define VIF_FRAME_MOST 1514 /* without the frame check sequence */

#define VIF_FREE 0
#define VIF_OWNED 1
#define VIF_DONE 2
#define VIF_ERROR 3

#define VIF_ERROR_ADDRESS 1 /* not RAM */
#define VIF_ERROR_LENGTH 2  /* no length of a frame; a frame that is longer than the room */

/* Hypercalls: RAX, RDI, RSI -> RAX, less than 0: an error. Of a management domain: */
#define VIF_CALL_CREATE 0x5c10  /* RDI number of the domain, RSI MAC address, byte 0 in bits 7:0 -> number of the VIF */
#define VIF_CALL_DESTROY 0x5c11 /* RDI number of the domain */
/* Of a guest whose frames a driver domain carries: */
#define VIF_CALL_NOTIFY 0x5c12 /* there is something to send */
/* Of a driver domain; an interface has a number from 1 to 63: */
#define VIF_CALL_FETCH 0x5c13   /* RDI gpa of 1514 bytes, RSI interface -> length of the frame put there, 0: none */
#define VIF_CALL_DELIVER 0x5c14 /* RDI gpa of a frame, RSI interface << 16 | length */
#define VIF_CALL_ADDRESS 0x5c15 /* RDI interface -> its MAC address, byte 0 in bits 7:0 */

#ifndef __ASSEMBLER__
#ifdef __KERNEL__
#include <linux/types.h>
typedef u32 vif_u32;
typedef u64 vif_u64;
#else
#include <stdint.h>
typedef uint32_t vif_u32;
typedef uint64_t vif_u64;
#endif

struct vif_descriptor {
    volatile vif_u64 address;
    volatile vif_u32 length, state;
};

struct vif_page {
    volatile vif_u32 pending, masked, notify_wanted, reserved;
    volatile vif_u64 requests;
    volatile vif_u32 changes;
    unsigned char reserved_before_it[VIF_RECEIVED_AT - VIF_CHANGES_AT - 4];
    volatile vif_u32 received;
    unsigned char reserved_behind_it[VIF_SEND_AT - VIF_RECEIVED_AT - 4];
    struct vif_descriptor send[VIF_DESCRIPTORS], receive[VIF_DESCRIPTORS];
    unsigned char reserved_at_the_end[VIF_PAGE_BYTES - VIF_RECEIVE_AT - VIF_DESCRIPTORS * VIF_DESCRIPTOR_BYTES];
};
_Static_assert(sizeof(struct vif_page) == VIF_PAGE_BYTES, "the page is a page");
#endif
#endif
