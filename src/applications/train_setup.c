/* train_setup.c: from the options of `watt train` to a model, its data and a trainer; see
 * train.h. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <xxhash.h>

#include "applications/machine_memory.h"
#include "applications/progress.h"
#include "applications/train.h"
#include "base/file.h"
#include "base/mem.h"
#include "models/train/create.h"
#include "models/train/prepare.h"

int train_path(const struct train_run *r, char buf[4096], const char *name, struct err *e)
{
    const int n = snprintf(buf, 4096, "%s/%s", r->out, name);

    return n > 0 && n < 4096 ? 0 : err_set(e, WATT_ELIMIT, "%s: the path is too long", r->out);
}

/* ---- model ---- */

static void given(uint32_t *to, int64_t option)
{
    if (option != TRAIN_NOT_GIVEN)
        *to = (uint32_t)option;
}

static uint32_t default_ff(const struct shape *s)
{
    if (s->features & SHAPE_GPT2)
        return 4 * s->n_embd;
    return s->n_embd < 12 ? s->n_embd : (8 * s->n_embd / 3 + 16) / 32 * 32 + (s->n_embd < 18 ? 32 : 0);
}

static void set_mamba2(struct shape *s, const struct train_options *o)
{
    s->ssm_inner = 2 * s->n_embd;
    s->ssm_heads = s->ssm_inner >= 64 ? s->ssm_inner / (s->ssm_inner >= 512 ? 64 : 32) : 1;
    given(&s->ssm_heads, o->heads);
    s->ssm_groups = 1;
    s->ssm_conv = 4;
    s->ssm_state = 64;
    given(&s->ssm_state, o->ssm_state);
    if (s->features & SHAPE_BARE) {     /* no attention: what the shape's checks want to see */
        s->n_heads = s->n_kv_heads = s->n_ff = 1;
        s->head_dim = 2;
    }
}

static int shape_of(const struct train_options *o, struct shape *s, struct err *e)
{
    const struct shape *known = o->shape ? shape_find(o->shape) : NULL;
    int rc = 0;

    if (o->shape && !known)
        return err_set(e, WATT_ENOENT, "no shape '%s'; `watt synth --list` shows those known",
                       o->shape);
    *s = known ? *known
               : (struct shape){ .n_layers = 4, .n_embd = 128, .norm_eps = 1e-5f,
                                 .rope_base = 10000.0f, .pre = "gpt-2", .n_vocab = 1,
                                 .tied = true };
    if (!known || o->arch)
        rc = shape_set_arch(s, o->arch ? o->arch : "llama", e);
    if (rc < 0)
        return rc;
    if (s->features & SHAPE_GPT2)
        s->rope_base = 0;
    given(&s->n_layers, o->layers);
    given(&s->n_embd, o->width);
    if (!known || o->width != TRAIN_NOT_GIVEN || o->heads != TRAIN_NOT_GIVEN) {
        const uint32_t columns = s->n_embd <= 256 ? 32 : 64;

        s->n_heads = s->n_embd >= columns ? s->n_embd / columns : 1;
        given(&s->n_heads, o->heads);
        s->n_kv_heads = s->n_heads;
        s->head_dim = s->n_embd / s->n_heads;
        s->n_ff = default_ff(s);
    }
    given(&s->n_kv_heads, o->kv_heads);
    given(&s->head_dim, o->head_dim);
    given(&s->n_ff, o->ff);
    given(&s->n_experts, o->experts);
    if (s->n_experts && s->n_experts_used == 0)
        s->n_experts_used = s->n_experts < 2 ? s->n_experts : 2;
    given(&s->n_experts_used, o->experts_used);
    if (s->features & SHAPE_MAMBA2)
        set_mamba2(s, o);
    s->n_ctx = (uint32_t)o->ctx;
    if (o->untied)
        s->tied = false;
    (void)snprintf(s->name, sizeof s->name, "%s", o->name ? o->name : known ? known->name : s->arch);
    return 0;
}

