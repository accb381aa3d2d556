/* exec_internal.h: the CPU executor's parts, shared by exec*.c and schedule.c alone.
 *
 * A program is lowered to items (an instruction, or a part of one) and the items are
 * placed in phases. Within a phase workers take tasks in any order; between phases
 * there is one barrier. So a phase holds either row-wise items, which run one after the
 * other on each row by itself, or matrix products that are all ready, or one attention or scan.
 * Norm, rotation, cache write, residual, gate and the preparation of activations thus
 * share a pass over a row that is still in the nearest cache, and QKV or gate and up are
 * one phase. Values share memory only between phases. */
#ifndef CHIPS_CPU_EXEC_INTERNAL_H
#define CHIPS_CPU_EXEC_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/team.h"
#include "chips/cpu/attention.h"
#include "chips/cpu/exec.h"
#include "chips/cpu/kernels.h"

#define NO_PHASE UINT32_MAX

enum item_kind {
    ITEM_INSTR,         /* a row-wise instruction as it is */
    ITEM_ROPE_TABLE,    /* cosines and sines of a rotation for a row's position */
    ITEM_PREPARE,       /* a row of activations into the format a product wants */
    ITEM_PRODUCT,       /* OP_LINEAR without bias and scale */
    ITEM_EXPERT_PRODUCT,/* OP_EXPERT_LINEAR likewise */
    ITEM_SORT,          /* slots by expert */
    ITEM_FINISH,        /* scale and bias of either product, in place */
    ITEM_KV_STORE,      /* keys and values of a row into the cache */
    ITEM_ATTENTION,
    ITEM_SCAN,          /* convolution or recurrence over the rows of each stream */
    ITEM_DROP           /* dropout of src[index], or of the result (index PROG_MAX_SRC), in place */
};

enum phase_kind { PHASE_ROWS, PHASE_PRODUCTS, PHASE_EXPERTS, PHASE_SORT, PHASE_ATTENTION,
                  PHASE_SCAN };

struct item {
    enum item_kind kind;
    const struct instr *in;
    uint32_t phase;
    uint32_t next;          /* in its phase, NO_PHASE at the end */
    uint32_t index;         /* of a rope table or a prepared buffer */
    uint32_t sort;          /* SORT, EXPERT_PRODUCT: which of the SORT_BUFFERS */
    enum act_format format; /* PREPARE, products */
    /* resolved when memory is known */
    float   *dst, *src[PROG_MAX_SRC];
    uint32_t dst_stride, src_stride[PROG_MAX_SRC];  /* floats */
};

struct phase {
    enum phase_kind kind;
    enum extent extent;     /* ROWS */
    uint32_t first, last;   /* items */
    val      src;           /* PRODUCTS, EXPERTS: what they all read */
    val      ids;           /* EXPERTS, SORT */
};

/* One rotation used by the program: rows of cos and sin are made once per step. */
struct rope_table {
    struct rope_args args;
    wid      factors;
    double  *freq;          /* [n_rot/2] */
    double   magnitude;
    uint32_t phase;         /* that fills it */
    float   *cos_sin;       /* [max_rows][n_rot] */
};

/* Slots by expert: slots of expert x are order[start[x]] .. order[start[x + 1]]. */
struct sorted {
    uint32_t  n_experts;
    uint32_t *start;        /* [n_experts + 1] */
    uint32_t *order;        /* [max_rows * k] slot numbers */
    uint32_t *token;        /* [max_rows * k] order / k */
};

struct prepared {           /* activations ready for the products of one value */
    val      value;
    enum act_format format;
    uint32_t phase;         /* that fills it */
    size_t   stride;        /* bytes */
    uint8_t *rows;
};

/* The lowered program, without memory. */
struct schedule {
    const struct program *p;
    struct item  *items;
    uint32_t n_items, cap_items;
    struct phase *phases;
    uint32_t n_phases, cap_phases;
    struct rope_table *ropes;
    uint32_t n_ropes;
    struct prepared *prepared;
    uint32_t n_prepared;
    struct sort_phase { val ids; uint32_t phase; } *sorts;
    uint32_t n_sorts;       /* distinct ids; they take turns in SORT_BUFFERS buffers */
    uint32_t *value_phase;  /* [n_values + 1] phase that finishes the value */
    uint32_t *value_last;   /* [n_values + 1] last phase that reads or writes it */
    uint32_t *state_phase;  /* [n_states + 1] last phase that wrote the state */
    struct packed *packed;  /* [n_weights + 1]; n_out 0: not a matrix */
    uint64_t *offset;       /* [n_values + 1] bytes in the arena */
    uint64_t arena_bytes, vector_bytes, packed_bytes, scratch_bytes;
    uint64_t prepared_bytes, rope_bytes, sort_bytes, partial_floats, worker_bytes;
    uint64_t sort_start_bytes, sort_slot_bytes;     /* of one buffer's parts */
    uint64_t *prepared_offset;  /* [n_prepared] in the prepared region */
    struct exec_limits limits;
    bool     keep;          /* no two values share memory: reverse mode reads them all afterwards */
    const uint8_t *drop;    /* [n_instr] what is dropped out (passes/reverse.h), or NULL */
    const uint32_t *local;  /* with keep: [n_values + 1] layer in which a value is made, and made
                             * again before its backward, UINT32_MAX: kept; or NULL */
};

