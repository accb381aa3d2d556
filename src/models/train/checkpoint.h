/* checkpoint.h: the state of a training run as a file, and trained models as GGUF.
 *
 * A checkpoint is a GGUF file of the model with its F32 master weights, so it can be inspected, run
 * and trained further as any model, and beside them
 *   tensors  opt.KIND.NAME for every array of the optimiser (m, v, ema), F32, in the parameter's
 *            shape
 *   keys     train.version (u32, 2), train.step, train.tokens, train.calls, train.drawn (u64),
 *            train.place (u64 array: epoch, index, piece of each shard), train.data (u64 array: the
 *            shards' hashes), train.setup (string: the options that a position depends on),
 *            train.curve (f64 array of CHECKPOINT_CURVE columns; version 1 had one less),
 *            train.hash (u64: XXH3 of all of that and of the trained weights)
 * Files appear under their name when complete (base/file.h): a run that is killed, or a full disk,
 * leaves the checkpoint before. Reading checks everything, the hash too, before it changes a
 * weight. */
#ifndef MODELS_TRAIN_CHECKPOINT_H
#define MODELS_TRAIN_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "chips/train.h"
#include "models/gguf.h"
#include "models/lora.h"
#include "models/train/dataset.h"
#include "models/train/optim.h"

#define CHECKPOINT_VERSION 2u
#define CHECKPOINT_CURVE   7u           /* step, tokens, loss, validation loss (NaN: none), learning
                                         * rate, norm of the gradient, joules of the run so far (NaN:
                                         * not known) */
#define CHECKPOINT_MAX_POINTS ((GGUF_MAX_ARRAY) / CHECKPOINT_CURVE)

struct checkpoint_state {
    uint32_t version;           /* of the file that was read; else 0 */
    uint64_t step;              /* steps done */
    uint64_t tokens;            /* rows trained on */
    uint64_t calls;             /* of train_forward_backward: seeds of dropout */
    struct dataset_state data;
    size_t   n_sources;
    uint64_t data_hash[DATASET_MAX_SOURCES];
    char     setup[512];
    double  *curve;             /* [n_points][CHECKPOINT_CURVE]; read: mem_free it */
    size_t   n_points;
};

/* model: the file that the run began with: its keys, and tensors that don't train. lora: an adapter
 * is trained (models/lora.h), and the file is one of adapters, without the model's tensors; NULL:
 * the model itself. */
int checkpoint_write(const char *path, const struct gguf *model, const struct train *t,
                     const struct optim *o, const struct checkpoint_state *s,
                     const struct lora_spec *lora, struct err *e) MUST_CHECK;
/* Weights and moments into t and o, the rest into *s. The caller refreshes t (train_refresh).
 * WATT_EFORMAT: damaged, of another model, or no checkpoint; nothing was changed then. */
int checkpoint_read(const char *path, struct train *t, struct optim *o,
                    struct checkpoint_state *s, struct err *e) MUST_CHECK;
/* The state alone; the hash is not checked. */
int  checkpoint_peek(const char *path, struct checkpoint_state *s, struct err *e) MUST_CHECK;
void checkpoint_state_deinit(struct checkpoint_state *s);

/* Is the file a checkpoint by its keys? False for what can't be read. */
bool checkpoint_is(const struct gguf *g);

/* The model (or adapter) alone with its trained weights: in the types that serve the trainer's bits
 * (f32 false), or all in F32. */
int export_write(const char *path, const struct gguf *model, const struct train *t, bool f32,
                 const struct lora_spec *lora, struct err *e) MUST_CHECK;

#endif
