/* Claim: a VIF does what lib/vif.h says: it takes a page of memory and nothing else, answers each descriptor in order, a
 * malformed one by ERROR without stopping, delivers frames whole, drops what has no descriptor and counts it, and calls the
 * guest when `pending` and `masked` let it.
 *
 *   role=echo                     sends back what it gets, until the other is done
 *   peer=02:5c:00:00:02:01        where an echo runs; without it, frames go to this VIF itself
 */
#include "command_line.h"
#include "vif_driver.h"

#define BEYOND 0x2000000000ul  /* no machine of these tests has so much */
#define WAIT_CYCLES 20000000ul /* for what has to come */
#define QUIET_CYCLES 1000000ul /* for what may not */
#define FRAME_BYTES 100
#define HEADER_BYTES 14
#define MANY 300
#define LAST 0xb6 /* lower byte of the ethertype of the frame that ends the echo; that of others is 0xb5 */

static struct vif vif;
static uint8_t peer[6];

static bool is_answered(const struct vif_descriptor *descriptor) {
    for (uint64_t start = read_tsc(); read_tsc() - start < WAIT_CYCLES;) {
        if (descriptor->state != VIF_OWNED) return true;
        asm volatile("pause");
    }
    return false;
}

static uint8_t pattern(unsigned sequence, unsigned index) { return (uint8_t)(sequence * 11 + index * 3 + 5); }

static void fill(uint8_t *frame, uint32_t length, unsigned sequence) {
    memcpy(frame, peer, 6);
    memcpy(frame + 6, vif.mac, 6);
    frame[12] = 0x88, frame[13] = 0xb5;
    for (unsigned i = HEADER_BYTES; i < length; i++) frame[i] = pattern(sequence, i);
}

/* A frame to the peer; what became of the send descriptor. */
static uint32_t send(uint32_t length, unsigned sequence) {
    const struct vif_descriptor *descriptor = &vif.page->send[vif.send_next % VIF_DESCRIPTORS];
    fill(vif_send_buffer(&vif), length, sequence);
    vif_send(&vif, length);
    is_answered(descriptor);
    return descriptor->state;
}

/* Whether the next frame is the one that send() sent. */
static bool comes_back(uint32_t sent_length, unsigned sequence) {
    uint32_t length;
    is_answered(&vif.page->receive[vif.receive_next % VIF_DESCRIPTORS]);
    const uint8_t *frame = vif_receive(&vif, &length);
    if (!frame) return false;
    bool is_same = length >= sent_length && !memcmp(frame, vif.mac, 6);
    for (unsigned i = HEADER_BYTES; i < sent_length; i++) is_same &= frame[i] == pattern(sequence, i);
    vif_give_back(&vif);
    return is_same;
}

static void check_registers(void) {
    check_equal("it says what it is", vif_read(&vif, VIF_IDENTIFICATION), VIF_IDENTIFICATION_VALUE);
    check_true("it has a number", vif_read(&vif, VIF_NUMBER) != 0xffffffff);
    check_equal("its address is one of a single station, and a local one", vif.mac[0] & 3, 2);
    check_equal("no page is attached at first", vif_read(&vif, VIF_CONTROL), VIF_IS_DETACHED);
    vif_write(&vif, VIF_PAGE, 0x12345000);
    vif_write(&vif, VIF_PAGE + 4, 0x6);
    check_equal("the address of the page reads back, its lower half", vif_read(&vif, VIF_PAGE), 0x12345000);
    check_equal("and its upper one", vif_read(&vif, VIF_PAGE + 4), 0x6);
}

static void check_refusals(void) {
    uint64_t page = (uint64_t)page_alloc();
    check_equal("a page has to be aligned", vif_attach(&vif, page + 16), VIF_IS_REFUSED);
    check_equal("it has to be in memory", vif_attach(&vif, BEYOND), VIF_IS_REFUSED);
    check_equal("registers of a device are no memory", vif_attach(&vif, vif.registers), VIF_IS_REFUSED);
    check_equal("nor is what has no guest-physical address", vif_attach(&vif, ~0ul << 12), VIF_IS_REFUSED);
    vif_write(&vif, VIF_CONTROL, VIF_DETACH);
    check_equal("what was refused can be taken back", vif_read(&vif, VIF_CONTROL), VIF_IS_DETACHED);
}

