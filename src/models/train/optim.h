/* optim.h: optimisers over master weights and their gradients.
 *
 *   AdamW   Loshchilov and Hutter 2019, arXiv 1711.05101 (chips/cpu/update.h has the formula)
 *   Muon    Jordan et al. 2024: momentum with Nesterov's look ahead, made orthogonal by five steps
 *           of a quintic Newton-Schulz iteration, times 0.2 sqrt(max(rows, columns)) so that AdamW's
 *           learning rates and weight decay fit (Liu et al. 2025, arXiv 2502.16982). For matrices of
 *           hidden layers; embeddings, the output and vectors get AdamW
 *   SGD     with momentum; weight decay decoupled as in AdamW
 *
 * Gradients are clipped to a global norm first. The norm is a sum over pieces of fixed size in
 * fixed order, every element's update depends on it and on the element alone, and a matrix of Muon
 * is one thread's work: bits are the same for any number of threads. One owner thread; nothing
 * allocates in a step. */
#ifndef MODELS_TRAIN_OPTIM_H
#define MODELS_TRAIN_OPTIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/team.h"

enum optim_kind { OPTIM_ADAMW, OPTIM_MUON, OPTIM_SGD };
#define OPTIM_CHOICES "adamw|muon|sgd"

/* One parameter: mats matrices of rows by cols, or a vector of mats * rows * cols. */
struct optim_slot {
    const char *name;           /* the caller's, as w and g */
    float      *w;
    const float *g;
    uint32_t    mats, rows, cols;
    bool        hidden;         /* a matrix of a hidden layer: Muon takes it */
    bool        decays;         /* weight decay applies */
};

struct optim_opts {
    enum optim_kind kind;
    float    beta1, beta2, eps; /* AdamW */
    float    momentum;          /* Muon, SGD */
    float    weight_decay;
    float    clip;              /* largest norm of all gradients; 0: any */
    float    ema;               /* decay of the average of the weights, 0: none kept */
    struct team *team;          /* borrowed */
    uint32_t isa_mask;          /* CPU_ALL: all the machine has */
};

struct optim;

/* Slots are copied; what they point at must outlive the optimiser. Moments are zero and the
 * average begins as the weights are. WATT_EINVAL options, WATT_ENOMEM. */
int  optim_open(struct optim **out, const struct optim_slot *slots, size_t n,
                const struct optim_opts *o, struct err *e) MUST_CHECK;
void optim_close(struct optim *o);      /* NULL is fine */

/* Step number `step` (from 0) at this learning rate. *norm: of the gradients before clipping.
 * WATT_EINVAL naming a parameter whose gradient is not finite; nothing is changed then. */
int  optim_step(struct optim *o, uint64_t step, double lr, double *norm, struct err *e) MUST_CHECK;

/* What it keeps between steps, for checkpoints: moments and averages, in a fixed order. */
struct optim_array {
    const char *kind;           /* "m", "v", "ema" */
    const struct optim_slot *slot;
    float      *data;
    uint64_t    n;
};
size_t optim_n_arrays(const struct optim *o);
struct optim_array optim_array_at(const struct optim *o, size_t i);
/* Averages and weights change places: before and after a validation or export with them.
 * Nothing without ema. */
void   optim_swap_ema(struct optim *o);
uint64_t optim_bytes(const struct optim *o);

#endif
