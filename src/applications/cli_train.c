/* cli_train.c: `watt train`: models from texts and conversations; options are in train_options.c,
 * what a run is made of in train_setup.c, what it shows in train_view.c. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "applications/model_args.h"
#include "applications/progress.h"
#include "applications/train.h"
#include "base/clock.h"
#include "base/mem.h"
#include "chips/cpu/peaks.h"
#include "models/quantise.h"

#define CHECKPOINT_PREFIX "checkpoint-"
#define MAX_CHECKPOINTS   10000u
#define CURVE_POINTS      20000u    /* of a run, about */

/* ---- checkpoints in the folder ---- */

struct found { uint64_t steps[MAX_CHECKPOINTS]; size_t n; };

static int descending(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? 1 : x > y ? -1 : 0;
}

static int find_checkpoints(const struct train_run *r, struct found *f, struct err *e)
{
    DIR *d = opendir(r->out);
    struct dirent *entry;

    f->n = 0;
    if (!d)
        return err_errno(e, WATT_EIO, errno, "%s", r->out);
    while ((entry = readdir(d)) != NULL && f->n < MAX_CHECKPOINTS) {
        const char *name = entry->d_name;
        char *end;
        uint64_t step;

        if (strncmp(name, CHECKPOINT_PREFIX, sizeof CHECKPOINT_PREFIX - 1) != 0)
            continue;
        name += sizeof CHECKPOINT_PREFIX - 1;
        if (*name < '0' || *name > '9')
            continue;
        step = strtoull(name, &end, 10);
        if (strcmp(end, ".gguf") == 0)
            f->steps[f->n++] = step;
    }
    (void)closedir(d);
    qsort(f->steps, f->n, sizeof *f->steps, descending);
    return 0;
}

static int checkpoint_path(const struct train_run *r, uint64_t step, char buf[4096], struct err *e)
{
    char name[64];

    (void)snprintf(name, sizeof name, CHECKPOINT_PREFIX "%08" PRIu64 ".gguf", step);
    return train_path(r, buf, name, e);
}

/* Removes all but the newest ones. */
static void prune(const struct train_run *r)
{
    struct found *f = mem_alloc(sizeof *f);
    char path[4096];
    struct err e;

    if (f && r->o.keep > 0 && find_checkpoints(r, f, &e) == 0)
        for (size_t i = (size_t)r->o.keep; i < f->n; i++)
            if (checkpoint_path(r, f->steps[i], path, &e) == 0)
                (void)unlink(path);
    mem_free(f);
}

static int save(struct train_run *r, struct err *e)
{
    char path[4096];
    int rc = checkpoint_path(r, trainer_n_steps(r->trainer), path, e);

    if (rc == 0)
        rc = trainer_save(r->trainer, path, r->curve, r->n_points, e);
    if (rc == 0)
        rc = train_write_curve(r, e);
    if (rc == 0)
        prune(r);
    return rc;
}

/* Before anything is written there. */
static int check_folder(const struct train_run *r, struct err *e)
{
    struct found *f = mem_alloc(sizeof *f);
    int rc = f ? find_checkpoints(r, f, e) : err_set(e, WATT_ENOMEM, "out of memory");

    if (rc == 0 && f->n > 0 && !r->o.resume)
        rc = err_set(e, WATT_EINVAL, "%s holds checkpoints of a run: --resume goes on with it, or "
                     "choose another folder", r->out);
    mem_free(f);
    return rc;
}

/* From the newest checkpoint that can be read; a damaged one is told and passed over. */
static int resume(struct train_run *r, struct err *e)
{
    struct found *f = mem_alloc(sizeof *f);
    char path[4096];
    int rc = f ? find_checkpoints(r, f, e) : err_set(e, WATT_ENOMEM, "out of memory");

    for (size_t i = 0; rc == 0 && i < f->n; i++) {
        rc = checkpoint_path(r, f->steps[i], path, e);
        if (rc == 0)
            rc = trainer_load(r->trainer, path, &r->curve, &r->n_points, e);
        if (rc == 0) {
            r->cap_points = r->n_points;
            r->joules = r->n_points ? r->curve[r->n_points * CHECKPOINT_CURVE - 1] : 0;
            if (!r->o.quiet)
                (void)printf("going on from %s\n", path);
            break;
        }
        if ((rc == WATT_EFORMAT || rc == WATT_ENOENT || rc == WATT_EIO) && i + 1 < f->n) {
            cli_note(r->c, "%s; taking the one before it", e->msg);
            rc = 0;
        }
    }
    mem_free(f);
    return rc;
}

