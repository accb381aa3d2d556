/* cli_ledger.c: `watt ledger`: reports from the book of requests, by time, key and model, as a table,
 * CSV, JSON or a chart; every request on its own; and whether the book adds up. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "applications/ledger_chart.h"
#include "applications/ledger_figures.h"
#include "applications/cli.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "energy/ledger.h"

#define NAME_BYTES 224u         /* of a line: three names */

enum format { TABLE, CSV, JSON, SVG };
enum action { REPORT, EXPORT, VERIFY };

struct book_opts {
    const char *by, *from, *to, *key, *model, *out;
    int  format, chart;
    bool export, verify;
};

#define CHART_CHOICES "energy|tokens|requests|joules-per-token|cost|revenue|margin|carbon"

static const struct cli_opt options[] = {
    { "by", 'b', CLI_TEXT, offsetof(struct book_opts, by), "LIST",
      "groups: any of hour, day, month, key, model, source with commas (default day,model)", 0, 0 },
    { "from", 0, CLI_TEXT, offsetof(struct book_opts, from), "TIME",
      "begin at this day or hour in UTC, as 2026-11-22 or 2026-11-22T13 (default: the first)", 0, 0 },
    { "to", 0, CLI_TEXT, offsetof(struct book_opts, to), "TIME",
      "end before it (default: the last)", 0, 0 },
    { "key", 0, CLI_TEXT, offsetof(struct book_opts, key), "NAME", "requests of this key only", 0, 0 },
    { "model", 0, CLI_TEXT, offsetof(struct book_opts, model), "NAME",
      "requests of this model only", 0, 0 },
    { "format", 'f', CLI_CHOICE, offsetof(struct book_opts, format), "table|csv|json|svg",
      "how the report is written (default table)", 0, 0 },
    { "chart", 0, CLI_CHOICE, offsetof(struct book_opts, chart), CHART_CHOICES,
      "what an SVG shows over time (default energy)", 0, 0 },
    { "out", 'o', CLI_FILE, offsetof(struct book_opts, out), "FILE",
      "write there (default: standard output)", 0, 0 },
    { "export", 0, CLI_FLAG, offsetof(struct book_opts, export), NULL,
      "every request, as CSV or lines of JSON", 0, 0 },
    { "verify", 0, CLI_FLAG, offsetof(struct book_opts, verify), NULL,
      "is the file whole, and are the sums those of their requests?", 0, 0 },
    { 0 }
};

/* ---- arguments ---- */

static bool read_by(const char *text, unsigned *by)
{
    static const struct { const char *name; unsigned bit; } names[] = {
        { "hour", LEDGER_BY_HOUR }, { "day", LEDGER_BY_DAY }, { "month", LEDGER_BY_MONTH },
        { "key", LEDGER_BY_KEY }, { "model", LEDGER_BY_MODEL }, { "source", LEDGER_BY_SOURCE },
        { "all", 0 },
    };

    *by = 0;
    for (const char *p = text; *p;) {
        const size_t n = strcspn(p, ",");
        size_t i = 0;

        while (i < sizeof names / sizeof *names &&
               (strlen(names[i].name) != n || strncmp(names[i].name, p, n) != 0))
            i++;
        if (i == sizeof names / sizeof *names)
            return false;
        *by |= names[i].bit;
        p += n + (p[n] == ',');
    }
    return true;
}

static bool read_time(const char *text, int64_t *out)
{
    struct tm tm = { 0 };
    const char *p;

    *out = 0;
    if (!text)
        return true;
    p = strptime(text, "%Y-%m-%d", &tm);
    if (p && (*p == 'T' || *p == ' '))
        p = strptime(p + 1, "%H", &tm);
    if (p && strcmp(p, ":00") == 0)
        p += 3;
    *out = (int64_t)timegm(&tm);
    return p && (*p == '\0' || strcmp(p, "Z") == 0) && *out > 0;
}

