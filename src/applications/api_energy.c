/* api_energy.c: joules and money of requests; see api_energy.h. */
#include "applications/api_energy.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "applications/energy_cost.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#define IDLE_MS     60000           /* idle joules are booked once a minute */
#define MAX_MODELS  256u
#define WHY_BYTES   240

struct api_energy {
    struct meter       *meter;
    struct tariff      *tariff;
    struct ledger      *ledger;
    struct attribution *attribution;
    struct metrics     *metrics;
    struct meter_coefficients weights;
    bool                has_weights;
    uint64_t            began_ns;
    struct metric      *joules[METER_MAX_CHANNELS][N_PHASES];
    struct metric      *power, *cost;
    pthread_mutex_t     mu;             /* below */
    uint32_t            n_models;       /* ever attached: tells their requests apart */
    uint64_t            n_ok, n_input, n_cached, n_output, ok_uj;
    uint64_t            idle_uj, idle_ns, booked_ns;    /* not booked yet; when last */
    bool                ledger_said;
};

struct api_energy_model {
    struct api_energy  *x;
    struct energy_cost  cost;
    uint64_t            tag;            /* in the upper bits of its requests' numbers */
    struct attribution_share *shares;   /* the service's thread's */
    double             *weights;
    uint32_t            max_shares;
};

/* ---- metrics ---- */

static double read_power(void *ctx)
{
    struct api_energy *x = ctx;
    double watts = 0;
    bool any = false;

    for (uint32_t i = 0; i < meter_n_views(x->meter); i++) {
        struct meter_view v;

        meter_view(x->meter, i, &v);
        if (!v.counted)
            continue;
        if (!v.ok || isnan(v.watts))
            return NAN;
        watts += v.watts;
        any = true;
    }
    return any ? watts : NAN;
}

static double read_cost(void *ctx)
{
    return (double)meter_cost_ns(((struct api_energy *)ctx)->meter) * 1e-9;
}

static int open_gauge(struct api_energy *x, const char *name, const char *help,
                      double (*read)(void *ctx), struct metric **out, struct err *e)
{
    const struct metric_label label = { "source", meter_source(x->meter) };
    const struct metric_spec spec = { .kind = METRIC_GAUGE, .name = name, .help = help,
                                      .labels = &label, .n_labels = 1, .read = read, .ctx = x };

    return metric_open(out, x->metrics, &spec, e);
}

static int open_metrics(struct api_energy *x, struct err *e)
{
    static const char *const phases[] = { "prefill", "decode", "idle" };
    struct meter_reading r;
    int rc = open_gauge(x, "watt_power_watts", "Power of the counted channels now; NaN: not known",
                        read_power, &x->power, e);

    if (rc == 0)
        rc = open_gauge(x, "watt_meter_cpu_seconds",
                        "Processor time that reading the meter has taken", read_cost, &x->cost, e);
    meter_read(x->meter, &r);
    for (uint32_t i = 0; rc == 0 && i < r.n; i++)
        for (int p = 0; rc == 0 && p < N_PHASES; p++) {
            struct meter_channel_name name;
            struct metric_label labels[3] = { { "phase", phases[p] } };
            struct metric_spec spec = {
                .kind = METRIC_COUNTER, .name = "watt_energy_joules_total",
                .help = "Joules by phase, device and source", .labels = labels, .n_labels = 3,
            };

            meter_channel_name(x->meter, i, &name);
            labels[1] = (struct metric_label){ "device", name.name };
            labels[2] = (struct metric_label){ "source", name.source };
            rc = metric_open(&x->joules[i][p], x->metrics, &spec, e);
        }
    return rc;
}

/* Idle joules belong to nobody: they are summed up and booked now and then. Called with the
 * attribution's lock held, so mu comes after it. */
