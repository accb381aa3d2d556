/* plan.c: the planner's model of a server; see plan.h. */
#include "applications/plan.h"

#include <math.h>
#include <string.h>

#include "applications/pareto.h"
#include "base/mem.h"

#define MAX_BATCH 4096u
#define READ_WATTS 0.65         /* of what a chip can draw above idle, by busy memory */
#define OPS_WATTS 0.75          /* and by busy units */
#define ACT_COPIES 24.0         /* rows of activations that live at once, in widths of the model */
#define HOURS_A_YEAR 8766.0

/* ---- a step ---- */

static double share_of(const struct plan_chip *c, enum plan_ops t)
{
    return c->ops[t] * c->ops_share[t];
}

/* Operations a second of an instruction, by the type that its products run in. */
static double ops_rate(const struct plan_chip *c, const struct program *p, const struct instr *in)
{
    enum dtype t;
    double rate = 0;

    if (in->op == OP_ATTENTION)
        return (c->cpu || c->ops[PLAN_BF16] <= 0 ? c->ops[PLAN_F32] : c->ops[PLAN_BF16]) *
               c->attention_share;
    if (in->op != OP_LINEAR && in->op != OP_EXPERT_LINEAR)
        return share_of(c, PLAN_F32);
    t = prog_weight_at(p, in->w[0])->t.dtype;
    if (!c->cpu && (t == DTYPE_MXFP4 || t == DTYPE_NVFP4))
        rate = share_of(c, PLAN_FP4);
    if (rate <= 0 && dtype_info(t)->quantised)
        rate = fmax(share_of(c, PLAN_INT8), share_of(c, PLAN_FP8));
    /* a CPU takes F16 weights through F32 */
    if (rate <= 0 && t != DTYPE_F32 && (t != DTYPE_F16 || !c->cpu))
        rate = share_of(c, PLAN_BF16);
    return rate > 0 ? rate : share_of(c, PLAN_F32);
}

/* Two all-reduces a layer, around a ring: each chip sends 2 (tp - 1) / tp of the rows. */
static double link_seconds(const struct plan_spec *s, unsigned tp, double n_rows)
{
    const struct model_facts *f = model_facts(s->model);
    const double part = (tp - 1.0) / tp;
    double bytes_s = s->chip->link_bytes_s * s->chip->link_share;

    if (tp == 1)
        return 0;
    return 2.0 * f->n_layers * (2 * part * n_rows * f->n_embd * 2 / bytes_s +
                                2 * log2(tp) * s->chip->link_latency_s);
}

/* Heads of keys and values cannot be split further: chips beyond that keep copies. */
static double kv_split(const struct plan_spec *s, unsigned tp)
{
    const uint32_t heads = model_facts(s->model)->n_kv_heads;

    return heads && heads < tp ? heads : tp;
}

struct spent { double read, ops, link, fixed, total; };

static void spend(const struct plan_spec *s, unsigned tp, const struct prog_cost *per,
                  struct spent *t)
{
    const struct program *p = model_program(s->model);
    const struct plan_chip *c = s->chip;

    for (uint32_t i = 0; i < prog_n_instr(p); i++) {
        const struct instr *in = prog_instr(p, i);
        const double kv = per[i].kv_bytes * (in->op == OP_ATTENTION ? s->kv_element_bytes / 2 : 1);
        const double ops = per[i].ops / tp / ops_rate(c, p, in);
        const double read = (per[i].weight_bytes / tp / c->read_share +
                             kv / kv_split(s, tp) / c->kv_share) / c->read_bytes_s;

        t->read += read;
        t->ops += ops;
        t->fixed += c->instr_s;
        t->total += fmax(ops, read) + c->instr_s;
    }
}

static double power(const struct plan_chip *c, const struct spent *t)
{
    const double busy = READ_WATTS * fmin(t->read / t->total, 1) +
                        OPS_WATTS * fmin(t->ops / t->total, 1);

    return c->max_w > 0 ? c->idle_w + (c->max_w - c->idle_w) * fmin(busy, 1) : PLAN_UNKNOWN;
}

int plan_step(const struct plan_spec *s, unsigned tp, uint32_t n_rows, uint32_t n_streams,
              uint32_t n_past, double *seconds, double *watts, enum plan_bound *bound,
              struct err *e)
{
    const struct program *p = model_program(s->model);
    struct prog_cost *per = mem_array(prog_n_instr(p), sizeof *per);
    struct spent t = { 0 };
    struct prog_cost total;

