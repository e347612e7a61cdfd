/* Print `ID DIGEST OCTETS` for each file whose path comes on stdin, one to a line.
 *
 * Line ends become CRLF first, as on the wire: mail stores write them as they like. */
#define _GNU_SOURCE
#include "digest.h"

static struct message message;

static void add_with_crlf(const char *octets, size_t count) {
    const char *end = octets + count, *line_end;
    while (octets < end && (line_end = memchr(octets, '\n', (size_t)(end - octets)))) {
        size_t length = (size_t)(line_end - octets);
        if (length && octets[length - 1] == '\r') length--;
        message_add(&message, octets, length);
        message_add(&message, "\r\n", 2);
        octets = line_end + 1;
    }
    message_add(&message, octets, (size_t)(end - octets));
}

static void print_file(const char *path) {
    static char *octets;
    static size_t room;
    char line[128];
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) {
        perror(path);
        exit(1);
    }
    size_t count = (size_t)ftell(file);
    rewind(file);
    if (count > room) octets = realloc(octets, room = count);
    if (!octets || fread(octets, 1, count, file) != count) {
        perror(path);
        exit(1);
    }
    fclose(file);
    message_begin(&message);
    add_with_crlf(octets, count);
    digest_end(&message.digest);
    message_print(line, sizeof line, message.id, &message.digest);
    puts(line);
}

int main(void) {
    char *path = NULL;
    size_t room = 0;
    ssize_t length;
    while ((length = getline(&path, &room, stdin)) > 0) {
        if (path[length - 1] == '\n') path[length - 1] = '\0';
        print_file(path);
    }
    return 0;
}
