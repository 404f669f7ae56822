/* psapp for Linux: round trips over a packet socket (lib/psapp.h has the frames and the lines it prints).
 *
 *   psapp role=client peer=02:5c:00:00:02:01 probes=1000 warmup=100 think_us=0 think=sleep size=64 timeout_ms=50
 *   psapp role=server
 *   psapp role=statistics                       what ethtool would show
 *   psapp held                                  says `sidecore: holding`, takes its words from a line of standard input, and sets
 *                                               the interface up: what a copy of a guest has to do is as little as can be
 *
 * All take interface=eth0. The words mean what they mean to the test kernel (kernels/psapp), but keep=1: then a client that is
 * done says `~ psapp ready` and goes on until a line comes on its standard input; only then it prints its figures. The client ends with status 1
 * when no probe was answered or an answer is damaged.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "psapp.h"

#define FRAME_BYTES_MOST 1514
#define HELLO_MS 2
#define LAST_TRIES 5
#define LAST_MS 50
#define STATISTICS_MOST 64
#define HELD_WORDS_MOST 16

static char **words; /* of the command line */
static int packet_socket, interface_index;
static uint8_t own[6], peer[6];
static uint32_t size_bytes, *samples;
static struct psapp_figures figures;

static void __attribute__((noreturn)) fail(const char *what) {
    fprintf(stderr, "psapp: %s: %s\n", what, strerror(errno));
    exit(2);
}

static void __attribute__((noreturn)) refuse(const char *why) {
    fprintf(stderr, "psapp: %s; as in role=client peer=02:5c:00:00:02:01, or role=server\n", why);
    exit(2);
}

static const char *word(const char *name, const char *otherwise) {
    size_t length = strlen(name);
    for (char **at = words; *at; at++)
        if (!strncmp(*at, name, length) && (*at)[length] == '=') return *at + length + 1;
    return otherwise;
}

static unsigned long number(const char *name, const char *otherwise) {
    return strtoul(word(name, otherwise), NULL, 10);
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The TSC, when all before it is done and nothing behind it has begun (SDM 2B, "RDTSC"). */
static uint64_t read_tsc(void) {
    _mm_lfence();
    uint64_t tsc = __rdtsc();
    _mm_lfence();
    return tsc;
}

static void open_socket(void) {
    struct ifreq request = {0};
    strncpy(request.ifr_name, word("interface", "eth0"), IFNAMSIZ - 1);
    packet_socket = socket(AF_PACKET, SOCK_RAW, htons(PSAPP_ETHERTYPE));
    if (packet_socket < 0) fail("no packet socket");
    if (ioctl(packet_socket, SIOCGIFHWADDR, &request)) fail(request.ifr_name);
    memcpy(own, request.ifr_hwaddr.sa_data, 6);
    if (ioctl(packet_socket, SIOCGIFINDEX, &request)) fail(request.ifr_name);
    interface_index = request.ifr_ifindex;
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(PSAPP_ETHERTYPE), .sll_ifindex = interface_index};
    if (bind(packet_socket, (struct sockaddr *)&address, sizeof address)) fail("bind");
}

/* How long a receive waits; 0: for ever. */
static void set_patience_ms(unsigned long ms) {
    struct timeval patience = {.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
    if (setsockopt(packet_socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience)) fail("SO_RCVTIMEO");
}

static void send_frame(uint16_t kind, uint32_t sequence) {
    static uint8_t bytes[FRAME_BYTES_MOST];
    struct psapp_frame *frame = (struct psapp_frame *)bytes;
    memcpy(frame->to, peer, 6);
    memcpy(frame->from, own, 6);
    psapp_fill(frame, kind, sequence, size_bytes);
    frame->tsc = read_tsc();
    if (send(packet_socket, bytes, size_bytes, 0) < 0 && errno != ENOBUFS) fail("send");
}

/* Whether the answer to `sequence` came while patience lasted; `ret_cycles` is what it took. */
static bool wait_answer(uint16_t kind, uint32_t sequence, uint64_t *ret_cycles) {
    static uint8_t bytes[FRAME_BYTES_MOST];
    const struct psapp_frame *frame = (const struct psapp_frame *)bytes;
    for (;;) {
        ssize_t length = recv(packet_socket, bytes, sizeof bytes, 0);
        uint64_t now = read_tsc();
        if (length < 0 && errno != EAGAIN && errno != EINTR) fail("recv");
        if (length < 0) return false;
        if (!psapp_is_one(frame, (uint32_t)length, own) || frame->kind != (kind | PSAPP_ANSWER)) continue;
        figures.damaged += !psapp_is_whole(frame, (uint32_t)length, size_bytes);
        *ret_cycles = now - frame->tsc;
        if (frame->sequence == sequence) return true;
        figures.late++;
    }
}

static void think(unsigned long us, bool spins) {
    struct timespec span = {.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000 * 1000)};
    if (!us) return;
    if (!spins) nanosleep(&span, NULL);
    for (uint64_t start = now_ns(); spins && now_ns() - start < us * 1000;) _mm_pause();
}

