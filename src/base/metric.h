/* metric.h: counters, gauges and histograms that any floor registers and that
 * the top floor reads.
 *
 * A registry belongs to the program, which hands it down in the specs of what
 * it opens; whoever gets none (NULL) registers and updates nothing, so nobody
 * has to ask. Registering takes a lock and memory; updating is a few atomic
 * operations, allocates nothing and may happen on any thread, inside a step
 * too. Series live until the registry is closed: the one registered again
 * under the same name and labels is the same one, and goes on counting.
 *
 * Names and labels follow the Prometheus data model
 * ([a-zA-Z_:][a-zA-Z0-9_:]*, labels without the colon); writing them in its
 * text format is the reader's business. */
#ifndef BASE_METRIC_H
#define BASE_METRIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define METRIC_MAX_LABELS 8
#define METRIC_MAX_BOUNDS 64
#define METRIC_MAX_SERIES 16384
#define METRIC_MAX_TEXT 1024      /* bytes of a name, a help text, a label's value */

enum metric_kind {
    METRIC_COUNTER,               /* only grows; whole numbers or not */
    METRIC_GAUGE,                 /* goes up and down */
    METRIC_HISTOGRAM
};

struct metrics;                   /* the registry */
struct metric;                    /* one series */

struct metric_label { const char *name, *value; };

struct metric_spec {              /* copied */
    enum metric_kind kind;
    const char *name, *help;
    const struct metric_label *labels;
    size_t n_labels;
    const double *bounds;         /* histogram: upper bounds, rising, finite */
    size_t n_bounds;
    /* a gauge that is asked when read, from the reader's thread; else NULL */
    double (*read)(void *ctx);
    void  *ctx;
};

/* What a reader gets: one series at one moment. Good during the call only. */
struct metric_view {
    enum metric_kind kind;
    const char *name, *help;
    const struct metric_label *labels;
    size_t n_labels;
    double value;                 /* counter, gauge; histogram: sum of what was observed */
    const double *bounds;
    const uint64_t *counts;       /* [n_bounds + 1], each bucket's own; the last is above all */
    size_t n_bounds;
    uint64_t count;               /* sum of counts */
};
typedef void metric_fn(void *ctx, const struct metric_view *view);

int  metrics_open(struct metrics **out, struct err *e) MUST_CHECK;
/* Nobody may update a series any more. NULL is fine. */
void metrics_close(struct metrics *m);

/* Registers a series, or finds it. m NULL: *out becomes NULL, 0. WATT_EINVAL
 * (a bad name, or the name is in use for another kind or other bounds),
 * WATT_ELIMIT, WATT_ENOMEM. */
int  metric_open(struct metric **out, struct metrics *m, const struct metric_spec *spec,
                 struct err *e) MUST_CHECK;
/* A gauge with a read function falls silent: call before what ctx points to
 * goes away. NULL is fine. */
void metric_detach(struct metrics *m, struct metric *x);

/* x NULL does nothing. */
void metric_add(struct metric *x, uint64_t n);        /* counter */
void metric_add_f(struct metric *x, double amount);   /* counter (amount >= 0) or gauge */
void metric_set(struct metric *x, double value);      /* gauge */
void metric_observe(struct metric *x, double value);  /* histogram; NaN is not counted */

/* Calls fn for every series, those of one name together, names in order of
 * registration. Holds the registry's lock: fn must not register. */
void metrics_walk(struct metrics *m, metric_fn *fn, void *ctx);

#endif
