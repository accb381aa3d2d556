/* schedule.c: learning rates; see schedule.h. */
#include "models/train/schedule.h"

#include <math.h>

/* How much of lr - min_lr is left, `done` of `all` steps into the way down. */
static double remaining(enum schedule_kind kind, double done, double all)
{
    const double share = all > 0 ? done / all : 1;

    switch (kind) {
    case SCHEDULE_LINEAR: return 1 - share;
    case SCHEDULE_COSINE: return 0.5 * (1 + cos(3.141592653589793 * share));
    case SCHEDULE_WSD:    return 1 - sqrt(share);
    case SCHEDULE_CONSTANT: break;
    }
    return 1;
}

double schedule_lr(const struct schedule *s, uint64_t step)
{
    const uint64_t decay = s->decay < s->n_steps ? s->decay : s->n_steps;
    const uint64_t begin = s->kind == SCHEDULE_WSD ? s->n_steps - decay : s->warmup;

    if (step < s->warmup)
        return s->lr * (double)(step + 1) / (double)s->warmup;
    if (s->kind == SCHEDULE_CONSTANT || step < begin)
        return s->lr;
    if (step >= s->n_steps)
        return s->min_lr;
    return s->min_lr + (s->lr - s->min_lr) *
                           remaining(s->kind, (double)(step - begin), (double)(s->n_steps - begin));
}