/* "FILE=W" into the path and the weight; a path may itself have an equals sign. */
static char *split_weight(const char *spec, double *weight)
{
    const char *equals = strrchr(spec, '=');
    char *end;

    *weight = 0;
    if (equals && equals[1]) {
        const double w = strtod(equals + 1, &end);

        if (*end == '\0' && w > 0 && isfinite(w)) {
            *weight = w;
            return mem_strndup(spec, (size_t)(equals - spec));
        }
    }
    return mem_strdup(spec);
}

static int collect_chars(const struct train_run *r, struct char_vocab *v, struct err *e)
{
    const struct cli_list *lists[] = { &r->o.data, &r->o.val };
    int rc = 0;

    for (size_t l = 0; rc == 0 && l < 2; l++) {
        for (size_t i = 0; rc == 0 && i < lists[l]->n; i++) {
            double weight;
            char *path = split_weight(lists[l]->v[i], &weight);

            if (!path)
                return err_set(e, WATT_ENOMEM, "out of memory");
            if (shard_is(path))
                rc = err_set(e, WATT_EINVAL, "%s: is a shard of tokens; --tokenizer chars wants "
                             "the text", path);
            else
                rc = char_vocab_add_file(v, path, e);
            mem_free(path);
        }
    }
    return rc;
}

/* The vocabulary that --tokenizer names: of a file, or made of characters or bytes; the other stays
 * NULL. */
struct vocabulary { struct gguf *file; struct char_vocab *chars; uint32_t n_chars; };

static void vocabulary_close(struct vocabulary *v)
{
    char_vocab_close(v->chars);
    gguf_close(v->file);
}

static int vocabulary_open(struct vocabulary *v, const struct train_run *r, struct err *e)
{
    const char *tokenizer = r->o.tokenizer ? r->o.tokenizer : "bytes";
    const bool chars = strcmp(tokenizer, "chars") == 0;
    int rc;

    *v = (struct vocabulary){ 0 };
    if (!chars && strcmp(tokenizer, "bytes") != 0)
        return model_file_open(&v->file, tokenizer, NULL, true, e);
    /* one running text needs no token that ends documents */
    rc = char_vocab_open(&v->chars, !chars || r->o.pack == 1 || r->o.split > 0 || r->o.data.n > 1, e);
    if (rc == 0 && chars)
        rc = collect_chars(r, v->chars, e);
    else if (rc == 0)
        char_vocab_add_bytes(v->chars);
    if (rc == 0)
        rc = char_vocab_finish(v->chars, &v->n_chars, e);
    if (rc < 0)
        vocabulary_close(v);
    return rc;
}

static int create_with(const struct train_run *r, const char *path, struct create_opts *c,
                       struct err *e)
{
    struct vocabulary v;
    int rc = vocabulary_open(&v, r, e);

    if (rc < 0)
        return rc;
    c->tokenizer = v.file;
    c->chars = v.chars;
    c->n_chars = v.n_chars;
    rc = create_model(path, c, e);
    vocabulary_close(&v);
    return rc;
}

/* Before a file of that size is written: weights, gradients and at least one moment of each number,
 * the vocabulary left out. */
static int check_shape_fits(const struct shape *shape, struct err *e)
{
    const uint64_t have = machine_memory();
    struct shape s = *shape;
    char need[32], there[32];
    uint64_t n;

    s.n_vocab = 1;
    if (shape_check(&s, NULL) < 0)
        return 0;               /* told with the vocabulary */
    n = shape_params(&s);
    if (have == 0 || n <= have / 12)
        return 0;
    return err_set(e, WATT_ELIMIT, "a model of %.1f billion numbers takes at least %s to train, the "
                   "machine has %s", (double)n / 1e9, format_bytes(need, 12 * n),
                   format_bytes(there, have));
}

static int create(const struct train_run *r, const char *path, struct err *e)
{
    struct create_opts c = { .seed = (uint64_t)r->o.seed };
    char *template = NULL;
    size_t size;
    int rc = shape_of(&r->o, &c.shape, e);

    if (rc == 0)
        rc = check_shape_fits(&c.shape, e);
    if (rc == 0 && r->o.template_file)
        rc = file_read(r->o.template_file, TEMPLATE_SOURCE_MAX, &template, &size, e);
    c.chat_template = template;
    if (rc == 0)
        rc = create_with(r, path, &c, e);
    mem_free(template);
    return rc;
}

