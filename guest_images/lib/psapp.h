/* psapp: one frame goes to the peer and comes back, and the time that took; one is outstanding at a time. The test kernel
 * (kernels/psapp) and the program for Linux (vif_linux/psapp.c) send the same frames and print the same lines:
 *
 *   ~ psapp client: sent 1100 answered 1100 lost 0 late 0 damaged 0 tsc_khz 2800000
 *   ~ psapp samples 1000                             cycles of the TSC from probe to answer, in hex, warm-up left out,
 *   ~ 4f2a0 4f1c8 ...                                16 in a line
 *   ~ psapp end
 *   ~ psapp server: answered 1102
 */
#ifndef PSAPP_H
#define PSAPP_H

#include <stdint.h>

#define PSAPP_ETHERTYPE 0x88b5 /* IEEE 802: local experimental */
#define PSAPP_SAMPLES_MOST 100000
#define PSAPP_SAMPLES_IN_LINE 16
#define PSAPP_READY 0x50 /* at the POST port, by a client with keep=1 */

/* What a client counts. The samples follow it in memory. */
struct psapp_figures {
    uint64_t sent, answered, lost, late, damaged, tsc_khz, sample_count, reserved;
};

enum psapp_kind {
    PSAPP_HELLO = 1, /* until the server is there */
    PSAPP_PROBE,
    PSAPP_LAST,          /* the server ends when it has answered it */
    PSAPP_ANSWER = 0x80, /* added by the server */
};

struct psapp_frame {
    uint8_t to[6], from[6];
    uint8_t ethertype[2];
    uint16_t kind;
    uint32_t sequence;
    uint64_t tsc; /* the client's, when it sent it */
    uint8_t filling[];
} __attribute__((packed));

static inline uint8_t psapp_filling(uint32_t sequence, uint32_t index) {
    return (uint8_t)(sequence * 7 + index * 13 + 1);
}

/* The header but for the addresses, and the filling. */
static inline void psapp_fill(struct psapp_frame *frame, uint16_t kind, uint32_t sequence, uint32_t length) {
    frame->ethertype[0] = PSAPP_ETHERTYPE >> 8;
    frame->ethertype[1] = PSAPP_ETHERTYPE & 0xff;
    frame->kind = kind;
    frame->sequence = sequence;
    for (uint32_t i = 0; i + sizeof *frame < length; i++) frame->filling[i] = psapp_filling(sequence, i);
}

/* A frame of psapp's, and for `own`: a bridge that has yet to learn who is where sends to everybody. */
static inline int psapp_is_one(const struct psapp_frame *frame, uint32_t length, const uint8_t own[6]) {
    if (length < sizeof *frame || frame->ethertype[0] != PSAPP_ETHERTYPE >> 8 ||
        frame->ethertype[1] != (PSAPP_ETHERTYPE & 0xff))
        return 0;
    for (unsigned i = 0; i < sizeof frame->to; i++)
        if (frame->to[i] != own[i]) return 0;
    return 1;
}

/* A frame of less than 60 bytes arrives longer: Ethernet fills it up. */
static inline int psapp_is_whole(const struct psapp_frame *frame, uint32_t length, uint32_t sent_length) {
    if (length < sent_length) return 0;
    for (uint32_t i = 0; i + sizeof *frame < sent_length; i++)
        if (frame->filling[i] != psapp_filling(frame->sequence, i)) return 0;
    return 1;
}

#endif
