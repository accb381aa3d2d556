/* train_internal.h: the parts of the executor that trains, shared by train*.c alone.
 *
 * Forward is the CPU executor with every value kept. Backward is the steps of passes/reverse.c
 * lowered to items in phases, as schedule.c does for forward: row phases run all their items on
 * one row after the other, product phases hold products that are ready together. Between phases
 * is one barrier. Rows are handed out in blocks whose number depends on the number of rows
 * alone; the gradient of a vector is summed per block, and the blocks' sums at the end in order. */
#ifndef CHIPS_CPU_TRAIN_INTERNAL_H
#define CHIPS_CPU_TRAIN_INTERNAL_H

#include "chips/cpu/exec_internal.h"
#include "chips/cpu/train_kernels.h"
#include "chips/passes/reverse.h"
#include "chips/train.h"

#define TRAIN_BLOCKS 64u        /* row blocks of a phase at most */
#define TRAIN_BLOCK_MIN 4u      /* rows of a block at least */
#define TRAIN_PARTS 2u          /* vector gradients of an instruction */

enum train_item_kind {
    T_LOSS,             /* gradient of the logits of a row, and its loss */
    T_ZERO, T_ADD,      /* of the derived pass */
    T_ROWS,             /* a row-wise backward */
    T_PREPARE,          /* a row of a product's gradient in the format of its kernel */
    T_BIAS,             /* scale of a product, bias summed */
    T_PRODUCT,          /* gradient of the operand and of the matrix */
    T_EMBED, T_ATTENTION, T_SCAN,
    T_DROP,             /* dropout of a table's rows, on their gradient */
    T_SORT, T_EXPERT,   /* slots by expert; as T_PRODUCT by expert */
    T_SLOTS,            /* the slots of a row summed */
    T_CELL_MATRIX, T_CELL_BIAS      /* gradients of a cell's own matrix and bias */
};

enum train_phase_kind { TP_ROWS, TP_RERUN, TP_PRODUCTS, TP_EMBED, TP_ATTENTION, TP_SCAN, TP_SORT,
                        TP_EXPERTS };

struct train_place { float *p; uint32_t stride; };      /* stride in floats */

struct train_item {
    enum train_item_kind kind;
    const struct instr *in;
    const struct reverse_step *step;
    uint32_t phase, next;
    uint32_t rope;              /* table of a rotation */
    uint32_t prepared;          /* train_buf of T_PREPARE and its product, UINT32_MAX: none */
    uint32_t extra;             /* train_buf of work space, UINT32_MAX: none */
    uint32_t part[TRAIN_PARTS]; /* train_part, UINT32_MAX: none */
    wid      matrix;            /* whose gradient a product makes, 0: none */
    enum act_format format;
    struct train_place dy, dst[PROG_MAX_SRC];
    uint8_t  drop;              /* as in passes/reverse.h */
};

struct train_phase {
    enum train_phase_kind kind;
    enum extent extent;
    uint32_t first, last;       /* RERUN: phases of t->again, [first, last) */
};

/* Memory between phases: gradients (as in struct reverse, same numbers), then work space. */
struct train_buf {
    uint64_t bytes, offset, stride_bytes;
    uint32_t first, last;                   /* phases; UINT32_MAX: unused */
    uint32_t written_at, read_at;           /* last so far, while lowering */
    bool     written_by_rows, read_by_rows;
    enum extent extent;
};

/* The gradient of a vector, per block. */
struct train_part {
    wid      w;
    uint32_t n;
    enum extent extent;         /* whose blocks; streams with by_stream */
    bool     by_stream;         /* a part per stream instead of per block */
    uint64_t offset;            /* floats */
};

struct train_weight {
    struct packed turned;       /* transposed: [n_in][n_out]; n_out 0: not needed */
    struct train_param *param;  /* NULL: unused weight */
    uint16_t *bf16;             /* [n] what the executor reads, NULL: the master itself */
    uint32_t written_at;        /* while lowering */
};