/* ---- groups ---- */

struct groups { struct ledger_sum *list; size_t n, cap; };

static int collect(void *ctx, const struct ledger_sum *sum)
{
    struct groups *g = ctx;

    if (g->n == g->cap) {
        const size_t cap = g->cap ? 2 * g->cap : 256;
        struct ledger_sum *p = mem_grow(g->list, cap, sizeof *p);

        if (!p)
            return -1;
        g->list = p;
        g->cap = cap;
    }
    g->list[g->n++] = *sum;
    return 0;
}

/* ---- table ---- */

static void put_cell(struct str *s, int width, bool known, double v, const char *format)
{
    char text[48] = "-";

    if (known && !isnan(v))
        (void)snprintf(text, sizeof text, format, v);
    str_printf(s, " %*s", width, text);
}

/* Names come from outside: what a terminal could act on is shown as '?'. */
static void put_name(struct str *s, int width, const char *name)
{
    char text[LEDGER_TEXT];
    size_t n = 0;

    for (; name[n] && n + 1 < sizeof text; n++)
        text[n] = (unsigned char)name[n] < 32 || name[n] == 127 ? '?' : name[n];
    text[n] = '\0';
    str_printf(s, " %-*s", width, n ? text : "-");
}

static void table_row(struct str *s, const struct ledger_sum *x, unsigned by)
{
    const bool idle = ledger_is_idle(x), all = x->n_measured == x->n;
    char when[24];

    ledger_time_text(x->from_s, by, when);
    if (when[0])
        str_printf(s, "%-17s", when);
    if (by & LEDGER_BY_KEY)
        put_name(s, 16, idle ? "(idle)" : x->key);
    if (by & LEDGER_BY_MODEL)
        put_name(s, 24, idle ? "(idle)" : x->model);
    if (by & LEDGER_BY_SOURCE)
        put_name(s, 10, x->source);
    str_printf(s, " %9" PRId64 " %12" PRId64 " %12" PRId64 " %12" PRId64, x->n,
               x->n_input + x->n_cached, x->n_cached, x->n_output + x->n_thinking);
    put_cell(s, 12, x->n_measured > 0 || x->idle_uj > 0, ledger_joules(x) + (double)x->idle_uj * 1e-6,
             all ? "%.2f" : "%.2f*");
    put_cell(s, 9, x->n_measured > 0, ledger_per_token(x), "%.4f");
    put_cell(s, 12, x->n_costed > 0 || x->idle_cost_nano != 0, ledger_cost(x), "%.4f");
    put_cell(s, 12, x->n_priced > 0, ledger_revenue(x), "%.4f");
    put_cell(s, 12, x->n_costed > 0 && x->n_priced > 0, ledger_revenue(x) - ledger_cost(x), "%.4f");
    str_printf(s, " %s%s\n", x->currency, ledger_is_estimate(x) ? " (J: an estimate)" : "");
}

static void add_sum(struct ledger_sum *to, const struct ledger_sum *x)
{
    to->n += x->n;
    to->n_failed += x->n_failed;
    to->n_input += x->n_input;
    to->n_cached += x->n_cached;
    to->n_output += x->n_output;
    to->n_thinking += x->n_thinking;
    to->n_measured += x->n_measured;
    to->prefill_uj += x->prefill_uj;
    to->decode_uj += x->decode_uj;
    to->idle_uj += x->idle_uj;
    to->n_costed += x->n_costed;
    to->n_priced += x->n_priced;
    to->cost_nano += x->cost_nano;
    to->price_nano += x->price_nano;
    to->idle_cost_nano += x->idle_cost_nano;
    to->carbon_ug += x->carbon_ug + x->idle_carbon_ug;
}

static bool alike(const struct ledger_sum *a, const struct ledger_sum *b)
{
    return strcmp(a->currency, b->currency) == 0 && ledger_is_estimate(a) == ledger_is_estimate(b);
}

