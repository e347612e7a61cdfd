/* A line with latency: what comes in at a port goes out to another one, each direction later by a fixed time.
 *
 * usage: delay MICROSECONDS PORT:TARGET ...
 *
 * The delay is that of one direction, half the round trip. Nothing is lost and nothing is held up beyond it: the
 * throughput stays that of loopback. A connection is passed on after three times the delay, since a greeting
 * comes two round trips after the first SYN; the kernel here has answered that SYN at once. */
#define _GNU_SOURCE
#include "net.h"

#include <stdint.h>
#include <sys/timerfd.h>
#include <time.h>

#define READ_OCTETS (256 * 1024)
#define HANDSHAKE 3
#define UNWATCHED -1

struct pair;

/* One end of a line: its socket, and what arrived for it. */
struct end {
    struct pair *pair;
    struct end *other;
    int fd, events; /* events: what is watched for; UNWATCHED once there is nothing more to hear of it */
    int heard_all;  /* its peer sends no more */
    int ended;      /* the other end sends no more: 1, and 2 once its peer was told */
    struct octets out;
};

struct pair {
    struct end client, server;
    struct pair *next_dead;
    int target, open_ends, dead, waiting; /* waiting: things in a line that refer to it */
};

/* Something that happens at a time: octets arrive, a side ends (count 0), or a connection is passed on. */
struct thing {
    struct thing *next;
    uint64_t due;
    struct pair *pair;
    struct end *to;
    size_t count;
    char octets[];
};

/* Things that all waited equally long are in the order of their times by themselves. */
struct line {
    struct thing *first, **last;
};

struct port {
    int fd, target;
};

static int epoll, timer;
static uint64_t one_way_ns, armed;
static struct line arrivals, openings;
static struct pair *dead_pairs;

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void schedule(struct line *line, struct pair *pair, struct thing *thing, uint64_t wait_ns) {
    thing->due = now() + wait_ns;
    thing->pair = pair;
    thing->next = NULL;
    pair->waiting++;
    if (!line->first) line->last = &line->first;
    *line->last = thing;
    line->last = &thing->next;
}

