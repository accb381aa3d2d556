/* eval_tally.c: see eval_tally.h. */
#include "applications/eval_tally.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "applications/eval_stats.h"
#include "base/json.h"
#include "base/map.h"
#include "base/mem.h"

struct record {                 /* of one item */
    struct eval_verdict greedy;
    struct eval_verdict *samples;   /* [n_samples] */
    bool     answered, cut, by_bytes;   /* by_bytes: right when weighed per byte */
    uint32_t n_tokens;
};

struct eval_tally {
    const struct eval_items *items;
    struct record           *v;         /* [items->n] */
    struct eval_verdict     *samples;
    uint32_t                 n_samples;
};

int eval_tally_open(struct eval_tally **out, const struct eval_items *items, uint32_t n_samples, struct err *e)
{
    struct eval_tally *t = mem_calloc(1, sizeof *t);
    size_t n;

    if (!t || !mul_size(items->n, n_samples, &n) || !(t->v = mem_calloc(items->n + 1, sizeof *t->v)) ||
        !(t->samples = mem_calloc(n + 1, sizeof *t->samples))) {
        eval_tally_close(t);
        return err_set(e, WATT_ENOMEM, "out of memory for the results of %zu items", items->n);
    }
    t->items = items;
    t->n_samples = n_samples;
    for (size_t i = 0; i < items->n; i++)
        t->v[i].samples = t->samples + i * n_samples;
    *out = t;
    return 0;
}

void eval_tally_close(struct eval_tally *t)
{
    if (!t)
        return;
    mem_free(t->v);
    mem_free(t->samples);
    mem_free(t);
}

void eval_tally_answer(struct eval_tally *t, size_t item, bool greedy, uint32_t sample, const struct eval_verdict *v,
                       uint32_t n_tokens, bool cut)
{
    struct record *r = &t->v[item];

    if (!greedy) {
        CHECK(sample < t->n_samples);
        r->samples[sample] = *v;
        return;
    }
    r->greedy = *v;
    r->answered = true;
    r->n_tokens = n_tokens;
    r->cut = cut;
}

void eval_tally_choice(struct eval_tally *t, size_t item, const double *nats)
{
    const struct eval_item *it = &t->items->v[item];
    const size_t n = json_array_size(it->choices);
    struct record *r = &t->v[item];
    size_t best = 0, best_byte = 0;
    double least = 0;

    for (size_t i = 0; i < n; i++) {
        const size_t len = json_string_length(json_array_get(it->choices, i));
        const double per_byte = nats[i] / (double)(len ? len : 1);

        if (nats[i] < nats[best])
            best = i;
        if (i == 0 || per_byte < least) {
            least = per_byte;
            best_byte = i;
        }
    }
    r->answered = true;
    r->greedy = (struct eval_verdict){ .right = best == it->right };
    r->by_bytes = best_byte == it->right;
}

/* ---- metrics ---- */

/* Is the most frequent vote a right one? Of votes that are equally frequent the one that came first. */
static bool majority(const struct eval_tally *t, size_t item)
{
    const struct record *r = &t->v[item];
    uint32_t best = 0, most = 0;

    for (uint32_t i = 0; i < t->n_samples; i++) {
        uint32_t n = 0;

        if (!r->samples[i].vote[0])
            continue;
        for (uint32_t k = 0; k < t->n_samples; k++)
            n += strcmp(r->samples[i].vote, r->samples[k].vote) == 0;
        if (n > most) {
            most = n;
            best = i;
        }
    }
    return most > 0 && r->samples[best].right;
}

struct metric_row {
    const char     *task, *name;
    uint64_t        n, k;       /* a share of k in n, where share */
    double          value;
    struct interval at;
    bool            share;
};

typedef void row_fn(void *ctx, const struct metric_row *row);

static void share(const char *task, const char *name, uint64_t k, uint64_t n, row_fn *fn, void *ctx)
{
    const struct metric_row row = { task, name, n, k, n ? (double)k / (double)n : 0, eval_wilson(k, n), true };

    if (n > 0)
        fn(ctx, &row);
}

static void mean(const char *task, const char *name, const double *v, size_t n, row_fn *fn, void *ctx)
{
    struct metric_row row = { .task = task, .name = name, .n = n };

    for (size_t i = 0; i < n; i++)
        row.value += v[i] / (double)n;
    row.at = eval_bootstrap(v, n, EVAL_BOOTSTRAP_ROUNDS, 1);
    fn(ctx, &row);
}

/* What only sampling tells. v: room for a number per item. */
static void sampled_rows(const struct eval_tally *t, const char *task, double *v, row_fn *fn, void *ctx)
{
    uint64_t n = 0, voted = 0, any = 0;
    double *gain = v + t->items->n;

    for (size_t i = 0; i < t->items->n; i++) {
        const struct record *r = &t->v[i];
        uint32_t right = 0;
        bool m;

        if (strcmp(t->items->v[i].task, task) != 0 || t->items->v[i].kind == EVAL_CHOICE || !r->answered)
            continue;
        for (uint32_t k = 0; k < t->n_samples; k++)
            right += r->samples[k].right;
        m = majority(t, i);
        voted += m;
        any += right > 0;
        v[n] = (double)right / t->n_samples;
        gain[n++] = (double)m - (double)r->greedy.right;
    }
    if (n == 0)
        return;
    mean(task, "one sample", v, n, fn, ctx);
    share(task, "majority", voted, n, fn, ctx);
    mean(task, "majority minus greedy", gain, n, fn, ctx);
    share(task, "any sample", any, n, fn, ctx);
}