/* A probe and its answer; the time is kept if it `is_counted`. */
static void probe(uint32_t sequence, bool is_counted) {
    uint64_t cycles;
    send_frame(PSAPP_PROBE, sequence);
    figures.sent++;
    if (!wait_answer(PSAPP_PROBE, sequence, &cycles)) {
        figures.lost++;
        return;
    }
    figures.answered++;
    if (is_counted) samples[figures.sample_count++] = cycles < 0xffffffff ? (uint32_t)cycles : 0xffffffff;
}

static bool has_line(void) {
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&input, 1, 0) > 0;
}

static void print_client(void) {
    printf("~ psapp client: sent %lu answered %lu lost %lu late %lu damaged %lu tsc_khz %lu\n", figures.sent,
           figures.answered, figures.lost, figures.late, figures.damaged, figures.tsc_khz);
    printf("~ psapp samples %lu", figures.sample_count);
    for (uint64_t i = 0; i < figures.sample_count; i++)
        printf(i % PSAPP_SAMPLES_IN_LINE ? " %x" : "\n~ %x", samples[i]);
    printf("\n~ psapp end\n");
}

static void read_peer(void) {
    unsigned byte[6];
    if (sscanf(word("peer", ""), "%x:%x:%x:%x:%x:%x", byte, byte + 1, byte + 2, byte + 3, byte + 4, byte + 5) != 6)
        refuse("which peer?");
    for (unsigned i = 0; i < 6; i++) peer[i] = (uint8_t)byte[i];
}

/* `probes` that are counted, behind those of the warm-up. */
static void run_probes(unsigned long warmup, unsigned long probes) {
    unsigned long think_us = number("think_us", "0"), i = 0;
    bool spins = !strcmp(word("think", "sleep"), "spin");
    think(number("start_us", "0"), spins);
    uint64_t start_ns = now_ns(), start_tsc = read_tsc();
    for (; i < warmup + probes; i++) {
        if (i) think(think_us, spins);
        probe((uint32_t)i, i >= warmup);
    }
    uint64_t passed_ns = now_ns() - start_ns;
    figures.tsc_khz = (uint64_t)((unsigned __int128)(read_tsc() - start_tsc) * 1000000 / (passed_ns + 1));
    if (!number("keep", "0")) return;
    struct psapp_figures counted = figures;
    printf("~ psapp ready\n");
    fflush(stdout);
    for (; !has_line(); i++) {
        think(think_us, spins);
        probe((uint32_t)i, false);
    }
    figures = counted;
}

static int run_client(void) {
    unsigned long probes = number("probes", "1000");
    uint64_t cycles;
    read_peer();
    if (probes > PSAPP_SAMPLES_MOST || !(samples = calloc(probes + 1, sizeof *samples)))
        refuse("that is too many probes");
    set_patience_ms(HELLO_MS);
    do send_frame(PSAPP_HELLO, 0);
    while (!wait_answer(PSAPP_HELLO, 0, &cycles));
    set_patience_ms(number("timeout_ms", "50"));
    run_probes(number("warmup", "100"), probes);
    set_patience_ms(LAST_MS);
    for (unsigned i = 0; i < LAST_TRIES; i++) {
        send_frame(PSAPP_LAST, 0);
        if (wait_answer(PSAPP_LAST, 0, &cycles)) break;
    }
    print_client();
    return !figures.answered || figures.damaged;
}

