/* An SMTP and LMTP server that takes everything, forgets it at once and keeps a digest of it.
 *
 * usage: sink PORT[c][d] ...
 *
 *   c  offer CHUNKING on this port
 *   d  acknowledge TCP segments late, as most servers do; otherwise at once
 *
 * PIPELINING is offered everywhere. Two verbs are for the benchmark: `XCOUNT` tells how many messages have
 * come, `XTAKE` prints `ID DIGEST OCTETS` for each, and forgets them. All ports share one account. */
#define _GNU_SOURCE
#include "digest.h"
#include "net.h"

#define READ_OCTETS (256 * 1024)
#define LINE_LIMIT 8192

enum phase { COMMANDS, DATA, CHUNK };
/* Where in a line DATA stands (RFC 5321 s.4.5.2); LINE_DOT_CR is one octet before the end. */
enum place { LINE_START, IN_LINE, LINE_DOT, LINE_DOT_CR };

struct port {
    int fd, chunking, delays_acks;
};

struct link {
    int fd, chunking, delays_acks, lmtp, closing, last_chunk, begun, recipients, blocked;
    enum phase phase;
    enum place place;
    size_t chunk_left;
    struct octets in, out;
    struct message message;
};

struct record {
    long id;
    struct digest digest;
};

static int epoll;
static struct record *records;
static size_t record_count, record_room;

static void begin_message(struct link *l, enum phase phase) {
    message_begin(&l->message);
    l->phase = phase;
    l->place = LINE_START;
}

static void end_message(struct link *l) {
    digest_end(&l->message.digest);
    if (record_count == record_room)
        records = allocated(records, (record_room = record_room * 2 + 1024) * sizeof *records);
    records[record_count++] = (struct record){l->message.id, l->message.digest};
    /* RFC 2033 s.4.2: LMTP answers once for each recipient. */
    for (int replies = l->lmtp ? l->recipients : 1; replies > 0; replies--) octets_text(&l->out, "250 2.0.0 taken\r\n");
    l->recipients = l->begun = 0;
    l->phase = COMMANDS;
}

static void take_records(struct link *l) {
    char line[128];
    for (size_t i = 0; i < record_count; i++) {
        message_print(line, sizeof line, records[i].id, &records[i].digest);
        octets_print(&l->out, "250-%s\r\n", line);
    }
    octets_text(&l->out, "250 end\r\n");
    record_count = 0;
}

static void say_hello(struct link *l) {
    octets_text(&l->out, "250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n");
    if (l->chunking) octets_text(&l->out, "250-CHUNKING\r\n");
    octets_text(&l->out, "250 SIZE 1073741824\r\n");
}

static void end_chunk(struct link *l) {
    if (l->last_chunk) {
        end_message(l);
        return;
    }
    octets_text(&l->out, "250 2.0.0 go on\r\n");
    l->phase = COMMANDS;
}

/* RFC 3030 s.2: BDAT octets [LAST]; a message has one of them or several. */
static void begin_chunk(struct link *l, const char *line) {
    char *rest;
    if (!l->begun) begin_message(l, CHUNK);
    l->begun = 1;
    l->phase = CHUNK;
    l->chunk_left = strtoul(line + 5, &rest, 10);
    l->last_chunk = strcasestr(rest, "LAST") != NULL;
    if (!l->chunk_left) end_chunk(l);
}

static int verb_is(const char *line, const char *verb) { return strncasecmp(line, verb, strlen(verb)) == 0; }

static void obey(struct link *l, const char *line) {
    if (verb_is(line, "MAIL")) {
        octets_text(&l->out, "250 2.1.0 ok\r\n");
    } else if (verb_is(line, "RCPT")) {
        l->recipients++;
        octets_text(&l->out, "250 2.1.5 ok\r\n");
    } else if (verb_is(line, "DATA")) {
        begin_message(l, DATA);
        octets_text(&l->out, "354 go on\r\n");
    } else if (l->chunking && verb_is(line, "BDAT ")) {
        begin_chunk(l, line);
    } else if (verb_is(line, "EHLO") || verb_is(line, "LHLO")) {
        l->lmtp = verb_is(line, "LHLO");
        say_hello(l);
    } else if (verb_is(line, "QUIT")) {
        octets_text(&l->out, "221 2.0.0 bye\r\n");
        l->closing = 1;
    } else if (verb_is(line, "XTAKE")) {
        take_records(l);
    } else if (verb_is(line, "XCOUNT")) {
        octets_print(&l->out, "250 %zu\r\n", record_count);
    } else if (verb_is(line, "HELO") || verb_is(line, "RSET") || verb_is(line, "NOOP")) {
        octets_text(&l->out, "250 2.0.0 ok\r\n");
    } else {
        octets_text(&l->out, "502 5.5.1 unknown\r\n");
    }
}

static size_t take_command(struct link *l, const char *octets, size_t count) {
    char line[LINE_LIMIT];
    const char *end = memchr(octets, '\n', count);
    if (!end) return 0;
    size_t length = (size_t)(end - octets);
    if (length >= sizeof line) length = sizeof line - 1;
    memcpy(line, octets, length);
    line[length] = '\0';
    obey(l, line);
    return (size_t)(end - octets) + 1;
}

