/* The floor: how fast POP3 to SMTP goes here when a client does next to nothing.
 *
 * It pipelines everything, parses only what correctness needs, and remembers nothing. Not a mail program: any
 * refusal ends it.
 *
 * usage: floor --pop PORT [--smtp PORT] --user PREFIX --password WORD [--drops N] [--at-once N] [--sessions N]
 *              [--bdat] [--keep] [--skip N] [--list] [--maildir FOLDER] [--pooled]
 *
 *   --drops      maildrops PREFIX0, PREFIX1, …          --at-once   POP3 sessions at a time
 *   --sessions   SMTP sessions, shared by all           --bdat      RFC 3030 in place of DATA
 *   --keep       delete nothing                         --skip      messages at the head that count as seen
 *   --list       only log in and list                   --maildir   deliver to files, each synced */
#define _GNU_SOURCE
#include "net.h"

#include <getopt.h>
#include <sys/stat.h>

#define READ_OCTETS (256 * 1024)
#define RETR_WINDOW 512             /* commands on the way */
#define PENDING_LIMIT (24u << 20)   /* fetched octets that wait for SMTP; then POP3 waits */
#define BDAT_WINDOW 64              /* whole transactions on the way, in each session */
#define OUT_LIMIT (1u << 20)        /* octets that wait to be written; then no further message is begun */
#define FILE_GROUP 64               /* files that are synced together, at most */
#define ENVELOPE "MAIL FROM:<bench@example.org>\r\nRCPT TO:<sink@example.org>\r\n"

struct drop;

/* One message, as it came: dots stuffed, and with the final dot. */
struct mail {
    struct mail *next;
    struct drop *drop;
    int number;
    size_t count;
    char text[];
};

struct queue {
    struct mail *first, **last;
};

enum kind { NOBODY, POP3, SMTP };

struct drop {
    enum kind kind;
    int fd, events, index, count, next_number, received, in_flight, deletions, deleted;
    size_t scanned; /* octets of the reply in hand that hold no end of it */
    struct octets in, out;
    int expected_first, expected_last;
    char *expected; /* the verbs whose replies are to come, a letter each */
};

struct session {
    enum kind kind;
    int fd, events, step, said_hello, in_flight;
    struct octets in, out;
    struct mail *current, *next; /* DATA: what goes, and what has its envelope sent already */
    struct queue sent;           /* BDAT: in the order of the replies */
};

static struct {
    int pop, smtp, drops, at_once, sessions, bdat, keep, skip, list, pooled;
    const char *user, *password, *maildir;
} settings = {.drops = 1, .at_once = 1, .sessions = 1};

static int epoll, next_drop, open_drops, paused;
static size_t pending_octets;
static long relayed, listed;
static struct queue pending;
static struct drop *drops;
static struct session *sessions;

static void put(struct queue *q, struct mail *mail) {
    mail->next = NULL;
    if (!q->first) q->last = &q->first;
    *q->last = mail;
    q->last = &mail->next;
}

static struct mail *get(struct queue *q) {
    struct mail *mail = q->first;
    if (mail) q->first = mail->next;
    return mail;
}

/* Write what goes, and watch for what is wanted now: `*events` is what is watched for. */
static void flush(struct octets *out, int fd, int reads, int *events, void *what) {
    int result = octets_write(out, fd), wanted = (reads ? EPOLLIN : 0) | (result ? 0 : EPOLLOUT);
    if (result < 0) give_up("a link was lost: %s", strerror(errno));
    if (wanted != *events) watch(epoll, EPOLL_CTL_MOD, fd, (unsigned)(*events = wanted), what);
}

/* Read what is there; only when there is nothing at all is it no event of ours. */
static void fill(struct octets *in, int fd, unsigned events) {
    if (!(events & ~(unsigned)EPOLLOUT)) return;
    ssize_t count = read(fd, octets_room(in, READ_OCTETS), READ_OCTETS);
    if (count == 0 || (count < 0 && errno != EAGAIN)) give_up("a peer has gone");
    if (count > 0) in->end += (size_t)count;
}

/* Find a dot that stands at the start of a line; few texts have many dots, so this is as good as no look at all. */
static char *dot_line(char *from, const char *end, const char *text) {
    while (from < end && (from = memchr(from, '.', (size_t)(end - from)))) {
        if (from == text || from[-1] == '\n') return from;
        from++;
    }
    return NULL;
}

/* --- POP3 --------------------------------------------------------------------------------------------------- */

