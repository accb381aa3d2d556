/* train_view.c: what `watt train` shows: the line of progress, samples, curves; see train.h. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "applications/chart.h"
#include "applications/progress.h"
#include "applications/train.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "models/generate.h"

#define DRAW_EVERY_NS UINT64_C(200000000)

/* ---- progress ---- */

void train_view_begin(struct train_view *v, const struct train_run *r, uint64_t n_steps)
{
    *v = (struct train_view){ .begin_ns = clock_mono_ns(), .n_steps = n_steps,
                              .first_tokens = trainer_n_tokens(r->trainer),
                              .first_step = trainer_n_steps(r->trainer),
                              .terminal = isatty(STDERR_FILENO) && !r->o.quiet };
    meter_read(r->meter, &v->begin);
}

static uint64_t tokens_since(const struct train_view *v, const struct train_run *r)
{
    return trainer_n_tokens(r->trainer) - v->first_tokens;
}

void train_view_speed(const struct train_view *v, const struct train_run *r, double *tok_s,
                      double *share)
{
    const double seconds = clock_seconds(clock_mono_ns() - v->begin_ns);
    const double steps = (double)(trainer_n_steps(r->trainer) - v->first_step);

    *tok_s = seconds > 0 ? (double)tokens_since(v, r) / seconds : 0;
    *share = seconds > 0 && r->peak_ops_s > 0
                 ? trainer_step_ops(r->trainer) * steps / seconds / r->peak_ops_s : 0;
}

double train_view_joules(const struct train_view *v, const struct train_run *r)
{
    struct meter_reading now;

    meter_read(r->meter, &now);
    return meter_used(&v->begin, &now);
}

const char *train_view_per_token(char buf[64], const struct train_view *v,
                                 const struct train_run *r)
{
    const double joules = train_view_joules(v, r);
    const bool estimate = strcmp(meter_source(r->meter), "estimate") == 0;

    buf[0] = '\0';
    if (isfinite(joules) && tokens_since(v, r) > 0)
        (void)snprintf(buf, 64, "%.3g J/token%s", joules / (double)tokens_since(v, r),
                       estimate ? " (estimate)" : "");
    return buf;
}

const char *train_view_used(char buf[200], const struct train_view *v, const struct train_run *r)
{
    struct meter_reading now;

    meter_read(r->meter, &now);
    return meter_used_text(buf, r->meter, &v->begin, &now, tokens_since(v, r));
}

void train_view_step(struct train_view *v, const struct train_run *r, const struct trainer_step *s)
{
    const uint64_t now = clock_mono_ns();
    char left[32], peak[32] = "", joules[64];
    double tok_s, share, seconds;

    if (!v->terminal || now - v->drawn_ns < DRAW_EVERY_NS)
        return;
    v->drawn_ns = now;
    v->drawn = true;
    train_view_speed(v, r, &tok_s, &share);
    seconds = clock_seconds(now - v->begin_ns) * (double)(v->n_steps - s->step) /
              (double)(s->step - v->first_step);
    if (share > 0)
        (void)snprintf(peak, sizeof peak, ", %.0f %% of peak", 100 * share);
    (void)train_view_per_token(joules, v, r);
    (void)fprintf(stderr, "\r\033[Kstep %" PRIu64 "/%" PRIu64 "  loss %.4f  %.0f tokens/s%s%s%s  %s left",
                  s->step, v->n_steps, s->loss, tok_s, peak, *joules ? ", " : "", joules,
                  format_seconds(left, seconds));
    (void)fflush(stderr);
}

void train_view_wipe(struct train_view *v)
{
    if (v->drawn)
        (void)fprintf(stderr, "\r\033[K");
    v->drawn = false;
}

/* ---- curves ---- */

int train_note_point(struct train_run *r, const struct trainer_step *s, double held,
                     double joules, struct err *e)
{
    double *p;

    if (r->n_points == CHECKPOINT_MAX_POINTS)
        return 0;
    if (r->n_points == r->cap_points) {
        const size_t cap = r->cap_points ? 2 * r->cap_points : 1024;
        double *grown = mem_grow(r->curve, cap, CHECKPOINT_CURVE * sizeof *grown);

        if (!grown)
            return err_set(e, WATT_ENOMEM, "out of memory for the curve");
        r->curve = grown;
        r->cap_points = cap;
    }
    p = r->curve + r->n_points++ * CHECKPOINT_CURVE;
    p[0] = (double)s->step;
    p[1] = (double)trainer_n_tokens(r->trainer);
    p[2] = s->loss;
    p[3] = held;
    p[4] = s->lr;
    p[5] = s->norm;
    p[6] = r->joules + joules;
    return 0;
}

static int write_csv(const struct train_run *r, struct err *e)
{
    const char *kind = strcmp(meter_source(r->meter), "estimate") == 0 ? "_estimate" : "";
    struct file_new f;
    char path[4096];
    int rc = train_path(r, path, "curve.csv", e);

    if (rc == 0)
        rc = file_new_open(&f, path, e);
    if (rc < 0)
        return rc;
    (void)fprintf(f.f, "step,tokens,loss,validation_loss,learning_rate,gradient_norm,joules%s,"
                  "joules_per_token%s\n", kind, kind);
    for (size_t i = 0; i < r->n_points; i++) {
        const double *p = r->curve + i * CHECKPOINT_CURVE;

        (void)fprintf(f.f, "%.0f,%.0f,%.9g,", p[0], p[1], p[2]);
        if (isfinite(p[3]))
            (void)fprintf(f.f, "%.9g", p[3]);
        (void)fprintf(f.f, ",%.9g,%.9g,", p[4], p[5]);
        if (isfinite(p[6]))
            (void)fprintf(f.f, "%.9g,%.9g\n", p[6], p[6] / p[1]);
        else
            (void)fprintf(f.f, ",\n");
    }
    return file_new_commit(&f, e);
}

