/* quantise.h: a model file written again with its weights in another type.
 *
 * A plan decides the type of every tensor first (models/quant_mix.h has the rules of
 * the mixes) and knows the size of the result; running it streams: tensors one after
 * another in pieces of QUANTISE_PIECE elements, so that memory stays at a few such
 * pieces per thread whatever the model's size. Rows are whole blocks and a block's
 * bits depend on its own elements only: the result is the same for any number of
 * threads. Keys are copied, but for general.file_type, general.quantization_version
 * and those of splitting: the result is one file.
 *
 * Weights already quantised are not quantised again, which loses quality twice,
 * unless allowed. NaN and infinite weights are an error that names the tensor. */
#ifndef MODELS_QUANTISE_H
#define MODELS_QUANTISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/team.h"
#include "chips/dtype.h"
#include "models/gguf.h"
#include "models/imatrix.h"
#include "models/quant_mix.h"

#define QUANTISE_PIECE 65536u
/* Value of general.quantization_version: the block layouts in use since 2023. */
#define QUANTISE_VERSION 2u

struct quantise_options {
    enum quant_mix        mix;
    const struct imatrix *importance;       /* NULL: every input alike */
    bool pure;              /* the base type for every matrix that the mix touches */
    bool allow_requantise;
    bool keep;              /* every tensor in the type it has; mix counts for nothing */
    bool keep_quantised;    /* those that are quantised stay as they are */
    bool has_output_type, has_embedding_type;
    enum dtype output_type;         /* of output.weight, or of the embedding that serves as it */
    enum dtype embedding_type;      /* of token_embd.weight */
};

struct quantise_tensor {
    const struct gguf_tensor *source;
    enum dtype   type;              /* in the new file */
    uint64_t     size_bytes;        /* there */
    const float *importance;        /* [n_importance], the source's rows in turn, or NULL */
    uint64_t     n_importance;
    bool         requantised;       /* was quantised before, in another type */
    bool         substituted;       /* rows are no whole blocks of the type that was asked for */
};

/* Sums over the tensors of a plan. */
struct quantise_summary {
    uint64_t source_bytes, bytes;       /* of tensor data */
    uint64_t n_elems;
    uint32_t n_tensors, n_changed;      /* changed: of another type than before */
    uint32_t n_requantised, n_substituted;
    uint32_t n_weighted;                /* quantised with importance */
    uint32_t n_unweighted;              /* without, though there is a matrix */
};

struct quantise_plan;

/* g and what options points at must outlive the plan. WATT_EINVAL: a tensor is
 * quantised already, or a type that was asked for doesn't fit; WATT_ENOTSUP: no
 * quantiser for the type; WATT_EFORMAT: g's keys, or the importance matrix is of another
 * model. */
int  quantise_plan_open(struct quantise_plan **out, const struct gguf *g,
                        const struct quantise_options *options, struct err *e) MUST_CHECK;
void quantise_plan_close(struct quantise_plan *p);  /* NULL is fine */
size_t quantise_plan_n_tensors(const struct quantise_plan *p);
const struct quantise_tensor *quantise_plan_tensor(const struct quantise_plan *p, size_t i);
struct quantise_summary quantise_plan_summary(const struct quantise_plan *p);

/* All are optional. They are called by the thread that runs the plan. */
struct quantise_watch {
    void (*progress)(void *arg, uint64_t done, uint64_t total);     /* bytes of the source */
    bool (*cancelled)(void *arg);
    void *arg;
};

/* What the new file lost: over all elements whose type changed. */
struct quantise_loss {
    double error;       /* root of the sum of squared errors over the sum of squares */
    double weighted;    /* the same weighted by importance, over the tensors that had it */
};

/* Writes the new file under `path`, which appears only when all went well and is never
 * the source itself. *loss may be NULL. WATT_ECANCEL after cancelled() said so;
 * WATT_EIO when the disk is too small or fails; WATT_EFORMAT for weights that are not
 * finite, or beyond F16 when that is wanted. */
int  quantise_run(const struct quantise_plan *p, const char *path, struct team *team,
                  const struct quantise_watch *watch, struct quantise_loss *loss,
                  struct err *e) MUST_CHECK;

#endif