static void expect(struct drop *d, char verb) {
    int room = RETR_WINDOW * 8;
    d->expected[d->expected_last++ % room] = verb;
    if (d->expected_last - d->expected_first >= room) give_up("too many commands on the way");
}

static void flush_drop(struct drop *d) { flush(&d->out, d->fd, !paused, &d->events, d); }

static void quit_pop3(struct drop *d) {
    octets_text(&d->out, "QUIT\r\n");
    expect(d, 'Q');
}

static void ask_for_more(struct drop *d) {
    while (d->next_number <= d->count && d->in_flight < RETR_WINDOW) {
        octets_print(&d->out, "RETR %d\r\n", d->next_number++);
        expect(d, 'R');
        d->in_flight++;
    }
}

static void start_drop(struct drop *d) {
    char *expected = d->expected ? d->expected : allocated(NULL, RETR_WINDOW * 8);
    octets_free(&d->in);
    octets_free(&d->out);
    *d = (struct drop){.kind = POP3, .expected = expected, .index = next_drop++, .next_number = settings.skip + 1};
    d->fd = connect_to(settings.pop);
    open_drops++;
    d->events = paused ? 0 : EPOLLIN;
    watch(epoll, EPOLL_CTL_ADD, d->fd, (unsigned)d->events, d);
    expect(d, 'G');
}

static void end_drop(struct drop *d) {
    close(d->fd);
    open_drops--;
    d->kind = NOBODY;
    if (next_drop < settings.drops) start_drop(d);
}

static void log_in(struct drop *d) {
    octets_print(&d->out, "USER %s%d\r\nPASS %s\r\nSTAT\r\n", settings.user, d->index, settings.password);
    expect(d, 'U');
    expect(d, 'P');
    expect(d, 'S');
    if (settings.list || settings.skip) {
        octets_text(&d->out, "UIDL\r\n");
        expect(d, 'L');
    }
    if (settings.list) quit_pop3(d);
}

static void learn_count(struct drop *d, const char *reply) {
    d->count = atoi(reply + 4);
    listed += d->count;
    if (settings.list) return;
    d->deletions = d->count - settings.skip;
    ask_for_more(d);
    if (d->deletions <= 0) quit_pop3(d);
}

static void mail_is_safe(struct mail *mail) {
    struct drop *d = mail->drop;
    relayed++;
    if (!settings.keep) {
        octets_print(&d->out, "DELE %d\r\n", mail->number);
        expect(d, 'D');
    }
    if (++d->deleted == d->deletions) quit_pop3(d);
    pending_octets -= mail->count;
    free(mail);
}

static void write_files(void);
static void hand_over(void);

static void take_mail(struct drop *d, const char *text, size_t count) {
    struct mail *mail = allocated(NULL, sizeof *mail + count);
    *mail = (struct mail){.drop = d, .number = settings.skip + ++d->received, .count = count};
    memcpy(mail->text, text, count);
    d->in_flight--;
    pending_octets += count;
    put(&pending, mail);
}

/* Return how long the multi-line reply is that begins here, its final dot included, or 0. */
static size_t whole_reply(struct drop *d, char *reply, size_t count) {
    char *dot = reply + d->scanned, *end = reply + count;
    while ((dot = dot_line(dot, end, reply)) && dot + 2 < end && memcmp(dot, ".\r\n", 3)) dot++;
    if (dot && dot + 2 < end) {
        d->scanned = 0;
        return (size_t)(dot - reply) + 3;
    }
    d->scanned = dot ? (size_t)(dot - reply) : count;
    return 0;
}

static void take_reply(struct drop *d, char verb, const char *reply, size_t line, size_t whole) {
    if (*reply != '+') give_up("maildrop %d, %c: %.*s", d->index, verb, (int)line, reply);
    if (verb == 'G') log_in(d);
    if (verb == 'S') learn_count(d, reply);
    if (verb == 'R') take_mail(d, reply + line, whole - line);
}

static int take_one_reply(struct drop *d) {
    char *reply = octets_first(&d->in), verb = d->expected[d->expected_first % (RETR_WINDOW * 8)];
    size_t count = octets_count(&d->in);
    char *line_end = memchr(reply, '\n', count);
    if (!line_end) return 0;
    size_t line = (size_t)(line_end - reply) + 1, whole = line;
    if ((verb == 'R' || verb == 'L') && !(whole = whole_reply(d, reply, count))) return 0;
    d->expected_first++;
    take_reply(d, verb, reply, line, whole);
    d->in.start += whole;
    return verb == 'Q' ? -1 : 1;
}

