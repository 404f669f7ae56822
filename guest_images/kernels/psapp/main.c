/* Claim: every probe that a peer answers comes back whole, once and in order (psapp of the paper, lib/psapp.h). One kernel,
 * its role by words of the command line; time of each round trip by the TSC, from before the frame is given to the VIF until
 * after the answer is taken from it.
 *
 *   role=client peer=02:5c:00:00:02:01      role=server
 *   probes=1000 warmup=100 size=64          bytes, without the frame check sequence
 *   think_us=0 think=halt                   between an answer and the next probe; think=spin computes meanwhile
 *   start_us=0                              before the first probe, once the peer is there
 *   timeout_ms=50                           a probe is lost after that, at the latest after twice that; 54 at most, 0: never
 *   quiet_ms=0                              a server ends when it has heard nothing for so long; 0: never
 *   keep=1                                  a client that is done goes on, so that other flows are pressed as before to their
 *                                           ends; it prints where its figures are and nothing else, and tells by the POST
 *                                           port that they are complete
 */
#include "psapp.h"

#include "command_line.h"
#include "ticks.h"
#include "vif_driver.h"

#define HELLO_US 2000
#define QUIET_TICK_US 50000
#define LAST_TRIES 5
#define LINE_STATUS 5 /* of the UART; its FIFO takes 16 bytes */
#define TRANSMITTER_HOLDING_EMPTY 0x20

static struct vif vif;
static uint8_t peer[6];
static uint32_t size_bytes, *samples;
static struct psapp_figures *figures;
static uint64_t served;

static void send_frame(uint16_t kind, uint32_t sequence) {
    struct psapp_frame *frame;
    while (!(frame = (struct psapp_frame *)vif_send_buffer(&vif))) asm volatile("pause");
    memcpy(frame->to, peer, 6);
    memcpy(frame->from, vif.mac, 6);
    psapp_fill(frame, kind, sequence, size_bytes);
    frame->tsc = read_tsc();
    vif_send(&vif, size_bytes);
}

/* Whether the answer to `sequence` came, before the PIT has ticked `ticks_most` times if that is not 0; `ret_cycles` is
 * what it took. */
static bool wait_answer(uint16_t kind, uint32_t sequence, unsigned ticks_most, uint64_t *ret_cycles) {
    unsigned start = ticks;
    for (;;) {
        uint32_t length;
        const struct psapp_frame *frame = (const struct psapp_frame *)vif_receive(&vif, &length);
        if (frame) {
            uint64_t now = read_tsc();
            bool is_answer = psapp_is_one(frame, length, vif.mac) && frame->kind == (kind | PSAPP_ANSWER);
            bool is_due = is_answer && frame->sequence == sequence;
            *ret_cycles = now - frame->tsc;
            figures->damaged += is_answer && !psapp_is_whole(frame, length, size_bytes);
            figures->late += is_answer && !is_due;
            vif_give_back(&vif);
            if (is_due) return true;
        } else {
            if (ticks_most && ticks - start >= ticks_most) return false;
            vif_wait(&vif);
        }
    }
}

static void think(uint64_t us, bool spins) {
    if (spins)
        ticks_spin_us(us);
    else
        ticks_sleep_us(us);
}

/* Straight into the UART's FIFO: a wait before each byte would cost another VM exit for each. */
static void print_sample(uint32_t cycles) {
    while (!(in8(COM1 + LINE_STATUS) & TRANSMITTER_HOLDING_EMPTY));
    out8(COM1, ' ');
    for (int shift = 28; shift >= 0; shift -= 4)
        if (cycles >> shift || !shift) out8(COM1, "0123456789abcdef"[cycles >> shift & 15]);
}

static void print_client(void) {
    print("~ psapp client: sent %lu answered %lu lost %lu late %lu damaged %lu tsc_khz %lu\n", figures->sent,
          figures->answered, figures->lost, figures->late, figures->damaged, figures->tsc_khz);
    print("~ psapp samples %lu\n", figures->sample_count);
    for (unsigned i = 0; i < figures->sample_count; i++) {
        if (i % PSAPP_SAMPLES_IN_LINE == 0) print(i ? "\n~" : "~");
        print_sample(samples[i]);
    }
    print(figures->sample_count ? "\n~ psapp end\n" : "~ psapp end\n");
}