/* ---- the run ---- */

static int validate(struct train_run *r, double *loss, struct err *e)
{
    struct trainer_eval v;
    const int rc = trainer_validate(r->trainer, &v, e);

    if (rc == 0)
        *loss = v.loss;
    if (rc == 0)        /* forward alone: a third of a step's products */
        meter_work(r->meter, trainer_step_ops(r->trainer) / 3 * (double)v.n_targets /
                   (double)(r->o.ctx * r->o.batch * r->o.accum), 0);
    return rc;
}

static void print_row(const struct train_run *r, const struct train_view *v,
                      const struct trainer_step *s, double held)
{
    double tok_s, share;
    char joules[64];

    if (r->o.quiet)
        return;
    train_view_speed(v, r, &tok_s, &share);
    (void)printf("step %7" PRIu64 "  loss %.4f", s->step, s->loss);
    if (isfinite(held))
        (void)printf("  validation %.4f", held);
    (void)printf("  lr %.3g  norm %.3g  epoch %.2f  %.0f tokens/s", s->lr, s->norm,
                 trainer_epochs(r->trainer), tok_s);
    if (share > 0)
        (void)printf("  %.0f %% of peak", 100 * share);
    if (*train_view_per_token(joules, v, r))
        (void)printf("  %s", joules);
    (void)printf("\n");
    (void)fflush(stdout);
}

static bool due(uint64_t step, int64_t every)
{
    return every > 0 && step % (uint64_t)every == 0;
}

/* What follows a step: a point of the curve, a validation, a sample, a checkpoint. */
static int after_step(struct train_run *r, struct train_view *v, const struct trainer_step *s,
                      uint64_t every_point, struct err *e)
{
    const bool last = s->step == (uint64_t)r->o.steps;
    const bool look = trainer_validates(r->trainer) && !last && due(s->step, r->o.eval_every);
    double held = NAN;
    int rc = 0;

    if (look)
        rc = validate(r, &held, e);
    if (rc == 0 && (look || last || s->step % every_point == 0 || s->step == 1))
        rc = train_note_point(r, s, held, train_view_joules(v, r), e);
    if (rc == 0 && (look || (!trainer_validates(r->trainer) && due(s->step, r->o.eval_every)))) {
        train_view_wipe(v);
        print_row(r, v, s, held);
    }
    if (rc == 0 && !last && due(s->step, r->o.sample_every)) {
        train_view_wipe(v);
        rc = train_sample(r, e);
    }
    if (rc == 0 && !last && due(s->step, r->o.save_every))
        rc = save(r, e);
    return rc;
}

static int steps(struct train_run *r, struct train_view *v, struct trainer_step *s, struct err *e)
{
    const uint64_t n = (uint64_t)r->o.steps, every = n / CURVE_POINTS + 1;
    int rc = 0;

    while (rc == 0 && trainer_n_steps(r->trainer) < n) {
        if (cli_interrupted())
            return err_set(e, WATT_ECANCEL, "stopped");
        rc = trainer_step(r->trainer, s, e);
        meter_work(r->meter, trainer_step_ops(r->trainer), trainer_step_bytes(r->trainer));
        if (rc == 0)
            rc = after_step(r, v, s, every, e);
        if (rc == 0)
            train_view_step(v, r, s);
    }
    return rc;
}

/* ---- the end ---- */

/* OUT/NAME for models that come from model.gguf (F32 where that has 16 bits). */
static int quantise_to(struct train_run *r, const char *from, const char *path, enum quant_mix mix,
                       struct err *e)
{
    const struct quantise_options q = { .mix = mix };
    struct quantise_plan *plan = NULL;
    struct gguf *g = NULL;
    int rc = gguf_open(&g, from, e);

    if (rc == 0)
        rc = quantise_plan_open(&plan, g, &q, e);
    if (rc == 0)
        rc = quantise_run(plan, path, r->team, NULL, NULL, e);
    quantise_plan_close(plan);
    gguf_close(g);
    return rc;
}

