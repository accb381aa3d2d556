/* trainer.c: a training run; see trainer.h. */
#include "models/train/trainer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

/* A batch of a step, kept until all of the step's are there: the mean is over their targets. */
struct kept {
    uint32_t  n_rows, n_streams;
    uint32_t *stream_rows;
    int32_t  *token, *target;
    float    *weight;
};

struct trainer {
    struct trainer_opts  o;
    const struct model  *model;
    struct train        *train;
    struct optim        *optim;
    struct optim_slot   *slots;
    struct dataset      *data, *held;       /* held: NULL without validation */
    struct shard       **shards;            /* of data, for their hashes */
    size_t               n_shards;
    struct kept         *kept;              /* [accum] */
    uint64_t             step, tokens, calls, n_params;
};

/* ---- opening ---- */

static bool is_head(const struct train_param *p)
{
    return p->kind == TRAIN_EMBEDDING || strcmp(p->name, "output.weight") == 0;
}

static int open_optim(struct trainer *t, struct err *e)
{
    struct optim_opts o = t->o.optim;
    size_t n = 0;

    t->slots = mem_array(train_n_params(t->train) + 1u, sizeof *t->slots);
    if (!t->slots)
        return err_set(e, WATT_ENOMEM, "out of memory for the optimiser");
    for (uint32_t i = 0; i < train_n_params(t->train); i++) {
        const struct train_param *p = train_param(t->train, i);

        if (!p->trains)
            continue;
        t->slots[n++] = (struct optim_slot){
            .name = p->name, .w = p->w, .g = p->g, .mats = p->mats, .rows = p->rows,
            .cols = p->cols, .decays = p->kind != TRAIN_VECTOR,
            .hidden = p->kind == TRAIN_MATRIX && !is_head(p) && p->rows > 1 && p->cols > 1,
        };
        t->n_params += p->n;
    }
    if (n == 0)
        return err_set(e, WATT_EINVAL, "no weight of the model trains");
    o.team = t->o.team;
    o.isa_mask = t->o.isa_mask;
    return optim_open(&t->optim, t->slots, n, &o, e);
}

static bool is_adapter(void *ctx, const struct prog_weight *w)
{
    (void)ctx;
    return lora_is_name(w->name);
}

static struct train_opts train_opts_of(const struct trainer_opts *o)
{
    return (struct train_opts){
        .team = o->team, .isa_mask = o->isa_mask, .compute = o->compute, .kv = o->kv,
        .max_rows = o->data.max_rows, .max_streams = o->data.max_streams, .dropout = o->dropout,
        .attn_dropout = o->attn_dropout, .seed = o->seed, .recompute = o->recompute,
        .balance = o->balance, .trains = o->lora ? is_adapter : NULL,
    };
}

/* Moments are the numbers that train once or twice; the average once more. */
int trainer_plan(const struct model *m, const struct trainer_opts *o, struct train_memory *memory,
                 uint64_t *moments, struct err *e)
{
    const struct train_opts t = train_opts_of(o);
    const int rc = train_plan(model_program(m), &t, team_size(o->team), memory, e);

    if (rc == 0)
        *moments = memory->masters * ((o->optim.kind == OPTIM_ADAMW ? 2u : 1u) +
                                      (o->optim.ema > 0 ? 1u : 0u));
    return rc;
}

static int open_train(struct trainer *t, struct err *e)
{
    const struct train_opts o = train_opts_of(&t->o);
    const struct model_facts *f = model_facts(t->model);

    if (!f->causal || f->embeds)
        return err_set(e, WATT_ENOTSUP, "%s: does not predict the next token",
                       gguf_path(model_gguf(t->model)));
    if (f->n_ctx_train && t->o.data.ctx > f->n_ctx_train)
        return err_set(e, WATT_EINVAL, "sequences of %" PRIu32 " tokens, the model has a context of %"
                       PRIu32, t->o.data.ctx, f->n_ctx_train);
    return train_open(&t->train, model_program(t->model), &o, e);
}

static int keep_room(struct trainer *t, struct err *e)
{
    t->kept = mem_calloc(t->o.accum, sizeof *t->kept);
    for (uint32_t i = 0; t->kept && i < t->o.accum; i++) {
        struct kept *k = &t->kept[i];

        k->stream_rows = mem_array(t->o.data.max_streams, sizeof *k->stream_rows);
        k->token = mem_array(t->o.data.max_rows, sizeof *k->token);
        k->target = mem_array(t->o.data.max_rows, sizeof *k->target);
        k->weight = mem_array(t->o.data.max_rows, sizeof *k->weight);
        if (!k->stream_rows || !k->token || !k->target || !k->weight)
            return err_set(e, WATT_ENOMEM, "out of memory for %" PRIu32 " batches", t->o.accum);
    }
    return t->kept ? 0 : err_set(e, WATT_ENOMEM, "out of memory for %" PRIu32 " batches", t->o.accum);
}

