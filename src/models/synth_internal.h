/* synth_internal.h: what a shape's file says about itself, for the file itself (synth.c), for a
 * model without weights (synth_plan.c) and for one to be trained (train/create.c). */
#ifndef MODELS_SYNTH_INTERNAL_H
#define MODELS_SYNTH_INTERNAL_H

#include "models/gguf_make.h"
#include "models/synth.h"

/* Where keys go: one of the two. */
struct synth_sink {
    struct gguf_writer *writer;
    struct gguf_make   *make;
};

/* Every key but those of the vocabulary; o NULL: those of the shape alone, neither `general` nor
 * tokens. s has passed shape_check. */
int synth_keys(const struct synth_sink *to, const struct shape *s, const struct synth_opts *o,
               struct err *e) MUST_CHECK;
/* The type that a tensor of the shape gets. */
enum dtype synth_type(const struct shape *s, const struct synth_opts *o,
                      const struct shape_tensor *t);

#endif