static bool exports(const struct train_run *r, enum quant_mix wanted)
{
    for (size_t i = 0; i < r->o.export.n; i++) {
        enum quant_mix mix;

        if (quant_mix_parse(r->o.export.v[i], &mix) && mix == wanted)
            return true;
    }
    return false;
}

/* The trained weights in F32: what other types are made of. */
static int write_f32(struct train_run *r, char path[4096], struct err *e)
{
    const int rc = train_path(r, path, "model-F32.gguf", e);

    return rc == 0 ? trainer_export(r->trainer, path, true, e) : rc;
}

static int write_types(struct train_run *r, const char *from, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < r->o.export.n; i++) {
        char path[4096], name[96];
        enum quant_mix mix;

        CHECK(quant_mix_parse(r->o.export.v[i], &mix));     /* checked at the start */
        (void)snprintf(name, sizeof name, "model-%s.gguf", quant_mix_info(mix)->name);
        rc = train_path(r, path, name, e);
        if (rc == 0 && strcmp(path, from) != 0)
            rc = quantise_to(r, from, path, mix, e);
    }
    return rc;
}

/* adapter.gguf, and model.gguf with it merged in. */
static int write_adapter(struct train_run *r, struct err *e)
{
    char adapter[4096], path[4096];
    struct lora *l = NULL;
    int rc = train_path(r, adapter, "adapter.gguf", e);

    if (rc == 0)
        rc = trainer_export(r->trainer, adapter, false, e);
    if (rc == 0)
        rc = lora_open(&l, adapter, 1, e);
    if (rc == 0)
        rc = train_path(r, path, "model.gguf", e);
    if (rc == 0)
        rc = lora_merge(path, model_gguf(r->text->model), l, e);
    lora_close(l);
    return rc == 0 ? write_types(r, path, e) : rc;
}

static int write_models(struct train_run *r, struct err *e)
{
    char path[4096], f32[4096];
    int rc;

    if (r->lora.rank)
        return write_adapter(r, e);
    rc = train_path(r, path, "model.gguf", e);
    if (rc == 0)
        rc = trainer_export(r->trainer, path, false, e);
    if (rc < 0 || r->o.export.n == 0)
        return rc;
    rc = write_f32(r, f32, e);
    if (rc == 0)
        rc = write_types(r, f32, e);
    if (!exports(r, QUANT_F32))
        (void)unlink(f32);
    return rc;
}

static int finish(struct train_run *r, struct train_view *v, const struct trainer_step *s,
                  struct err *e)
{
    const double seconds = clock_seconds(clock_mono_ns() - v->begin_ns);
    char took[32], used[200];
    double held = NAN, tok_s, share;
    int rc = 0;

    train_view_speed(v, r, &tok_s, &share);
    (void)train_view_used(used, v, r);
    if (trainer_validates(r->trainer))
        rc = validate(r, &held, e);
    if (rc == 0 && r->n_points > 0)
        r->curve[(r->n_points - 1) * CHECKPOINT_CURVE + 3] = held;
    if (rc == 0 && r->o.sample_every > 0)
        rc = train_sample(r, e);
    if (rc == 0)
        rc = save(r, e);
    if (rc == 0)
        rc = write_models(r, e);
    if (rc < 0)
        return rc;
    (void)printf("%" PRIu64 " steps, %" PRIu64 " tokens", trainer_n_steps(r->trainer),
                 trainer_n_tokens(r->trainer));
    if (s->step > 0 && v->first_step > 0)       /* resumed */
        (void)printf(", the last %" PRIu64 " steps", s->step - v->first_step);
    if (s->step > 0)
        (void)printf(" in %s: %.0f tokens/s", format_seconds(took, seconds), tok_s);
    if (share > 0)
        (void)printf(", %.0f %% of peak", 100 * share);
    if (s->step > 0)
        (void)printf("; loss %.4f", s->loss);
    if (isfinite(held))
        (void)printf("; validation %.4f", held);
    if (s->step > 0)
        (void)printf("\n%s", used);
    (void)printf("\n%s/%s is the model, curve.svg and curve.csv its history\n", r->out,
                 r->lora.rank ? "adapter.gguf is the adapter, model.gguf" : "model.gguf");
    return 0;
}