struct train {
    const struct program *p;            /* the caller's */
    struct program *own;                /* over our tensors */
    struct train_opts o;
    struct exec_limits limits;
    struct kv_layout layout;
    struct exec *exec;
    struct cpu_exec *x;
    struct team *team;
    struct train_kernels k;
    unsigned n_threads;
    bool     dry;                       /* plan memory only */
    struct prog_cost *per_instr;        /* [n_instr] work space */
    /* weights */
    struct train_weight *weight;        /* [n_weights + 1] */
    struct train_param *params;
    uint32_t n_params;
    bool    *trains;                    /* [n_weights + 1] */
    uint8_t *drop;                      /* [n_instr] */
    float   *masters, *gradients;
    uint64_t n_trained;                 /* floats */
    uint8_t *bf16_region, *turned_region;
    uint64_t bf16_bytes, turned_bytes;
    /* layers run again: train_rerun.c */
    uint32_t *local;                    /* [n_values + 1] as in struct schedule, NULL: all kept */
    bool    *again_value;               /* [n_values + 1] made again */
    struct phase *again;                /* phases over copies of forward's items */
    uint32_t n_again, n_copies, floor; /* floor: first backward phase of the layer at hand */
    /* backward */
    struct reverse rev;
    struct train_item *items;
    uint32_t n_items, cap_items;
    struct train_phase *phases;
    uint32_t n_phases, cap_phases;
    struct train_buf *bufs;             /* [n_bufs]; 0 unused */
    uint32_t n_bufs, cap_bufs;
    struct train_part *parts;
    uint32_t n_parts, cap_parts;
    uint32_t *reduced;                  /* weights with parts, each once */
    uint32_t n_reduced;
    struct sorted sorted;               /* of the expert product under way */
    uint32_t *sort_memory, sort_buf;    /* sort_buf: train_buf that stands for it while lowering */
    uint64_t part_floats, worker_bytes;
    uint8_t *region;                    /* gradients, work space, parts, per worker scratch */
    uint64_t region_bytes, arena_bytes;
    float   *part_at;
    uint8_t *worker_scratch;
    /* the step under way */
    uint8_t *kv_pages;
    uint64_t kv_bytes;
    float   *fixed;
    uint64_t fixed_floats;              /* of one stream */
    struct batch batch;
    struct stream *streams;
    uint32_t *row_stream, *out_row, *out_of, *pages;    /* out_of: [max_rows] row's result */
    uint32_t *later_row, *earlier_row;  /* [n_later] rows that are no stream's first, and those
                                         * in front of them */
    uint32_t n_later;
    const struct train_batch *b;
    double  *row_loss;                  /* [max_out] */
    uint8_t *row_right;
    struct train_route { const struct instr *in; uint32_t first; double loss; } *routes;
    uint32_t n_routes;                  /* with a load-balance loss */
    double  *balance;                   /* routes' work, 2 * n_experts each from `first` on */
    float    scale;
    bool     backward, logits_only;
    bool     loss_in_place;             /* the logits' gradient lies where the logits are */
    bool     turn_all;                  /* a refresh of weights that don't train too */
};

/* train_weights.c */
int  train_weights_open(struct train *t, struct err *e) MUST_CHECK;
void train_weights_close(struct train *t);
/* The BF16 copies anew; all turned matrices, those of weights that don't train too. */
void train_copy_weights(struct train *t);
void train_turn_all(struct train *t);
/* Memory of the turned matrices; after the executor is open. */
int  train_turned_open(struct train *t, struct err *e) MUST_CHECK;
/* train_rerun.c: which values are kept; after the schedule is built, the phases of a layer. */
int  train_local_open(struct train *t, struct err *e) MUST_CHECK;
bool train_rerun_layer(struct train *t, uint32_t layer, uint32_t *first, uint32_t *last);
void train_rerun(struct train *t, const struct train_phase *ph, unsigned worker);
/* train_lower.c */
int  train_lower(struct train *t, struct err *e) MUST_CHECK;
void train_resolve(struct train *t);
/* train_rows.c: one unit of a row phase. block: where sums go. */
void train_rows_unit(struct train *t, const struct train_phase *ph, uint32_t unit, uint32_t block,
                     bool first, void *scratch);
