/* plan.h: what a model on given chips would do: throughput, latency, joules and money, from the
 * program's cost model and the chips' figures (plan_chips.h).
 *
 * A server is tp * pp chips that hold one copy of the model: tp split every matrix, pp split the
 * layers. It runs `batch` answers at a time, continuously: an answer that ends is followed by the
 * next. In a long run a request costs its prompt's time t_p once and, for each of its A tokens, a
 * share of a step of t_d, so a server ends
 *   1 / (t_p / pp + A / batch * t_d)
 * requests a second, and by Little's law a token of one answer comes every t_d + batch * t_p / (A pp)
 * seconds. An instruction takes the longest of: its operations at the engine's share of the peak of
 * its type, its bytes at the share of the bandwidth (Williams et al. 2009, roofline), both over tp
 * chips; two all-reduces a layer are added where tp > 1. Power is idle power and, of the rest, 0.65
 * times the time memory is busy and 0.75 times that of the units, at most what the chip may draw.
 * Waiting in a queue is no part of it: plan_fleet.h simulates that. */
#ifndef APPLICATIONS_PLAN_H
#define APPLICATIONS_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "applications/plan_chips.h"
#include "models/model.h"

#define PLAN_MAX_POINTS 512u
#define PLAN_UNKNOWN    (-1.0)      /* of a result that no input gives */

struct plan_load {
    double prompt, answer;      /* tokens of a request */
    double cached;              /* share of the prompt that is in the cache already */
    double utilisation;         /* share of the hours under this load; idle in the others */
};

struct plan_money {             /* USD */
    double chip_hour;           /* rent, power included; < 0: the chip's own; unused with: */
    double purchase, life_years;        /* of a chip with its share of server; 0: rented */
    double kwh;                 /* of electricity; counted where chips are bought */
    double pue;                 /* facility over server power, where the chip's all-in is not known */
    double price_in, price_cached, price_out;   /* for a million tokens */
};

struct plan_spec {
    const struct model     *model;
    const struct plan_chip *chip;
    unsigned n_chips;
    unsigned tp, pp;            /* 0: all that can be */
    unsigned max_batch;         /* 0: as memory allows, at most 4096 */
    unsigned chunk;             /* rows of a step of a prompt */
    double   kv_element_bytes;  /* 2: F16 */
    struct plan_load  load;
    struct plan_money money;
};

enum plan_bound { PLAN_BY_MEMORY, PLAN_BY_OPS, PLAN_BY_LINK, PLAN_BY_FIXED };

/* Of all n_chips unless said otherwise. */
struct plan_point {
    unsigned tp, pp, batch;     /* batch of a server */
    double servers;
    double step_s, prefill_s;   /* of a decode step; of one prompt */
    double ttft_s, itl_s, user_tok_s;
    double requests_s, out_tok_s, in_tok_s;     /* in_tok_s: prompt tokens, cached ones too */
    double chip_tok_s;          /* out_tok_s / n_chips */
    double memory_bytes;        /* of a chip */
    enum plan_bound bound;      /* what the longer part of a decode step waits for */
    double chip_w, all_in_w;    /* of one chip, mean under load; PLAN_UNKNOWN */
    double prefill_j, decode_j; /* of chips, for a token computed, for a token answered */
    double out_j, all_in_j;     /* of everything, idle hours too, for a token answered */
    double usd_hour, usd_out, usd_total;        /* cost; for a million tokens answered, of all */
    double revenue_hour, margin_hour, margin_mw;        /* an hour; an hour for each MW all-in */
    bool   front;               /* no other is better in user_tok_s and chip_tok_s */
};

/* Why a model does not fit, or 0 and the time of a step of n_rows rows in n_streams streams that
 * hold n_past positions, on a server of tp chips. bound may be NULL. */
int    plan_step(const struct plan_spec *s, unsigned tp, uint32_t n_rows, uint32_t n_streams,
                 uint32_t n_past, double *seconds, double *watts, enum plan_bound *bound,
                 struct err *e) MUST_CHECK;
/* Seconds of n prompt tokens behind `past` others. */
int    plan_prefill(const struct plan_spec *s, unsigned tp, uint32_t n, uint32_t past,
                    double *seconds, double *watts, struct err *e) MUST_CHECK;
/* Bytes on each chip, at a batch. */
double plan_memory(const struct plan_spec *s, unsigned tp, unsigned pp, unsigned batch);
double plan_usable_memory(const struct plan_chip *c);
/* Bytes of a position of one sequence; of what it keeps whatever its length. */
double plan_kv_bytes(const struct plan_spec *s);
double plan_fixed_bytes(const struct plan_spec *s);
/* Watts from the wall for a chip that draws chip_w; PLAN_UNKNOWN. */
double plan_all_in_w(const struct plan_spec *s, double chip_w);

/* Every split and batch (powers of two, and the largest) that fits, by split, then batch; marks the
 * front. out: [PLAN_MAX_POINTS]. WATT_ELIMIT: no split fits, with the numbers; WATT_ENOMEM. */
int    plan_points(const struct plan_spec *s, struct plan_point *out, size_t *n,
                   struct err *e) MUST_CHECK;
/* The point of most margin (of most tokens, where no prices are given), or the quickest within a
 * percent of it, among those that give each answer at least user_tok_s and its first token within
 * ttft_s (0: any); NULL: none does. */
const struct plan_point *plan_best(const struct plan_spec *s, const struct plan_point *v, size_t n,
                                   double user_tok_s, double ttft_s);

const char *plan_bound_name(enum plan_bound b);

#endif
