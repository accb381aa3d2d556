/* trainer.h: a training run: data, gradients, optimiser and schedule, step by step.
 *
 * A step takes `accum` batches, adds up the gradients of the mean loss over all their targets, clips
 * them and updates the weights. The sequence of losses depends on the model file, the shards, the
 * options and the instruction set alone: not on the number of threads, and not on where a run was
 * interrupted and taken up again. One owner thread. */
#ifndef MODELS_TRAIN_TRAINER_H
#define MODELS_TRAIN_TRAINER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/team.h"
#include "chips/train.h"
#include "models/model.h"
#include "models/train/checkpoint.h"
#include "models/train/dataset.h"
#include "models/train/optim.h"
#include "models/train/schedule.h"

struct trainer_opts {
    struct dataset_opts data;       /* part and in_order are set by the trainer */
    uint32_t        accum;          /* batches of a step; 0: 1 */
    uint32_t        eval_batches;   /* of a validation at most; 0: all of the held part */
    struct optim_opts optim;        /* team and isa_mask are set from below */
    struct schedule schedule;
    enum dtype      compute, kv;    /* chips/train.h */
    float           dropout, attn_dropout, balance;
    bool            recompute;
    uint64_t        seed;           /* of dropout; data.seed is apart */
    struct team    *team;           /* borrowed */
    uint32_t        isa_mask;
    /* The model was opened with this new adapter (model_opts.new_adapter): it alone trains, and
     * is what is saved and exported. NULL: the whole model trains. */
    const struct lora_spec *lora;
};

struct trainer_step {
    uint64_t step;              /* the number of this one, from 1 */
    double   loss;              /* mean over the targets of the step, nats; without balance */
    double   balance, lr, norm; /* norm: before clipping */
    uint64_t n_rows, n_targets, n_right;
};

struct trainer_eval {
    double   loss;              /* mean over the targets, nats */
    uint64_t n_targets, n_right;
};

struct trainer;

/* Memory that a trainer with these options takes, the data apart; *moments at least, Muon's being
 * between one and two of each number. */
int  trainer_plan(const struct model *m, const struct trainer_opts *o, struct train_memory *memory,
                  uint64_t *moments, struct err *e) MUST_CHECK;
/* Borrows the model and the shards. held: shards for validation, or n_held 0: the part held back
 * of the training shards (opts.data.held; 0: no validation). WATT_EINVAL, WATT_ENOTSUP: an
 * instruction without a backward; WATT_ENOMEM. */
int  trainer_open(struct trainer **out, const struct model *m,
                  const struct dataset_source *sources, size_t n_sources,
                  const struct dataset_source *held, size_t n_held,
                  const struct trainer_opts *o, struct err *e) MUST_CHECK;
void trainer_close(struct trainer *t);      /* NULL is fine */

/* One step. WATT_EINVAL "loss is not finite" with the step, before any weight is changed by it;
 * errors of the shards. The position stays where it was on failure. */
int  trainer_step(struct trainer *t, struct trainer_step *s, struct err *e) MUST_CHECK;
bool trainer_validates(const struct trainer *t);
/* With averaged weights where the optimiser keeps them. WATT_ENOTSUP: nothing to validate on. */
int  trainer_validate(struct trainer *t, struct trainer_eval *r, struct err *e) MUST_CHECK;

uint64_t trainer_n_steps(const struct trainer *t);      /* done */
uint64_t trainer_n_tokens(const struct trainer *t);     /* rows trained on */
double   trainer_epochs(const struct trainer *t);
uint64_t trainer_data_tokens(const struct trainer *t);  /* of the training part */
uint64_t trainer_n_params(const struct trainer *t);     /* numbers that train */
double   trainer_step_ops(const struct trainer *t);     /* operations of a full step */
/* Bytes that a full step moves at least: for each batch weights and values read for each of the two
 * passes, gradients added to; then the update. What estimates of energy begin with. */
double   trainer_step_bytes(const struct trainer *t);
void     trainer_memory(const struct trainer *t, struct train_memory *m, uint64_t *moments);
struct train *trainer_train(struct trainer *t);

/* setup: what else a position depends on, such as the vocabulary's; compared when loading. curve:
 * kept with it. */
int  trainer_save(struct trainer *t, const char *path, const double *curve, size_t n_points,
                  struct err *e) MUST_CHECK;
/* WATT_EINVAL: made with other options or data than this trainer's (the message says which);
 * WATT_EFORMAT: damaged. Then nothing has changed. *curve is the caller's to mem_free. */
int  trainer_load(struct trainer *t, const char *path, double **curve, size_t *n_points,
                  struct err *e) MUST_CHECK;
/* The model, or the adapter, alone; averaged weights where they are kept. */
int  trainer_export(struct trainer *t, const char *path, bool f32, struct err *e) MUST_CHECK;

#endif
