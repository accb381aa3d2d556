/* trace_file.c: reads recorded arrivals; see trace_file.h. */
#include "infrastructure/trace_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"

#define COMMON_TEXTS 8u
#define NS_PER_S UINT64_C(1000000000)

void trace_close(struct trace *t)
{
    mem_free(t->v);
    mem_free(t->blocks);
    *t = (struct trace){ 0 };
}

/* ---- growing ---- */

static int add_arrival(struct trace *t, const struct trace_arrival *a, struct err *e)
{
    if (t->n == TRACE_MAX_ARRIVALS)
        return err_set(e, WATT_ELIMIT, "trace: more than %zu arrivals", TRACE_MAX_ARRIVALS);
    if (t->n == t->cap) {
        const size_t cap = t->cap ? 2 * t->cap : 1024;
        struct trace_arrival *v = mem_grow(t->v, cap, sizeof *v);

        if (!v)
            return err_set(e, WATT_ENOMEM, "trace: %zu arrivals", cap);
        t->v = v;
        t->cap = cap;
    }
    t->v[t->n++] = *a;
    return 0;
}

static int add_block(struct trace *t, uint64_t id, struct err *e)
{
    if (t->n_blocks == t->cap_blocks) {
        const size_t cap = t->cap_blocks ? 2 * t->cap_blocks : 4096;
        uint64_t *blocks = mem_grow(t->blocks, cap, sizeof *blocks);

        if (!blocks)
            return err_set(e, WATT_ENOMEM, "trace: %zu blocks", cap);
        t->blocks = blocks;
        t->cap_blocks = cap;
    }
    t->blocks[t->n_blocks++] = id;
    return 0;
}

static int by_time(const void *a, const void *b)
{
    const struct trace_arrival *x = a, *y = b;

    if (x->at_ns != y->at_ns)
        return x->at_ns < y->at_ns ? -1 : 1;
    return x->first_block < y->first_block ? -1 : x->first_block > y->first_block;
}

/* In order, from time 0. */
static void settle(struct trace *t)
{
    if (t->n == 0)
        return;
    qsort(t->v, t->n, sizeof *t->v, by_time);
    for (size_t i = t->n; i-- > 0;)
        t->v[i].at_ns -= t->v[0].at_ns;
}

/* ---- CSV ---- */

/* Up to max digits; false when there is none. */
static bool digits(const char **at, const char *end, unsigned max, uint64_t *v)
{
    const char *start = *at;

    *v = 0;
    while (*at < end && **at >= '0' && **at <= '9' && (size_t)(*at - start) < max)
        *v = *v * 10 + (uint64_t)(*(*at)++ - '0');
    return *at > start;
}

static bool skip(const char **at, const char *end, char c)
{
    return *at < end && *(*at)++ == c;
}

/* "2023-11-16 18:15:46.6805900" */
static bool date(const char **at, const char *end, uint64_t *ns)
{
    uint64_t y, mo, d, h, mi, s, fraction = 0;
    struct tm tm = { 0 };
    const char *start;
    time_t t;

    if (!digits(at, end, 4, &y) || !skip(at, end, '-') || !digits(at, end, 2, &mo) ||
        !skip(at, end, '-') || !digits(at, end, 2, &d) || !skip(at, end, ' ') ||
        !digits(at, end, 2, &h) || !skip(at, end, ':') || !digits(at, end, 2, &mi) ||
        !skip(at, end, ':') || !digits(at, end, 2, &s))
        return false;
    if (y < 1970 || mo < 1 || mo > 12 || d < 1 || d > 31 || h > 23 || mi > 59 || s > 60)
        return false;
    if (*at < end && **at == '.') {
        start = ++*at;
        if (!digits(at, end, 9, &fraction))
            return false;
        for (ptrdiff_t n = *at - start; n < 9; n++)
            fraction *= 10;
    }
    tm = (struct tm){ .tm_year = (int)y - 1900, .tm_mon = (int)mo - 1, .tm_mday = (int)d,
                      .tm_hour = (int)h, .tm_min = (int)mi, .tm_sec = (int)s };
    t = timegm(&tm);
    if (t < 0 || (uint64_t)t > UINT64_MAX / NS_PER_S - 1)
        return false;
    *ns = (uint64_t)t * NS_PER_S + fraction;
    return true;
}

static int parse_csv(struct trace *t, const char *name, const char *bytes, size_t n,
                     struct err *e)
{
    const char *at = bytes, *end = bytes + n;

    for (size_t line = 1; at < end; line++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        const char *eol = stop ? stop : end;
        const char *text_end = eol > at && eol[-1] == '\r' ? eol - 1 : eol;
        struct trace_arrival a = { 0 };
        uint64_t prompt, answer;
        int rc;

        if (line > 1 && text_end > at) {
            if (!date(&at, text_end, &a.at_ns) || !skip(&at, text_end, ',') ||
                !digits(&at, text_end, 9, &prompt) || !skip(&at, text_end, ',') ||
                !digits(&at, text_end, 9, &answer) || at != text_end)
                return err_set(e, WATT_EFORMAT, "%s: line %zu: expected a date and two numbers",
                               name, line);
            if (prompt > TRACE_MAX_TOKENS || answer > TRACE_MAX_TOKENS)
                return err_set(e, WATT_EFORMAT, "%s: line %zu: more than %u tokens", name, line,
                               TRACE_MAX_TOKENS);
            a.n_prompt = prompt ? (uint32_t)prompt : 1;
            a.n_answer = answer ? (uint32_t)answer : 1;
            rc = add_arrival(t, &a, e);
            if (rc < 0)
                return rc;
        }
        at = stop ? stop + 1 : end;
    }
    return 0;
}