static int open_data(struct trainer *t, const struct dataset_source *sources, size_t n,
                     const struct dataset_source *held, size_t n_held, struct err *e)
{
    struct dataset_opts o = t->o.data;
    int rc;

    t->shards = mem_array(n + 1, sizeof *t->shards);
    if (!t->shards)
        return err_set(e, WATT_ENOMEM, "out of memory for the data");
    for (size_t i = 0; i < n; i++)
        t->shards[t->n_shards++] = sources[i].shard;
    o.part = n_held == 0 && o.held > 0 ? DATASET_TRAIN : DATASET_ALL;
    rc = dataset_open(&t->data, sources, n, &o, e);
    if (rc < 0)
        return rc;
    o.in_order = true;
    o.part = n_held == 0 ? DATASET_HELD : DATASET_ALL;
    if (n_held > 0)
        return dataset_open(&t->held, held, n_held, &o, e);
    return o.held > 0 ? dataset_open(&t->held, sources, n, &o, e) : 0;
}

static int check_vocab(const struct trainer *t, const struct dataset_source *s, size_t n,
                       struct err *e)
{
    const uint32_t n_vocab = model_facts(t->model)->n_vocab;

    for (size_t i = 0; i < n; i++)
        if (shard_n_vocab(s[i].shard) > n_vocab)
            return err_set(e, WATT_EINVAL, "%s: is of a vocabulary of %" PRIu64 " tokens, the model "
                           "has %" PRIu32, shard_path(s[i].shard), shard_n_vocab(s[i].shard),
                           n_vocab);
    return 0;
}

int trainer_open(struct trainer **out, const struct model *m,
                 const struct dataset_source *sources, size_t n_sources,
                 const struct dataset_source *held, size_t n_held,
                 const struct trainer_opts *o, struct err *e)
{
    struct trainer *t = mem_calloc(1, sizeof *t);
    int rc;

    if (!t)
        return err_set(e, WATT_ENOMEM, "out of memory for training");
    t->o = *o;
    t->model = m;
    if (t->o.accum == 0)
        t->o.accum = 1;
    rc = check_vocab(t, sources, n_sources, e);
    if (rc == 0)
        rc = check_vocab(t, held, n_held, e);
    if (rc == 0)
        rc = open_data(t, sources, n_sources, held, n_held, e);
    if (rc == 0)
        rc = keep_room(t, e);
    if (rc == 0)
        rc = open_train(t, e);
    if (rc == 0)
        rc = open_optim(t, e);
    if (rc < 0) {
        trainer_close(t);
        return rc;
    }
    *out = t;
    return 0;
}

void trainer_close(struct trainer *t)
{
    if (!t)
        return;
    optim_close(t->optim);
    train_close(t->train);
    dataset_close(t->data);
    dataset_close(t->held);
    for (uint32_t i = 0; t->kept && i < t->o.accum; i++) {
        mem_free(t->kept[i].stream_rows);
        mem_free(t->kept[i].token);
        mem_free(t->kept[i].target);
        mem_free(t->kept[i].weight);
    }
    mem_free(t->kept);
    mem_free(t->slots);
    mem_free(t->shards);
    mem_free(t);
}

/* ---- steps ---- */

static void keep(struct kept *k, const struct dataset_batch *b)
{
    k->n_rows = b->n_rows;
    k->n_streams = b->n_streams;
    memcpy(k->stream_rows, b->stream_rows, b->n_streams * sizeof *b->stream_rows);
    memcpy(k->token, b->token, b->n_rows * sizeof *b->token);
    memcpy(k->weight, b->weight, b->n_rows * sizeof *b->weight);
    for (uint32_t i = 0; i < b->n_rows; i++)
        k->target[i] = b->weight[i] > 0 ? b->target[i] : -1;
}

static struct train_batch batch_of(const struct kept *k, uint64_t seed)
{
    return (struct train_batch){ .n_rows = k->n_rows, .n_streams = k->n_streams,
                                 .stream_rows = k->stream_rows, .token = k->token,
                                 .target = k->target, .seed = seed };
}

static int gather(struct trainer *t, struct trainer_step *s, struct err *e)
{
    for (uint32_t i = 0; i < t->o.accum; i++) {
        const struct dataset_batch *b;
        const int rc = dataset_next(t->data, &b, e);

        if (rc < 0)
            return rc;
        keep(&t->kept[i], b);
        s->n_rows += b->n_rows;
        s->n_targets += b->n_targets;
    }
    return 0;
}