bool train_shapes(const struct train_options *o)
{
    const int64_t given_ones[] = { o->layers, o->width, o->heads, o->kv_heads, o->head_dim, o->ff,
                                   o->experts, o->experts_used, o->ssm_state };
    bool any = o->shape || o->arch || o->untied;

    for (size_t i = 0; i < sizeof given_ones / sizeof *given_ones; i++)
        any = any || given_ones[i] != TRAIN_NOT_GIVEN;
    return any;
}

/* Do options of a model from scratch describe the one that the run began with? Those left open
 * are not asked: the file has them. */
static int check_same_shape(const struct train_run *r, const char *start, struct err *e)
{
    const struct model_facts *f = model_facts(r->text->model);
    const struct train_options *o = &r->o;
    struct shape s;
    int rc;

    if (!train_shapes(o))
        return 0;
    rc = shape_of(o, &s, e);
    s.n_vocab = f->n_vocab;
    if (rc == 0)
        rc = shape_check(&s, e);
    if (rc == 0 && (strcmp(s.arch, f->arch) != 0 || s.n_layers != f->n_layers ||
                    s.n_embd != f->n_embd || (f->n_heads && s.n_heads != f->n_heads) ||
                    shape_params(&s) != f->n_params))
        rc = err_set(e, WATT_EINVAL, "%s: the run began with %s, %" PRIu32 " layers, %" PRIu64
                     " parameters; these options make %s, %" PRIu32 " layers, %" PRIu64
                     " parameters", start, f->arch, f->n_layers, f->n_params, s.arch, s.n_layers,
                     shape_params(&s));
    return rc;
}

/* Likewise the vocabulary. */
static int check_same_vocabulary(const struct train_run *r, const char *start, struct err *e)
{
    const uint64_t then = shard_vocab_hash(r->text->tok);
    struct tokenizer *t = NULL;
    struct vocabulary v;
    uint64_t now;
    int rc;

    if (!r->o.tokenizer)
        return 0;
    rc = vocabulary_open(&v, r, e);
    if (rc < 0)
        return rc;
    rc = v.file ? tokenizer_open(&t, v.file, e) : char_vocab_tokenizer(v.chars, &t, e);
    vocabulary_close(&v);
    if (rc < 0)
        return rc;
    now = shard_vocab_hash(t);
    if (now != then)
        rc = err_set(e, WATT_EINVAL, "%s: the run began with a vocabulary of %" PRIu32 " tokens "
                     "(hash %016" PRIx64 "); --tokenizer %s has %" PRIu32 " (%016" PRIx64 ")", start,
                     tokenizer_n_vocab(r->text->tok), then, r->o.tokenizer, tokenizer_n_vocab(t), now);
    tokenizer_close(t);
    return rc;
}

/* And name and template, which the file has, too. */
static int check_same_texts(const struct train_run *r, const char *start, struct err *e)
{
    const char *name = model_facts(r->text->model)->name;
    const size_t kept = sizeof ((struct shape *)0)->name - 1;     /* of a longer one */
    struct sv then = { 0 };
    char *now;
    size_t size;
    int rc;

    if (r->o.name && strncmp(r->o.name, name, kept) != 0)
        return err_set(e, WATT_EINVAL, "%s: the run began with the name %s; --name is %s", start, name,
                       r->o.name);
    if (!r->o.template_file)
        return 0;
    rc = file_read(r->o.template_file, TEMPLATE_SOURCE_MAX, &now, &size, e);
    if (rc < 0)
        return rc;
    if (gguf_get_str(model_gguf(r->text->model), "tokenizer.chat_template", &then, NULL) < 0 ||
        then.len != strlen(now) || memcmp(then.data, now, then.len) != 0)
        rc = err_set(e, WATT_EINVAL, "%s: the run began with another template than %s", start,
                     r->o.template_file);
    mem_free(now);
    return rc;
}

