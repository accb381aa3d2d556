/* reverse.h: derives the backward pass of a program: the list of steps, last instruction first,
 * that carry the gradient of the result back to every operand and weight that wants one.
 *
 * A step is the backward of one instruction (what it computes is the executor's business), or the
 * bookkeeping between: setting a gradient to zero, adding a part to it. A gradient has the shape
 * of its value; values read through windows of columns share the gradient of their base. The
 * first part of a gradient is written, later ones are added in the order of the steps, so every
 * sum has one order. Instructions whose results lead to no weight that trains have no step.
 *
 * [Reverse accumulation: Linnainmaa 1970; Griewank and Walther, "Evaluating Derivatives", 2008] */
#ifndef CHIPS_PASSES_REVERSE_H
#define CHIPS_PASSES_REVERSE_H

#include "chips/program.h"

enum reverse_kind {
    REVERSE_INSTR,      /* backward of instruction `instr` */
    REVERSE_ZERO,       /* dst[0] = 0, all columns of the buffer */
    REVERSE_ADD         /* dst[0] += dy */
};

/* Columns of a gradient buffer; buf 0: none. */
struct reverse_ref { uint32_t buf, col, width; };

struct reverse_step {
    enum reverse_kind kind;
    uint32_t instr;
    struct reverse_ref dy;                  /* gradient of the result */
    struct reverse_ref dst[PROG_MAX_SRC];   /* of the operands; buf 0 where none is wanted */
    uint8_t  add;           /* bit s: added to what dst[s] holds; row-wise instructions only */
    uint8_t  same;          /* bit s: dst[s] is dy's own memory and already right */
};

struct reverse_buf {        /* [rows, width] floats */
    enum extent extent;
    uint32_t per, width;
};

struct reverse {
    struct reverse_step *steps;
    uint32_t n_steps, cap_steps;
    struct reverse_buf *bufs;   /* [1 .. n_bufs] */
    uint32_t n_bufs, cap_bufs;
    uint32_t *buf_of;           /* [n_values + 1] gradient of a base value, 0: none */
};

/* How an instruction's backward is computed: decides whether it can add to what is there. */
enum reverse_class {
    REVERSE_NONE,       /* no backward */
    REVERSE_ROWS,       /* row by row, writes or adds */
    REVERSE_WHOLE       /* products, attention, scans: writes whole results */
};
/* scatter: rows of the operand's extent are walked, not the result's (rows, pool). */
struct reverse_info {
    enum reverse_class how;
    uint8_t src;                /* bit s: operand s has a gradient */
    uint8_t dst;                /* which result's gradient comes in */
    bool    scatter;
    uint8_t reads;              /* bit s: operand s as forward left it; bit 7: the first result */
};
#define REVERSE_READS_RESULT 0x80u
const struct reverse_info *reverse_info(enum op op);

/* What an instruction's backward reads and has gradients of: its operands, and for attention over
 * another layer's keys those keys and values behind the queries (they come through the cache, but
 * their gradients don't). */
int  reverse_n_operands(const struct instr *in);
val  reverse_operand(const struct program *p, const struct instr *in, int s);

/* trains: [n_weights + 1]. drop: [n_instr] bit 0: result dropped out, bits 1 and 2: operand 0, 1
 * of an addition. With drop bits set an operand never shares dy's memory. WATT_ENOTSUP with the
 * instruction's name and layer when one on the way has no backward, WATT_ENOMEM. */
int  reverse_derive(struct reverse *r, const struct program *p, const bool *trains,
                    const uint8_t *drop, struct err *e) MUST_CHECK;
void reverse_deinit(struct reverse *r);         /* a zeroed one is fine */

#endif