static void probe(uint32_t sequence, bool is_counted, unsigned ticks_most) {
    uint64_t cycles;
    send_frame(PSAPP_PROBE, sequence);
    figures->sent++;
    if (!wait_answer(PSAPP_PROBE, sequence, ticks_most, &cycles)) {
        figures->lost++;
        return;
    }
    figures->answered++;
    if (is_counted) samples[figures->sample_count++] = cycles < 0xffffffff ? (uint32_t)cycles : 0xffffffff;
}

static void run_client(void) {
    uint64_t probes = word_number("probes", 1000), warmup = word_number("warmup", 100), cycles;
    uint64_t think_us = word_number("think_us", 0), timeout_ms = word_number("timeout_ms", 50);
    bool spins = word_is("think", "spin"), keeps = word_number("keep", 0);
    if (!word_mac("peer", peer)) error("which peer? Say peer=02:5c:00:00:02:01");
    if (probes > PSAPP_SAMPLES_MOST || timeout_ms > TICK_MOST_US / 1000) error("probes or timeout_ms is too large");
    figures = (struct psapp_figures *)page_alloc(); /* page_alloc() gives one page after the other */
    for (uint64_t at = PAGE_BYTES; at < sizeof *figures + probes * sizeof *samples; at += PAGE_BYTES) page_alloc();
    samples = (uint32_t *)(figures + 1);
    figures->tsc_khz = tsc_per_ms;
    if (keeps) print("~ psapp figures at %lx\n", (uint64_t)figures);
    ticks_each_us(HELLO_US);
    do send_frame(PSAPP_HELLO, 0);
    while (!wait_answer(PSAPP_HELLO, 0, 1, &cycles));
    ticks_each_us(timeout_ms * 1000);
    think(word_number("start_us", 0), spins);
    for (uint64_t i = 0; i < warmup + probes || keeps; i++) {
        if (i == warmup + probes) out8(POST_PORT, PSAPP_READY);
        if (i) think(think_us, spins);
        probe((uint32_t)i, i >= warmup && i < warmup + probes, timeout_ms ? 2 : 0);
    }
    ticks_each_us(TICK_MOST_US);
    for (unsigned i = 0; i < LAST_TRIES; i++) {
        send_frame(PSAPP_LAST, 0);
        if (wait_answer(PSAPP_LAST, 0, 1, &cycles)) break;
    }
    print_client();
    check_true("the peer answers", figures->answered);
    check_equal("every answer is what was sent", figures->damaged, 0);
    check_true("no probe is answered twice, and none late that was not given up", figures->late <= figures->lost);
}

/* Send it back to where it came from. */
static void answer(const struct psapp_frame *frame, uint32_t length) {
    struct psapp_frame *answer;
    while (!(answer = (struct psapp_frame *)vif_send_buffer(&vif))) asm volatile("pause");
    memcpy(answer, frame, length);
    memcpy(answer->to, frame->from, 6);
    memcpy(answer->from, vif.mac, 6);
    answer->kind = frame->kind | PSAPP_ANSWER;
    vif_send(&vif, length);
    served++;
}

static void run_server(void) {
    uint64_t quiet_ms = word_number("quiet_ms", 0), quiet_ticks = quiet_ms * 1000 / QUIET_TICK_US + 1;
    ticks_each_us(quiet_ms ? QUIET_TICK_US : 0);
    for (unsigned heard = ticks, is_last = 0; !is_last && (!quiet_ms || ticks - heard < quiet_ticks);) {
        uint32_t length;
        const struct psapp_frame *frame = (const struct psapp_frame *)vif_receive(&vif, &length);
        if (!frame) {
            vif_wait(&vif);
            continue;
        }
        heard = ticks;
        if (psapp_is_one(frame, length, vif.mac) && !(frame->kind & PSAPP_ANSWER)) {
            answer(frame, length);
            is_last = frame->kind == PSAPP_LAST;
        }
        vif_give_back(&vif);
    }
    for (vif_collect(&vif); vif.send_oldest != vif.send_next; vif_collect(&vif)) asm volatile("pause");
    print("~ psapp server: answered %lu\n", served);
    check_true("there was something to answer", served);
}

void guest_main(void) {
    vif = vif_find();
    size_bytes = (uint32_t)word_number("size", 64);
    if (size_bytes < sizeof(struct psapp_frame) || size_bytes > VIF_FRAME_MOST) error("size is 28 to 1514 bytes");
    ticks_init();
    vif_start(&vif);
    if (word_is("role", "client"))
        run_client();
    else if (word_is("role", "server"))
        run_server();
    else
        error("which role? Say role=client or role=server");
}