static void on_window(void *ctx, const struct attribution_window *w)
{
    struct api_energy *x = ctx;

    for (uint32_t i = 0; i < w->n_channels; i++)
        for (int p = 0; p < N_PHASES; p++)
            metric_add_f(x->joules[i][p], w->channel_uj[i * N_PHASES + (uint32_t)p] * 1e-6);
    (void)pthread_mutex_lock(&x->mu);
    x->idle_uj += w->phase_uj[PHASE_IDLE];
    x->idle_ns += w->phase_uj[PHASE_IDLE] > 0 ? w->ns : 0;
    (void)pthread_mutex_unlock(&x->mu);
}

/* ---- open and close ---- */

int api_energy_open(struct api_energy **out, const struct api_energy_opts *o, struct err *e)
{
    struct api_energy *x = mem_calloc(1, sizeof *x);
    struct attribution_opts ao = { .meter = o->meter, .max_requests = o->max_requests,
                                   .on_window = on_window };
    int rc;

    if (!x) {
        meter_close(o->meter);
        tariff_close(o->tariff);
        ledger_close(o->ledger);
        return err_set(e, WATT_ENOMEM, "energy");
    }
    (void)pthread_mutex_init(&x->mu, NULL);
    x->meter = o->meter;
    x->tariff = o->tariff;
    x->ledger = o->ledger;
    x->metrics = o->metrics;
    x->has_weights = o->weights != NULL;
    if (o->weights)
        x->weights = *o->weights;
    x->began_ns = x->booked_ns = clock_mono_ns();
    ao.ctx = x;
    rc = open_metrics(x, e);
    if (rc == 0)
        rc = attribution_open(&x->attribution, &ao, e);
    if (rc < 0) {
        api_energy_close(x);
        return rc;
    }
    *out = x;
    return 0;
}

static int64_t now_ms(void)
{
    return clock_wall_ns() / 1000000;
}

static void copy(char *to, size_t size, const char *from)
{
    (void)snprintf(to, size, "%.*s", (int)size - 1, from ? from : "");
}

static int64_t nano(double amount)
{
    return (int64_t)llround(amount * 1e9);
}

static void put_idle(struct api_energy *x, uint64_t uj, uint64_t ms)
{
    struct ledger_idle idle = { .time_ms = now_ms(), .uj = (int64_t)uj, .ms = (int64_t)ms };
    const struct tariff_use use = { .unix_s = idle.time_ms / 1000, .has_joules = true,
                                    .joules = (double)uj * 1e-6, .machine_s = (double)ms * 1e-3 };
    struct tariff_bill b;

    copy(idle.source, sizeof idle.source, meter_source(x->meter));
    if (x->tariff) {
        tariff_bill(x->tariff, &use, &b);
        idle.cost_nano = nano(b.cost);
        idle.carbon_ug = (int64_t)(b.carbon_g * 1e6);
        copy(idle.currency, sizeof idle.currency, tariff_currency(x->tariff));
    }
    (void)ledger_put_idle(x->ledger, &idle);
}

static void book_idle(struct api_energy *x, bool now)
{
    uint64_t uj, ms;

    if (!x->ledger)
        return;
    (void)pthread_mutex_lock(&x->mu);
    if (!now && clock_mono_ns() - x->booked_ns < UINT64_C(1000000) * IDLE_MS) {
        (void)pthread_mutex_unlock(&x->mu);
        return;
    }
    uj = x->idle_uj;
    ms = x->idle_ns / 1000000;
    x->idle_uj = 0;
    x->idle_ns -= ms * 1000000;
    x->booked_ns = clock_mono_ns();
    (void)pthread_mutex_unlock(&x->mu);
    if (uj > 0)
        put_idle(x, uj, ms);
}

void api_energy_close(struct api_energy *x)
{
    struct attribution_totals t;

    if (!x)
        return;
    if (x->attribution) {
        attribution_totals(x->attribution, &t);     /* the last window */
        book_idle(x, true);
    }
    metric_detach(x->metrics, x->power);
    metric_detach(x->metrics, x->cost);
    attribution_close(x->attribution);
    ledger_close(x->ledger);
    tariff_close(x->tariff);
    meter_close(x->meter);
    (void)pthread_mutex_destroy(&x->mu);
    mem_free(x);
}

/* ---- steps ---- */

