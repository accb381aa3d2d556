/* arch.h: the table of architectures: arch/archs.def, one line each. */
#ifndef MODELS_ARCH_H
#define MODELS_ARCH_H

#include "base/str.h"
#include "models/build.h"

/* Records the forward pass, prog_output() included. */
typedef void arch_fn(struct build *b);

struct arch {
    const char       *name;     /* general.architecture of GGUF files */
    arch_fn          *build;
    enum norm_kind    norm;
    enum rope_pairing pairing;
};

const struct arch *arch_find(struct sv name);       /* NULL: unknown */
/* Rows of the table in order, NULL after the last. */
const struct arch *arch_at(size_t i);

#endif
