/* bench_ledger.c: fills a ledger with requests of a month and times every report of that month.
 *
 *   build/bench/bench_ledger FILE [REQUESTS]     default 10,000,000
 *
 * 500 keys, 3 models, 30 days. FILE may also be postgresql://…, and one that is there already is not
 * filled again. Each report is made three times; the median counts. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "energy/ledger.h"

#define RUNS    3
#define START_S (INT64_C(20758) * 86400)     /* 2026-11-01 */

static int count(void *ctx, const struct ledger_sum *s)
{
    int64_t *n = ctx;

    n[0] += s->n;
    n[1]++;
    return 0;
}

static double seconds(uint64_t from)
{
    return (double)(clock_mono_ns() - from) * 1e-9;
}

static int by_time(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static int report(struct ledger *l, unsigned by, const char *key, const char *model)
{
    static const char *const names[] = { "hour", "day", "month", "key", "model", "source" };
    const struct ledger_query q = { .from_s = START_S, .to_s = START_S + 30 * 86400, .by = by,
                                    .key = key, .model = model };
    struct err e = { 0 };
    int64_t n[2];
    double s[RUNS];
    char what[80] = "";

    for (int i = 0; i < RUNS; i++) {
        const uint64_t from = clock_mono_ns();

        n[0] = n[1] = 0;
        if (ledger_report(l, &q, count, n, &e) < 0) {
            (void)fprintf(stderr, "%s\n", e.msg);
            return 1;
        }
        s[i] = seconds(from);
    }
    qsort(s, RUNS, sizeof *s, by_time);
    for (unsigned i = 0; i < 6; i++)
        if (by & 1u << i)
            (void)snprintf(what + strlen(what), sizeof what - strlen(what), "%s%s",
                           *what ? "," : "", names[i]);
    (void)printf("by %-22s %-12s %-10s %8.3f s %10" PRId64 " requests in %8" PRId64 " lines\n",
                 *what ? what : "all", key ? key : "", model ? model : "", s[RUNS / 2], n[0], n[1]);
    return 0;
}

static int all_reports(const char *path)
{
    static const unsigned times[] = { 0, LEDGER_BY_MONTH, LEDGER_BY_DAY, LEDGER_BY_HOUR };
    const struct ledger_opts o = { .read_only = true };
    struct ledger *l;
    struct err e = { 0 };
    int rc = 0;

    if (ledger_open(&l, path, &o, &e) < 0) {
        (void)fprintf(stderr, "%s\n", e.msg);
        return 1;
    }
    for (size_t i = 0; i < sizeof times / sizeof *times; i++)
        for (unsigned names = 0; names < 8; names++)
            rc |= report(l, times[i] | names * LEDGER_BY_KEY, NULL, NULL);
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        rc |= report(l, times[i] | LEDGER_BY_MODEL, "key-7", NULL);
        rc |= report(l, times[i], NULL, "model-1");
        rc |= report(l, times[i] | LEDGER_BY_KEY, NULL, "model-1");
    }
    ledger_close(l);
    return rc;
}

int main(int argc, char **argv)
{
    const int64_t total = argc > 2 ? strtoll(argv[2], NULL, 10) : 10000000;
    const struct ledger_opts o = { .keep_days = UINT_MAX, .batch = 10000, .flush_ms = 1000 };
    struct ledger *l;
    struct err e = { 0 };
    struct rng r;
    uint64_t from = clock_mono_ns();

    if (argc < 2) {
        (void)fprintf(stderr, "bench_ledger FILE [REQUESTS]\n");
        return 2;
    }
    if (access(argv[1], F_OK) == 0)
        return all_reports(argv[1]);
    if (ledger_open(&l, argv[1], &o, &e) < 0) {
        (void)fprintf(stderr, "%s\n", e.msg);
        return 1;
    }
    rng_init(&r, 1);
    for (int64_t i = 0; i < total; i++) {
        struct ledger_entry x = {
            .time_ms = (START_S + i * 30 * 86400 / total) * 1000, .n_input = rng_below(&r, 2000),
            .n_cached = rng_below(&r, 1000), .n_output = rng_below(&r, 500),
            .prefill_uj = (int64_t)rng_below(&r, 9000000), .decode_uj = (int64_t)rng_below(&r, 90000000),
            .queue_us = 1000, .prefill_us = 200000, .decode_us = 3000000, .machine_us = 400000,
            .cost_nano = rng_below(&r, 100000), .price_nano = rng_below(&r, 200000),
            .carbon_ug = rng_below(&r, 1000), .currency = "EUR", .source = "rapl",
        };

        (void)snprintf(x.key, sizeof x.key, "key-%u", rng_below(&r, 500));
        (void)snprintf(x.model, sizeof x.model, "model-%u", rng_below(&r, 3));
        (void)snprintf(x.request, sizeof x.request, "req_%016" PRIx64, rng_u64(&r));
        while (!ledger_put(l, &x))
            (void)usleep(1000);
    }
    ledger_close(l);
    (void)printf("%" PRId64 " requests written in %.1f s\n", total, seconds(from));
    return all_reports(argv[1]);
}