/* On the service's thread: what each share weighs. */
static void on_step(void *ctx, const struct service_share *shares, uint32_t n, uint64_t start_ns,
                    uint64_t end_ns)
{
    struct api_energy_model *m = ctx;
    const double seconds = (double)(end_ns > start_ns ? end_ns - start_ns : 0) * 1e-9;
    uint32_t rows = 0;
    double weights, all_ops = 0, all_bytes = 0, all = 0;

    if (n > m->max_shares)
        n = m->max_shares;
    for (uint32_t i = 0; i < n; i++)
        rows += shares[i].n_prompt_rows + shares[i].n_answer_rows;
    weights = energy_cost_weights(&m->cost, rows);
    for (uint32_t i = 0; i < n; i++) {
        const struct service_share *s = &shares[i];
        double ops, bytes, pj;

        energy_cost_share(&m->cost, s->n_prompt_rows + s->n_answer_rows, s->n_past, rows, weights,
                          &ops, &bytes);
        pj = energy_cost_pj(&m->cost, ops, bytes);
        m->shares[i] = (struct attribution_share){
            .request = m->tag | s->request,
            .prefill = s->n_prompt_rows ? pj : 0, .decode = s->n_prompt_rows ? 0 : pj,
        };
        all_ops += ops;
        all_bytes += bytes;
        all += pj;
    }
    for (uint32_t i = 0; i < n; i++)
        m->shares[i].machine_s = all > 0 ? seconds * (m->shares[i].prefill + m->shares[i].decode) /
                                           all : 0;
    meter_work(m->x->meter, all_ops, all_bytes);
    attribution_step(m->x->attribution, m->shares, n);
}

int api_energy_attach(struct api_energy *x, const struct model *model, struct service_opts *so,
                      struct api_energy_model **out, struct err *e)
{
    struct api_energy_model *m;

    *out = NULL;
    if (!x)
        return 0;
    m = mem_calloc(1, sizeof *m);
    if (!m)
        return err_set(e, WATT_ENOMEM, "energy");
    m->x = x;
    m->max_shares = so->max_seqs > 16 ? so->max_seqs : 16;
    m->shares = mem_array(m->max_shares, sizeof *m->shares);
    if (!m->shares) {
        mem_free(m);
        return err_set(e, WATT_ENOMEM, "energy: %u shares", so->max_seqs);
    }
    energy_cost_init(&m->cost, model, x->has_weights ? &x->weights : NULL);
    (void)pthread_mutex_lock(&x->mu);
    m->tag = (uint64_t)(x->n_models++ % 0xffff + 1) << 48;
    (void)pthread_mutex_unlock(&x->mu);
    so->on_step = on_step;
    so->on_step_ctx = m;
    *out = m;
    return 0;
}

void api_energy_detach(struct api_energy_model *m)
{
    if (!m)
        return;
    mem_free(m->shares);
    mem_free(m);
}

struct meter *api_energy_meter(const struct api_energy *x) { return x->meter; }

const char *api_energy_currency(const struct api_energy *x)
{
    return x && x->tariff ? tariff_currency(x->tariff) : "";
}

/* ---- one request ---- */

void api_energy_begin(struct api_energy_model *m, struct api_energy_use *use)
{
    if (!m)
        return;
    use->counted = true;
    attribution_enter(m->x->attribution);
}

static void bill(struct api_energy_model *m, struct api_energy_use *use,
                 const struct api_energy_report *r)
{
    const struct service_usage *u = &r->usage;
    const uint32_t thinking = r->n_thinking < u->n_answer ? r->n_thinking : u->n_answer;
    const struct tariff_use t = {
        .model = r->model, .unix_s = now_ms() / 1000, .has_joules = use->known,
        .joules = (double)(use->prefill_uj + use->decode_uj) * 1e-6, .machine_s = use->machine_s,
        .n_input = r->n_prompt - u->n_cached, .n_cached = u->n_cached,
        .n_output = u->n_answer - thinking, .n_thinking = thinking,
    };

    if (!m->x->tariff)
        return;
    tariff_bill(m->x->tariff, &t, &use->bill);
    use->billed = true;
}

