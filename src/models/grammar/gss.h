/* gss.h: where a text stands in a grammar: a set of states, each with the calls that led there.
 *
 * The calls of all states are one graph (a graph-structured stack, Tomita 1985): a node is "this
 * rule, called at this byte", its edges say where each caller goes on. So ambiguity and left
 * recursion cost states, not copies of stacks. Rules never end at the byte at which they were
 * called (cfg.c sees to it), hence a node has all its edges before it is first returned through.
 *
 * One owner thread. Nodes only grow; gss_compact drops those that no kept frontier reaches. */
#ifndef MODELS_GRAMMAR_GSS_H
#define MODELS_GRAMMAR_GSS_H

#include <stdbool.h>
#include <stdint.h>

#include "models/grammar/grammar_impl.h"

#define GSS_BOTTOM 0u       /* returning through it ends the text */
#define GSS_OPEN   1u       /* what lies below is not known (mask.c) */
#define GSS_FIRST  2u       /* the first real node */

#define GSS_MAX_CONFIGS 4096u       /* of one frontier */
#define GSS_MAX_NODES   (1u << 22)
#define GSS_MAX_WORK    (1u << 28)  /* comparisons since gss_rest: some tenths of a second */

struct gss_config {
    uint32_t state, node;
};

struct gss_edge {
    uint32_t back, parent, next;
};

struct gss_node {
    uint32_t start;         /* of the rule */
    uint32_t edges;         /* first, STATE_NONE without */
};

struct gss {
    struct gss_node   *nodes;
    struct gss_edge   *edges;
    struct gss_config *work;        /* [GSS_MAX_CONFIGS] of the step being taken */
    uint32_t n_nodes, cap_nodes, n_edges, cap_edges, n_work, cap_work;
    uint32_t n_spent;       /* work since gss_rest */
    bool     at_bottom, at_open;    /* the last step returned through these */
    bool     failed;                /* memory or a limit: the frontier is not to be used */
    bool     no_memory;             /* it was memory */
};

int  gss_init(struct gss *s, struct err *e) MUST_CHECK;
void gss_deinit(struct gss *s);
/* A node with one edge. */
uint32_t gss_push(struct gss *s, uint32_t start, uint32_t back, uint32_t parent);

/* Begins to count work anew: for each mask and each token. A step that goes beyond GSS_MAX_WORK fails. */
static inline void gss_rest(struct gss *s)
{
    s->n_spent = 0;
}
/* Starts a step: then gss_add for each state reached; gss_finish leaves the frontier (only states
 * with transitions) in s->work[0..n). */
void     gss_begin(struct gss *s);
void     gss_add(struct gss *s, uint32_t state, uint32_t node);
uint32_t gss_finish(struct gss *s, const struct grammar *g, uint32_t first_node);

/* One byte from a frontier; the result as of gss_finish. */
uint32_t gss_step(struct gss *s, const struct grammar *g, const struct gss_config *at, uint32_t n,
                  unsigned char c);

/* Keeps the nodes that configs reach and renames them there. */
int  gss_compact(struct gss *s, struct gss_config *configs, size_t n, struct err *e) MUST_CHECK;

#endif
