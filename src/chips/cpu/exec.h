/* exec.h: the CPU executor: a program on the thread team with packed weights. */
#ifndef CHIPS_CPU_EXEC_H
#define CHIPS_CPU_EXEC_H

#include "base/team.h"
#include "chips/cpu/features.h"
#include "chips/cpu/weights_cache.h"
#include "chips/cpu/weights_pool.h"
#include "chips/exec.h"

struct cpu_exec_opts {
    struct team *team;          /* borrowed; must outlive the executor */
    uint32_t     isa_mask;      /* CPU_ALL: all the machine has */
    /* Prepared weights on disk; NULL: none. Used while the executor opens. */
    const struct weights_cache_opts *cache;
    /* Weights shared with other executors; borrowed; NULL: none. pool_key: of the model's files. */
    struct weights_pool *pool;
    uint64_t     pool_key;
    bool         lock;          /* keep weights and work space in memory; WATT_ELIMIT when refused */
    /* Called now and then while weights are packed, from the opening thread; NULL: not.
     * A non-zero return stops with WATT_ECANCEL. */
    int        (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
    /* Called when a weight's bytes in the file mapping won't be read again; NULL: not. */
    void       (*forget)(void *ctx, const void *data, uint64_t size);
    void        *ctx;
};

int  cpu_exec_open(struct exec **out, const struct program *p, const struct kv_layout *layout,
                   const struct exec_limits *limits, const struct cpu_exec_opts *opts,
                   struct err *e) MUST_CHECK;
/* What it would take, without doing it: for inspect and admission. pool, pool_key: as above. */
int  cpu_exec_plan(const struct program *p, const struct kv_layout *layout,
                   const struct exec_limits *limits, uint32_t n_threads,
                   const struct weights_pool *pool, uint64_t pool_key, struct exec_memory *m,
                   struct err *e) MUST_CHECK;

#endif
