/* Hand one message from stdin to an SMTP server: what a mail program that knows no SMTP is given to deliver with.
 *
 * usage: mda PORT
 *
 * It exists to be quick: one process per message is what costs. Exit code 75 (EX_TEMPFAIL) for any refusal. */
#define _GNU_SOURCE
#include "net.h"

#define REFUSED 75

static struct octets message, wire, reply;

static void read_message(void) {
    ssize_t count;
    while ((count = read(0, octets_room(&message, 65536), 65536)) > 0) message.end += (size_t)count;
    if (count < 0) exit(REFUSED);
}

/* Local line ends become CRLF, and dots are stuffed (RFC 5321 s.4.5.2). */
static void add_content(void) {
    char *line = octets_first(&message), *end = message.data + message.end, *line_end;
    while (line < end) {
        line_end = memchr(line, '\n', (size_t)(end - line));
        size_t length = (size_t)((line_end ? line_end : end) - line);
        size_t text = length && line[length - 1] == '\r' ? length - 1 : length;
        if (*line == '.') octets_text(&wire, ".");
        octets_add(&wire, line, text);
        octets_text(&wire, "\r\n");
        line += length + 1;
    }
    octets_text(&wire, ".\r\nQUIT\r\n");
}

static void send_wire(int fd) {
    while (octets_count(&wire))
        if (octets_write(&wire, fd) < 0) exit(REFUSED);
}

/* Wait for so many final lines of replies, none of them a refusal. */
static void await_replies(int fd, int wanted) {
    char *end;
    while (wanted) {
        while (!octets_count(&reply) || !(end = memchr(octets_first(&reply), '\n', octets_count(&reply)))) {
            ssize_t count = read(fd, octets_room(&reply, 4096), 4096);
            if (count <= 0) exit(REFUSED);
            reply.end += (size_t)count;
        }
        char *line = octets_first(&reply);
        if (*line != '2' && *line != '3') exit(REFUSED);
        wanted -= line[3] != '-';
        reply.start = (size_t)(end - reply.data) + 1;
    }
}

int main(int count, char **words) {
    if (count != 2) give_up("usage: mda PORT");
    read_message();
    int fd = connect_to(atoi(words[1]));
    fcntl(fd, F_SETFL, 0); /* one message, one thing after the other: it may wait */
    await_replies(fd, 1);
    octets_text(&wire, "EHLO mda.example.org\r\n");
    send_wire(fd);
    await_replies(fd, 1);
    octets_text(&wire, "MAIL FROM:<bench@example.org>\r\nRCPT TO:<sink@example.org>\r\nDATA\r\n");
    send_wire(fd);
    await_replies(fd, 3);
    add_content();
    send_wire(fd);
    await_replies(fd, 2);
    return 0;
}