int train_open_model(struct train_run *r, struct err *e)
{
    struct text_model_opts o = { .no_session = true };
    char start[4096];
    const char *path = r->o.model;
    int rc;

    if (!path) {
        struct stat st;

        rc = train_path(r, start, "start.gguf", e);
        if (rc == 0 && (!r->o.resume || stat(start, &st) < 0))
            rc = create(r, start, e);
        if (rc < 0)
            return rc;
        path = start;
    }
    if (r->o.lora_rank != TRAIN_NOT_GIVEN) {
        r->lora = (struct lora_spec){
            .rank = (uint32_t)r->o.lora_rank, .targets = r->o.lora_target.v,
            .alpha = (float)(isnan(r->o.lora_alpha) ? 2.0 * (double)r->o.lora_rank : r->o.lora_alpha),
            .n_targets = r->o.lora_target.n, .seed = (uint64_t)r->o.seed,
        };
        o.model.new_adapter = &r->lora;
    }
    rc = text_model_open(&r->text, path, &o, e);
    if (rc == 0 && !r->text->tok)
        rc = err_set(e, WATT_ENOTSUP, "%s", r->text->tok_why);
    if (rc == 0 && !r->o.model && r->o.resume)
        rc = check_same_shape(r, path, e);
    if (rc == 0 && !r->o.model && r->o.resume)
        rc = check_same_vocabulary(r, path, e);
    if (rc == 0 && !r->o.model && r->o.resume)
        rc = check_same_texts(r, path, e);
    return rc;
}

/* ---- data ---- */

struct shown { struct progress bar; };

static int show(void *ctx, uint64_t done, uint64_t total)
{
    struct shown *s = ctx;

    progress_update(&s->bar, done, total);
    return cli_interrupted();
}

/* Is the shard there, and newer than what it is made of? */
static bool is_fresh(const char *shard, const char *source)
{
    struct stat a, b;

    if (stat(shard, &a) < 0)
        return false;
    if (stat(source, &b) < 0)
        return errno == ENOENT;         /* the tokens are all that is needed */
    return a.st_mtim.tv_sec > b.st_mtim.tv_sec ||
           (a.st_mtim.tv_sec == b.st_mtim.tv_sec && a.st_mtim.tv_nsec > b.st_mtim.tv_nsec);
}

static int prepare(struct train_run *r, const char *source, const char *shard, struct err *e)
{
    struct shown shown;
    const struct prepare_opts o = { .tok = r->text->tok, .tmpl = r->text->tmpl,
                                    .split = (enum prepare_split)r->o.split, .team = r->team,
                                    .progress = show, .ctx = &shown };
    struct prepare_result p;
    int rc;

    progress_init(&shown.bar, "tokenizing", "B");
    rc = prepare_shard(source, shard, &o, &p, e);
    progress_finish(&shown.bar);
    if (rc < 0)
        return rc;
    if (!r->o.quiet)
        (void)printf("%s: %" PRIu64 " tokens in %" PRIu64 " documents, %" PRIu64 " to learn\n",
                     source, p.n_tokens, p.n_docs, p.n_learned);
    if (p.n_hidden > 0)
        cli_note(r->c, "%s: %" PRIu64 " turns of the assistant are not learned: the template shows "
                 "them otherwise once others follow", source, p.n_hidden);
    if (p.n_learned == 0)
        return err_set(e, WATT_EINVAL, "%s: nothing to learn: no turn of the assistant", source);
    return 0;
}

/* What the tokens depend on beside the vocabulary: files of other folders have the same names, and
 * records are written out by the template. */
static uint32_t origin(const struct train_run *r, const char *path)
{
    struct sv template = { 0 };
    uint64_t h = XXH3_64bits(path, strlen(path));

    if (prepare_is_records(path) &&
        gguf_get_str(model_gguf(r->text->model), "tokenizer.chat_template", &template, NULL) == 0)
        h = XXH3_64bits_withSeed(template.data, template.len, h);
    return (uint32_t)(h ^ h >> 32);
}

/* OUT/data-NAME.SPLIT-ORIGIN.shard for a file that is no shard. */
static int shard_name(const struct train_run *r, const char *path, char buf[4096], struct err *e)
{
    static const char *const splits[] = { "", ".lines", ".paragraphs" };
    const char *base = strrchr(path, '/');
    char name[512];

    base = base ? base + 1 : path;
    (void)snprintf(name, sizeof name, "data-%.400s%s-%08" PRIx32 ".shard", base,
                   splits[r->o.split], origin(r, path));
    return train_path(r, buf, name, e);
}

