// Sends RTP (PCMU, 20 ms) on many flows at the pace of phones, and counts what comes back.
//
// rtpload SECONDS < flows      each line: LOCAL_PORT REMOTE_IP REMOTE_PORT
// After a second of warm-up it prints "begin"; SECONDS later "end SENT RECEIVED" of that window; then it goes on receiving
// for a moment and prints "total SENT RECEIVED SILENT", where SILENT is the number of flows that heard nothing.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

enum { FLOWS = 8192, PACKET = 172, BATCH = 16 };
static const int64_t FRAME_NS = 20000000, SECOND_NS = 1000000000;

struct flow {
    int fd;
    uint16_t sequence;
    uint32_t timestamp;
    uint64_t heard;
    unsigned char packet[PACKET];
};

static struct flow flows[FLOWS];
static uint64_t sent, received;

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND_NS + time.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void open_flow(struct flow *flow, int number, int epoll, int local, const char *ip, int remote) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(local)}, there = {.sin_family = AF_INET, .sin_port = htons(remote)};
    inet_pton(AF_INET, "127.0.0.1", &here.sin_addr);
    inet_pton(AF_INET, ip, &there.sin_addr);
    flow->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (flow->fd < 0 || bind(flow->fd, (struct sockaddr *)&here, sizeof here)) fail("bind");
    if (connect(flow->fd, (struct sockaddr *)&there, sizeof there)) fail("connect");
    memset(flow->packet, 0x55 + number % 64, PACKET);
    flow->packet[0] = 0x80;
    flow->packet[1] = 0;
    uint32_t ssrc = htonl(0x10000000u + number);
    memcpy(flow->packet + 8, &ssrc, 4);
    flow->sequence = number * 7;
    flow->timestamp = number * 1000;
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = number};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, flow->fd, &event)) fail("epoll_ctl");
}

static void send_frame(struct flow *flow) {
    uint16_t sequence = htons(flow->sequence++);
    uint32_t timestamp = htonl(flow->timestamp);
    flow->timestamp += 160;
    memcpy(flow->packet + 2, &sequence, 2);
    memcpy(flow->packet + 4, &timestamp, 4);
    // An ICMP error of an earlier packet must not stop the flow: it shows in what is received.
    if (send(flow->fd, flow->packet, PACKET, 0) == PACKET) sent++;
}

static void receive(int epoll, int wait_ms) {
    static unsigned char buffers[BATCH][2048];
    static struct iovec vectors[BATCH];
    static struct mmsghdr messages[BATCH];
    struct epoll_event events[128];
    int ready = epoll_wait(epoll, events, 128, wait_ms);
    for (int index = 0; index < ready; index++) {
        struct flow *flow = &flows[events[index].data.u32];
        for (int at = 0; at < BATCH; at++) {
            vectors[at] = (struct iovec){buffers[at], sizeof buffers[at]};
            messages[at].msg_hdr = (struct msghdr){.msg_iov = &vectors[at], .msg_iovlen = 1};
        }
        int got = recvmmsg(flow->fd, messages, BATCH, MSG_DONTWAIT, NULL);
        for (int at = 0; at < got; at++)
            if (messages[at].msg_len >= 12 && (buffers[at][1] & 0x7f) == 0) {
                flow->heard++;
                received++;
            }
    }
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    int64_t seconds = atoi(argv[1]);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    prctl(PR_SET_TIMERSLACK, 1000);
    int epoll = epoll_create1(0), count = 0, local, remote;
    char ip[64];
    while (count < FLOWS && scanf("%d %63s %d", &local, ip, &remote) == 3) {
        open_flow(&flows[count], count, epoll, local, ip, remote);
        count++;
    }
    if (!count) return 2;
    int64_t start = now(), begin = start + SECOND_NS, end = begin + seconds * SECOND_NS;
    uint64_t sent_before = 0, received_before = 0, frames = 0;
    int begun = 0;
    for (;;) {
        int64_t time = now();
        if (!begun && time >= begin) {
            begun = 1;
            sent_before = sent;
            received_before = received;
            puts("begin");
            fflush(stdout);
        }
        if (time >= end) break;
        // Flow i of n sends at i/n of each frame, so that the load is even.
        uint64_t due = (uint64_t)(time - start) / FRAME_NS * count + (uint64_t)((time - start) % FRAME_NS) * count / FRAME_NS;
        for (; frames < due; frames++) send_frame(&flows[frames % count]);
        receive(epoll, 1);
    }
    printf("end %lu %lu\n", sent - sent_before, received - received_before);
    fflush(stdout);
    for (int64_t until = now() + SECOND_NS / 2; now() < until;) receive(epoll, 10);
    int silent = 0;
    for (int index = 0; index < count; index++) silent += flows[index].heard == 0;
    printf("total %lu %lu %d\n", sent, received, silent);
    return 0;
}