static int run_server(void) {
    static uint8_t bytes[FRAME_BYTES_MOST];
    struct psapp_frame *frame = (struct psapp_frame *)bytes;
    for (bool is_last = false; !is_last;) {
        ssize_t length = recv(packet_socket, bytes, sizeof bytes, 0);
        if (length < 0 && errno != EINTR) fail("recv");
        if (length < 0 || !psapp_is_one(frame, (uint32_t)length, own) || frame->kind & PSAPP_ANSWER) continue;
        is_last = frame->kind == PSAPP_LAST;
        memcpy(frame->to, frame->from, 6);
        memcpy(frame->from, own, 6);
        frame->kind |= PSAPP_ANSWER;
        if (send(packet_socket, bytes, (size_t)length, 0) < 0 && errno != ENOBUFS) fail("send");
        figures.answered++;
    }
    printf("~ psapp server: answered %lu\n", figures.answered);
    return 0;
}

/* `command` and its answer in `data`, by the oldest of ethtool's ways. */
static void ask_ethtool(void *data) {
    struct ifreq request = {0};
    strncpy(request.ifr_name, word("interface", "eth0"), IFNAMSIZ - 1);
    request.ifr_data = data;
    if (ioctl(packet_socket, SIOCETHTOOL, &request)) fail("SIOCETHTOOL");
}

static int print_statistics(void) {
    static union {
        struct ethtool_gstrings head;
        uint8_t room[sizeof(struct ethtool_gstrings) + STATISTICS_MOST * ETH_GSTRING_LEN];
    } names;
    static union {
        struct ethtool_stats head;
        uint8_t room[sizeof(struct ethtool_stats) + STATISTICS_MOST * sizeof(uint64_t)];
    } values;
    struct ethtool_drvinfo driver = {.cmd = ETHTOOL_GDRVINFO};
    ask_ethtool(&driver);
    if (driver.n_stats > STATISTICS_MOST) refuse("too many statistics");
    names.head = (struct ethtool_gstrings){.cmd = ETHTOOL_GSTRINGS, .string_set = ETH_SS_STATS, .len = driver.n_stats};
    values.head = (struct ethtool_stats){.cmd = ETHTOOL_GSTATS, .n_stats = driver.n_stats};
    ask_ethtool(&names);
    ask_ethtool(&values);
    printf("~ driver %s at %s\n", driver.driver, driver.bus_info);
    for (unsigned i = 0; i < driver.n_stats; i++)
        printf("~ %.32s %llu\n", (const char *)names.head.data + i * ETH_GSTRING_LEN,
               (unsigned long long)values.head.data[i]);
    return 0;
}

static void set_interface_up(void) {
    struct ifreq request = {0};
    int any_socket = socket(AF_INET, SOCK_DGRAM, 0);
    strncpy(request.ifr_name, word("interface", "eth0"), IFNAMSIZ - 1);
    if (any_socket < 0 || ioctl(any_socket, SIOCGIFFLAGS, &request)) fail(request.ifr_name);
    request.ifr_flags |= IFF_UP;
    if (ioctl(any_socket, SIOCSIFFLAGS, &request)) fail("the interface does not go up");
    close(any_socket);
}

static void wait_for_words(void) {
    static char line[512], *held[HELD_WORDS_MOST + 1];
    printf("sidecore: holding\n");
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) refuse("no line came");
    unsigned count = 0;
    for (char *at = strtok(line, " \r\n"); at && count < HELD_WORDS_MOST; at = strtok(NULL, " \r\n"))
        held[count++] = at;
    words = held;
    set_interface_up();
}

int main(int count, char **arguments) {
    words = arguments + 1;
    if (count == 2 && !strcmp(arguments[1], "held")) wait_for_words();
    const char *role = word("role", "");
    size_bytes = (uint32_t)number("size", "64");
    if (size_bytes < sizeof(struct psapp_frame) || size_bytes > FRAME_BYTES_MOST) refuse("size is 28 to 1514 bytes");
    open_socket();
    if (!strcmp(role, "client")) return run_client();
    if (!strcmp(role, "server")) return run_server();
    if (!strcmp(role, "statistics")) return print_statistics();
    refuse("which role?");
}