/* One line for all of each currency, under the groups; estimates apart. */
static void put_totals(struct str *s, const struct groups *g, unsigned by)
{
    for (size_t i = 0; i < g->n; i++) {
        struct ledger_sum t = { 0 };
        bool seen = false;

        for (size_t k = 0; k < i; k++)
            seen |= alike(&g->list[k], &g->list[i]);
        for (size_t k = i; k < g->n && !seen; k++)
            if (alike(&g->list[k], &g->list[i]))
                add_sum(&t, &g->list[k]);
        if (seen)
            continue;
        if (by & (LEDGER_BY_HOUR | LEDGER_BY_DAY | LEDGER_BY_MONTH))
            str_printf(s, "%-17s", "all");
        (void)snprintf(t.key, sizeof t.key, "all");
        (void)snprintf(t.model, sizeof t.model, "all");
        (void)snprintf(t.source, sizeof t.source, ledger_is_estimate(&g->list[i]) ? "estimate" : "all");
        memcpy(t.currency, g->list[i].currency, sizeof t.currency);
        table_row(s, &t, by & ~(unsigned)(LEDGER_BY_HOUR | LEDGER_BY_DAY | LEDGER_BY_MONTH));
    }
}

static void put_table(struct str *s, const struct groups *g, unsigned by)
{
    bool partly = false;

    if (by & (LEDGER_BY_HOUR | LEDGER_BY_DAY | LEDGER_BY_MONTH))
        str_printf(s, "%-17s", "UTC");
    if (by & LEDGER_BY_KEY)
        str_printf(s, " %-16s", "key");
    if (by & LEDGER_BY_MODEL)
        str_printf(s, " %-24s", "model");
    if (by & LEDGER_BY_SOURCE)
        str_printf(s, " %-10s", "source");
    str_printf(s, " %9s %12s %12s %12s %12s %9s %12s %12s %12s\n", "requests", "prompt tok",
               "of it cached", "answer tok", "J", "J/token", "cost", "revenue", "margin");
    for (size_t i = 0; i < g->n; i++) {
        table_row(s, &g->list[i], by);
        partly |= g->list[i].n_measured < g->list[i].n;
    }
    if (g->n > 1)
        put_totals(s, g, by);
    if (partly)
        str_puts(s, "* and -: the joules of some requests, or of all, were not measured\n");
}

/* ---- CSV and JSON ---- */

/* RFC 4180; what a spreadsheet would take for a formula gets a quote in front. */
static void csv_text(struct str *s, const char *text)
{
    str_putc(s, '"');
    if (strchr("=+-@\t\r", text[0]) && text[0])
        str_putc(s, '\'');
    for (const char *p = text; *p; p++) {
        if (*p == '"')
            str_putc(s, '"');
        str_putc(s, *p);
    }
    str_putc(s, '"');
}

static const char sum_header[] =
    "time,key,model,source,currency,requests,failed,input_tokens,cached_tokens,output_tokens,"
    "thinking_tokens,measured_requests,joules_prefill,joules_decode,joules_saved_estimated,"
    "joules_idle,idle_s,queue_s,prefill_s,decode_s,machine_s,cost,revenue,idle_cost,carbon_g\n";

