/* synth.h: writes model files of seeded random weights: any shape, any type,
 * for benchmarks and tests without a download.
 *
 * Quantised blocks are drawn directly, so memory stays at a few MiB per thread
 * whatever the model's size. The same shape, mix and seed give the same bytes on
 * every machine and with any number of threads. Deviations are chosen so that
 * activations keep about unit size through all layers. The file carries a
 * synthetic byte-level BPE vocabulary that encodes any text. */
#ifndef MODELS_SYNTH_H
#define MODELS_SYNTH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "models/gguf.h"
#include "models/model.h"
#include "models/quant_mix.h"
#include "models/shape.h"

struct synth_opts {
    enum quant_mix mix;
    bool           pure;        /* every matrix in the mix's base type */
    uint64_t       seed;
    unsigned       n_threads;   /* 0: team_default_threads() */
    /* Called from time to time with bytes done; false stops with WATT_ECANCEL. */
    bool         (*progress)(void *ctx, uint64_t done, uint64_t total);
    void          *ctx;
};

/* Writes the file, or leaves nothing. WATT_EINVAL shape, WATT_EIO disk. */
int synth_write(const char *path, const struct shape *s, const struct synth_opts *o,
                struct err *e) MUST_CHECK;
/* Bytes of tensor data that synth_write would write. */
int synth_size(const struct shape *s, const struct synth_opts *o, uint64_t *bytes,
               struct err *e) MUST_CHECK;

/* The model that synth_write's file would open as, without vocabulary and weights: its program can
 * be priced (prog_cost) and planned, not run. Of o, mix and pure count. model_close it. */
int synth_plan(struct model **out, const struct shape *s, const struct synth_opts *o,
               struct err *e) MUST_CHECK;

/* The fewest tokens that hold every byte and the special tokens; smaller
 * vocabularies get none, and the model works with ids only. */
#define SYNTH_VOCAB_MIN 272u

/* Adds the tokenizer's keys for a vocabulary of n_vocab tokens. */
int synth_vocab_write(struct gguf_writer *w, uint32_t n_vocab, const char *pre,
                      struct err *e) MUST_CHECK;

#endif
