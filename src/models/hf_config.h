/* hf_config.h: reads a Hugging Face config.json into a shape.
 *
 * One table row per model class; a class that is not in the table is an error that
 * lists those that are. The file is not trusted: sizes, depth, types and ranges are
 * checked, and messages name the field. */
#ifndef MODELS_HF_CONFIG_H
#define MODELS_HF_CONFIG_H

#include <stddef.h>

#include "base/err.h"
#include "models/shape.h"

#define HF_CONFIG_MAX_BYTES ((size_t)4 << 20)
#define HF_CONFIG_MAX_DEPTH 16

/* path: the file, or the folder that holds config.json. On success *out has passed
 * shape_check. WATT_ENOENT, WATT_EFORMAT, WATT_ENOTSUP an unknown class or scaling,
 * WATT_EINVAL and WATT_ELIMIT from shape_check, WATT_ENOMEM. */
int hf_config_read(struct shape *out, const char *path, struct err *e) MUST_CHECK;
/* The same from memory; name is for messages. */
int hf_config_parse(struct shape *out, const char *name, const void *bytes, size_t n,
                    struct err *e) MUST_CHECK;

#endif