    if (!per)
        return err_set(e, WATT_ENOMEM, "plan: costs of %u instructions", prog_n_instr(p));
    memset(per, 0, prog_n_instr(p) * sizeof *per);
    prog_cost(p, n_rows, n_streams, n_past, n_streams, &total, per);
    spend(s, tp, per, &t);
    mem_free(per);
    t.link = link_seconds(s, tp, n_rows);
    t.fixed += s->chip->step_s;
    t.total += t.link + s->chip->step_s;
    *seconds = t.total;
    if (watts)
        *watts = power(s->chip, &t);
    if (bound)
        *bound = t.fixed > fmax(t.read, fmax(t.ops, t.link)) ? PLAN_BY_FIXED
                 : t.link > fmax(t.read, t.ops) ? PLAN_BY_LINK
                 : t.ops > t.read ? PLAN_BY_OPS : PLAN_BY_MEMORY;
    return 0;
}

int plan_prefill(const struct plan_spec *s, unsigned tp, uint32_t n, uint32_t past, double *seconds,
                 double *watts, struct err *e)
{
    double joules = 0;
    int rc = 0;

    *seconds = 0;
    for (uint32_t at = 0; rc == 0 && at < n;) {
        const uint32_t rows = n - at < s->chunk ? n - at : s->chunk;
        double t = 0, w = PLAN_UNKNOWN;

        rc = plan_step(s, tp, rows, 1, past + at, &t, &w, NULL, e);
        *seconds += t;
        joules += t * w;
        at += rows;
    }
    if (watts)
        *watts = s->chip->max_w > 0 && *seconds > 0 ? joules / *seconds : PLAN_UNKNOWN;
    return rc;
}

/* ---- memory ---- */

double plan_usable_memory(const struct plan_chip *c)
{
    return 0.92 * c->memory_bytes;
}

double plan_kv_bytes(const struct plan_spec *s)
{
    const struct program *p = model_program(s->model);
    double n = 0;

    for (sid i = 1; i <= prog_n_states(p); i++) {
        const struct prog_state *st = prog_state_at(p, i);

        if (st->kind == STATE_KV)
            n += s->kv_element_bytes * st->n_kv_heads * ((double)st->k_dim + st->v_dim);
    }
    return n;
}

double plan_fixed_bytes(const struct plan_spec *s)
{
    return 4.0 * (double)model_facts(s->model)->fixed_floats;
}

double plan_memory(const struct plan_spec *s, unsigned tp, unsigned pp, unsigned batch)
{
    const struct model_facts *f = model_facts(s->model);
    const double positions = s->load.prompt + s->load.answer;
    const double rows = fmax(s->chunk, batch);

    return (double)f->tensor_bytes / (tp * pp) +
           batch * (positions * plan_kv_bytes(s) / (kv_split(s, tp) * pp) +
                    plan_fixed_bytes(s) / (tp * pp)) +
           4 * (rows * ACT_COPIES * f->n_embd + (double)batch * f->n_out) / tp;
}

/* ---- a point ---- */

double plan_all_in_w(const struct plan_spec *s, double chip_w)
{
    const struct plan_chip *c = s->chip;

    if (c->all_in_w > 0)        /* what is not the chip's own draws the same at any load */
        return c->max_w > 0 && chip_w >= 0 ? c->all_in_w - (c->max_w - chip_w) : c->all_in_w;
    return chip_w >= 0 ? chip_w * s->money.pue : PLAN_UNKNOWN;
}

static double chip_hour(const struct plan_spec *s, double all_in_w)
{
    const struct plan_money *m = &s->money;

    if (m->purchase > 0)
        return m->purchase / (m->life_years * HOURS_A_YEAR) +
               (all_in_w >= 0 ? all_in_w / 1000 * m->kwh : 0);
    if (m->chip_hour >= 0)
        return m->chip_hour;
    return s->chip->usd_hour > 0 ? s->chip->usd_hour : PLAN_UNKNOWN;
}

