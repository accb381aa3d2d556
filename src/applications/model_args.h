/* model_args.h: option values that several verbs share: types of the cache, executors,
 * instruction sets, threads, token ids. */
#ifndef APPLICATIONS_MODEL_ARGS_H
#define APPLICATIONS_MODEL_ARGS_H

#include "applications/cli.h"
#include "models/session.h"

#define KV_CHOICES "auto|f32|f16|bf16|q8_0"
#define EXEC_CHOICES "cpu|ref"

/* How a session uses the machine: options of every verb that runs one. */
struct machine_args {
    int64_t     threads;
    const char *cpus;
    bool        pin, no_pin, mlock;
    const char *weights_cache;
    uint64_t    weights_cache_max;
    bool        no_weights_cache, weights_cache_verify;
    struct topo_set set;        /* what --cpus named, once parsed */
    char        folder[4096];   /* of $WATT_CACHE */
};

/* The folder of prepared weights that $WATT_CACHE means, into buf; NULL: it is not set. */
const char *weights_cache_folder(char *buf, size_t size);

/* Their rows in a table of options, for a member of that type in the verb's struct. */
#define MACHINE_OPTIONS(type, member)                                                          \
    { "threads", 't', CLI_INT, offsetof(type, member.threads), "N",                            \
      "threads (default: one per core of the processors this process may use)", 1,             \
      TEAM_MAX_THREADS },                                                                      \
    { "cpus", 0, CLI_TEXT, offsetof(type, member.cpus), "LIST",                                \
      "run on these processors only, such as 0-7,16; without --threads one thread each", 0, 0 }, \
    { "pin", 0, CLI_FLAG, offsetof(type, member.pin), NULL,                                    \
      "bind each thread to a processor of its own: for machines without other work", 0, 0 },   \
    { "no-pin", 0, CLI_FLAG, offsetof(type, member.no_pin), NULL,                              \
      "bind no thread (default: to its memory node, where there are several)", 0, 0 },         \
    { "mlock", 0, CLI_FLAG, offsetof(type, member.mlock), NULL,                                \
      "keep weights and caches in memory, whatever else needs some", 0, 0 },                   \
    { "weights-cache", 0, CLI_FILE, offsetof(type, member.weights_cache), "DIR",               \
      "keep prepared weights in this folder, mapped at the next start (default: "              \
      "$WATT_CACHE/weights where that variable is set, else off)", 0, 0 },                     \
    { "weights-cache-max", 0, CLI_BYTES, offsetof(type, member.weights_cache_max), "BYTES",    \
      "most that folder may hold; those used longest ago make room (default 256G)", 0, 0 },    \
    { "weights-cache-verify", 0, CLI_FLAG, offsetof(type, member.weights_cache_verify), NULL,  \
      "hash all of the prepared weights before they are used, not a sample", 0, 0 },           \
    { "no-weights-cache", 0, CLI_FLAG, offsetof(type, member.no_weights_cache), NULL,          \
      "off, whatever $WATT_CACHE says", 0, 0 }

/* Into opts, which points into a. WATT_EINVAL. */
int  session_opts_machine(struct session_opts *o, struct machine_args *a,
                          struct err *e) MUST_CHECK;

/* For session_opts.note: a note on stderr; ctx is the struct cli. */
void machine_note(void *cli, const char *text);

/* --kv: index in KV_CHOICES into opts. */
void session_opts_kv(struct session_opts *o, int choice);
/* --exec, --isa; isa NULL: everything the machine has. WATT_EINVAL. */
int  session_opts_exec(struct session_opts *o, int exec_choice, const char *isa,
                       struct err *e) MUST_CHECK;

/* Token ids separated by commas or white space, from the argument itself or, where it does not
 * look like a list, from the file it names ("-": standard input). *ids is the caller's to
 * mem_free. */
int  read_ids(const char *arg, int32_t **ids, uint32_t *n, struct err *e) MUST_CHECK;

/* Opens a model and shows its warnings as notes. */
int  open_model(const struct cli *c, struct model **out, const char *path, uint32_t n_ctx,
                struct err *e) MUST_CHECK;

#endif