static void serve_drop(struct drop *d, unsigned events) {
    int result = 1;
    fill(&d->in, d->fd, events);
    while (result > 0 && octets_count(&d->in)) result = take_one_reply(d);
    if (result < 0) {
        end_drop(d);
        return;
    }
    ask_for_more(d);
    if (settings.maildir)
        write_files();
    else
        hand_over();
    flush_drop(d);
}

/* Listen to POP3 only while SMTP keeps up. */
static void pace(void) {
    int too_much = pending_octets > (paused ? PENDING_LIMIT / 2 : PENDING_LIMIT);
    if (too_much == paused) return;
    paused = too_much;
    for (int i = 0; i < settings.at_once; i++)
        if (drops[i].kind == POP3) flush_drop(&drops[i]);
}

/* Take the stuffed dots out, and the final one; return how many octets are left. */
static size_t unstuff(struct mail *mail) {
    char *from = mail->text, *to = from, *end = from + mail->count - 3, *dot;
    while ((dot = dot_line(from, end, mail->text))) {
        memmove(to, from, (size_t)(dot - from));
        to += dot - from;
        from = dot + 1;
        *to++ = *from++; /* whatever follows the stuffed dot, a dot too */
    }
    if (to != from) memmove(to, from, (size_t)(end - from));
    return (size_t)(to - mail->text) + (size_t)(end - from);
}

/* --- SMTP --------------------------------------------------------------------------------------------------- */

static void flush_session(struct session *s) { flush(&s->out, s->fd, 1, &s->events, s); }

static void send_chunk(struct session *s, struct mail *mail) {
    size_t count = unstuff(mail);
    octets_print(&s->out, ENVELOPE "BDAT %zu LAST\r\n", count);
    octets_add(&s->out, mail->text, count);
}

static void fill_session(struct session *s) {
    struct mail *mail;
    while (settings.bdat && s->in_flight < BDAT_WINDOW && octets_count(&s->out) < OUT_LIMIT && (mail = get(&pending))) {
        send_chunk(s, mail);
        put(&s->sent, mail);
        s->in_flight++;
    }
    /* RFC 2920 s.3.1: what follows DATA must wait for its reply; the next envelope may follow the final dot. */
    if (settings.bdat || s->next || (s->current && s->step < 3) || !(mail = get(&pending))) return;
    octets_text(&s->out, ENVELOPE "DATA\r\n");
    *(s->current ? &s->next : &s->current) = mail;
}

static void send_content(struct session *s) {
    octets_add(&s->out, s->current->text, s->current->count);
    if ((s->next = get(&pending))) octets_text(&s->out, ENVELOPE "DATA\r\n");
}

static void mail_is_taken(struct session *s) {
    struct mail *mail = settings.bdat ? get(&s->sent) : s->current;
    s->step = 0;
    s->in_flight--;
    s->current = s->next;
    s->next = NULL;
    mail_is_safe(mail);
}

/* Replies come in the order of commands: MAIL, RCPT, DATA and the final dot, or MAIL, RCPT, BDAT. */
static void take_smtp_reply(struct session *s, const char *reply) {
    if (*reply != '2' && *reply != '3') give_up("SMTP: %.80s", reply);
    if (reply[3] == '-') return;
    if (s->said_hello < 2) { /* the greeting, and EHLO */
        if (s->said_hello++ == 0) octets_text(&s->out, "EHLO floor.example.org\r\n");
        return;
    }
    s->step++;
    if (settings.bdat ? s->step == 3 : s->step == 4)
        mail_is_taken(s);
    else if (s->step == 3)
        send_content(s);
}

static void serve_session(struct session *s, unsigned events) {
    char *end;
    fill(&s->in, s->fd, events);
    while (octets_count(&s->in) && (end = memchr(octets_first(&s->in), '\n', octets_count(&s->in)))) {
        take_smtp_reply(s, octets_first(&s->in));
        s->in.start = (size_t)(end - s->in.data) + 1;
    }
    flush_session(s);
    hand_over();
    /* What was taken is deleted: one write for all that this reading brought. */
    for (int i = 0; i < settings.at_once; i++)
        if (drops[i].kind == POP3 && octets_count(&drops[i].out)) flush_drop(&drops[i]);
}

static void hand_over(void) {
    for (int i = 0; i < settings.sessions && pending.first; i++) {
        struct session *s = &sessions[i];
        if (s->said_hello < 2) continue;
        fill_session(s);
        flush_session(s);
    }
}