static void price(const struct plan_spec *s, struct plan_point *pt)
{
    const struct plan_money *m = &s->money;
    const double u = s->load.utilisation, idle_w = s->chip->max_w > 0 ? s->chip->idle_w
                                                                      : PLAN_UNKNOWN;
    const double busy = plan_all_in_w(s, pt->chip_w), idle = plan_all_in_w(s, idle_w);
    const double mean_w = busy >= 0 ? u * busy + (1 - u) * idle : PLAN_UNKNOWN;
    const double hour = chip_hour(s, mean_w), out_hour = pt->out_tok_s * u * 3600;
    const double cached_s = pt->in_tok_s * s->load.cached;

    pt->all_in_w = busy;
    pt->all_in_j = mean_w >= 0 ? mean_w * s->n_chips / (pt->out_tok_s * u) : PLAN_UNKNOWN;
    pt->out_j = pt->chip_w >= 0 ? (u * pt->chip_w + (1 - u) * idle_w) * s->n_chips /
                                      (pt->out_tok_s * u)
                                : PLAN_UNKNOWN;
    pt->revenue_hour = 3600 * u * 1e-6 * (pt->out_tok_s * m->price_out + cached_s * m->price_cached +
                                          (pt->in_tok_s - cached_s) * m->price_in);
    pt->usd_hour = pt->usd_out = pt->usd_total = pt->margin_hour = pt->margin_mw = PLAN_UNKNOWN;
    if (hour < 0)
        return;
    pt->usd_hour = hour * s->n_chips;
    pt->usd_out = pt->usd_hour / out_hour * 1e6;
    pt->usd_total = pt->usd_hour / (out_hour + pt->in_tok_s * u * 3600) * 1e6;
    pt->margin_hour = pt->revenue_hour - pt->usd_hour;
    if (busy >= 0)
        pt->margin_mw = pt->margin_hour / (busy * s->n_chips / 1e6);
}

static int make_point(const struct plan_spec *s, struct plan_point *pt, struct err *e)
{
    const struct plan_load *l = &s->load;
    const uint32_t cached = (uint32_t)(l->prompt * l->cached);
    const uint32_t fresh = (uint32_t)fmax(1, l->prompt - cached);
    const uint32_t rows = (pt->batch + pt->pp - 1) / pt->pp;
    double step_w = 0, prefill_w = 0, request_s, prefill_part;
    int rc = plan_step(s, pt->tp, rows, rows, (uint32_t)(l->prompt + l->answer / 2), &pt->step_s,
                       &step_w, &pt->bound, e);

    if (rc == 0)
        rc = plan_prefill(s, pt->tp, fresh, cached, &pt->prefill_s, &prefill_w, e);
    if (rc < 0)
        return rc;
    pt->servers = s->n_chips / (pt->tp * pt->pp);
    request_s = pt->prefill_s / pt->pp + l->answer / pt->batch * pt->step_s;
    prefill_part = pt->prefill_s / pt->pp / request_s;
    pt->requests_s = pt->servers / request_s;
    pt->out_tok_s = pt->requests_s * l->answer;
    pt->in_tok_s = pt->requests_s * l->prompt;
    pt->chip_tok_s = pt->out_tok_s / s->n_chips;
    pt->itl_s = pt->batch * request_s / l->answer;
    pt->user_tok_s = 1 / pt->itl_s;
    pt->ttft_s = pt->prefill_s + pt->step_s;
    pt->memory_bytes = plan_memory(s, pt->tp, pt->pp, pt->batch);
    pt->chip_w = pt->prefill_j = pt->decode_j = PLAN_UNKNOWN;
    if (step_w >= 0) {
        pt->chip_w = prefill_part * prefill_w + (1 - prefill_part) * step_w;
        pt->prefill_j = prefill_w * pt->prefill_s * pt->tp / fresh;
        pt->decode_j = step_w * pt->step_s * pt->tp * pt->pp / pt->batch;
    }
    price(s, pt);
    return 0;
}

/* ---- all points ---- */

static bool fits(const struct plan_spec *s, unsigned tp, unsigned pp, unsigned batch)
{
    return plan_memory(s, tp, pp, batch) <= plan_usable_memory(s->chip);
}

static unsigned largest_batch(const struct plan_spec *s, unsigned tp, unsigned pp)
{
    unsigned low = 0, high = (s->max_batch ? s->max_batch : MAX_BATCH) + 1;

    while (high - low > 1) {
        const unsigned mid = low + (high - low) / 2;

        if (fits(s, tp, pp, mid))
            low = mid;
        else
            high = mid;
    }
    return low;
}

