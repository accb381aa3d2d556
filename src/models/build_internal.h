/* build_internal.h: the ends of a struct build, for models/model.c. */
#ifndef MODELS_BUILD_INTERNAL_H
#define MODELS_BUILD_INTERNAL_H

#include "models/arch.h"

/* Reads what all architectures share. b->p, g, n_ctx and used are set already. */
void build_begin(struct build *b, const struct arch *arch);
/* build_rope.c: b->rope from the keys. */
void build_read_rope(struct build *b, enum rope_pairing pairing);

/* build_tensors.c: name of the tensor that tokens are looked up in. */
const char *build_table_name(struct build *b);

#endif
