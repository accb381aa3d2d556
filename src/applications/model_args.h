/* model_args.h: option values that several verbs share: types of the cache, executors,
 * instruction sets, threads, token ids. */
#ifndef APPLICATIONS_MODEL_ARGS_H
#define APPLICATIONS_MODEL_ARGS_H

#include "applications/cli.h"
#include "models/session.h"

#define KV_CHOICES "auto|f32|f16|bf16|q8_0"
#define EXEC_CHOICES "cpu|ref"

/* --kv: index in KV_CHOICES into opts. */
void session_opts_kv(struct session_opts *o, int choice);
/* --exec, --isa, --threads; isa NULL: everything the machine has. WATT_EINVAL. */
int  session_opts_exec(struct session_opts *o, int exec_choice, const char *isa,
                       int64_t n_threads, struct err *e) MUST_CHECK;

/* Token ids separated by commas or white space, from the argument itself or, where it does not
 * look like a list, from the file it names ("-": standard input). *ids is the caller's to
 * mem_free. */
int  read_ids(const char *arg, int32_t **ids, uint32_t *n, struct err *e) MUST_CHECK;

/* Opens a model and shows its warnings as notes. */
int  open_model(const struct cli *c, struct model **out, const char *path, uint32_t n_ctx,
                struct err *e) MUST_CHECK;

#endif
