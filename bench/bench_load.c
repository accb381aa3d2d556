/* bench_load.c: how long a model takes to be ready, beside a parallel read of its file.
 *
 *     bench_load MODEL.gguf [CACHE-FOLDER] [RUNS]
 *
 * Runs take turns: `scan` reads the file by all threads into one small buffer each (what a
 * read costs that keeps nothing), `read` into memory of its size (what any loader that copies
 * does at least), `ready` opens file, vocabulary, template and session, `cached` the same with
 * prepared weights from the folder, `token` appends one token to that session and `second`
 * another. Prints medians in seconds, by the clock and of processor time divided by the threads
 * (what the clock would show without other work on the machine), and the ratio of `ready` to
 * `read`, run by run. The file should be in the page cache: one unmeasured round comes first. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/team.h"
#include "models/text_model.h"

enum { MAX_RUNS = 50 };
#define BLOCK ((size_t)2 << 20)

enum what { SCAN, READ, READY, READY_TOKEN, CACHED, CACHED_TOKEN, CACHED_SECOND, N_WHAT };
static const char *const names[N_WHAT] = { "scan", "read", "ready", "token", "cached", "token",
                                           "second" };

struct took { double clock_s, cpu_s; };

static struct took now(void)
{
    struct timespec ts = { 0 };

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (struct took){ clock_seconds(clock_mono_ns()),
                          (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec };
}

static struct took since(struct took start, const struct team *team)
{
    const struct took end = now();

    return (struct took){ end.clock_s - start.clock_s,
                          (end.cpu_s - start.cpu_s) / team_size(team) };
}

struct reading {
    struct team *team;
    int      fd;
    size_t   size;
    uint8_t *to;        /* [size], or [threads][BLOCK] when scanning */
    bool     scan;
};

static void read_blocks(void *arg, unsigned worker)
{
    struct reading *r = arg;

    for (size_t i; (i = team_next(r->team)) * BLOCK < r->size;) {
        const size_t at = i * BLOCK, n = r->size - at < BLOCK ? r->size - at : BLOCK;
        uint8_t *to = r->scan ? r->to + worker * BLOCK : r->to + at;

        if (pread(r->fd, to, n, (off_t)at) != (ssize_t)n)
            (void)fprintf(stderr, "bench_load: short read at %zu\n", at);
    }
}

static struct took read_file(const char *path, struct team *team, bool scan)
{
    struct reading r = { .team = team, .scan = scan };
    const struct took start = now();
    struct stat st;
    struct took s;

    r.fd = open(path, O_RDONLY | O_CLOEXEC);
    if (r.fd < 0 || fstat(r.fd, &st) != 0) {
        (void)fprintf(stderr, "bench_load: %s: %s\n", path, strerror(errno));
        exit(1);
    }
    r.size = (size_t)st.st_size;
    r.to = mem_map(scan ? team_size(team) * BLOCK : r.size);
    if (!r.to) {
        (void)fprintf(stderr, "bench_load: out of memory\n");
        exit(1);
    }
    team_run(team, read_blocks, &r);
    s = since(start, team);
    mem_unmap(r.to, scan ? team_size(team) * BLOCK : r.size);
    (void)close(r.fd);
    return s;
}

static void say(void *ctx, const char *text)
{
    (void)ctx;
    (void)fprintf(stderr, "bench_load: %s\n", text);
}

/* Opens, appends two tokens, closes. */
static void open_model_once(const char *path, const char *cache, struct team *team,
                            struct took *ready, struct took *token, struct took *second)
{
    struct text_model_opts o = { .session = { .team = team, .weights_cache = cache, .note = say } };
    struct text_model *t = NULL;
    struct took start = now();
    struct err e = { 0 };
    float *logits;

    if (text_model_open(&t, path, &o, &e) < 0) {
        (void)fprintf(stderr, "bench_load: %s\n", e.msg);
        exit(1);
    }
    *ready = since(start, team);
    logits = mem_array(session_width(t->session), sizeof *logits);
    for (int i = 0; logits && i < 2; i++) {
        const int32_t id = 1 + i;

        start = now();
        if (session_append(t->session, 0, &id, 1, logits, &e) < 0)
            (void)fprintf(stderr, "bench_load: %s\n", e.msg);
        *(i ? second : token) = since(start, team);
    }
    mem_free(logits);
    text_model_close(t);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return v[n / 2];
}

int main(int argc, char **argv)
{
    const char *cache = argc > 2 ? argv[2] : NULL;
    const int runs = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 5;
    struct took s[N_WHAT][MAX_RUNS], unused;
    double clock_s[MAX_RUNS], cpu_s[MAX_RUNS];
    struct team *team = NULL;
    struct err e = { 0 };

    if (argc < 2 || runs < 1 || runs > MAX_RUNS ||
        team_open(&team, team_default_threads(), &e) < 0) {
        (void)fprintf(stderr, "usage: bench_load MODEL.gguf [CACHE-FOLDER] [RUNS]\n");
        return 2;
    }
    for (int i = -1; i < runs; i++) {
        const int k = i < 0 ? 0 : i;

        s[SCAN][k] = read_file(argv[1], team, true);
        s[READ][k] = read_file(argv[1], team, false);
        open_model_once(argv[1], NULL, team, &s[READY][k], &s[READY_TOKEN][k], &unused);
        if (cache)
            open_model_once(argv[1], cache, team, &s[CACHED][k], &s[CACHED_TOKEN][k],
                            &s[CACHED_SECOND][k]);
        clock_s[k] = s[READY][k].clock_s / s[READ][k].clock_s;
        cpu_s[k] = s[READY][k].cpu_s / s[READ][k].cpu_s;
    }
    (void)printf("ready / read %.2f by the clock, %.2f in processor time\n",
                 median(clock_s, (size_t)runs), median(cpu_s, (size_t)runs));
    for (int w = 0; w < (cache ? N_WHAT : CACHED); w++) {
        for (int k = 0; k < runs; k++) {
            clock_s[k] = s[w][k].clock_s;
            cpu_s[k] = s[w][k].cpu_s;
        }
        (void)printf("%-8s %8.3f s  %8.3f s of each thread\n", names[w],
                     median(clock_s, (size_t)runs), median(cpu_s, (size_t)runs));
    }
    team_close(team);
    return 0;
}