static int add_split(const struct plan_spec *s, unsigned tp, unsigned pp, struct plan_point *out,
                     size_t *n, struct err *e)
{
    const unsigned most = largest_batch(s, tp, pp);
    int rc = 0;

    for (unsigned b = pp; rc == 0 && b <= most && *n < PLAN_MAX_POINTS;) {
        out[*n] = (struct plan_point){ .tp = tp, .pp = pp, .batch = b };
        rc = make_point(s, &out[*n], e);
        *n += rc == 0;
        b = b == most ? most + 1 : 2 * b > most ? most : 2 * b;
    }
    return rc;
}

static void mark_front(struct plan_point *v, size_t n)
{
    double x[PLAN_MAX_POINTS] = { 0 }, y[PLAN_MAX_POINTS] = { 0 };
    bool keep[PLAN_MAX_POINTS];

    for (size_t i = 0; i < n; i++) {
        x[i] = v[i].user_tok_s;
        y[i] = v[i].chip_tok_s;
    }
    pareto_front(x, y, n, keep);
    for (size_t i = 0; i < n; i++)
        v[i].front = keep[i];
}

int plan_points(const struct plan_spec *s, struct plan_point *out, size_t *n, struct err *e)
{
    const struct plan_chip *c = s->chip;
    const unsigned group = c->link_bytes_s > 0 ? c->group : 1;
    const double gb = 1e9;
    int rc = 0;

    *n = 0;
    for (unsigned tp = s->tp ? s->tp : 1; rc == 0 && tp <= group && tp <= s->n_chips; tp *= 2) {
        for (unsigned pp = s->pp ? s->pp : 1; rc == 0 && tp * pp <= s->n_chips && pp <= 64; pp *= 2) {
            /* stages only help a model that a group can't hold */
            if (s->pp || pp == 1 || (2 * tp > group && !fits(s, tp, pp / 2, 1)))
                rc = add_split(s, tp, pp, out, n, e);
            if (s->pp)
                break;
        }
        if (s->tp)
            break;
    }
    if (rc == 0 && *n == 0)
        return err_set(e, WATT_ELIMIT, "%s does not fit: one answer of %.0f tokens takes %.1f GB on "
                       "each of %u chips, of which %s has %.1f GB usable",
                       model_facts(s->model)->name, s->load.prompt + s->load.answer,
                       plan_memory(s, s->tp ? s->tp : group < s->n_chips ? group : s->n_chips,
                                   s->pp ? s->pp : 1, 1) / gb,
                       s->tp ? s->tp : group < s->n_chips ? group : s->n_chips, c->name,
                       plan_usable_memory(c) / gb);
    if (rc == 0)
        mark_front(out, *n);
    return rc;
}

/* What a point is worth: higher is better. */
static double worth(const struct plan_spec *s, const struct plan_point *p)
{
    const struct plan_money *m = &s->money;
    const bool sold = m->price_in > 0 || m->price_out > 0 || m->price_cached > 0;

    return sold && p->usd_hour >= 0 ? p->margin_hour : p->out_tok_s;
}

static bool fast_enough(const struct plan_point *p, double user_tok_s, double ttft_s)
{
    return p->user_tok_s >= user_tok_s && (ttft_s <= 0 || p->ttft_s <= ttft_s);
}

const struct plan_point *plan_best(const struct plan_spec *s, const struct plan_point *v, size_t n,
                                   double user_tok_s, double ttft_s)
{
    const struct plan_point *best = NULL, *quick = NULL;

    for (size_t i = 0; i < n; i++)
        if (fast_enough(&v[i], user_tok_s, ttft_s) && (!best || worth(s, &v[i]) > worth(s, best)))
            best = &v[i];
    /* who waits longer for a percent more than another point gives is not served better */
    for (size_t i = 0; best && i < n; i++)
        if (fast_enough(&v[i], user_tok_s, ttft_s) &&
            worth(s, &v[i]) >= worth(s, best) - 0.01 * fabs(worth(s, best)) &&
            (!quick || v[i].user_tok_s > quick->user_tok_s))
            quick = &v[i];
    return quick;
}

const char *plan_bound_name(enum plan_bound b)
{
    static const char *const names[] = { "memory", "ops", "link", "fixed" };

    return names[b];
}
