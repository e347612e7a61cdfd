/* Run a command and write what it took, its children included: `SECONDS USER SYSTEM KILOBYTES EXIT`.
 *
 * usage: run RESULT COMMAND [WORD ...]
 *
 * A small process starts it, since the peak memory of a child is never told as less than its parent had. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double seconds(struct timeval t) { return (double)t.tv_sec + (double)t.tv_usec / 1e6; }

int main(int count, char **words) {
    struct rusage used;
    int status;
    if (count < 3) return 2;
    double begun = now();
    pid_t child = fork();
    if (child == 0) {
        execvp(words[2], words + 2);
        perror(words[2]);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &used) != child) return 1;
    double took = now() - begun;
    FILE *result = fopen(words[1], "w");
    if (!result) return 1;
    fprintf(result, "%.6f %.6f %.6f %ld %d\n", took, seconds(used.ru_utime), seconds(used.ru_stime), used.ru_maxrss,
            WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    return fclose(result) ? 1 : 0;
}
