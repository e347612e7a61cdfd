/* What the servers and clients here have in common: sockets on loopback, octets that wait, a way to give up. */
#ifndef BENCH_NET_H
#define BENCH_NET_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static inline void give_up(const char *format, ...) {
    va_list words;
    va_start(words, format);
    vfprintf(stderr, format, words);
    va_end(words);
    fputc('\n', stderr);
    exit(1);
}

static inline void *allocated(void *old, size_t size) {
    void *memory = realloc(old, size);
    if (!memory) give_up("out of memory");
    return memory;
}

/* Octets in a row that grow at the end and are used up at the start. */
struct octets {
    char *data;
    size_t start, end, room;
};

static inline size_t octets_count(const struct octets *o) { return o->end - o->start; }

static inline char *octets_first(const struct octets *o) { return o->data + o->start; }

/* Make room for so many more at the end, and return where they go. */
static inline char *octets_room(struct octets *o, size_t more) {
    if (o->start == o->end) o->start = o->end = 0;
    if (o->room - o->end < more && o->start) {
        memmove(o->data, o->data + o->start, o->end - o->start);
        o->end -= o->start;
        o->start = 0;
    }
    if (o->room - o->end < more) {
        o->room = (o->end + more) * 2;
        o->data = allocated(o->data, o->room);
    }
    return o->data + o->end;
}

static inline void octets_add(struct octets *o, const char *data, size_t count) {
    memcpy(octets_room(o, count), data, count);
    o->end += count;
}

static inline void octets_text(struct octets *o, const char *text) { octets_add(o, text, strlen(text)); }

static inline void octets_print(struct octets *o, const char *format, ...) {
    char line[512];
    va_list words;
    va_start(words, format);
    int length = vsnprintf(line, sizeof line, format, words);
    va_end(words);
    octets_add(o, line, (size_t)length);
}

static inline void octets_free(struct octets *o) {
    free(o->data);
    *o = (struct octets){0};
}

/* Write what goes; 1 when all is gone, 0 when the peer must read first, -1 when the link is lost. */
static inline int octets_write(struct octets *o, int fd) {
    while (o->start < o->end) {
        ssize_t count = send(fd, o->data + o->start, o->end - o->start, MSG_NOSIGNAL);
        if (count < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
        o->start += (size_t)count;
    }
    return 1;
}

static inline void switch_on(int fd, int level, int option) {
    int yes = 1;
    setsockopt(fd, level, option, &yes, sizeof yes);
}

static inline struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static inline int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = loopback(port);
    switch_on(fd, SOL_SOCKET, SO_REUSEADDR);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 1024))
        give_up("cannot listen on port %d: %s", port, strerror(errno));
    return fd;
}

static inline int connect_to(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = loopback(port);
    if (fd < 0) give_up("no socket: %s", strerror(errno));
    switch_on(fd, IPPROTO_TCP, TCP_NODELAY);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        give_up("cannot connect to port %d: %s", port, strerror(errno));
    return fd;
}

static inline void watch(int epoll, int operation, int fd, unsigned events, void *what) {
    struct epoll_event event = {.events = events, .data.ptr = what};
    if (epoll_ctl(epoll, operation, fd, &event)) give_up("epoll: %s", strerror(errno));
}

#endif