static void task_rows(const struct eval_tally *t, const char *task, double *v, row_fn *fn, void *ctx)
{
    uint64_t n = 0, right = 0, formed = 0, forms = 0, gave_up = 0, could = 0, choices = 0, bytes = 0, cut = 0;

    for (size_t i = 0; i < t->items->n; i++) {
        const struct eval_item *it = &t->items->v[i];
        const struct record *r = &t->v[i];

        if (strcmp(it->task, task) != 0 || !r->answered)
            continue;
        n++;
        right += r->greedy.right;
        cut += r->cut;
        if (it->kind == EVAL_CALL || it->kind == EVAL_NUMBER) {
            forms++;
            formed += r->greedy.formed;
        }
        if (it->abstention && it->kind != EVAL_ABSTAINS) {
            could++;
            gave_up += r->greedy.abstained;
        }
        if (it->kind == EVAL_CHOICE) {
            choices++;
            bytes += r->by_bytes;
        }
    }
    share(task, "right", right, n, fn, ctx);
    share(task, "well formed", formed, forms, fn, ctx);
    share(task, "false abstentions", gave_up, could, fn, ctx);
    share(task, "right, per byte", bytes, choices, fn, ctx);
    if (cut > 0)
        share(task, "cut off", cut, n, fn, ctx);
    if (t->n_samples > 0)
        sampled_rows(t, task, v, fn, ctx);
}

/* Tasks in the order of their first items. */
static void all_rows(const struct eval_tally *t, row_fn *fn, void *ctx)
{
    double *v = mem_calloc(2 * t->items->n + 1, sizeof *v);
    struct map seen;
    struct err e;

    if (v && map_init(&seen, EVAL_MAX_ITEMS, &e) == 0) {
        for (size_t i = 0; i < t->items->n; i++) {
            const struct sv name = sv_cstr(t->items->v[i].task);

            if (!map_get(&seen, name, NULL) && map_put(&seen, name, i, &e) == 0)
                task_rows(t, t->items->v[i].task, v, fn, ctx);
        }
        map_deinit(&seen);
    }
    mem_free(v);
}

/* ---- printing ---- */

static void print_row(void *ctx, const struct metric_row *r)
{
    const char **last = ctx;

    if (!*last || strcmp(*last, r->task) != 0)
        (void)printf("\n%s (%" PRIu64 ")\n", r->task, r->n);
    *last = r->task;
    (void)printf("  %-22s %6.1f %%   (95 %%: %.1f to %.1f)\n", r->name, 100 * r->value, 100 * r->at.low,
                 100 * r->at.high);
}

static void csv_text(const char *z)
{
    (void)putchar('"');
    for (; *z; z++) {
        if (*z == '"')
            (void)putchar('"');
        (void)putchar(*z);
    }
    (void)putchar('"');
}

static void csv_row(void *ctx, const struct metric_row *r)
{
    (void)ctx;
    csv_text(r->task);
    (void)printf(",");
    csv_text(r->name);
    (void)printf(",%" PRIu64 ",%.6f,%.6f,%.6f\n", r->n, r->value, r->at.low, r->at.high);
}

static void json_text(const char *z)
{
    json_print_str(stdout, sv_cstr(z));
}

static void json_row(void *ctx, const struct metric_row *r)
{
    bool *begun = ctx;

    (void)printf(*begun ? ",\n    {\"task\": " : "\n    {\"task\": ");
    *begun = true;
    json_text(r->task);
    (void)printf(", \"metric\": ");
    json_text(r->name);
    (void)printf(", \"n\": %" PRIu64 ", ", r->n);
    if (r->share)
        (void)printf("\"count\": %" PRIu64 ", ", r->k);
    (void)printf("\"value\": %.6f, \"interval_95\": [%.6f, %.6f]}", r->value, r->at.low, r->at.high);
}

static uint64_t all_tokens(const struct eval_tally *t)
{
    uint64_t n = 0;

    for (size_t i = 0; i < t->items->n; i++)
        n += t->v[i].n_tokens;
    return n;
}

void eval_tally_print(const struct eval_tally *t, const struct eval_tally_head *h, enum eval_format f)
{
    const char *last = NULL;
    bool begun = false;

    switch (f) {
    case EVAL_TABLE:
        (void)printf("%s%s%s: %zu items, greedy", h->model, h->source ? " at " : "", h->source ? h->source : "",
                     t->items->n);
        if (h->n_samples > 0)
            (void)printf(" and %u samples at temperature %g", h->n_samples, h->temperature);
        (void)printf(", %.1f s\n", h->seconds);
        all_rows(t, print_row, (void *)&last);
        break;
    case EVAL_CSV:
        (void)printf("task,metric,n,value,low_95,high_95\n");
        all_rows(t, csv_row, NULL);
        break;
    case EVAL_JSON:
        (void)printf("{\"model\": ");
        json_text(h->model);
        (void)printf(", \"url\": ");
        if (h->source)
            json_text(h->source);
        else
            (void)printf("null");
        (void)printf(", \"items\": %zu, \"samples\": %u, \"temperature\": %g, \"seed\": %" PRIu64
                     ", \"seconds\": %.3f, \"answer_tokens\": %" PRIu64 ",\n  \"results\": [", t->items->n,
                     h->n_samples, h->temperature, h->seed, h->seconds, all_tokens(t));
        all_rows(t, json_row, &begun);
        (void)printf("\n  ]}\n");
        break;
    }
}