/* ---- JSON lines ---- */

static int read_u32(const struct json_place *at, const char *key, uint64_t max, uint64_t *out,
                    struct err *e)
{
    struct json_place p;
    const int rc = json_need(at, key, &p, e);

    return rc < 0 ? rc : json_read_u64(&p, 0, max, out, e);
}

static int read_blocks(struct trace *t, const struct json_place *at, struct trace_arrival *a,
                       struct err *e)
{
    struct json_place ids;
    size_t n = 0;
    int rc = json_find(at, "hash_ids", &ids, e);

    if (rc < 0 || !ids.value)
        return rc;
    rc = json_read_array(&ids, TRACE_MAX_TOKENS / TRACE_BLOCK_TOKENS, &n, e);
    a->first_block = t->n_blocks;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place item = json_item(&ids, i);
        uint64_t id;

        rc = json_read_u64(&item, 0, UINT64_MAX >> 1, &id, e);
        if (rc == 0)
            rc = add_block(t, id, e);
        a->n_blocks += rc == 0;
    }
    return rc;
}

static int parse_line(struct trace *t, const char *name, const char *line, size_t n,
                      struct err *e)
{
    struct trace_arrival a = { 0 };
    struct json_place root;
    uint64_t ms, prompt, answer;
    json_t *doc = NULL;
    int rc = json_parse(&doc, name, line, n, NULL, e);

    if (rc < 0)
        return rc;
    root = json_root(doc, name);
    rc = read_u32(&root, "timestamp", UINT64_MAX / 4000000, &ms, e);
    if (rc == 0)
        rc = read_u32(&root, "input_length", TRACE_MAX_TOKENS, &prompt, e);
    if (rc == 0)
        rc = read_u32(&root, "output_length", TRACE_MAX_TOKENS, &answer, e);
    if (rc == 0)
        rc = read_blocks(t, &root, &a, e);
    if (rc == 0) {
        a.at_ns = ms * 1000000;
        a.n_prompt = prompt ? (uint32_t)prompt : 1;
        a.n_answer = answer ? (uint32_t)answer : 1;
        rc = add_arrival(t, &a, e);
    }
    json_close(doc);
    return rc;
}

static int parse_lines(struct trace *t, const char *name, const char *bytes, size_t n,
                       struct err *e)
{
    const char *at = bytes, *end = bytes + n;
    int rc = 0;

    for (size_t line = 1; rc == 0 && at < end; line++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        const char *eol = stop ? stop : end;

        if (eol > at)
            rc = parse_line(t, name, at, (size_t)(eol - at), e);
        if (rc < 0)
            (void)err_prefix(e, "line %zu", line);
        at = stop ? stop + 1 : end;
    }
    return rc;
}

/* ---- whole traces ---- */

int trace_parse(struct trace *t, const char *name, const char *bytes, size_t n, struct err *e)
{
    int rc;

    *t = (struct trace){ 0 };
    if (n > 0 && bytes[0] == '{')
        rc = parse_lines(t, name, bytes, n, e);
    else
        rc = parse_csv(t, name, bytes, n, e);
    if (rc == 0 && t->n == 0)
        rc = err_set(e, WATT_EFORMAT, "%s: no arrivals", name);
    if (rc < 0)
        trace_close(t);
    else
        settle(t);
    return rc;
}

int trace_read(struct trace *t, const char *path, struct err *e)
{
    char *bytes;
    size_t n;
    int rc = file_read(path, TRACE_MAX_BYTES, &bytes, &n, e);

    if (rc < 0)
        return rc;
    rc = trace_parse(t, path, bytes, n, e);
    mem_free(bytes);
    return rc;
}

int trace_random(struct trace *t, uint64_t seed, size_t n, double rate_per_s, uint32_t max_prompt,
                 uint32_t max_answer, struct err *e)
{
    struct rng rng;
    double at = 0;
    int rc = 0;

    *t = (struct trace){ 0 };
    rng_init(&rng, seed);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct trace_arrival a = { .n_prompt = 1 + rng_below(&rng, max_prompt),
                                   .n_answer = 1 + rng_below(&rng, max_answer),
                                   .account = rng_below(&rng, 4),
                                   .priority = rng_below(&rng, 4) == 0 };

        at += -log(1 - rng_double(&rng)) / rate_per_s;
        a.at_ns = (uint64_t)(at * 1e9);
        if (rng_below(&rng, 2)) {
            const uint32_t text = rng_below(&rng, COMMON_TEXTS), shared = 1 + rng_below(&rng, 3);

            a.first_block = t->n_blocks;
            a.n_blocks = (a.n_prompt - 1) / TRACE_BLOCK_TOKENS + 1;
            for (uint32_t b = 0; rc == 0 && b < a.n_blocks; b++)
                rc = add_block(t, b < shared ? text * 8 + b : 1000 + i * 64 + b, e);
        }
        if (rc == 0)
            rc = add_arrival(t, &a, e);
    }
    if (rc < 0)
        trace_close(t);
    return rc;
}