static void put_csv(struct str *s, const struct groups *g, unsigned by)
{
    str_puts(s, sum_header);
    for (size_t i = 0; i < g->n; i++) {
        const struct ledger_sum *x = &g->list[i];
        char when[24];

        ledger_time_text(x->from_s, by, when);
        str_printf(s, "%s,", when);
        csv_text(s, x->key);
        str_putc(s, ',');
        csv_text(s, x->model);
        str_putc(s, ',');
        csv_text(s, x->source);
        str_printf(s, ",%s,%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64
                   ",%" PRId64, x->currency, x->n, x->n_failed, x->n_input, x->n_cached,
                   x->n_output, x->n_thinking, x->n_measured);
        str_printf(s, x->n_measured ? ",%.6f,%.6f" : ",,", (double)x->prefill_uj * 1e-6,
                   (double)x->decode_uj * 1e-6);
        str_printf(s, ",%.6f,%.6f,%.3f,%.6f,%.6f,%.6f,%.6f", (double)x->saved_uj * 1e-6,
                   (double)x->idle_uj * 1e-6, (double)x->idle_ms * 1e-3, (double)x->queue_us * 1e-6,
                   (double)x->prefill_us * 1e-6, (double)x->decode_us * 1e-6,
                   (double)x->machine_us * 1e-6);
        str_printf(s, x->n_costed ? ",%.9f" : ",", (double)x->cost_nano * 1e-9);
        str_printf(s, x->n_priced ? ",%.9f" : ",", ledger_revenue(x));
        str_printf(s, ",%.9f,%.6f\n", (double)x->idle_cost_nano * 1e-9,
                   (double)(x->carbon_ug + x->idle_carbon_ug) * 1e-6);
    }
}

static void json_key(struct str *s, const char *key, const char *text)
{
    str_printf(s, "\"%s\":", key);
    json_put_str(s, sv_cstr(text));
    str_putc(s, ',');
}

static void json_real_(struct str *s, const char *key, bool known, double v)
{
    if (known)
        str_printf(s, ",\"%s\":%.9f", key, v);
    else
        str_printf(s, ",\"%s\":null", key);
}

static void put_json(struct str *s, const struct groups *g, unsigned by)
{
    str_puts(s, "[");
    for (size_t i = 0; i < g->n; i++) {
        const struct ledger_sum *x = &g->list[i];
        const bool known = x->n_measured > 0;
        char when[24];

        ledger_time_text(x->from_s, by, when);
        str_puts(s, i ? ",\n {" : "\n {");
        json_key(s, "time", when);
        json_key(s, "key", x->key);
        json_key(s, "model", x->model);
        json_key(s, "source", x->source);
        json_key(s, "currency", x->currency);
        str_printf(s, "\"requests\":%" PRId64 ",\"failed\":%" PRId64 ",\"input_tokens\":%" PRId64
                   ",\"cached_tokens\":%" PRId64 ",\"output_tokens\":%" PRId64
                   ",\"thinking_tokens\":%" PRId64 ",\"measured_requests\":%" PRId64, x->n,
                   x->n_failed, x->n_input, x->n_cached, x->n_output, x->n_thinking,
                   x->n_measured);
        json_real_(s, "joules_prefill", known, (double)x->prefill_uj * 1e-6);
        json_real_(s, "joules_decode", known, (double)x->decode_uj * 1e-6);
        json_real_(s, "joules_saved_estimated", known, (double)x->saved_uj * 1e-6);
        json_real_(s, "joules_idle", x->idle_uj > 0, (double)x->idle_uj * 1e-6);
        json_real_(s, "machine_s", true, (double)x->machine_us * 1e-6);
        json_real_(s, "cost", x->n_costed > 0, (double)x->cost_nano * 1e-9);
        json_real_(s, "revenue", x->n_priced > 0, ledger_revenue(x));
        json_real_(s, "idle_cost", x->idle_cost_nano != 0, (double)x->idle_cost_nano * 1e-9);
        json_real_(s, "carbon_g", known, (double)(x->carbon_ug + x->idle_carbon_ug) * 1e-6);
        str_putc(s, '}');
    }
    str_puts(s, "\n]\n");
}

/* ---- requests one by one ---- */

struct exporting { FILE *f; bool json; int why; };      /* errno of a failed write */

static void amount(struct str *s, bool json, const char *key, int64_t v, double unit)
{
    if (json)
        str_printf(s, ",\"%s\":", key);
    else
        str_putc(s, ',');
    if (v != LEDGER_UNKNOWN)
        str_printf(s, "%.15g", (double)v * unit);
    else if (json)
        str_puts(s, "null");
}