/* Every point while there are few; beyond, means of neighbours, whose noise hides nothing then. */
static size_t thin(const struct train_run *r, double *x, double *y)
{
    enum { MOST = 1000 };
    const size_t every = (r->n_points + MOST - 1) / MOST;
    size_t n = 0;

    for (size_t i = 0; i < r->n_points; i += every) {
        double steps = 0, loss = 0;
        size_t k = 0;

        for (; k < every && i + k < r->n_points; k++) {
            steps += r->curve[(i + k) * CHECKPOINT_CURVE];
            loss += r->curve[(i + k) * CHECKPOINT_CURVE + 2];
        }
        x[n] = steps / (double)k;
        y[n++] = loss / (double)k;
    }
    return n;
}

static int draw_curve(const struct train_run *r, double *xs, struct str *out, struct err *e)
{
    double *ys = xs + r->n_points, *vx = ys + r->n_points, *vy = vx + r->n_points;
    struct chart_series series[2] = {
        { .name = "training", .kind = CHART_LINE, .color = 0, .x = xs, .y = ys },
        { .name = "validation", .kind = CHART_LINE, .color = 1, .x = vx, .y = vy },
    };
    struct chart c = { .title = r->o.name ? r->o.name : model_facts(r->text->model)->name,
                       .x = { .title = "step" }, .y = { .title = "loss, nats per token" },
                       .series = series, .n_series = 1 };

    series[0].n = thin(r, xs, ys);
    for (size_t i = 0; i < r->n_points; i++) {
        const double *p = r->curve + i * CHECKPOINT_CURVE;

        if (isfinite(p[3])) {
            vx[series[1].n] = p[0];
            vy[series[1].n++] = p[3];
        }
    }
    c.n_series = series[1].n > 0 ? 2 : 1;
    return chart_svg(&c, out, e);
}

static int write_svg(const struct train_run *r, struct err *e)
{
    struct str svg;
    char path[4096];
    double *xs = mem_array(4 * r->n_points, sizeof *xs);
    int rc = xs ? train_path(r, path, "curve.svg", e) : err_set(e, WATT_ENOMEM, "out of memory");

    str_init(&svg, 0);
    if (rc == 0)
        rc = draw_curve(r, xs, &svg, e);
    mem_free(xs);
    if (rc == 0)
        rc = file_write(path, svg.data, svg.len, e);
    str_deinit(&svg);
    return rc;
}

int train_write_curve(const struct train_run *r, struct err *e)
{
    int rc;

    if (r->n_points == 0)
        return 0;
    rc = write_csv(r, e);
    /* one point is no line */
    return rc == 0 && r->n_points > 1 ? write_svg(r, e) : rc;
}

/* ---- samples ---- */

static int print_token(void *ctx, const struct generated *g)
{
    (void)ctx;
    (void)fwrite(g->text.data, 1, g->text.len, stdout);
    return cli_interrupted();
}

static int generate(struct train_run *r, struct text_model *m, struct err *e)
{
    const char *prompt = r->o.sample_prompt ? r->o.sample_prompt : "\n";
    const struct generate_opts o = { .n_max = (uint32_t)r->o.sample_tokens,
                                     .on_token = print_token };
    const struct sampler_spec spec = { .n_vocab = session_width(m->session),
                                       .n_ctx = session_n_ctx(m->session) };
    struct sampler_options so;
    struct generate_result result;
    struct tokens ids = { 0 };
    struct sampler *sampler = NULL;
    struct generator *g = NULL;
    int rc;

    sampler_defaults(&so);
    so.seed = (uint64_t)r->o.seed;
    rc = tokenizer_encode(m->tok, NULL, prompt, strlen(prompt), TOKENIZE_ADD_SPECIAL, &ids, e);
    if (rc == 0 && ids.n == 0)
        rc = err_set(e, WATT_EINVAL, "the prompt of the samples gives no token of this vocabulary");
    if (rc == 0)
        rc = sampler_open(&sampler, &spec, &so, e);
    if (rc == 0)
        rc = generator_open(&g, m->session, 0, m->model, m->tok, e);
    if (rc == 0) {
        (void)printf("---- step %" PRIu64 " ----\n%s", trainer_n_steps(r->trainer), prompt);
        rc = generator_run(g, sampler, ids.ids, ids.n, &o, &result, e);
        (void)printf("\n----\n");
    }
    generator_close(g);
    sampler_close(sampler);
    tokens_deinit(&ids);
    return rc;
}

int train_sample(struct train_run *r, struct err *e)
{
    struct text_model_opts o = { .session = { .team = r->team, .isa_mask = r->isa_mask } };
    struct text_model *m = NULL;
    struct lora *l = NULL;
    char path[4096];
    int rc = train_path(r, path, "sample.gguf", e);

    if (rc == 0)
        rc = trainer_export(r->trainer, path, false, e);
    if (rc < 0)
        return rc;
    if (r->lora.rank) {
        rc = lora_open(&l, path, 1, e);
        o.model.adapters = (const struct lora *const *)&l;
        o.model.n_adapters = 1;
    }
    if (rc == 0)
        rc = text_model_open(&m, r->lora.rank ? r->o.model : path, &o, e);
    (void)unlink(path);         /* it stays mapped while it is used */
    if (rc == 0 && r->lora.rank)
        rc = session_set_adapter(m->session, 0, 1, e);
    if (rc == 0)
        rc = generate(r, m, e);
    text_model_close(m);
    lora_close(l);
    return rc;
}
