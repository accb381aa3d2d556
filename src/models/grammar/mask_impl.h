/* mask_impl.h: shared by mask.c, mask_counted.c and mask_plain.c. Internal to models/grammar. */
#ifndef MODELS_GRAMMAR_MASK_IMPL_H
#define MODELS_GRAMMAR_MASK_IMPL_H

#include <pthread.h>

#include "models/grammar/mask.h"

/* The states of a walk after a byte of the path: one (most often), or several in confs. */
struct frame {
    uint32_t state, node;           /* STATE_NONE: several */
    uint32_t first, n;              /* of confs */
    uint32_t n_nodes, n_edges;      /* of the stack after this byte */
    uint32_t top;                   /* of confs after this byte */
    uint32_t base;                  /* inside of a character: the state before it, to which it leads; else STATE_NONE */
    uint64_t loop;                  /* kinds of characters that may lead back here, or to base, or to states alike
                                     * (mask_pure.c) */
};

/* What a state does at characters by their kinds (token_trie.h). */
struct mask_kinds {
    uint64_t loop;                  /* all of a kind lead back to it, and on the way nothing else can happen */
    uint64_t dead;                  /* none of a kind leads on */
    uint64_t step;                  /* all of a kind lead to the plain state `to` */
    uint64_t run;                   /* up to n_run characters of these kinds lead from plain state to plain state */
    uint32_t to, n_run;
    bool     known, run_known, calls;
    bool     plain;                 /* it has transitions on bytes, and nothing else */
    bool     ends;                  /* it has those, and its rule may end; nothing else */
};

/* Of exits: every node below is one, too; but not those inside of characters. */
#define MASK_BELOW (1u << 31)
#define MASK_CHARS (1u << 30)
#define MASK_NODE  (MASK_CHARS - 1)

struct mask_profile;

struct grammar_masks {
    struct grammar          *g;
    const struct token_trie *t;
    atomic_uint              refs;
    pthread_mutex_t          mu;
    struct entry           **slots; /* under mu, as all below */
    uint32_t                 n_slots, n_entries;
    size_t                   bytes;
    struct gss               stack; /* scratch of walks */
    struct frame            *frames;    /* [max_depth + 1] */
    struct gss_config       *confs;
    uint32_t                 cap_confs;
    uint64_t                *bits;      /* [n_words] of the walk */
    uint32_t                *exits;     /* nodes where it left what is known */
    uint32_t                 n_exits, cap_exits;
    uint64_t                *exit_seen; /* [4][nodes / 64 + 1] bits of the exits, by their flags */
    struct mask_profile    **profiles;  /* [g->n_profiles], NULL until needed */
    struct mask_kinds       *kinds;     /* [g->n_states] as they were needed */
    struct mask_kinds       *profile_kinds;     /* [g->n_profiles] */
    uint64_t                 class_kinds[256];  /* of the bytes of each class of g */
    struct mask_stats        stats;
    uint32_t                 work;      /* of the mask that is being found, up to MASK_MAX_WORK */
};

/* ---- mask.c ---- */

/* A node at which GSS_OPEN was returned through while tokens go on, with MASK_BELOW and MASK_CHARS. */
bool mask_leaves_at(struct grammar_masks *m, uint32_t place);
/* The frame of what gss_finish left. */
bool mask_frame(struct grammar_masks *m, const struct gss *s, uint32_t top, struct frame *to);
/* Everything a byte leads to when it is not just another state of the same rule. */
bool mask_step(struct grammar_masks *m, struct gss *s, const struct frame *f, struct frame *to,
               unsigned char byte);

/* ---- mask_pure.c ---- */

const struct mask_kinds *mask_kinds_of(struct grammar_masks *m, uint32_t state);
/* Kinds of which all characters lead from before one of a block to before the next of the same kind. */
uint64_t mask_kinds_counted(struct grammar_masks *m, const struct grammar_block *b, uint32_t kind);
/* Kinds of which all characters lead back to a state, in a table or in a block. */
uint64_t mask_loop_of(struct grammar_masks *m, uint32_t state);
/* f->loop of a frame that is not inside of a character */
uint64_t mask_frame_loop(struct grammar_masks *m, const struct frame *f);
/* Node i lies after the place of f, and f->loop has all of its kinds. Do all tokens at and below it fit, with
 * the same states after each of their characters? *exits: 0, or the flags of exits from i on. < 0: the stack
 * failed. */
int mask_pure(struct grammar_masks *m, struct gss *s, const struct frame *f, uint32_t i,
              uint32_t *exits);
/* Kinds of characters whose first byte goes on from f. */
uint64_t mask_first_kinds(struct grammar_masks *m, const struct frame *f);

/* ---- mask_plain.c ---- */

/* Where a byte leads; *inner: to a place inside of a character, at which nothing else can happen. */
typedef uint32_t mask_next_fn(const void *ctx, uint32_t at, unsigned char byte, bool *inner);
/* Do all plain characters lead to one place, or all to none (STATE_NONE)? */
bool mask_plain_step(mask_next_fn *next, const void *ctx, uint32_t at, uint32_t *to);
/* Do all characters of more than a byte lead to `to`? TRIE_MULTI, and TRIE_BLANK unless blanks don't; or 0. */
uint64_t mask_multi_step(mask_next_fn *next, const void *ctx, uint32_t at, uint32_t to);
/* In a grammar's table, and in a block's: ctx of these. */
uint32_t mask_next_state(const void *g, uint32_t at, unsigned char byte, bool *inner);
struct mask_block {
    const struct grammar       *g;
    const struct grammar_block *b;
};
uint32_t mask_next_kind(const void *block, uint32_t at, unsigned char byte, bool *inner);
/* How many plain characters of any kind can follow a state, all alike, up to TRIE_MAX_PLAIN; 0: that
 * can't be said. Where fewer can, nothing plain follows them, so that the plain tokens that fit are
 * known by how many they have. */
uint32_t mask_plain_run(const struct grammar *g, uint32_t state);

/* ---- mask_counted.c ---- */

/* Before a character of a block: ors the tokens that follow into bits, and gives the nodes of the tree
 * at which the block's rule returns while tokens go on (none without with_exits); they are the same wherever *class is. False:
 * no memory, or too ambiguous. */
struct mask_exits {
    const uint32_t *nodes;
    uint32_t        n;
    uint32_t        class[3];   /* begins with a state that stands for no other key */
};
bool mask_counted(struct grammar_masks *m, uint32_t state, bool with_exits, uint64_t *bits,
                  struct mask_exits *out);
void mask_profile_close(struct mask_profile *p);
/* Is the state such a one? */
bool mask_is_counted(const struct grammar *g, uint32_t state);

#endif