static void arm_timer(void) {
    uint64_t due = UINT64_MAX;
    if (arrivals.first) due = arrivals.first->due;
    if (openings.first && openings.first->due < due) due = openings.first->due;
    if (due == UINT64_MAX || due == armed) return;
    struct itimerspec when = {.it_value = {.tv_sec = (time_t)(due / 1000000000u), .tv_nsec = (long)(due % 1000000000u)}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
    armed = due;
}

/* Both sockets go; the memory stays until nothing refers to it any more. */
static void kill_pair(struct pair *pair) {
    if (pair->dead) return;
    pair->dead = 1;
    close(pair->client.fd);
    if (pair->server.fd >= 0) close(pair->server.fd);
    pair->next_dead = dead_pairs;
    dead_pairs = pair;
}

static void bury_dead(void) {
    for (struct pair **at = &dead_pairs, *pair; (pair = *at);) {
        if (pair->waiting) {
            at = &pair->next_dead;
            continue;
        }
        *at = pair->next_dead;
        octets_free(&pair->client.out);
        octets_free(&pair->server.out);
        free(pair);
    }
}

static void watch_end(struct end *end, int events) {
    if (events == end->events || end->events == UNWATCHED) return;
    watch(epoll, EPOLL_CTL_MOD, end->fd, (unsigned)(end->events = events), end);
}

static void flush(struct end *end) {
    int result = octets_write(&end->out, end->fd);
    if (result < 0 && errno != ENOTCONN) {
        kill_pair(end->pair);
        return;
    }
    watch_end(end, (end->events & EPOLLIN) | (result == 1 ? 0 : EPOLLOUT));
    if (result == 1 && end->ended == 1) {
        end->ended = 2;
        shutdown(end->fd, SHUT_WR);
        if (--end->pair->open_ends == 0) kill_pair(end->pair);
    }
}

static void pass_on(struct pair *pair) {
    struct end *server = &pair->server;
    server->fd = connect_to(pair->target);
    server->events = EPOLLIN | EPOLLOUT;
    watch(epoll, EPOLL_CTL_ADD, server->fd, (unsigned)server->events, server);
}

static void arrive(struct thing *thing) {
    struct end *to = thing->to;
    if (thing->count)
        octets_add(&to->out, thing->octets, thing->count);
    else
        to->ended = 1;
    if (to->fd >= 0) flush(to);
}

static void let_happen(struct line *line) {
    uint64_t time = now();
    while (line->first && line->first->due <= time) {
        struct thing *thing = line->first;
        struct pair *pair = thing->pair;
        line->first = thing->next;
        pair->waiting--;
        if (!pair->dead) {
            if (thing->to)
                arrive(thing);
            else
                pass_on(pair);
        }
        free(thing);
    }
}

static void read_end(struct end *end) {
    static char octets[READ_OCTETS];
    ssize_t count = read(end->fd, octets, sizeof octets);
    if (count < 0 && errno == EAGAIN) return;
    if (count < 0) {
        kill_pair(end->pair);
        return;
    }
    if (count > 0) switch_on(end->fd, IPPROTO_TCP, TCP_QUICKACK);
    if (count == 0) {
        end->heard_all = 1;
        watch_end(end, end->events & ~EPOLLIN);
    }
    struct thing *thing = allocated(NULL, sizeof *thing + (size_t)count);
    *thing = (struct thing){.to = end->other, .count = (size_t)count};
    memcpy(thing->octets, octets, (size_t)count);
    schedule(&arrivals, end->pair, thing, one_way_ns);
}

static void serve(struct end *end, unsigned events) {
    if (!end->pair->dead && events & EPOLLOUT) flush(end);
    if (end->pair->dead || !(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) return;
    if (!end->heard_all) {
        read_end(end);
    } else if (end->events != UNWATCHED) { /* its peer is gone for good: the kernel would tell again and again */
        epoll_ctl(epoll, EPOLL_CTL_DEL, end->fd, NULL);
        end->events = UNWATCHED;
    }
}

static void accept_pair(const struct port *port) {
    int fd = accept4(port->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    struct pair *pair = calloc(1, sizeof *pair);
    struct thing *opening = calloc(1, sizeof *opening);
    if (!pair || !opening) give_up("out of memory");
    pair->target = port->target;
    pair->open_ends = 2;
    pair->client = (struct end){.pair = pair, .other = &pair->server, .fd = fd, .events = EPOLLIN};
    pair->server = (struct end){.pair = pair, .other = &pair->client, .fd = -1};
    switch_on(fd, IPPROTO_TCP, TCP_NODELAY);
    watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, &pair->client);
    schedule(&openings, pair, opening, HANDSHAKE * one_way_ns);
}

int main(int count, char **words) {
    struct port ports[8] = {0};
    struct epoll_event events[256];
    uint64_t expirations;
    if (count < 3 || count > 10) give_up("usage: delay MICROSECONDS PORT:TARGET ... (8 at most)");
    one_way_ns = strtoull(words[1], NULL, 10) * 1000;
    epoll = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    watch(epoll, EPOLL_CTL_ADD, timer, EPOLLIN, &timer);
    for (int i = 0; i < count - 2; i++) {
        char *target;
        ports[i].fd = listen_on((int)strtol(words[i + 2], &target, 10));
        ports[i].target = atoi(target + 1);
        watch(epoll, EPOLL_CTL_ADD, ports[i].fd, EPOLLIN, &ports[i]);
    }
    for (;;) {
        int ready = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            void *what = events[i].data.ptr;
            if (what == &timer)
                armed = read(timer, &expirations, sizeof expirations) > 0 ? 0 : armed;
            else if (what >= (void *)ports && what < (void *)(ports + 8))
                accept_pair(what);
            else
                serve(what, events[i].events);
        }
        let_happen(&openings);
        let_happen(&arrivals);
        bury_dead();
        arm_timer();
    }
}