static void print_start(const struct train_run *r)
{
    struct train_memory m;
    uint64_t moments;
    char bytes[32];

    if (r->o.quiet)
        return;
    trainer_memory(r->trainer, &m, &moments);
    (void)printf("%s: %.2fM parameters, %" PRIu64 " tokens of data; %" PRId64 " steps of %" PRId64
                 " tokens; %s of memory\n", model_facts(r->text->model)->name,
                 (double)trainer_n_params(r->trainer) / 1e6, trainer_data_tokens(r->trainer),
                 r->o.steps, r->o.ctx * r->o.batch * r->o.accum,
                 format_bytes(bytes, m.masters + m.gradients + m.prepared + m.values + m.scratch +
                                         moments));
    (void)fflush(stdout);
}

/* The limit that the line of progress compares with; not known is no failure. */
static void measure_peak(struct train_run *r)
{
    struct peaks p;
    struct err e;

    if (!r->o.quiet && peaks_measure(&p, r->team, r->isa_mask, &e) == 0)
        r->peak_ops_s = r->o.compute == 1 && p.bf16_ops_s > 0 ? p.bf16_ops_s : p.f32_ops_s;
}

static int run(struct train_run *r)
{
    struct trainer_step s = { 0 };
    struct train_view v = { 0 };
    struct err e, why;
    int rc = r->o.prepare_only ? 0 : check_folder(r, &e);

    if (rc == 0)
        rc = train_open_model(r, &e);
    if (rc == 0)
        rc = train_open_data(r, &e);
    if (rc == 0 && r->o.prepare_only)
        return CLI_OK;
    if (rc == 0)
        rc = train_open_trainer(r, &e);
    if (rc == 0)
        rc = resume(r, &e);
    if (rc < 0)
        return cli_fail(r->c, &e);
    if (trainer_n_steps(r->trainer) >= (uint64_t)r->o.steps)
        cli_note(r->c, "the run has done its %" PRIu64 " steps; more of them (--steps) go on with it",
                 trainer_n_steps(r->trainer));
    print_start(r);
    measure_peak(r);
    train_view_begin(&v, r, (uint64_t)r->o.steps);
    rc = steps(r, &v, &s, &e);
    train_view_wipe(&v);
    if (rc == 0)
        rc = finish(r, &v, &s, &e);
    if (rc == 0)
        return CLI_OK;
    if (rc != WATT_ECANCEL)
        return cli_fail(r->c, &e);
    if (save(r, &why) < 0)
        return cli_fail(r->c, &why);
    (void)printf("stopped at step %" PRIu64 " and saved; the same command with --resume goes on\n",
                 trainer_n_steps(r->trainer));
    return CLI_INTERRUPTED;
}

/* ---- options ---- */

static int check(const struct train_run *r)
{
    const struct train_options *o = &r->o;
    enum quant_mix mix;

    if (o->data.n == 0)
        return cli_usage(r->c, "--data is needed");
    if (o->model && (o->tokenizer || o->template_file || o->name || train_shapes(o)))
        return cli_usage(r->c, "--model brings its shape and vocabulary; options of a model from "
                         "scratch don't go with it");
    if (o->lora_rank != TRAIN_NOT_GIVEN && !o->model)
        return cli_usage(r->c, "--lora-rank trains an adapter of a --model");
    if (o->lora_rank == TRAIN_NOT_GIVEN && (o->lora_target.n > 0 || !isnan(o->lora_alpha)))
        return cli_usage(r->c, "--lora-alpha and --lora-target go with --lora-rank");
    if (o->steps != TRAIN_NOT_GIVEN && !isnan(o->epochs))
        return cli_usage(r->c, "either --steps or --epochs");
    if (o->val.n > 0 && o->val_fraction > 0)
        return cli_usage(r->c, "either --val or --val-fraction");
    for (size_t i = 0; i < o->export.n; i++)
        if (!quant_mix_parse(o->export.v[i], &mix))
            return cli_usage(r->c, "--export: no type or mix \"%s\"", o->export.v[i]);
    return CLI_OK;
}

static void set_early(struct train_options *o)
{
#define OTHERWISE(member, value) \
    do { if (o->member == TRAIN_NOT_GIVEN) o->member = (value); } while (0)
    OTHERWISE(split, 0);
    OTHERWISE(pack, o->sft ? 1 : 0);
    OTHERWISE(batch, 8);
    OTHERWISE(accum, 1);
    OTHERWISE(seed, 1);
    OTHERWISE(keep, 2);
    OTHERWISE(sample_every, 0);
    OTHERWISE(sample_tokens, 100);
#undef OTHERWISE
    if (isnan(o->val_fraction))
        o->val_fraction = o->val.n > 0 ? 0 : 0.1;
}

