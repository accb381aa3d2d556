/* explain.h: what a model's layers do, in words, read off its program: attention and its windows,
 * recurrences, experts, positions, and what each layer keeps. Knows no architecture by name. Pure
 * functions of an open model; texts end in NUL and are cut where the buffer ends. */
#ifndef APPLICATIONS_EXPLAIN_H
#define APPLICATIONS_EXPLAIN_H

#include <stddef.h>
#include <stdint.h>

#include "models/model.h"

#define EXPLAIN_TEXT_BYTES 320u

/* One layer: "attention, 32 heads over 8 of 128, window 512; gated SiLU of 14336". Layers that do
 * the same have the same text. */
void explain_layer(const struct model *m, uint32_t layer, char *out, size_t size);
/* All layers by kind: "22 attention in windows, 4 attention". */
void explain_kinds(const struct model *m, char *out, size_t size);
/* Rotary positions: "base 1e+06, 64 of 128 columns, YaRN x40 from 4096; base 10000 in layers 0-4";
 * empty: none. */
void explain_rope(const struct model *m, char *out, size_t size);
/* "8 of 128 in 47 layers, softmax; 3.3 of 30.5 billion parameters at work"; empty: none. */
void explain_experts(const struct model *m, char *out, size_t size);
/* Parameters that one token's step multiplies with: all but the experts that it does not use. */
uint64_t explain_active_params(const struct model *m);

struct explain_state {
    uint32_t kv_layers;         /* layers that keep keys and values */
    uint32_t window_layers;     /* of these, with a window */
    uint32_t max_window;        /* largest of the windows */
    uint32_t fixed_layers;      /* layers with a state of fixed size */
    uint64_t kv_columns;        /* numbers a token adds, all layers together */
    uint64_t fixed_floats;      /* numbers a sequence keeps besides, in F32 */
};
void explain_state(const struct model *m, struct explain_state *out);

#endif