static int run_batches(struct trainer *t, struct trainer_step *s, struct err *e)
{
    const float scale = (float)(1.0 / (double)s->n_targets);
    double sum = 0;

    train_zero(t->train);
    for (uint32_t i = 0; i < t->o.accum; i++) {
        const struct train_batch b = batch_of(&t->kept[i], t->calls + i);
        struct train_loss loss;
        const int rc = train_forward_backward(t->train, &b, scale, &loss, e);

        if (rc < 0)
            return rc;
        sum += loss.sum;
        s->balance += loss.balance * loss.weight * (double)scale;
        s->n_right += loss.n_right;
    }
    s->loss = sum / (double)s->n_targets;
    if (!isfinite(s->loss))
        return err_set(e, WATT_EINVAL, "the loss of step %" PRIu64 " is not finite (%g): try a "
                       "smaller learning rate, or clipping", s->step, s->loss);
    return 0;
}

int trainer_step(struct trainer *t, struct trainer_step *s, struct err *e)
{
    struct dataset_state before;
    int rc;

    *s = (struct trainer_step){ .step = t->step + 1, .lr = schedule_lr(&t->o.schedule, t->step) };
    dataset_state(t->data, &before);
    rc = gather(t, s, e);
    if (rc == 0)
        rc = run_batches(t, s, e);
    if (rc == 0) {
        rc = optim_step(t->optim, t->step, s->lr, &s->norm, e);
        if (rc == WATT_EINVAL)
            (void)err_prefix(e, "step %" PRIu64, s->step);
    }
    if (rc < 0) {
        struct err ignored;

        CHECK(dataset_seek(t->data, &before, &ignored) == 0);
        return rc;
    }
    train_refresh(t->train);
    t->step++;
    t->calls += t->o.accum;
    t->tokens += s->n_rows;
    return 0;
}

static void swap_average(struct trainer *t)
{
    if (t->o.optim.ema > 0) {
        optim_swap_ema(t->optim);
        train_refresh(t->train);
    }
}

bool trainer_validates(const struct trainer *t)
{
    return t->held != NULL;
}

int trainer_validate(struct trainer *t, struct trainer_eval *r, struct err *e)
{
    double sum = 0;
    int rc = 0;

    *r = (struct trainer_eval){ 0 };
    if (!t->held)
        return err_set(e, WATT_ENOTSUP, "there are no data for a validation");
    dataset_rewind(t->held);
    swap_average(t);
    for (uint32_t i = 0; t->o.eval_batches == 0 || i < t->o.eval_batches; i++) {
        const struct dataset_batch *b;
        struct train_batch batch;
        struct train_loss loss;

        rc = dataset_next(t->held, &b, e);
        if (rc == WATT_ENOENT) {
            rc = 0;
            break;
        }
        if (rc < 0)
            break;
        keep(&t->kept[0], b);
        batch = batch_of(&t->kept[0], 0);
        rc = train_evaluate(t->train, &batch, &loss, e);
        if (rc < 0)
            break;
        sum += loss.sum;
        r->n_targets += loss.n_targets;
        r->n_right += loss.n_right;
    }
    swap_average(t);
    if (rc == 0)
        r->loss = sum / (double)r->n_targets;
    return rc;
}

/* ---- facts ---- */

uint64_t trainer_n_steps(const struct trainer *t) { return t->step; }
uint64_t trainer_n_tokens(const struct trainer *t) { return t->tokens; }
double trainer_epochs(const struct trainer *t) { return dataset_epochs(t->data); }
uint64_t trainer_data_tokens(const struct trainer *t) { return dataset_n_tokens(t->data); }
uint64_t trainer_n_params(const struct trainer *t) { return t->n_params; }
struct train *trainer_train(struct trainer *t) { return t->train; }

double trainer_step_ops(const struct trainer *t)
{
    const uint32_t rows = t->o.data.max_rows, streams = rows / t->o.data.ctx;

    return t->o.accum * train_ops(t->train, rows, streams ? streams : 1, rows);
}

double trainer_step_bytes(const struct trainer *t)
{
    struct train_memory m;

    train_memory(t->train, &m);
    return t->o.accum * (double)(m.prepared + 3 * m.values + 2 * m.gradients) +
           (double)(2 * m.masters + m.gradients + m.prepared) + 2.0 * (double)optim_bytes(t->optim);
}

void trainer_memory(const struct trainer *t, struct train_memory *m, uint64_t *moments)
{
    train_memory(t->train, m);
    *moments = optim_bytes(t->optim);
}

/* ---- files ---- */

