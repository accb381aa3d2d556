/* gguf_make.h: a model put together in memory that everybody else sees as an open GGUF file.
 *
 * Readers of other formats (models/hf) describe what they found with GGUF's own keys and
 * tensor names, and hand over the result of gguf_make_finish(). Keys are kept as a file
 * would hold them. Tensor data stays where it is: in files that the maker has mapped, or
 * in memory that it owns; both live as long as the result, which frees them through
 * `release`.
 *
 * The first failure (no memory, a key twice, a limit of models/gguf.h) is kept and
 * reported by gguf_make_finish(), so that adders return nothing. One owner thread. */
#ifndef MODELS_GGUF_MAKE_H
#define MODELS_GGUF_MAKE_H

#include <stdint.h>

#include "base/err.h"
#include "base/file.h"
#include "models/gguf.h"

struct gguf_make;

/* path: what gguf_path() and messages call the model. WATT_ENOMEM. */
int  gguf_make_open(struct gguf_make **out, const char *path, struct err *e) MUST_CHECK;
void gguf_make_close(struct gguf_make *m);      /* NULL is fine */

void gguf_make_u32(struct gguf_make *m, const char *key, uint32_t v);
void gguf_make_f32(struct gguf_make *m, const char *key, float v);
void gguf_make_bool(struct gguf_make *m, const char *key, bool v);
void gguf_make_str(struct gguf_make *m, const char *key, struct sv v);
/* type: any scalar type but string; data: n little-endian elements. */
void gguf_make_array(struct gguf_make *m, const char *key, enum gguf_type type, const void *data,
                     uint64_t n);
void gguf_make_strs(struct gguf_make *m, const char *key, const struct sv *v, uint64_t n);
bool gguf_make_has(const struct gguf_make *m, const char *key);

/* A file that tensors lie in, for gguf_part_fd and gguf_forget; the map is borrowed. Parts
 * are numbered from 0; part 0 is memory and there already. */
uint32_t gguf_make_part(struct gguf_make *m, const struct file_map *map);
/* t.data may be set later, until gguf_make_finish, through gguf_make_tensor_at. */
void gguf_make_tensor(struct gguf_make *m, struct sv name, const struct tensor *t, uint32_t part,
                      uint64_t file_offset);
size_t gguf_make_n_tensors(const struct gguf_make *m);
struct tensor *gguf_make_tensor_at(struct gguf_make *m, size_t i);

/* Frees m in every case; on failure release is not called and *out is untouched. */
int  gguf_make_finish(struct gguf **out, struct gguf_make *m, void (*release)(void *owner),
                      void *owner, struct err *e) MUST_CHECK;

#endif
