/* plan_chips.h: what chips can do, for the planner: a table of published figures, more of them from
 * a file, and the machine at hand, measured.
 *
 * Figures are of one chip: dense operations (no sparsity), bytes a second of its memory, bytes a
 * second it can send to its neighbours, watts. What an engine reaches of them is stated apart, as
 * shares, so that a plan can say which part is the chip's and which the engine's. */
#ifndef APPLICATIONS_PLAN_CHIPS_H
#define APPLICATIONS_PLAN_CHIPS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define PLAN_MAX_CHIPS 256u
#define PLAN_NAME_BYTES 48u

enum plan_ops { PLAN_F32, PLAN_BF16, PLAN_INT8, PLAN_FP8, PLAN_FP4, PLAN_N_OPS };

struct plan_chip {
    char   name[PLAN_NAME_BYTES];
    char   source[160];         /* where the figures are from */
    bool   cpu;                 /* products of 4-bit types run at the 8-bit rate of integers */
    double ops[PLAN_N_OPS];     /* operations a second, an addition and a multiplication being two;
                                 * 0: the chip has none of that type */
    double memory_bytes, read_bytes_s;
    double link_bytes_s;        /* to the chips of its group, one way; 0: stands alone */
    double link_latency_s;      /* of one message */
    unsigned group;             /* chips that such links join; at least 1 */
    double idle_w, max_w;       /* of the chip; max 0: not known */
    double all_in_w;            /* with its share of server, network and cooling; 0: not known */
    double usd_hour;            /* what an hour costs, power included; 0: not known */
    /* What an engine reaches: of operations in products, of the same in attention, of memory
     * reads of weights, of the cache, of links; seconds for each step and each instruction that
     * are neither. */
    double ops_share[PLAN_N_OPS], attention_share, read_share, kv_share, link_share, step_s, instr_s;
};

struct plan_chips {
    struct plan_chip v[PLAN_MAX_CHIPS];
    size_t n;
};

/* The built-in table. */
void plan_chips_init(struct plan_chips *t);
/* Adds a file's chips, which stand before built-in ones of the same name. A JSON array of objects,
 * or {"chips": [...]}; docs/plan.md has the fields. WATT_EFORMAT names the field. */
int  plan_chips_read(struct plan_chips *t, const char *path, struct err *e) MUST_CHECK;
int  plan_chips_parse(struct plan_chips *t, const char *name, const char *bytes, size_t n,
                      struct err *e) MUST_CHECK;
/* By name, without regard to case; NULL: none. */
const struct plan_chip *plan_chips_find(const struct plan_chips *t, const char *name);
/* The machine at hand, called "this": its peaks are measured (0.4 s), its memory asked for, the
 * shares are those of docs/performance.md. Watts and prices are not known. */
int  plan_chip_this(struct plan_chip *c, unsigned n_threads, struct err *e) MUST_CHECK;

const char *plan_ops_name(enum plan_ops t);     /* "bf16" */

#endif