/* Needs the model's context where there is a model, the run's own where one goes on. */
static int set_ctx(struct train_run *r, struct err *e)
{
    struct train_options *o = &r->o;
    const char *path = o->model;
    struct model *m = NULL;
    char start[4096];
    struct stat st;
    uint32_t n;
    int rc;

    if (o->ctx != TRAIN_NOT_GIVEN)
        return 0;
    o->ctx = 256;
    if (!path && o->resume && train_path(r, start, "start.gguf", e) == 0 && stat(start, &st) == 0)
        path = start;
    if (!path)
        return 0;
    rc = model_open(&m, path, NULL, e);
    if (rc < 0)
        return rc;
    n = model_facts(m)->n_ctx_train;
    o->ctx = n == 0 || (n > 1024 && o->model) ? 1024 : n;
    model_close(m);
    return 0;
}

static int open_all(struct train_run *r, struct err *e)
{
    int rc;

    set_early(&r->o);
    r->isa_mask = CPU_ALL;
    if (r->o.isa && !cpu_mask_parse(r->o.isa, &r->isa_mask))
        return err_set(e, WATT_EINVAL, "--isa %s: no such kernels", r->o.isa);
    rc = meter_args_open(&r->meter, &r->o.meter, e);
    if (rc == 0)
        rc = set_ctx(r, e);
    if (rc < 0)
        return rc;
    if (mkdir(r->out, 0777) < 0 && errno != EEXIST)
        return err_errno(e, WATT_EIO, errno, "%s", r->out);
    return team_open(&r->team, r->o.threads != TRAIN_NOT_GIVEN ? (unsigned)r->o.threads
                                                              : team_default_threads(), e);
}

static int train(const struct cli *c, const void *options)
{
    struct train_run *r = mem_calloc(1, sizeof *r);
    char *text = NULL;
    struct err e;
    int code;

    if (!r)
        return cli_failf(c, "out of memory");
    r->c = c;
    r->o = *(const struct train_options *)options;
    r->out = c->args[0];
    if (r->o.config && train_config(r->o.config, &r->o, &text, &e) < 0)
        code = cli_fail(c, &e);
    else
        code = check(r);        /* before anything is made */
    if (code == CLI_OK && open_all(r, &e) < 0) {
        code = cli_fail(c, &e);
    } else if (code == CLI_OK) {
        cli_catch_interrupt();
        code = run(r);
    }
    train_close_run(r);
    mem_free(r);
    mem_free(text);
    return code;
}

extern const struct cli_verb verb_train;
const struct cli_verb verb_train = {
    .name = "train",
    .summary = "train a model from scratch, go on with one, or fine-tune it",
    .usage = "OUT",
    .about =
        "Learns from texts, from records in .jsonl (\"text\", \"prompt\" and \"completion\", or "
        "\"messages\"), or from shards of tokens that an earlier run wrote. Everything goes to the "
        "folder OUT: the shards, start.gguf (a model made from scratch), checkpoints, curve.csv, "
        "curve.svg, and at the end model.gguf, which gives the same logits served as it gave "
        "here.\n"
        "\n"
        "Ctrl-C saves a checkpoint and ends; the same command with --resume goes on as if nothing "
        "had happened, to the last bit of the loss. So does one after a power failure, from the "
        "last checkpoint. The bits don't depend on the number of threads.\n"
        "\n"
        "--config FILE holds the same options, a line each, `option = value`; flags are true or "
        "false, a # begins a comment line, and the command line goes first.",
    .examples =
        "watt train --data shakespeare.txt --tokenizer chars --layers 4 --width 128 --ctx 64 "
        "--batch 12 --steps 2000 out\n"
        "watt train --data web.jsonl=3 --data code.txt=1 --tokenizer model.gguf --arch qwen3 "
        "--layers 12 --width 768 --optimizer muon out\n"
        "watt train --model base.gguf --sft --data chats.jsonl --epochs 2 tuned\n"
        "watt train --config recipe.conf --resume out",
    .options = train_option_table,
    .defaults = &train_option_defaults,
    .options_size = sizeof(struct train_options),
    .min_args = 1,
    .max_args = 1,
    .run = train,
};