static void start_session(struct session *s) {
    *s = (struct session){.kind = SMTP, .fd = connect_to(settings.smtp), .events = EPOLLIN};
    watch(epoll, EPOLL_CTL_ADD, s->fd, EPOLLIN, s);
}

/* --- Maildir ------------------------------------------------------------------------------------------------ */

static void sync_folder(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0 || fsync(fd)) give_up("%s: %s", path, strerror(errno));
    close(fd);
}

/* Write one file and leave it open; its name is made from its place in the line. */
static int write_partial(struct mail *mail, long number) {
    char path[4096];
    snprintf(path, sizeof path, "%s/tmp/%ld", settings.maildir, number);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    size_t count = unstuff(mail);
    if (fd < 0 || write(fd, mail->text, count) != (ssize_t)count) give_up("%s: %s", path, strerror(errno));
    return fd;
}

static void finish_file(int fd, long number) {
    char partial[4096], whole[4096];
    snprintf(partial, sizeof partial, "%s/tmp/%ld", settings.maildir, number);
    snprintf(whole, sizeof whole, "%s/new/%ld", settings.maildir, number);
    if (fsync(fd) || close(fd) || rename(partial, whole)) give_up("%s: %s", whole, strerror(errno));
}

/* Write what waits: each file and then its folder is synced, or a group of files and then the folder once.
 *
 * The first fsync of a group finds all its files written, and the file system commits them together. */
static void write_files(void) {
    struct mail *group[FILE_GROUP];
    int fds[FILE_GROUP], most = settings.pooled ? FILE_GROUP : 1;
    char folder[4096];
    snprintf(folder, sizeof folder, "%s/new", settings.maildir);
    while (pending.first) {
        int count = 0;
        for (; count < most && pending.first; count++) {
            group[count] = get(&pending);
            fds[count] = write_partial(group[count], relayed + count);
        }
        for (int i = 0; i < count; i++) finish_file(fds[i], relayed + i);
        sync_folder(folder);
        for (int i = 0; i < count; i++) mail_is_safe(group[i]);
    }
}

/* --- everything --------------------------------------------------------------------------------------------- */

static void parse(int count, char **words) {
    static const struct option options[] = {
        {"pop", 1, 0, 'p'},    {"smtp", 1, 0, 's'},     {"user", 1, 0, 'u'},  {"password", 1, 0, 'w'},
        {"drops", 1, 0, 'd'},  {"at-once", 1, 0, 'a'},  {"bdat", 0, 0, 'b'},  {"sessions", 1, 0, 'n'},
        {"keep", 0, 0, 'k'},   {"skip", 1, 0, 'h'},     {"list", 0, 0, 'l'},  {"maildir", 1, 0, 'm'},
        {"pooled", 0, 0, 'g'},
        {0}};
    int option;
    while ((option = getopt_long(count, words, "", options, NULL)) != -1) switch (option) {
        case 'p': settings.pop = atoi(optarg); break;
        case 's': settings.smtp = atoi(optarg); break;
        case 'u': settings.user = optarg; break;
        case 'w': settings.password = optarg; break;
        case 'd': settings.drops = atoi(optarg); break;
        case 'a': settings.at_once = atoi(optarg); break;
        case 'n': settings.sessions = atoi(optarg); break;
        case 'h': settings.skip = atoi(optarg); break;
        case 'b': settings.bdat = 1; break;
        case 'k': settings.keep = 1; break;
        case 'l': settings.list = 1; break;
        case 'g': settings.pooled = 1; break;
        case 'm': settings.maildir = optarg; break;
        default: exit(2);
        }
    if (!settings.pop || !settings.user || !settings.password) give_up("--pop, --user and --password are needed");
    if (settings.list || settings.maildir) settings.sessions = 0;
}

int main(int count, char **words) {
    struct epoll_event events[256];
    parse(count, words);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    drops = calloc((size_t)settings.at_once, sizeof *drops);
    sessions = calloc((size_t)settings.sessions + 1, sizeof *sessions);
    if (!drops || !sessions) give_up("out of memory");
    for (int i = 0; i < settings.sessions; i++) start_session(&sessions[i]);
    for (int i = 0; i < settings.at_once && next_drop < settings.drops; i++) start_drop(&drops[i]);
    while (open_drops) {
        int ready = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            enum kind kind = *(enum kind *)events[i].data.ptr;
            if (kind == POP3) serve_drop(events[i].data.ptr, events[i].events);
            if (kind == SMTP) serve_session(events[i].data.ptr, events[i].events);
        }
        pace();
    }
    printf("%ld listed, %ld relayed\n", listed, relayed);
    return 0;
}
