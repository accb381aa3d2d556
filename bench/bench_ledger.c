/* bench_ledger.c: fills a ledger with requests of a month and times a month's report.
 *
 *   build/bench/bench_ledger FILE [REQUESTS]     default 10,000,000
 *
 * 500 keys, 3 models, 30 days. FILE must not exist. */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "energy/ledger.h"

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

static int report(const char *path, unsigned by, const char *what)
{
    const struct ledger_opts o = { .read_only = true };
    const struct ledger_query q = { .from_s = START_S, .to_s = START_S + 30 * 86400, .by = by };
    struct ledger *l;
    struct err e = { 0 };
    int64_t n[2] = { 0 };
    uint64_t from = clock_mono_ns();

    if (ledger_open(&l, path, &o, &e) < 0 || ledger_report(l, &q, count, n, &e) < 0) {
        (void)fprintf(stderr, "%s\n", e.msg);
        return 1;
    }
    (void)printf("report by %-16s %8.3f s, %" PRId64 " requests in %" PRId64 " groups\n", what,
                 seconds(from), n[0], n[1]);
    ledger_close(l);
    return 0;
}

int main(int argc, char **argv)
{
    const int64_t total = argc > 2 ? strtoll(argv[2], NULL, 10) : 10000000;
    const struct ledger_opts o = { .keep_days = UINT_MAX, .batch = 10000, .flush_ms = 1000 };
    struct ledger *l;
    struct err e = { 0 };
    struct rng r;
    uint64_t from = clock_mono_ns();

    if (argc < 2 || access(argv[1], F_OK) == 0) {
        (void)fprintf(stderr, "bench_ledger FILE [REQUESTS]: FILE must not exist\n");
        return 2;
    }
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
    return report(argv[1], LEDGER_BY_DAY | LEDGER_BY_MODEL, "day, model") |
           report(argv[1], LEDGER_BY_KEY, "key") |
           report(argv[1], LEDGER_BY_HOUR | LEDGER_BY_MODEL, "hour, model") |
           report(argv[1], LEDGER_BY_DAY | LEDGER_BY_KEY | LEDGER_BY_MODEL, "day, key, model");
}