/* Products of plain floats read whole-vector rows where they are, without a copy. */
static inline bool exec_reads_value(const struct program *p, val v, enum act_format format)
{
    return format == ACTF_F32 && prog_value(p, v)->width % PACK_ROWS == 0;
}

#define SORT_BUFFERS 2u
#define PARTIAL_MAX_FLOATS ((uint64_t)1 << 20)

/* s: zero but for keep, drop and local. */
int  schedule_build(struct schedule *s, const struct program *p, const struct exec_limits *limits,
                    uint32_t n_threads, struct err *e) MUST_CHECK;
void schedule_deinit(struct schedule *s);       /* a zeroed one is fine */

struct cpu_exec {
    struct exec base;
    const struct program *p;
    const struct kv_layout *layout;
    struct team *team;
    struct kernels k;
    struct schedule s;
    uint8_t *region;            /* arena, prepared, tables, scratch: one mapping */
    uint64_t region_bytes;
    float  **vector;            /* [n_weights + 1] USE_VECTOR weights as f32, NULL otherwise */
    float   *vectors;           /* their memory */
    uint8_t *packed_region;     /* packed weights, but for those of a pool: memory of our own, or */
    struct weights_cached cached;   /* a mapped file's */
    uint64_t own_bytes;         /* of them */
    bool    *shared;            /* [n_weights + 1] read from a pool; NULL: none is */
    struct weights_region **held;   /* [n_held] of the pool; the own one among them once it is there */
    uint32_t n_held;
    float  **slopes;            /* [n_instr] ALiBi per attention, NULL otherwise */
    float  **relative;          /* [n_instr] biases by distance, likewise */
    struct sorted sorted[SORT_BUFFERS];
    float   *partials;
    uint8_t *worker_scratch;    /* [n_threads][worker_bytes] */
    bool     direct;            /* the result is written where the caller wants it */
    struct profile *profile;    /* NULL: nobody asked */
    /* the step under way */
    const struct batch *b;
    void    *kv_pages;
    float   *out;
    float    dropout;           /* 0: none */
    float    attn_dropout;      /* of attention's weights */
    uint64_t drop_seed;
};

/* exec.c: all phases, on every worker of a team_run(). x->b and x->kv_pages are set. */
void exec_phases(struct cpu_exec *x, unsigned worker);
/* One phase, without the barrier behind it. */
void exec_phase(struct cpu_exec *x, const struct phase *ph, unsigned worker);
/* The CPU executor as reverse mode wants it. */
int  cpu_exec_open_keep(struct exec **out, const struct program *p,
                        const struct kv_layout *layout, const struct exec_limits *limits,
                        const struct cpu_exec_opts *o, const uint8_t *drop,
                        const uint32_t *local, struct err *e) MUST_CHECK;
/* exec_rows.c: dropout on the n columns of a row of an operand of an instruction. */
void exec_drop(const struct cpu_exec *x, float *y, size_t n, uint32_t instr, uint32_t operand,
               uint64_t row);

/* exec_rows.c: all row-wise items of a phase on one unit (a token row, stream, …). */
void exec_rows_unit(struct cpu_exec *x, const struct phase *ph, uint32_t unit, void *scratch);
/* exec_products.c */
void exec_products(struct cpu_exec *x, const struct phase *ph, unsigned worker, void *scratch);
void exec_sort(struct cpu_exec *x, const struct phase *ph);
void exec_expert_products(struct cpu_exec *x, const struct phase *ph, unsigned worker,
                          void *scratch);
/* exec_attention.c; has a barrier inside when long contexts were cut */
void exec_attention(struct cpu_exec *x, const struct phase *ph, unsigned worker, void *scratch);
/* exec_scan.c */
void exec_scan(struct cpu_exec *x, const struct phase *ph, unsigned worker, void *scratch);
/* exec_profile.c: x->profile with the phases of the schedule */
int  exec_profile_open(struct cpu_exec *x, struct err *e) MUST_CHECK;
uint64_t exec_scan_scratch(const struct instr *in);
/* exec_conv.c: one unit of OP_CONV. */
void exec_conv_unit(struct cpu_exec *x, const struct item *it, uint32_t unit);
/* exec_weights.c */
/* Bytes of the program's packed weights that a pool has. */
uint64_t exec_weights_shared(const struct program *p, const struct schedule *s,
                             const struct weights_pool *pool, uint64_t pool_key);
int  exec_weights_open(struct cpu_exec *x, const struct cpu_exec_opts *o, struct err *e) MUST_CHECK;
void exec_weights_close(struct cpu_exec *x);
/* Vectors and packed matrices anew, for weights in memory that changed: those of which. */
void exec_weights_refresh(struct cpu_exec *x, const bool *which);

static inline uint32_t exec_units(const struct cpu_exec *x, enum extent extent)
{
    switch (extent) {
    case EXT_N:   return x->b->n_rows;
    case EXT_S:   return x->b->n_streams;
    case EXT_R:   return x->b->n_out;
    case EXT_ONE: return 1;
    }
    return 0;
}

#endif