/* What a position in the data and the moments depend on. */
static void put_setup(const struct trainer *t, char setup[512])
{
    static const char *const kinds[] = { "adamw", "muon", "sgd" };
    const struct dataset_opts *d = &t->o.data;

    (void)snprintf(setup, 512, "optimizer %s, ema %s, context %" PRIu32 ", batch %" PRIu32 " tokens "
                   "in %" PRIu32 " sequences, accum %" PRIu32 ", %s, held %g, rank %" PRIu32 ", seed %"
                   PRIu64,
                   kinds[t->o.optim.kind], t->o.optim.ema > 0 ? "on" : "off", d->ctx, d->max_rows,
                   d->max_streams, t->o.accum, d->documents ? "documents" : "windows",
                   t->held ? d->held : 0.0, t->o.lora ? t->o.lora->rank : 0, d->seed);
}

int trainer_save(struct trainer *t, const char *path, const double *curve, size_t n_points,
                 struct err *e)
{
    struct checkpoint_state s = { .step = t->step, .tokens = t->tokens, .calls = t->calls,
                                  .n_sources = t->n_shards, .n_points = n_points };

    if (n_points > CHECKPOINT_MAX_POINTS)
        return err_set(e, WATT_ELIMIT, "%s: a curve of %zu points", path, n_points);
    for (size_t i = 0; i < t->n_shards; i++)
        s.data_hash[i] = shard_hash(t->shards[i]);
    dataset_state(t->data, &s.data);
    put_setup(t, s.setup);
    s.curve = (double *)(uintptr_t)curve;       /* only read */
    return checkpoint_write(path, model_gguf(t->model), t->train, t->optim, &s, t->o.lora, e);
}

/* Where the part behind this one begins: parts are set apart by ", ". A file's may end with a comma. */
static const char *next_part(const char *part)
{
    part += strcspn(part, ",");
    if (*part == ',')
        part++;
    return *part == ' ' ? part + 1 : part;
}

/* The parts of a setup that are others in another one. */
static void differing(const char *a, const char *b, char out[512])
{
    size_t at = 0;

    for (out[0] = 0; *a; a = next_part(a), b = next_part(b)) {
        const size_t n = strcspn(a, ","), m = strcspn(b, ","), shown = n < 100 ? n : 100;

        if ((n != m || memcmp(a, b, n) != 0) && at + shown + 2 < 512)
            at += (size_t)snprintf(out + at, 512 - at, "%s%.*s", at ? ", " : "", (int)shown, a);
    }
}

static int check_loaded(const struct trainer *t, const char *path,
                        const struct checkpoint_state *s, struct err *e)
{
    char setup[512], then[512], now[512];

    put_setup(t, setup);
    if (strcmp(setup, s->setup) != 0) {
        differing(s->setup, setup, then);
        differing(setup, s->setup, now);
        return err_set(e, WATT_EINVAL, "%s: was made with %.200s; this run has %.200s", path, then,
                       now);
    }
    if (s->n_sources != t->n_shards)
        return err_set(e, WATT_EINVAL, "%s: was made with %zu shards of data, this run has %zu",
                       path, s->n_sources, t->n_shards);
    for (size_t i = 0; i < t->n_shards; i++)
        if (s->data_hash[i] != shard_hash(t->shards[i]))
            return err_set(e, WATT_EINVAL, "%s: was made with other data than %s", path,
                           shard_path(t->shards[i]));
    return 0;
}

/* The state is looked at first, so that a checkpoint of another run changes nothing. */
int trainer_load(struct trainer *t, const char *path, double **curve, size_t *n_points,
                 struct err *e)
{
    struct checkpoint_state s;
    int rc = checkpoint_peek(path, &s, e);

    if (rc < 0)
        return rc;
    rc = check_loaded(t, path, &s, e);
    checkpoint_state_deinit(&s);
    if (rc == 0)
        rc = checkpoint_read(path, t->train, t->optim, &s, e);
    if (rc < 0)
        return rc;
    rc = dataset_seek(t->data, &s.data, e);
    if (rc < 0) {
        checkpoint_state_deinit(&s);
        return rc;
    }
    t->step = s.step;
    t->tokens = s.tokens;
    t->calls = s.calls;
    train_refresh(t->train);
    *curve = s.curve;
    *n_points = s.n_points;
    s.curve = NULL;
    checkpoint_state_deinit(&s);
    return 0;
}

int trainer_export(struct trainer *t, const char *path, bool f32, struct err *e)
{
    int rc;

    swap_average(t);
    rc = export_write(path, model_gguf(t->model), t->train, f32, t->o.lora, e);
    swap_average(t);
    return rc;
}