/* train_loss.c */
void train_loss_row(struct train *t, const struct train_item *it, uint32_t row);
/* The rows' losses in order. */
void train_loss_sum(const struct train *t, struct train_loss *out);
/* train_products.c */
void train_products(struct train *t, const struct train_phase *ph, void *scratch);
void train_embed(struct train *t, const struct train_phase *ph);
/* train_expert.c */
void train_balance(struct train *t);
void train_sort(struct train *t, const struct train_phase *ph);
void train_experts(struct train *t, const struct train_phase *ph, void *scratch);
/* train_attention.c */
void train_attention(struct train *t, const struct train_phase *ph, void *scratch);
uint64_t train_attention_scratch(const struct train *t, const struct instr *in);
/* train_scan.c */
void train_scan(struct train *t, const struct train_phase *ph, void *scratch);
/* train_cell.c: one stream of an OP_CELL */
void train_cell(struct train *t, const struct train_item *it, uint32_t stream, float *scratch);
uint64_t train_cell_scratch(const struct train *t, const struct instr *in);
/* train_conv.c: one unit of an OP_CONV; sums of the block are NULL where they are not wanted */
void train_conv(const struct train *t, const struct train_item *it, uint32_t unit, float *dkernel,
                float *dbias);
/* train_recurrent.c: one cut of one stream of a recurrence with a matrix of state, or of a shift */
void train_recurrent(struct train *t, const struct train_item *it, uint32_t stream, uint32_t cut,
                     float *scratch);
uint32_t train_recurrent_cuts(const struct instr *in);
uint64_t train_recurrent_scratch(const struct train *t, const struct instr *in);
uint64_t train_scan_scratch(const struct train *t, const struct instr *in);

static inline uint32_t train_units(const struct train *t, enum extent extent)
{
    return exec_units(t->x, extent);
}
/* Rows of a value as it stands in this step. */
static inline uint32_t train_value_rows(const struct train *t, val v)
{
    return prog_rows_of(prog_value(t->own, v), t->batch.n_rows, t->batch.n_streams,
                        t->batch.n_out);
}
static inline uint32_t train_block_rows(uint32_t units)
{
    const uint32_t n = (units + TRAIN_BLOCKS - 1) / TRAIN_BLOCKS;

    return n < TRAIN_BLOCK_MIN ? TRAIN_BLOCK_MIN : n;
}
/* Forward's value. */
static inline struct train_place train_extra(const struct train *t, const struct train_item *it)
{
    const struct train_buf *b = &t->bufs[it->extra];

    return (struct train_place){ (float *)(void *)(t->region + b->offset),
                                 (uint32_t)(b->stride_bytes / sizeof(float)) };
}
static inline struct train_place train_value(const struct train *t, val v)
{
    return (struct train_place){
        (float *)(void *)(t->x->region + t->x->s.offset[v]),
        prog_value(t->own, prog_value(t->own, v)->base)->width };
}
/* Row 0 of the gradients that come in, as a product of the item's dtype takes them. */
static inline const void *train_prepared(const struct train *t, const struct train_item *it,
                                         size_t *stride_bytes)
{
    const struct train_buf *b;

    if (it->prepared == UINT32_MAX) {
        *stride_bytes = (size_t)it->dy.stride * sizeof(float);
        return it->dy.p;
    }
    b = &t->bufs[it->prepared];
    *stride_bytes = (size_t)b->stride_bytes;
    return t->region + b->offset;
}
static inline float *train_row(struct train_place at, uint64_t row)
{
    return at.p + row * at.stride;
}
static inline uint32_t train_width(const struct train *t, val v)
{
    return prog_value(t->own, v)->width;
}
static inline float *train_part_of(const struct train *t, const struct train_item *it, int k,
                                   uint32_t block)
{
    const struct train_part *part;

    if (it->part[k] == UINT32_MAX)
        return NULL;
    part = &t->parts[it->part[k]];
    return t->part_at + part->offset + (uint64_t)block * part->n;
}

#endif
