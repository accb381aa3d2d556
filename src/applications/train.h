/* train.h: between the files of `watt train`: its options, the run they describe, and what is shown
 * of it. */
#ifndef APPLICATIONS_TRAIN_H
#define APPLICATIONS_TRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "applications/meter_args.h"
#include "base/team.h"
#include "models/shape.h"
#include "models/lora.h"
#include "models/text_model.h"
#include "models/train/shard.h"
#include "models/train/trainer.h"

#define TRAIN_NOT_GIVEN (-1)        /* of integers; reals: NAN, texts: NULL, choices: the same */
#define TRAIN_COMPUTE "f32|bf16"
#define TRAIN_PACK "windows|documents"

/* As given: TRAIN_NOT_GIVEN stands until train_defaults() has seen the rest. */
struct train_options {
    const char *config;
    /* data */
    struct cli_list data, val;
    double   val_fraction;
    int      split, pack;
    bool     sft, prepare_only;
    /* model */
    const char *model, *tokenizer, *template_file, *shape, *arch, *name;
    int64_t  layers, width, heads, kv_heads, head_dim, ff, experts, experts_used;
    int64_t  ssm_state;
    bool     untied;
    int64_t  lora_rank;
    double   lora_alpha;
    struct cli_list lora_target;
    /* steps */
    int64_t  ctx, batch, accum, steps;
    double   epochs;
    int      optimizer, schedule;
    double   lr, min_lr, beta1, beta2, eps, momentum, weight_decay, clip, ema, dropout,
             attn_dropout, balance;
    int64_t  warmup, decay;
    int64_t  seed;
    int      compute;
    bool     recompute;
    /* what it does beside */
    int64_t  eval_every, eval_batches, save_every, keep, sample_every, sample_tokens;
    const char *sample_prompt;
    struct cli_list export;
    bool     resume, quiet;
    int64_t  threads;
    const char *isa;
    struct meter_args meter;
};

extern const struct cli_opt train_option_table[];
extern const struct train_options train_option_defaults;

/* Lines "name = value" of a file into options that the command line left open. The buffer that
 * texts point into is *text, the caller's to mem_free. */
int train_config(const char *path, struct train_options *o, char **text, struct err *e) MUST_CHECK;

/* All that a run holds. */
struct train_run {
    const struct cli    *c;
    struct train_options o;
    const char          *out;           /* folder */
    uint32_t             isa_mask;
    struct team         *team;
    struct meter        *meter;
    struct text_model   *text;          /* the model trained; no session */
    struct lora_spec     lora;          /* rank 0: the whole model trains */
    struct shard        *shards[DATASET_MAX_SOURCES], *held[DATASET_MAX_SOURCES];
    struct dataset_source sources[DATASET_MAX_SOURCES], held_sources[DATASET_MAX_SOURCES];
    size_t               n_shards, n_held;
    struct trainer      *trainer;
    double               joules;        /* of the run before this call; NAN: not known */
    double              *curve;         /* [n_points][CHECKPOINT_CURVE] */
    size_t               n_points, cap_points;
    double               peak_ops_s;    /* 0: not known */
};

/* OUT/NAME into buf. WATT_ELIMIT: too long. */
int train_path(const struct train_run *r, char buf[4096], const char *name, struct err *e) MUST_CHECK;

/* Does any option ask for a shape? */
bool train_shapes(const struct train_options *o);
/* The model: from a file, or made anew as OUT/start.gguf. */
int train_open_model(struct train_run *r, struct err *e) MUST_CHECK;
/* Shards, tokenized where they are no shards yet, as OUT/data-….shard. */
int train_open_data(struct train_run *r, struct err *e) MUST_CHECK;
int train_open_trainer(struct train_run *r, struct err *e) MUST_CHECK;
void train_close_run(struct train_run *r);

/* Tokens that the model answers to a prompt, printed; it is written to a file of its own first,
 * since what is served is what was exported. */
int train_sample(struct train_run *r, struct err *e) MUST_CHECK;

/* One more point; held NAN: no validation, joules since the begin. */
int train_note_point(struct train_run *r, const struct trainer_step *s, double held,
                     double joules, struct err *e) MUST_CHECK;
/* OUT/curve.csv and OUT/curve.svg. */
int train_write_curve(const struct train_run *r, struct err *e) MUST_CHECK;

/* The line of progress on a terminal; elsewhere nothing. */
struct train_view {
    uint64_t begin_ns, drawn_ns, first_tokens, first_step;
    uint64_t n_steps;
    struct meter_reading begin;
    bool     terminal, drawn;
};
void train_view_begin(struct train_view *v, const struct train_run *r, uint64_t n_steps);
void train_view_step(struct train_view *v, const struct train_run *r, const struct trainer_step *s);
void train_view_wipe(struct train_view *v);
/* Tokens per second since the begin, and the share of the peak (0: not known). */
void train_view_speed(const struct train_view *v, const struct train_run *r, double *tok_s,
                      double *share);
/* Joules since the begin, NAN: not known; and ", 0.123 J/token" of that, or nothing. */
double train_view_joules(const struct train_view *v, const struct train_run *r);
const char *train_view_per_token(char buf[64], const struct train_view *v,
                                 const struct train_run *r);
/* As meter_used_text. */
const char *train_view_used(char buf[200], const struct train_view *v, const struct train_run *r);

#endif
