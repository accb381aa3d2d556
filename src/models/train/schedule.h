/* schedule.h: the learning rate as a function of the step.
 *
 * Linear warm-up from 0, then: constant; linear or cosine (Loshchilov and Hutter 2017, arXiv
 * 1608.03983) down to min_lr at the last step; or warm-up-stable-decay (Hu et al. 2024, arXiv
 * 2404.06395): constant until the last decay steps, which go down by 1 - sqrt of their share
 * (Hägele et al. 2024, arXiv 2405.18392). Pure functions. */
#ifndef MODELS_TRAIN_SCHEDULE_H
#define MODELS_TRAIN_SCHEDULE_H

#include <stdint.h>

enum schedule_kind { SCHEDULE_CONSTANT, SCHEDULE_LINEAR, SCHEDULE_COSINE, SCHEDULE_WSD };
#define SCHEDULE_CHOICES "constant|linear|cosine|wsd"

struct schedule {
    enum schedule_kind kind;
    uint64_t n_steps, warmup, decay;    /* decay: of WSD */
    double   lr, min_lr;
};

/* Of step 0 .. n_steps - 1; steps beyond have min_lr (constant: lr). */
double schedule_lr(const struct schedule *s, uint64_t step);

#endif