static void book(struct api_energy_model *m, const struct api_energy_use *use,
                 const struct api_energy_report *r)
{
    const struct service_usage *u = &r->usage;
    const uint32_t thinking = r->n_thinking < u->n_answer ? r->n_thinking : u->n_answer;
    const bool costed = use->billed && (use->known || use->bill.hardware > 0);
    struct ledger_entry n = {
        .time_ms = now_ms(), .n_input = r->n_prompt - u->n_cached, .n_cached = u->n_cached,
        .n_output = u->n_answer - thinking, .n_thinking = thinking,
        .prefill_uj = use->known ? use->prefill_uj : LEDGER_UNKNOWN,
        .decode_uj = use->known ? use->decode_uj : LEDGER_UNKNOWN,
        .saved_uj = use->known ? use->saved_uj : 0,
        .queue_us = (int64_t)(r->times.queued / 1000),
        .prefill_us = (int64_t)(r->times.prefill / 1000),
        .decode_us = (int64_t)(r->times.decode / 1000),
        .machine_us = (int64_t)(use->machine_s * 1e6),
        .cost_nano = costed ? nano(use->bill.cost) : LEDGER_UNKNOWN,
        .price_nano = use->billed && use->bill.has_price ? nano(use->bill.revenue) : LEDGER_UNKNOWN,
        .carbon_ug = use->billed && use->known ? (int64_t)(use->bill.carbon_g * 1e6)
                                               : LEDGER_UNKNOWN,
        .status = r->finish == SERVICE_ERROR ? LEDGER_FAILED
                : r->finish == SERVICE_CANCELLED ? LEDGER_CANCELLED : LEDGER_OK,
    };

    if (!m->x->ledger)
        return;
    copy(n.key, sizeof n.key, r->key);
    copy(n.model, sizeof n.model, r->model);
    copy(n.request, sizeof n.request, r->request);
    copy(n.source, sizeof n.source, use->known ? meter_source(m->x->meter) : "none");
    copy(n.currency, sizeof n.currency, m->x->tariff ? tariff_currency(m->x->tariff) : "");
    (void)ledger_put(m->x->ledger, &n);
}

static void add_up(struct api_energy *x, const struct api_energy_use *use,
                   const struct api_energy_report *r)
{
    (void)pthread_mutex_lock(&x->mu);
    if (r->finish == SERVICE_STOP || r->finish == SERVICE_LENGTH) {
        x->n_ok++;
        x->ok_uj += use->known ? (uint64_t)(use->prefill_uj + use->decode_uj) : 0;
    }
    x->n_input += r->n_prompt - r->usage.n_cached;
    x->n_cached += r->usage.n_cached;
    x->n_output += r->usage.n_answer;
    (void)pthread_mutex_unlock(&x->mu);
}

void api_energy_end(struct api_energy_model *m, struct api_energy_use *use,
                    const struct api_energy_report *r)
{
    struct attribution_result a;
    double ops, bytes;

    if (!m || !use->counted)
        return;
    use->counted = false;
    energy_cost_share(&m->cost, r->usage.n_cached, 0, 256, energy_cost_weights(&m->cost, 256), &ops,
                      &bytes);
    attribution_leave(m->x->attribution, r->id ? m->tag | r->id : 0,
                      energy_cost_pj(&m->cost, ops, bytes), &a);
    if (r->id == 0)
        return;
    use->over = true;
    use->known = a.known;
    use->prefill_uj = (int64_t)a.prefill_uj;
    use->decode_uj = (int64_t)a.decode_uj;
    use->saved_uj = a.saved_uj < 9e18 ? (int64_t)a.saved_uj : 0;
    use->machine_s = a.machine_s;
    bill(m, use, r);
    add_up(m->x, use, r);
    book(m, use, r);
    book_idle(m->x, false);
}

