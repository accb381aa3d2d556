/* roofline_table.c: groups measured phases to rows and prints them; see roofline_table.h. */
#include "applications/roofline_table.h"

#include <string.h>

#include "base/json.h"
#include "base/mem.h"

/* "blk.7.attn_q.weight" as "attn_q": the layer and the ending say nothing in a table. */
static struct sv short_name(const char *name)
{
    struct sv s = sv_cstr(name);
    const size_t digits = strncmp(name, "blk.", 4) == 0 ? strspn(name + 4, "0123456789") : 0;

    if (digits > 0 && name[4 + digits] == '.') {
        s.data += 5 + digits;
        s.len -= 5 + digits;
    }
    if (sv_ends(s, SV(".weight")) && s.len > 7)
        s.len -= 7;
    return s;
}

/* Adds a word to a list that does not have it yet; first..: where the list starts in s. */
static void add_word(struct str *s, size_t first, struct sv word, const char *separator)
{
    const char *at = str_cstr(s) + first;
    const size_t len = strlen(separator);

    while (*at) {
        const char *end = strstr(at, separator);
        const size_t n = end ? (size_t)(end - at) : strlen(at);

        if (n == word.len && memcmp(at, word.data, n) == 0)
            return;
        at = end ? end + len : at + n;
    }
    if (s->len > first)
        str_puts(s, separator);
    str_append(s, word.data, word.len);
}

static bool is_product(const struct instr *in)
{
    return in->op == OP_LINEAR || in->op == OP_EXPERT_LINEAR;
}

/* Weights and their types, or what is done to rows. */
static void name_phase(struct str *s, const struct program *p, const struct profile *profile,
                       const struct profile_phase *ph)
{
    struct str types;

    str_init(&types, 0);
    str_reset(s);
    for (uint32_t i = 0; i < ph->n; i++) {
        const struct profile_piece *piece = &profile->piece[ph->first + i];
        const struct instr *in = prog_instr(p, piece->instr);

        if (piece->what) {
            add_word(s, 0, sv_cstr(piece->what), ", ");
        } else if (is_product(in)) {
            const struct prog_weight *w = prog_weight_at(p, in->w[0]);

            add_word(s, 0, short_name(w->name), ", ");
            add_word(&types, 0, sv_cstr(dtype_name(w->t.dtype)), "/");
        } else {
            add_word(s, 0, sv_cstr(op_name(in->op)), ", ");
            if (in->op == OP_ATTENTION && in->a.attn.window > 0)
                str_printf(s, " in %u", in->a.attn.window);
        }
    }
    if (types.len > 0)
        str_printf(s, " %s", str_cstr(&types));
    if (!str_ok(&types))
        s->failed = true;
    str_deinit(&types);
}

static uint32_t layer_of(const struct program *p, const struct profile *profile,
                         const struct profile_phase *ph)
{
    uint32_t layer = UINT32_MAX;

    for (uint32_t i = 0; i < ph->n; i++) {
        const struct instr *in = prog_instr(p, profile->piece[ph->first + i].instr);

        if (in->layer != UINT32_MAX)
            layer = in->layer;      /* the last: a pass between layers belongs to the next */
    }
    return layer;
}

/* The row that phases of this name belong to; NULL without memory. */
static struct roofline_row *row_of(struct roofline_table *t, const char *name, const char *kind,
                                   uint32_t layer, bool by_layer)
{
    struct roofline_row *r;

    for (uint32_t i = 0; !by_layer && i < t->n_rows; i++) {
        r = &t->rows[i];
        if (strcmp(r->name, name) == 0 && strcmp(r->kind, kind) == 0) {
            if (r->layer != layer)
                r->layer = UINT32_MAX;
            return r;
        }
    }
    r = mem_grow(t->rows, t->n_rows + 1u, sizeof *r);
    if (!r)
        return NULL;
    t->rows = r;
    r = &t->rows[t->n_rows];
    *r = (struct roofline_row){ .name = mem_strdup(name), .kind = kind, .layer = layer };
    if (!r->name)
        return NULL;
    t->n_rows++;
    return r;
}

/* Operations of a row by the peak that bounds them, for choosing its limit. */
static void add_costs(struct roofline_row *r, double ops_by[ROOF_MEMORY], const struct program *p,
                      const struct profile *profile, const struct profile_phase *ph,
                      const struct prog_cost *cost, const struct peaks *k)
{
    for (uint32_t i = 0; i < ph->n; i++) {
        const struct profile_piece *piece = &profile->piece[ph->first + i];
        const struct prog_cost *c = &cost[piece->instr];

        if (piece->what)
            continue;
        r->ops += c->ops;
        r->bytes += c->weight_bytes + c->kv_bytes;
        r->act_bytes += c->act_bytes;
        ops_by[roofline_peak_of(p, prog_instr(p, piece->instr), k)] += c->ops;
    }
}