static int open_one(struct train_run *r, const char *path, struct shard **out, struct err *e)
{
    char made[4096];
    int rc;

    if (shard_is(path)) {
        rc = shard_open(out, path, e);
    } else {
        rc = shard_name(r, path, made, e);
        if (rc == 0 && is_fresh(made, path)) {
            struct err old;

            if (shard_open(out, made, &old) == 0) {
                if (shard_vocab(*out) == shard_vocab_hash(r->text->tok))
                    return 0;
                shard_close(*out);
                *out = NULL;
            }
        }
        if (rc == 0)
            rc = prepare(r, path, made, e);
        if (rc == 0)
            rc = shard_open(out, made, e);
    }
    if (rc == 0 && shard_vocab(*out) != shard_vocab_hash(r->text->tok))
        rc = err_set(e, WATT_EINVAL, "%s: its tokens are of another vocabulary than the model's",
                     path);
    return rc;
}

static int open_list(struct train_run *r, const struct cli_list *list, struct shard **shards,
                     struct dataset_source *sources, size_t *n, struct err *e)
{
    size_t n_weights = 0;

    for (size_t i = 0; i < list->n; i++) {
        char *path = split_weight(list->v[i], &sources[i].weight);
        int rc = path ? open_one(r, path, &shards[i], e) : err_set(e, WATT_ENOMEM, "out of memory");

        mem_free(path);
        *n = i + 1;
        if (rc < 0)
            return rc;
        sources[i].shard = shards[i];
        n_weights += sources[i].weight > 0;
    }
    if (n_weights > 0 && n_weights < list->n)
        return err_set(e, WATT_EINVAL, "either all of the data have a weight, or none has");
    return 0;
}

int train_open_data(struct train_run *r, struct err *e)
{
    int rc = open_list(r, &r->o.data, r->shards, r->sources, &r->n_shards, e);

    if (rc == 0)
        rc = open_list(r, &r->o.val, r->held, r->held_sources, &r->n_held, e);
    return rc;
}

/* ---- trainer ---- */

static int64_t or(int64_t given_value, int64_t otherwise)
{
    return given_value != TRAIN_NOT_GIVEN ? given_value : otherwise;
}

static double real_or(double given_value, double otherwise)
{
    return isnan(given_value) ? otherwise : given_value;
}

static uint64_t total_tokens(const struct train_run *r)
{
    double n = 0;

    for (size_t i = 0; i < r->n_shards; i++)
        n += (double)shard_n_tokens(r->shards[i]) * (1 - r->o.val_fraction);
    return (uint64_t)n;
}

/* What the command line and the configuration left open. */
static void settle(struct train_run *r)
{
    struct train_options *o = &r->o;
    const double step_tokens = (double)o->ctx * (double)o->batch * (double)o->accum;

    if (o->steps == TRAIN_NOT_GIVEN) {
        const double steps = ceil(real_or(o->epochs, 1) * (double)total_tokens(r) / step_tokens);

        o->steps = steps < 1 ? 1 : (int64_t)steps;
    }
    o->lr = real_or(o->lr, r->lora.rank ? 2e-4 : o->model ? 2e-5 : 1e-3);
    o->min_lr = real_or(o->min_lr, o->lr / 10);
    o->warmup = or(o->warmup, o->steps / 100 < 500 ? o->steps / 100 : 500);
    o->decay = or(o->decay, o->steps / 5);
    o->eval_every = or(o->eval_every, o->steps / 10 > 0 ? o->steps / 10 : 1);
    o->save_every = or(o->save_every, o->eval_every);
}

/* What a session takes by itself for the weights that the run will export. */
static enum dtype kv_type(const struct train_run *r)
{
    if (r->lora.rank)
        return model_facts(r->text->model)->main_dtype == DTYPE_F32 ? DTYPE_F32 : DTYPE_F16;
    return r->o.compute == 1 ? DTYPE_F16 : DTYPE_F32;
}