void api_energy_add(struct api_energy_use *sum, const struct api_energy_use *use)
{
    const struct api_energy_use first = *sum;

    *sum = *use;
    if (!first.over)
        return;
    sum->known &= first.known;
    sum->prefill_uj += first.prefill_uj;
    sum->decode_uj += first.decode_uj;
    sum->saved_uj += first.saved_uj;
    sum->machine_s += first.machine_s;
    sum->bill.has_energy &= first.bill.has_energy;
    sum->bill.kwh += first.bill.kwh;
    sum->bill.carbon_g += first.bill.carbon_g;
    sum->bill.energy += first.bill.energy;
    sum->bill.hardware += first.bill.hardware;
    sum->bill.cost += first.bill.cost;
    sum->bill.revenue += first.bill.revenue;
    sum->bill.margin += first.bill.margin;
}

/* ---- what is said ---- */

static json_t *joules(bool known, double uj)
{
    return known ? json_real(uj * 1e-6) : json_null();
}

static const char *why_not(struct api_energy *x)
{
    const char *why = meter_why(x->meter);

    return *why ? why : "the meter could not be read while this ran";
}

json_t *api_energy_json(const struct api_energy_model *m, const struct api_energy_use *use)
{
    char why[WHY_BYTES];
    json_t *j;

    if (!m)
        return NULL;
    j = json_pack("{s:o,s:o,s:o,s:s,s:i}", "joules",
                  joules(use->known, (double)(use->prefill_uj + use->decode_uj)), "joules_prefill",
                  joules(use->known, (double)use->prefill_uj), "joules_decode",
                  joules(use->known, (double)use->decode_uj), "source", meter_source(m->x->meter),
                  "schema", API_ENERGY_SCHEMA);
    if (j && use->known && use->saved_uj > 0)       /* computed: it was never used */
        (void)json_object_set_new(j, "joules_saved_estimated", joules(true, (double)use->saved_uj));
    if (j && !use->known) {
        (void)snprintf(why, sizeof why, "%.*s", WHY_BYTES - 1, why_not(m->x));
        why[strcspn(why, ";")] = '\0';      /* the first reason; watt meter has them all */
        (void)json_object_set_new(j, "why", json_string(why));
    }
    return j;
}

json_t *api_cost_json(const struct api_energy_model *m, const struct api_energy_use *use)
{
    const struct tariff_bill *b = &use->bill;

    if (!m || !use->billed)
        return NULL;
    return json_pack("{s:s,s:s,s:o,s:f,s:f,s:o,s:o}", "currency", tariff_currency(m->x->tariff),
                     "energy_source", use->known ? meter_source(m->x->meter) : "none", "energy", b->has_energy ? json_real(b->energy) : json_null(),
                     "hardware", b->hardware, "total", b->cost,
                     "price", b->has_price ? json_real(b->revenue) : json_null(),
                     "carbon_g", b->has_energy ? json_real(b->carbon_g) : json_null());
}

void api_energy_into(json_t *usage, const struct api_energy_model *m,
                     const struct api_energy_use *use)
{
    json_t *energy, *cost;

    if (!m || !use->over || !usage)
        return;
    energy = api_energy_json(m, use);
    cost = api_cost_json(m, use);
    if (energy)
        (void)json_object_set_new(usage, "energy", energy);
    if (cost)
        (void)json_object_set_new(usage, "cost", cost);
}

void api_energy_text(const struct api_energy_use *use, char out[32])
{
    out[0] = '\0';
    if (use->over && use->known)
        (void)snprintf(out, 32, "%.6f", (double)(use->prefill_uj + use->decode_uj) * 1e-6);
}

const char *api_energy_source(const struct api_energy_model *m)
{
    return m ? meter_source(m->x->meter) : "none";
}

/* Joules per so many; null when there are none. */
static json_t *per(bool known, uint64_t uj, uint64_t n)
{
    return known && n > 0 ? json_real((double)uj * 1e-6 / (double)n) : json_null();
}

