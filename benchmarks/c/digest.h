/* Names a message and says whether it is whole: a quick digest, good against accidents, not against forgers.
 *
 * What counts begins with the field `X-Bench-Id: NUMBER`. Before it stand only the trace fields that
 * relays may add or take away; everything from there on must arrive octet for octet, with CRLF. */
#ifndef BENCH_DIGEST_H
#define BENCH_DIGEST_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARKER "X-Bench-Id: "
#define HEAD_LIMIT 65536

struct digest {
    uint64_t a, b, length;
    unsigned char tail[8];
    unsigned fill;
};

/* A message while it passes: its head is kept until the marker has come. */
struct message {
    struct digest digest;
    long id; /* -1 as long as there was no marker */
    size_t head_fill;
    char head[HEAD_LIMIT];
};

static inline uint64_t rotated(uint64_t word, int by) { return word << by | word >> (64 - by); }

static inline void digest_word(struct digest *d, uint64_t word) {
    d->a = rotated(d->a ^ word, 29) * 0x9E3779B97F4A7C15u;
    d->b = rotated(d->b + word, 41) * 0xC2B2AE3D27D4EB4Fu;
}

static inline void digest_begin(struct digest *d) { *d = (struct digest){.a = 1, .b = 2}; }

static inline void digest_add(struct digest *d, const char *octets, size_t count) {
    uint64_t word;
    d->length += count;
    while (d->fill && count) {
        d->tail[d->fill++] = (unsigned char)*octets++;
        count--;
        if (d->fill == 8) {
            memcpy(&word, d->tail, 8);
            digest_word(d, word);
            d->fill = 0;
        }
    }
    for (; count >= 8; octets += 8, count -= 8) {
        memcpy(&word, octets, 8);
        digest_word(d, word);
    }
    if (count) {
        memcpy(d->tail + d->fill, octets, count);
        d->fill += (unsigned)count;
    }
}

static inline void digest_end(struct digest *d) {
    uint64_t word = 0;
    memcpy(&word, d->tail, d->fill);
    digest_word(d, word);
    digest_word(d, d->length);
    digest_word(d, 0);
}

static inline void message_begin(struct message *m) {
    digest_begin(&m->digest);
    m->id = -1;
    m->head_fill = 0;
}

/* Look for a whole marker field at the beginning of a line of the head. */
static inline void message_look(struct message *m) {
    char *from = m->head, *end = m->head + m->head_fill, *field;
    while ((field = memmem(from, (size_t)(end - from), MARKER, sizeof MARKER - 1))) {
        if (!memchr(field, '\n', (size_t)(end - field))) return; /* the rest of the line is still to come */
        if (field == m->head || field[-1] == '\n') {
            m->id = strtol(field + sizeof MARKER - 1, NULL, 10);
            digest_add(&m->digest, field, (size_t)(end - field));
            return;
        }
        from = field + 1;
    }
}

static inline void message_add(struct message *m, const char *octets, size_t count) {
    if (m->id < 0 && m->head_fill < HEAD_LIMIT) {
        size_t taken = HEAD_LIMIT - m->head_fill < count ? HEAD_LIMIT - m->head_fill : count;
        memcpy(m->head + m->head_fill, octets, taken);
        m->head_fill += taken;
        message_look(m);
        octets += taken;
        count -= taken;
    }
    if (m->id >= 0) digest_add(&m->digest, octets, count);
}

static inline int message_print(char *line, size_t room, long id, const struct digest *d) {
    return snprintf(line, room, "%ld %016llx%016llx %llu", id, (unsigned long long)d->a, (unsigned long long)d->b,
                    (unsigned long long)d->length);
}

#endif