static int check_fits(const struct train_run *r, const struct trainer_opts *t, struct err *e)
{
    const uint64_t have = machine_memory();
    char all[32], there[32], weights[32], old[32], values[32];
    struct train_memory m;
    uint64_t moments, need;
    int rc = trainer_plan(r->text->model, t, &m, &moments, e);

    if (rc < 0)
        return rc;
    need = m.masters + m.gradients + m.prepared + m.values + m.scratch + moments;
    if (have == 0 || need <= have)
        return 0;
    return err_set(e, WATT_ELIMIT, "training takes %s of memory and the machine has %s: weights and "
                   "gradients %s, moments %s, activations %s; smaller batches (--batch, --ctx) with "
                   "--accum, or --recompute, take less", format_bytes(all, need),
                   format_bytes(there, have),
                   format_bytes(weights, m.masters + m.gradients + m.prepared),
                   format_bytes(old, moments), format_bytes(values, m.values + m.scratch));
}

int train_open_trainer(struct train_run *r, struct err *e)
{
    struct train_options *o = &r->o;
    struct trainer_opts t;
    const bool documents = o->pack == 1;
    const uint64_t rows = (uint64_t)o->ctx * (uint64_t)o->batch;
    int rc;

    if (rows > (1u << 19))
        return err_set(e, WATT_ELIMIT, "batches of %" PRIu64 " tokens; --accum makes steps of "
                       "several", rows);
    settle(r);
    t = (struct trainer_opts){
        .data = { .ctx = (uint32_t)o->ctx, .max_rows = (uint32_t)rows,
                  .max_streams = documents ? (uint32_t)(rows < 8 * (uint64_t)o->batch
                                                            ? rows : 8 * (uint64_t)o->batch)
                                           : (uint32_t)o->batch,
                  .documents = documents, .held = o->val_fraction, .seed = (uint64_t)o->seed },
        .accum = (uint32_t)o->accum, .eval_batches = (uint32_t)or(o->eval_batches, 50),
        .optim = { .kind = (enum optim_kind)or(o->optimizer, OPTIM_ADAMW),
                   .beta1 = (float)real_or(o->beta1, 0.9), .beta2 = (float)real_or(o->beta2, 0.95),
                   .eps = (float)real_or(o->eps, 1e-8),
                   .momentum = (float)real_or(o->momentum, o->optimizer == OPTIM_SGD ? 0.9 : 0.95),
                   .weight_decay = (float)real_or(o->weight_decay, o->model ? 0 : 0.1),
                   .clip = (float)real_or(o->clip, 1), .ema = (float)real_or(o->ema, 0) },
        .schedule = { .kind = (enum schedule_kind)or(o->schedule, SCHEDULE_COSINE),
                      .n_steps = (uint64_t)o->steps, .warmup = (uint64_t)o->warmup,
                      .decay = (uint64_t)o->decay, .lr = o->lr, .min_lr = o->min_lr },
        .compute = o->compute == 1 ? DTYPE_BF16 : DTYPE_F32,
        .kv = kv_type(r),
        .lora = r->lora.rank ? &r->lora : NULL,
        .dropout = (float)real_or(o->dropout, 0),
        .attn_dropout = (float)real_or(o->attn_dropout, real_or(o->dropout, 0)), .balance = (float)real_or(o->balance, 0.01),
        .recompute = o->recompute, .seed = (uint64_t)o->seed, .team = r->team,
        .isa_mask = r->isa_mask,
    };
    rc = check_fits(r, &t, e);
    if (rc < 0)
        return rc;
    return trainer_open(&r->trainer, r->text->model, r->sources, r->n_shards, r->held_sources,
                        r->n_held, &t, e);
}

void train_close_run(struct train_run *r)
{
    trainer_close(r->trainer);
    for (size_t i = 0; i < r->n_shards; i++)
        shard_close(r->shards[i]);
    for (size_t i = 0; i < r->n_held; i++)
        shard_close(r->held[i]);
    text_model_close(r->text);
    team_close(r->team);
    meter_close(r->meter);
    mem_free(r->curve);
}