/* Power of the GPUs alone, since start. */
static json_t *gpu_power(struct api_energy *x, double seconds)
{
    struct meter_reading r;
    uint64_t uj = 0;
    bool any = false;

    meter_read(x->meter, &r);
    for (uint32_t i = 0; i < r.n; i++) {
        struct meter_channel_name name;

        meter_channel_name(x->meter, i, &name);
        if (strcmp(name.device, "gpu") != 0)
            continue;
        any = true;
        uj += r.channel_uj[i];
    }
    return any && r.valid && seconds > 0 ? json_real((double)uj * 1e-6 / seconds) : json_null();
}

json_t *api_energy_metrics(struct api_energy *x)
{
    const double seconds = (double)(clock_mono_ns() - x->began_ns) * 1e-9;
    struct attribution_totals t;
    struct meter_reading r;
    uint64_t n_ok, ok_uj, n_in, n_out, n_cached, busy;
    bool known;
    json_t *j;

    attribution_totals(x->attribution, &t);
    meter_read(x->meter, &r);
    (void)pthread_mutex_lock(&x->mu);
    n_ok = x->n_ok;
    ok_uj = x->ok_uj;
    n_in = x->n_input;
    n_out = x->n_output;
    n_cached = x->n_cached;
    (void)pthread_mutex_unlock(&x->mu);
    known = r.n > 0 && t.n_unknown == 0;
    busy = t.phase_uj[PHASE_PREFILL] + t.phase_uj[PHASE_DECODE];
    j = json_pack("{s:i,s:s,s:b,s:b,s:f}", "schema_version", API_ENERGY_SCHEMA, "source",
                  meter_source(x->meter), "measured", meter_measures(x->meter), "power_valid",
                  known && meter_measures(x->meter), "window_s", seconds);
    if (!j)
        return NULL;
#define SET(name, value) (void)json_object_set_new(j, name, value)
    SET("why", r.n > 0 && r.valid ? json_null() : json_string(meter_why(x->meter)));
    SET("total_energy_j", joules(r.n > 0, (double)t.meter_uj));
    SET("prefill_energy_j", joules(r.n > 0, (double)t.phase_uj[PHASE_PREFILL]));
    SET("decode_energy_j", joules(r.n > 0, (double)t.phase_uj[PHASE_DECODE]));
    SET("idle_energy_j", joules(r.n > 0, (double)t.phase_uj[PHASE_IDLE]));
    SET("unattributed_energy_j", joules(r.n > 0, (double)t.lost_uj));
    SET("avg_total_power_w", r.n > 0 && seconds > 0
        ? json_real((double)t.meter_uj * 1e-6 / seconds) : json_null());
    SET("avg_total_gpu_power_w", gpu_power(x, seconds));
    SET("num_successful_queries", json_integer((json_int_t)n_ok));
    SET("total_input_tokens", json_integer((json_int_t)(n_in + n_cached)));
    SET("total_cached_tokens", json_integer((json_int_t)n_cached));
    SET("total_output_tokens", json_integer((json_int_t)n_out));
    SET("joules_per_successful_query", per(known, ok_uj, n_ok));
    SET("joules_per_input_token", per(known, t.phase_uj[PHASE_PREFILL], n_in + n_cached));
    SET("joules_per_output_token", per(known, t.phase_uj[PHASE_DECODE], n_out));
    SET("joules_per_total_token", per(known, busy, n_in + n_cached + n_out));
    SET("joules_per_total_token_with_idle", per(known, t.meter_uj, n_in + n_cached + n_out));
#undef SET
    return j;
}

bool api_energy_ledger_fails(struct api_energy *x, char why[256])
{
    struct ledger_state s;

    why[0] = '\0';
    if (!x || !x->ledger)
        return false;
    ledger_state(x->ledger, &s);
    memcpy(why, s.why, sizeof s.why);
    return why[0] != '\0';
}

json_t *api_energy_ledger(struct api_energy *x)
{
    struct ledger_state s;

    if (!x || !x->ledger)
        return NULL;
    ledger_state(x->ledger, &s);
    return json_pack("{s:s,s:I,s:I,s:I,s:s}", "status", s.why[0] ? "failing" : "ok", "written",
                     (json_int_t)s.n_written, "waiting", (json_int_t)s.n_waiting, "lost",
                     (json_int_t)s.n_lost, "why", s.why);
}