/* Each is answered in its turn, and a good one behind them is sent. */
static void check_malformed_sends(void) {
    static const struct {
        uint64_t address; /* 0: a buffer */
        uint32_t length, reason;
    } cases[] = {
        {0, 0, VIF_ERROR_LENGTH},
        {0, VIF_FRAME_LEAST - 1, VIF_ERROR_LENGTH},
        {0, VIF_FRAME_MOST + 1, VIF_ERROR_LENGTH},
        {0, 0xffffffff, VIF_ERROR_LENGTH},
        {BEYOND, FRAME_BYTES, VIF_ERROR_ADDRESS},
        {0xfee00000, FRAME_BYTES, VIF_ERROR_ADDRESS},
        {~0ul - 8, FRAME_BYTES, VIF_ERROR_ADDRESS},
        {1ul << 63, FRAME_BYTES, VIF_ERROR_ADDRESS},
    };
    struct tally answers = {0};
    unsigned count = sizeof cases / sizeof *cases;
    for (unsigned i = 0; i < count; i++) {
        struct vif_descriptor *descriptor = &vif.page->send[vif.send_next % VIF_DESCRIPTORS];
        vif_give(descriptor, cases[i].address ? cases[i].address : (uint64_t)vif_send_buffer(&vif), cases[i].length);
        vif.send_next++;
        tally_equal(&answers, is_answered(descriptor), true);
        tally_equal(&answers, (uint64_t)descriptor->state << 32 | descriptor->length,
                    (uint64_t)VIF_ERROR << 32 | cases[i].reason);
    }
    check_tally("a malformed descriptor is answered by ERROR and why", &answers);
    vif_collect(&vif);
    check_equal("each is counted", vif_read(&vif, VIF_SEND_ERRORS), count);
    check_equal("and the next good one is sent", send(FRAME_BYTES, 1), VIF_DONE);
    check_true("and comes back", comes_back(FRAME_BYTES, 1));
}

static void check_frames(void) {
    static const uint32_t lengths[] = {14, 15, 59, 60, 61, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1000, 1513, 1514};
    struct tally whole = {0}, order = {0};
    for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        tally_equal(&whole, send(lengths[i], i), VIF_DONE);
        tally_equal(&whole, comes_back(lengths[i], i), true);
    }
    check_tally("frames of all lengths come whole", &whole);
    for (unsigned sent = 0, received = 0; received < MANY; received++) {
        for (; sent < MANY && sent - received < VIF_DESCRIPTORS / 2; sent++) {
            uint8_t *buffer = vif_send_buffer(&vif);
            if (!buffer) break;
            fill(buffer, FRAME_BYTES + sent, sent);
            vif_send(&vif, FRAME_BYTES + sent);
        }
        tally_equal(&order, comes_back(FRAME_BYTES + received, received), true);
    }
    check_tally("many at a time come in order", &order);
}

static void check_receive_errors(void) {
    struct vif_descriptor *next = &vif.page->receive[vif.receive_next % VIF_DESCRIPTORS];
    uint32_t before = vif_read(&vif, VIF_RECEIVE_ERRORS);
    vif_give(next, next->address, FRAME_BYTES - 1);
    send(FRAME_BYTES, 2);
    is_answered(next);
    check_equal("a frame that is longer than the room is an ERROR", next->state, VIF_ERROR);
    check_equal("and the reason says so", next->length, VIF_ERROR_LENGTH);
    vif_give_receive(&vif, vif.receive_next++);
    next = &vif.page->receive[vif.receive_next % VIF_DESCRIPTORS];
    vif_give(next, BEYOND, VIF_FRAME_MOST);
    send(FRAME_BYTES, 3);
    is_answered(next);
    check_equal("a buffer that is no memory is one", next->state, VIF_ERROR);
    check_equal("for that reason", next->length, VIF_ERROR_ADDRESS);
    vif_give_receive(&vif, vif.receive_next++);
    check_equal("both are counted", vif_read(&vif, VIF_RECEIVE_ERRORS) - before, 2);
    send(FRAME_BYTES, 4);
    check_true("and the next frame comes", comes_back(FRAME_BYTES, 4));
}

static void check_drops(void) {
    uint32_t before = vif_read(&vif, VIF_RECEIVE_DROPS);
    for (unsigned i = 0; i < VIF_DESCRIPTORS; i++) send(FRAME_BYTES, i);
    for (unsigned i = 0; i < 3; i++) send(FRAME_BYTES, 100);
    is_answered(&vif.page->receive[(vif.receive_next + VIF_DESCRIPTORS - 1) % VIF_DESCRIPTORS]);
    for (uint64_t start = read_tsc(); read_tsc() - start < WAIT_CYCLES;)
        if (vif_read(&vif, VIF_RECEIVE_DROPS) - before >= 3) break;
    check_equal("a frame that finds no descriptor is dropped and counted", vif_read(&vif, VIF_RECEIVE_DROPS) - before,
                3);
    struct tally kept = {0};
    for (unsigned i = 0; i < VIF_DESCRIPTORS; i++) tally_equal(&kept, comes_back(FRAME_BYTES, i), true);
    check_tally("those before it are all there", &kept);
    send(FRAME_BYTES, 5);
    check_true("and so is the next one", comes_back(FRAME_BYTES, 5));
}

