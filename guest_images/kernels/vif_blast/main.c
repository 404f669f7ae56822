/* Claim: of the frames that two guests send each other as fast as their rings let them, each comes once, in order and whole,
 * or is among those that were dropped and counted. Both run this kernel; who runs them adds up what both print.
 *
 *   peer=02:5c:00:00:02:01 frames=1000 size=0      bytes; 0: of all sizes
 *   gap_us=0                                       between two frames
 *   quiet_ms=100                                   the end: all is sent, and nothing has come for so long
 *
 *   ~ blast sent 1000 errors 0 received 990 missing 10 disordered 0 damaged 0 bytes 732000 cycles 31000000 tsc_khz 2800000
 *   ~ blast device sent 1003 received 991 send_errors 0 receive_errors 0 drops 0 signals 120
 */
#include "command_line.h"
#include "ticks.h"
#include "vif_driver.h"

#define ETHERTYPE_LOW 0xb5 /* 0x88b5: IEEE 802, local experimental */
#define ETHERTYPE_HIGH 0x88
#define HELLO_US 2000
#define ROOM_US 20 /* how often a full ring is looked at */
#define LEAST_BYTES 64
#define HELLO 0xffffffff /* as sequence: no frame of the flow */

struct blast_frame {
    uint8_t to[6], from[6], ethertype[2];
    uint16_t length;
    uint32_t sequence, reserved;
    uint64_t sum, words[];
};

static struct vif vif;
static uint8_t peer[6];
static uint32_t seed;
static uint64_t sent, received, missing, disordered, damaged, bytes, next_sequence;
static bool has_peer;

static uint64_t sum_of(const struct blast_frame *frame) {
    uint64_t sum = frame->sequence + ((uint64_t)frame->length << 32) + frame->from[5];
    unsigned words = (frame->length - sizeof *frame) / 8;
    for (unsigned i = 0; i < words; i++) sum = (sum << 7 | sum >> 57) + frame->words[i];
    return sum;
}

static bool send_frame(uint32_t sequence, uint32_t length) {
    struct blast_frame *frame = (struct blast_frame *)vif_send_buffer(&vif);
    if (!frame) return false;
    memcpy(frame->to, peer, 6);
    memcpy(frame->from, vif.mac, 6);
    frame->ethertype[0] = ETHERTYPE_HIGH, frame->ethertype[1] = ETHERTYPE_LOW;
    frame->length = (uint16_t)length;
    frame->sequence = sequence;
    uint64_t word = sequence * 0x9e3779b97f4a7c15ul;
    for (unsigned i = 0; i < (length - sizeof *frame) / 8; i++) frame->words[i] = word += 0xd1342543de82ef95ul;
    frame->sum = sum_of(frame);
    vif_send(&vif, length);
    return true;
}

static bool is_from_peer(const struct blast_frame *frame) {
    for (unsigned i = 0; i < sizeof peer; i++)
        if (frame->from[i] != peer[i]) return false;
    return true;
}

static void take(const struct blast_frame *frame, uint32_t length) {
    if (length < LEAST_BYTES || !is_from_peer(frame)) return; /* anybody can send here */
    if (frame->ethertype[0] != ETHERTYPE_HIGH || frame->ethertype[1] != ETHERTYPE_LOW) return;
    if (frame->length > length || frame->length < LEAST_BYTES || frame->sum != sum_of(frame)) {
        damaged++;
        return;
    }
    has_peer = true;
    if (frame->sequence == HELLO) return;
    received++;
    bytes += length;
    if (frame->sequence < next_sequence) {
        disordered++; /* or there twice */
    } else {
        missing += frame->sequence - next_sequence;
        next_sequence = frame->sequence + 1ul;
    }
}

static bool take_all(void) {
    uint32_t length;
    bool is_any = false;
    for (const uint8_t *frame; (frame = vif_receive(&vif, &length)); is_any = true) {
        take((const struct blast_frame *)frame, length);
        vif_give_back(&vif);
    }
    return is_any;
}

static uint32_t next_length(uint32_t size) {
    seed = seed * 1103515245 + 12345;
    return size ? size : LEAST_BYTES + (seed >> 8) % (VIF_FRAME_MOST - LEAST_BYTES + 1);
}

static void greet(void) {
    ticks_each_us(HELLO_US);
    for (unsigned before = ticks - 1; !has_peer; take_all()) {
        if (before != ticks) send_frame(HELLO, LEAST_BYTES);
        before = ticks;
        vif_wait(&vif);
    }
    send_frame(HELLO, LEAST_BYTES); /* the peer may not have heard one yet */
}

static void blast(uint64_t frames, uint32_t size, uint64_t gap_us, unsigned quiet_ticks) {
    unsigned heard = ticks, alarm = ticks_alarms;
    bool is_armed = false;
    uint32_t length = next_length(size);
    while (sent < frames || ticks - heard < quiet_ticks) {
        bool is_due = sent < frames && (!is_armed || ticks_alarms != alarm), was_sent = false;
        if (is_due && (was_sent = send_frame((uint32_t)sent, length))) {
            sent++;
            length = next_length(size);
        }
        if (is_due && (!was_sent || gap_us)) { /* look at the ring again, or send the next, later */
            alarm = ticks_alarms;
            is_armed = true;
            ticks_alarm_us(was_sent ? gap_us : ROOM_US);
        } else if (is_due) {
            is_armed = false;
        }
        if (take_all() || sent < frames) heard = ticks;
        if (sent == frames || is_armed) vif_wait(&vif);
    }
}

void guest_main(void) {
    uint64_t frames = word_number("frames", 1000), quiet_ms = word_number("quiet_ms", 100);
    uint32_t size = (uint32_t)word_number("size", 0);
    if (!word_mac("peer", peer)) error("which peer? Say peer=02:5c:00:00:02:01");
    if (frames >= HELLO || (size && (size < LEAST_BYTES || size > VIF_FRAME_MOST)))
        error("frames or size is out of range");
    vif = vif_find();
    seed = vif.mac[4] << 8 | vif.mac[5];
    ticks_init();
    vif_start(&vif);
    greet();
    ticks_each_us(10000);
    uint64_t start = read_tsc();
    blast(frames, size, word_number("gap_us", 0), (unsigned)(quiet_ms / 10 + 1));
    uint64_t cycles = read_tsc() - start;
    vif_collect(&vif);
    missing += frames > next_sequence ? frames - next_sequence : 0; /* the peer sends as many */
    print(
        "~ blast sent %lu errors %lu received %lu missing %lu disordered %lu damaged %lu bytes %lu cycles %lu tsc_khz %lu\n",
        sent, vif.send_errors, received, missing, disordered, damaged, bytes, cycles, tsc_per_ms);
    print("~ blast device sent %u received %u send_errors %u receive_errors %u drops %u signals %u\n",
          vif_read(&vif, VIF_SENT), vif_read(&vif, VIF_RECEIVED), vif_read(&vif, VIF_SEND_ERRORS),
          vif_read(&vif, VIF_RECEIVE_ERRORS), vif_read(&vif, VIF_RECEIVE_DROPS), vif_read(&vif, VIF_SIGNALS));
    check_equal("no frame comes twice or behind a later one", disordered, 0);
    check_equal("each is whole", damaged, 0);
    check_equal("each is there, or missing", received + missing, frames);
    check_equal("none is refused", vif.send_errors, 0);
}