static void set_limit(struct roofline_row *r, const double ops_by[ROOF_MEMORY],
                      const struct peaks *k)
{
    const double read_s = k->read_bytes_s > 0 ? r->bytes / k->read_bytes_s : 0;
    enum roofline_peak most = ROOF_F32;
    double ops_s = 0;

    for (enum roofline_peak i = ROOF_F32; i < ROOF_MEMORY; i++) {
        if (roofline_ops_s(k, i) > 0)
            ops_s += ops_by[i] / roofline_ops_s(k, i);
        if (ops_by[i] > ops_by[most])
            most = i;
    }
    r->limit = read_s > ops_s ? ROOF_MEMORY : most;
    r->limit_s = read_s > ops_s ? read_s : ops_s;
}

static void per_step(struct roofline_row *r, uint32_t n_steps)
{
    const double f = 1.0 / n_steps;

    r->seconds *= f;
    r->ops *= f;
    r->bytes *= f;
    r->act_bytes *= f;
    r->limit_s *= f;
}

int roofline_table_init(struct roofline_table *t, const struct program *p,
                        const struct profile *profile, const struct prog_cost *cost,
                        const struct peaks *peaks, double seconds, bool by_layer, struct err *e)
{
    const uint32_t n_steps = profile->n_steps > 0 ? (uint32_t)profile->n_steps : 1;
    double (*ops_by)[ROOF_MEMORY] = mem_calloc((size_t)profile->n_phases + 1, sizeof *ops_by);
    double *busy = mem_calloc((size_t)profile->n_phases + 1, sizeof *busy), inside = 0;
    struct str name;
    int rc = ops_by && busy ? 0 : err_set(e, WATT_ENOMEM, "roofline: table");

    *t = (struct roofline_table){ .n_steps = n_steps, .seconds = seconds / n_steps };
    str_init(&name, 0);
    for (uint32_t i = 0; rc == 0 && i < profile->n_phases; i++) {
        const struct profile_phase *ph = &profile->phase[i];
        struct roofline_row *r = NULL;

        name_phase(&name, p, profile, ph);
        if (str_ok(&name))
            r = row_of(t, str_cstr(&name), ph->kind, layer_of(p, profile, ph), by_layer);
        if (!r) {
            rc = err_set(e, WATT_ENOMEM, "roofline: rows of %u phases", profile->n_phases);
            break;
        }
        r->n++;
        r->seconds += clock_seconds(ph->ns);
        busy[r - t->rows] += clock_seconds(ph->busy_ns);
        inside += clock_seconds(ph->ns);
        add_costs(r, ops_by[r - t->rows], p, profile, ph, cost, peaks);
    }
    for (uint32_t i = 0; rc == 0 && i < t->n_rows; i++) {
        struct roofline_row *r = &t->rows[i];
        const double idle = 1 - busy[i] / (r->seconds * profile->n_threads);

        r->wait = r->seconds > 0 && idle > 0 ? idle : 0;
        set_limit(r, ops_by[i], peaks);
        per_step(r, n_steps);
    }
    t->outside_s = seconds > inside ? (seconds - inside) / n_steps : 0;
    str_deinit(&name);
    mem_free(ops_by);
    mem_free(busy);
    if (rc < 0)
        roofline_table_deinit(t);
    return rc;
}

void roofline_table_deinit(struct roofline_table *t)
{
    for (uint32_t i = 0; i < t->n_rows; i++)
        mem_free(t->rows[i].name);
    mem_free(t->rows);
    *t = (struct roofline_table){ 0 };
}

/* ---- printing ---- */

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

static void print_rest(const struct roofline_row *r, FILE *f)
{
    (void)fprintf(f, "%9.3f ", r->bytes / 1e6);
    (void)fprintf(f, "%9.3f ", r->ops / 1e9);
    (void)fprintf(f, "%7.1f ", ratio(r->bytes, r->seconds) / 1e9);
    (void)fprintf(f, "%8.1f ", ratio(r->ops, r->seconds) / 1e9);
    if (r->limit_s > 0)
        (void)fprintf(f, "%-6s %5.1f %%  ", roofline_peak_name(r->limit),
                      100 * ratio(r->limit_s, r->seconds));
    else
        (void)fprintf(f, "%-6s %5s    ", "-", "-");
}