static int export_one(void *ctx, const struct ledger_entry *x)
{
    static const char *const statuses[] = { "ok", "cancelled", "failed" };
    struct exporting *w = ctx;
    const char *names[] = { "request", "key", "model", "source", "currency", "status" };
    const char *values[] = { x->request, x->key, x->model, x->source, x->currency,
                             statuses[x->status <= LEDGER_FAILED ? x->status : LEDGER_FAILED] };
    struct str s;
    bool ok;

    str_init(&s, 0);
    str_printf(&s, w->json ? "{\"time_ms\":%" PRId64 : "%" PRId64, x->time_ms);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        str_putc(&s, ',');
        if (w->json) {
            str_printf(&s, "\"%s\":", names[i]);
            json_put_str(&s, sv_cstr(values[i]));
        } else {
            csv_text(&s, values[i]);
        }
    }
    amount(&s, w->json, "input_tokens", x->n_input, 1);
    amount(&s, w->json, "cached_tokens", x->n_cached, 1);
    amount(&s, w->json, "output_tokens", x->n_output, 1);
    amount(&s, w->json, "thinking_tokens", x->n_thinking, 1);
    amount(&s, w->json, "joules_prefill", x->prefill_uj, 1e-6);
    amount(&s, w->json, "joules_decode", x->decode_uj, 1e-6);
    amount(&s, w->json, "queue_s", x->queue_us, 1e-6);
    amount(&s, w->json, "prefill_s", x->prefill_us, 1e-6);
    amount(&s, w->json, "decode_s", x->decode_us, 1e-6);
    amount(&s, w->json, "machine_s", x->machine_us, 1e-6);
    amount(&s, w->json, "cost", x->cost_nano, 1e-9);
    amount(&s, w->json, "price", x->price_nano, 1e-9);
    amount(&s, w->json, "carbon_g", x->carbon_ug, 1e-6);
    str_puts(&s, w->json ? "}\n" : "\n");
    ok = str_ok(&s) && fwrite(s.data, 1, s.len, w->f) == s.len;
    w->why = ok ? 0 : errno ? errno : EIO;
    str_deinit(&s);
    return ok && !cli_interrupted() ? 0 : -1;
}

static int export_all(struct ledger *l, const struct ledger_query *q, const struct book_opts *o,
                      FILE *f, struct err *e)
{
    struct exporting w = { f, o->format == JSON, 0 };
    int rc;

    if (!w.json && fputs("time_ms,request,key,model,source,currency,status,input_tokens,"
                         "cached_tokens,output_tokens,thinking_tokens,joules_prefill,joules_decode,"
                         "queue_s,prefill_s,decode_s,machine_s,cost,price,carbon_g\n", f) < 0)
        return err_set(e, WATT_EIO, "%s: can't be written", o->out ? o->out : "standard output");
    rc = ledger_each(l, q, export_one, &w, e);
    return w.why ? err_errno(e, WATT_EIO, w.why, "%s: can't be written",
                             o->out ? o->out : "standard output") : rc;
}

/* ---- the verb ---- */

static int report(struct ledger *l, const struct ledger_query *q, const struct book_opts *o,
                  FILE *f, struct err *e)
{
    struct groups g = { 0 };
    struct str s;
    int rc = ledger_report(l, q, collect, &g, e);

    str_init(&s, 0);
    if (rc == 0 && o->format == TABLE)
        put_table(&s, &g, q->by);
    else if (rc == 0 && o->format == CSV)
        put_csv(&s, &g, q->by);
    else if (rc == 0 && o->format == JSON)
        put_json(&s, &g, q->by);
    else if (rc == 0)
        rc = ledger_chart(&s, g.list, g.n, q->by, (enum ledger_chart_of)o->chart, e);
    if (rc == 0 && !str_ok(&s))
        rc = err_set(e, WATT_ENOMEM, "report");
    if (rc == 0 && s.len > 0 && fwrite(s.data, 1, s.len, f) != s.len)
        rc = err_set(e, WATT_EIO, "%s: can't be written", o->out ? o->out : "standard output");
    str_deinit(&s);
    mem_free(g.list);
    return rc;
}