/* A frame that comes back, and time for an upcall. */
static uint64_t upcalls_of_frame(unsigned sequence) {
    uint64_t before = vif.upcalls;
    send(FRAME_BYTES, sequence);
    is_answered(&vif.page->receive[(vif.receive_next + sequence) % VIF_DESCRIPTORS]);
    interrupts_on();
    for (uint64_t start = read_tsc(); read_tsc() - start < QUIET_CYCLES;) asm volatile("pause");
    interrupts_off();
    return vif.upcalls - before;
}

static void check_signals(void) {
    interrupts_on(); /* an upcall from before waits, since interrupts were off: it comes now */
    for (uint64_t start = read_tsc(); read_tsc() - start < QUIET_CYCLES;) asm volatile("pause");
    interrupts_off();
    vif_listen(&vif);
    vif.page->masked = 1;
    check_equal("masked: no upcall", upcalls_of_frame(0), 0);
    check_equal("but it is pending", vif.page->pending, 1);
    vif.page->masked = 0;
    check_equal("pending already: no upcall", upcalls_of_frame(1), 0);
    check_true("a look at the ring shows what came meanwhile", vif_listen(&vif));
    check_equal("neither: an upcall", upcalls_of_frame(2), 1);
    check_equal("which has masked", vif.page->masked, 1);
    for (unsigned i = 0; i < 3; i++) comes_back(FRAME_BYTES, i);
    vif_listen(&vif);
    uint64_t before = vif.upcalls;
    fill(vif_send_buffer(&vif), FRAME_BYTES, 6);
    vif_send(&vif, FRAME_BYTES);
    while (vif.upcalls == before) vif_wait(&vif);
    check_true("an upcall wakes a halted CPU", comes_back(FRAME_BYTES, 6));
}

static void check_detach(void) {
    vif_write(&vif, VIF_CONTROL, VIF_DETACH);
    check_equal("a page can be taken back", vif_read(&vif, VIF_CONTROL), VIF_IS_DETACHED);
    vif_give(&vif.page->send[vif.send_next % VIF_DESCRIPTORS], (uint64_t)vif.send_buffers, FRAME_BYTES);
    for (uint64_t start = read_tsc(); read_tsc() - start < QUIET_CYCLES;) asm volatile("pause");
    check_equal("then nobody looks at it", vif.page->send[vif.send_next % VIF_DESCRIPTORS].state, VIF_OWNED);
    vif_start(&vif);
    vif.send_next = vif.send_oldest = vif.receive_next = 0;
    check_equal("another may be attached: it begins at descriptor 0", send(FRAME_BYTES, 7), VIF_DONE);
    check_true("of both rings", comes_back(FRAME_BYTES, 7));
}

/* The peer may not be there yet: a frame each time that none comes back. */
static void greet(void) {
    do send(FRAME_BYTES, 0);
    while (!is_answered(&vif.page->receive[vif.receive_next % VIF_DESCRIPTORS]));
    uint64_t start = read_tsc();
    while (read_tsc() - start < QUIET_CYCLES) { /* those that were sent before that one, too */
        uint32_t length;
        if (vif_receive(&vif, &length)) vif_give_back(&vif);
    }
}

static void end_echo(void) {
    uint8_t *frame = vif_send_buffer(&vif);
    fill(frame, FRAME_BYTES, 0);
    frame[13] = LAST;
    vif_send(&vif, FRAME_BYTES);
}

static void run_echo(void) {
    uint64_t answered = 0;
    for (bool is_last = false; !is_last;) {
        uint32_t length;
        const uint8_t *frame = vif_receive(&vif, &length);
        if (!frame) {
            vif_wait(&vif);
            continue;
        }
        uint8_t *answer;
        while (!(answer = vif_send_buffer(&vif))) asm volatile("pause");
        memcpy(answer, frame, length);
        memcpy(answer, frame + 6, 6);
        memcpy(answer + 6, vif.mac, 6);
        is_last = frame[12] == 0x88 && frame[13] == LAST;
        vif_send(&vif, length);
        vif_give_back(&vif);
        answered++;
    }
    check_true("there was something to send back", answered);
}

static void check_all(void) {
    bool has_peer = word_mac("peer", peer);
    if (!has_peer) memcpy(peer, vif.mac, 6);
    check_registers();
    check_refusals();
    vif_start(&vif);
    if (has_peer) greet();
    check_malformed_sends();
    check_frames();
    check_receive_errors();
    check_drops();
    check_signals();
    check_detach();
    if (has_peer) end_echo();
    while (vif.send_oldest != vif.send_next) vif_collect(&vif);
}

void guest_main(void) {
    vif = vif_find();
    if (word_is("role", "echo")) {
        vif_start(&vif);
        run_echo();
    } else {
        check_all();
    }
}