void roofline_table_print(const struct roofline_table *t, FILE *f)
{
    double limit_s = 0, bytes = 0, ops = 0;

    (void)fprintf(f, "%8s %7s %6s %4s %9s %9s %7s %8s %-6s %7s  %s\n", "ms/step", "share", "wait",
                  "n", "MB", "G op", "GB/s", "G op/s", "limit", "of it", "what");
    for (uint32_t i = 0; i < t->n_rows; i++) {
        const struct roofline_row *r = &t->rows[i];

        (void)fprintf(f, "%8.3f %5.1f %% %4.1f %% %4u ", 1e3 * r->seconds,
                      100 * ratio(r->seconds, t->seconds), 100 * r->wait, r->n);
        print_rest(r, f);
        if (r->n == 1 && r->layer != UINT32_MAX)
            (void)fprintf(f, "%s (layer %u)\n", r->name, r->layer);
        else
            (void)fprintf(f, "%s\n", r->name);
        limit_s += r->limit_s;
        bytes += r->bytes;
        ops += r->ops;
    }
    (void)fprintf(f, "%8.3f %5.1f %% %6s %4s %9s %9s %7s %8s %-6s %7s  between phases and steps\n",
                  1e3 * t->outside_s, 100 * ratio(t->outside_s, t->seconds), "-", "-", "-", "-",
                  "-", "-", "-", "-");
    (void)fprintf(f, "%8.3f %5.1f %% %6s %4s %9.3f %9.3f %7.1f %8.1f %-6s %5.1f %%  the step\n",
                  1e3 * t->seconds, 100.0, "", "", bytes / 1e6, ops / 1e9,
                  ratio(bytes, t->seconds) / 1e9, ratio(ops, t->seconds) / 1e9, "each",
                  100 * ratio(limit_s, t->seconds));
}

const char roofline_table_csv_head[] =
    "test,what,kind,layer,phases,steps,seconds,share,wait,bytes,activation_bytes,operations,"
    "limit,limit_seconds\n";

static void csv_layer(uint32_t layer, FILE *f)
{
    if (layer != UINT32_MAX)
        (void)fprintf(f, "%u,", layer);
    else
        (void)fprintf(f, ",");
}

void roofline_table_csv(const struct roofline_table *t, const char *test, FILE *f)
{
    for (uint32_t i = 0; i < t->n_rows; i++) {
        const struct roofline_row *r = &t->rows[i];

        (void)fprintf(f, "%s,\"%s\",%s,", test, r->name, r->kind);
        csv_layer(r->layer, f);
        (void)fprintf(f, "%u,%u,%.6g,%.4f,%.4f,%.6g,%.6g,%.6g,%s,%.6g\n", r->n, t->n_steps,
                      r->seconds, ratio(r->seconds, t->seconds), r->wait, r->bytes, r->act_bytes,
                      r->ops, roofline_peak_name(r->limit), r->limit_s);
    }
    (void)fprintf(f, "%s,between phases and steps,outside,,,%u,%.6g,%.4f,,,,,,\n", test, t->n_steps,
                  t->outside_s, ratio(t->outside_s, t->seconds));
}

void roofline_table_json(const struct roofline_table *t, FILE *f)
{
    (void)fprintf(f, "{\"steps\": %u, \"step_s\": %.6g, \"outside_s\": %.6g, \"rows\": [",
                  t->n_steps, t->seconds, t->outside_s);
    for (uint32_t i = 0; i < t->n_rows; i++) {
        const struct roofline_row *r = &t->rows[i];

        (void)fprintf(f, "%s\n    {\"what\": ", i ? "," : "");
        json_print_str(f, sv_cstr(r->name));
        (void)fprintf(f, ", \"kind\": \"%s\", \"layer\": ", r->kind);
        if (r->layer != UINT32_MAX)
            (void)fprintf(f, "%u", r->layer);
        else
            (void)fprintf(f, "null");
        (void)fprintf(f, ", \"phases\": %u, \"seconds\": %.6g, \"share\": %.4f, \"wait\": %.4f, "
                      "\"bytes\": %.6g, \"activation_bytes\": %.6g, \"operations\": %.6g, "
                      "\"limit\": ", r->n, r->seconds, ratio(r->seconds, t->seconds), r->wait,
                      r->bytes, r->act_bytes, r->ops);
        if (r->limit_s > 0)
            (void)fprintf(f, "\"%s\", \"limit_s\": %.6g}", roofline_peak_name(r->limit),
                          r->limit_s);
        else
            (void)fprintf(f, "null, \"limit_s\": null}");
    }
    (void)fprintf(f, "]}");
}