/* Take octets up to a dot that stands at the start of a line, or all. */
static size_t take_text(struct link *l, const char *octets, size_t count) {
    const char *end = octets + count, *dot = octets;
    while ((dot = memchr(dot, '.', (size_t)(end - dot))) && (dot == octets || dot[-1] != '\n')) dot++;
    if (!dot) dot = end;
    message_add(&l->message, octets, (size_t)(dot - octets));
    l->place = dot[-1] == '\n' ? LINE_START : IN_LINE;
    return (size_t)(dot - octets);
}

static size_t take_data(struct link *l, const char *octets, size_t count) {
    char first = *octets;
    switch (l->place) {
    case LINE_START:
        if (first != '.') return take_text(l, octets, count);
        l->place = LINE_DOT;
        return 1;
    case LINE_DOT: /* a dot that was stuffed is gone by now */
        if (first != '\r') return take_text(l, octets, count);
        l->place = LINE_DOT_CR;
        return 1;
    case LINE_DOT_CR:
        if (first != '\n') {
            message_add(&l->message, "\r", 1);
            return take_text(l, octets, count);
        }
        end_message(l);
        return 1;
    default:
        return take_text(l, octets, count);
    }
}

static size_t take_chunk(struct link *l, const char *octets, size_t count) {
    size_t taken = l->chunk_left < count ? l->chunk_left : count;
    message_add(&l->message, octets, taken);
    l->chunk_left -= taken;
    if (!l->chunk_left) end_chunk(l);
    return taken;
}

static size_t take_some(struct link *l, const char *octets, size_t count) {
    if (l->phase == DATA) return take_data(l, octets, count);
    if (l->phase == CHUNK) return take_chunk(l, octets, count);
    return take_command(l, octets, count);
}

static void take_input(struct link *l) {
    size_t taken = 1;
    while (taken && octets_count(&l->in)) {
        taken = take_some(l, octets_first(&l->in), octets_count(&l->in));
        l->in.start += taken;
    }
    if (octets_count(&l->in) > LINE_LIMIT) l->closing = 1;
}

static void close_link(struct link *l) {
    close(l->fd);
    octets_free(&l->in);
    octets_free(&l->out);
    free(l);
}

/* Write replies, and listen to no more of this peer while it does not read them. */
static int flush(struct link *l) {
    int result = octets_write(&l->out, l->fd);
    if (result < 0) return 0;
    if (l->blocked != !result) {
        l->blocked = !result;
        watch(epoll, EPOLL_CTL_MOD, l->fd, l->blocked ? EPOLLOUT : EPOLLIN, l);
    }
    return l->blocked || !l->closing;
}

static int read_input(struct link *l) {
    ssize_t count = read(l->fd, octets_room(&l->in, READ_OCTETS), READ_OCTETS);
    if (count <= 0) return count < 0 && errno == EAGAIN;
    if (!l->delays_acks) switch_on(l->fd, IPPROTO_TCP, TCP_QUICKACK); /* the kernel forgets it: say it each time */
    l->in.end += (size_t)count;
    take_input(l);
    return 1;
}

static void serve(struct link *l, unsigned events) {
    int goes_on = events & EPOLLOUT ? 1 : read_input(l);
    if (!goes_on || !flush(l)) close_link(l);
}

static void accept_link(const struct port *port) {
    int fd = accept4(port->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    struct link *l = calloc(1, sizeof *l);
    if (!l) give_up("out of memory");
    *l = (struct link){.fd = fd, .chunking = port->chunking, .delays_acks = port->delays_acks};
    switch_on(fd, IPPROTO_TCP, TCP_NODELAY);
    if (!l->delays_acks) switch_on(fd, IPPROTO_TCP, TCP_QUICKACK);
    watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, l);
    octets_text(&l->out, "220 sink ESMTP\r\n");
    if (!flush(l)) close_link(l);
}

int main(int count, char **words) {
    struct port ports[8] = {0};
    struct epoll_event events[64];
    int port_count = count - 1;
    if (port_count < 1 || port_count > 8) give_up("usage: sink PORT[c][d] ... (8 at most)");
    epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < port_count; i++) {
        char *flags;
        ports[i].fd = listen_on((int)strtol(words[i + 1], &flags, 10));
        ports[i].chunking = strchr(flags, 'c') != NULL;
        ports[i].delays_acks = strchr(flags, 'd') != NULL;
        watch(epoll, EPOLL_CTL_ADD, ports[i].fd, EPOLLIN, &ports[i]);
    }
    for (;;) {
        int ready = epoll_wait(epoll, events, 64, -1);
        for (int i = 0; i < ready; i++) {
            void *what = events[i].data.ptr;
            if (what >= (void *)ports && what < (void *)(ports + 8))
                accept_link(what);
            else
                serve(what, events[i].events);
        }
    }
}