static int verify(struct ledger *l, struct err *e)
{
    struct ledger_check c;
    const int rc = ledger_verify(l, &c, e);

    if (rc == 0)
        (void)printf("in order: %" PRId64 " requests, sums of %" PRId64 " hours' and %" PRId64
                     " days' groups, %" PRId64 " batches\n", c.n_requests, c.n_hours, c.n_days,
                     c.n_batches);
    return rc;
}

static int write_out(struct ledger *l, const struct ledger_query *q, const struct book_opts *o,
                     struct err *e)
{
    struct file_new n;
    int rc;

    if (!o->out)
        return (o->export ? export_all : report)(l, q, o, stdout, e);
    rc = file_new_open(&n, o->out, e);
    if (rc < 0)
        return rc;
    rc = (o->export ? export_all : report)(l, q, o, n.f, e);
    if (rc == 0)
        return file_new_commit(&n, e);
    file_new_abort(&n);
    return rc;
}

static int run(const struct cli *c, const void *options_)
{
    const struct book_opts *o = options_;
    const struct ledger_opts lo = { .read_only = true };
    struct ledger_query q = { .key = o->key, .model = o->model };
    struct ledger *l;
    struct err e = { 0 };
    int rc;

    if (!read_by(o->by ? o->by : "day,model", &q.by))
        return cli_usage(c, "--by '%s': expected any of hour, day, month, key, model, source, or all",
                         o->by);
    if (!read_time(o->from, &q.from_s))
        return cli_usage(c, "--from '%s': a time is written as 2026-11-22 or 2026-11-22T13", o->from);
    if (!read_time(o->to, &q.to_s))
        return cli_usage(c, "--to '%s': a time is written as 2026-11-22 or 2026-11-22T13", o->to);
    if (q.to_s > 0 && q.to_s <= q.from_s)
        return cli_usage(c, "--to %s is not after --from %s", o->to, o->from);
    if (o->export && o->format != CSV && o->format != JSON && o->format != TABLE)
        return cli_usage(c, "--export writes csv or json");
    if (o->format == SVG && !(q.by & (LEDGER_BY_HOUR | LEDGER_BY_DAY | LEDGER_BY_MONTH)))
        return cli_usage(c, "a chart goes over time: --by needs hour, day or month");
    cli_catch_interrupt();
    if (ledger_open(&l, c->args[0], &lo, &e) < 0)
        return cli_fail(c, &e);
    rc = o->verify ? verify(l, &e) : write_out(l, &q, o, &e);
    ledger_close(l);
    return rc < 0 ? cli_fail(c, &e) : CLI_OK;
}

const struct cli_verb verb_ledger = {
    .name = "ledger",
    .summary = "reports from the book of requests: tokens, joules and money",
    .usage = "FILE|postgresql://…",
    .about = "Reads what `watt serve --ledger` wrote, while it goes on writing. Groups by time, key,\n"
             "model and source; idle energy is a group of its own. Joules that were not measured\n"
             "are shown as - or empty, never as 0; sources that are estimates say so.\n"
             "\n"
             "docs/ledger.md describes the tables and the tariffs.",
    .examples = "watt ledger book.db\n"
                "watt ledger book.db --by month,key --format csv --out bill.csv\n"
                "watt ledger book.db --by hour --from 2026-11-22 --format svg --chart cost --out cost.svg\n"
                "watt ledger book.db --export --key alice --format json\n"
                "watt ledger book.db --verify",
    .options = options,
    .options_size = sizeof(struct book_opts),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
