/* session.h: a model bound to memory and an executor: sequences, tokens in, logits out.
 *
 * The simple face of the engine, for one caller: `watt run`, `watt logits`, the
 * library. All memory is had at open (weights as the executor wants them, KV pages, arena,
 * scratch); nothing is allocated while tokens are evaluated. One owner thread.
 *
 * A session has n_seqs sequences, numbered from 0, all empty at first. Each holds its
 * tokens' keys and values in pages of a common pool; forked sequences share full pages. */
#ifndef MODELS_SESSION_H
#define MODELS_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/team.h"
#include "chips/dtype.h"
#include "chips/profile.h"
#include "models/model.h"

struct weights_pool;

enum session_exec {
    SESSION_EXEC_CPU,       /* the thread team with packed weights */
    SESSION_EXEC_REF        /* the scalar reference interpreter: slow, exact */
};

#define SESSION_KV_AUTO DTYPE_COUNT     /* F32 where most of the weights are F32, else F16 */

struct session_opts {       /* zero means the default everywhere */
    uint32_t n_ctx;         /* positions that one sequence can hold; default: as trained, but
                             * at most 4096 */
    uint32_t n_seqs;        /* sequences; default 1 */
    uint32_t max_rows;      /* tokens of one step; longer inputs are cut into such chunks, which
                             * does not change a bit; default 512, or n_ctx for models that take
                             * an input in one step */
    uint32_t max_out;       /* wanted rows of one step; SESSION_ALL inputs are cut so that no
                             * step wants more; default n_seqs, as generation needs, or 128 for
                             * diffusion models, whose blocks want more */
    uint64_t kv_bytes;      /* budget of KV pages; default: n_seqs * n_ctx positions */
    uint32_t n_marks;       /* positions of each sequence that session_mark can keep for
                             * session_truncate; each costs a fixed state; default 0 */
    bool     kv_set;        /* the two types below are meant; false: SESSION_KV_AUTO */
    enum dtype k_dtype, v_dtype;
    /* Another open session of the same model to share executor, weights, arena and scratch
     * with; n_seqs, max_rows and max_out are at most its, and threads, types and exec are its.
     * Sharing sessions must not run at the same time; they may be closed in any order. */
    struct session *share;
    /* Prepared weights shared with other sessions of the same file, which may be other models of it
     * (model_opts.embed); borrowed, must outlive the session; sessions of a pool are opened and closed
     * by one thread at a time; NULL: none. */
    struct weights_pool *weights_pool;
    enum session_exec exec;
    struct team *team;      /* borrowed; must outlive the session; NULL: one of its own with */
    unsigned n_threads;     /* this many threads; default: base/topology.h */
    enum team_pin pin;      /* of a team of its own */
    const struct topo_set *cpus;    /* likewise: processors to use; read at open; NULL: all */
    bool     lock;          /* keep weights, caches and work space in memory (mlock) */
    uint32_t isa_mask;      /* chips/cpu/features.h; 0: all that the machine has */
    /* A folder for prepared weights, mapped at the next start (chips/cpu/weights_cache.h); NULL:
     * none. Bytes it may hold (0: the default there); hash all of a file before it is used. */
    const char *weights_cache;
    uint64_t weights_cache_bytes;
    bool     weights_cache_verify;
    /* What a person may want to know about that; NULL: not told. */
    void   (*note)(void *note_ctx, const char *text);
    void    *note_ctx;
    /* While weights are prepared; NULL: not. Non-zero stops with WATT_ECANCEL. */
    int    (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
    void    *ctx;
};

struct session_memory {     /* bytes, all had at open */
    uint64_t weights;       /* the executor's copies */
    uint64_t shared;        /* weights of a pool that were, or are, there already; not in total */
    uint64_t mapped;        /* weights read from the file mapping while running */
    uint64_t kv;            /* pages of the whole pool, resident once touched */
    uint64_t fixed;         /* fixed states of all sequences and marks */
    uint64_t arena, scratch;
    uint64_t requests;      /* of a service: requests' own buffers and the tables they stand in */
    uint64_t draft;         /* of a service: all that its draft model takes */
    uint64_t total;         /* sum of the above, but for shared */
    uint64_t kv_token;      /* bytes of one position */
    uint64_t fixed_seq;     /* bytes of one fixed state */
};

/* Enough for a conversation whose last turn is rendered anew: the ends of two prompts. */
#define SESSION_CHAT_MARKS 2u

enum session_want { SESSION_NONE, SESSION_FIRST, SESSION_LAST, SESSION_SOME, SESSION_ALL };

/* Tokens to append to one sequence. */
struct session_input {
    uint32_t       seq;
    const int32_t *tokens;
    uint32_t       n_tokens;    /* > 0 */
    enum session_want want;     /* which rows' results; models that pool give one row per input,
                                 * whatever is wanted */
    const int32_t *types;       /* [n_tokens] token types (segments); NULL: all 0 */
    uint32_t       first_wanted, n_wanted;  /* SESSION_SOME: rows of the input, n_wanted > 0 */
};

/* How many threads a session of these options runs, without its team. */
unsigned session_threads(const struct session_opts *opts);
/* The team that it would make for itself, for a caller who wants to share it. */
int  session_team_open(struct team **out, const struct session_opts *opts,
                       struct err *e) MUST_CHECK;

struct session;
struct exec;
struct kv_layout;

/* WATT_ELIMIT with the numbers when the options can't fit, WATT_EINVAL, WATT_ENOMEM. m is
 * borrowed and must outlive the session. */
int  session_open(struct session **out, const struct model *m, const struct session_opts *opts,
                  struct err *e) MUST_CHECK;
void session_close(struct session *s);      /* NULL is fine */
/* What session_open would take, without taking it. */
int  session_plan(const struct model *m, const struct session_opts *opts,
                  struct session_memory *mem, struct err *e) MUST_CHECK;

void     session_memory(const struct session *s, struct session_memory *mem);
uint32_t session_n_ctx(const struct session *s);
uint32_t session_n_seqs(const struct session *s);
uint32_t session_max_rows(const struct session *s);
uint32_t session_max_out(const struct session *s);
uint32_t session_width(const struct session *s);            /* floats per row of results */
const char *session_exec_name(const struct session *s);
/* What a session runs on, for whoever fills batches itself over pages of its own (service.h) and
 * uses no sequence of the session: the executor, and how it lays keys and values out. */
struct exec *session_exec(const struct session *s);
const struct kv_layout *session_layout(const struct session *s);
/* Tokens that the sequence holds: its next position. */
uint32_t session_len(const struct session *s, uint32_t seq);

/* Appends every input's tokens (each sequence at most once in the list) and writes the
 * wanted rows to out, in the order of the inputs, session_width floats each (out may be NULL
 * when none is wanted). Models that read both ways (model_facts.causal false) or pool take an
 * input in one step: it sees what the sequence holds and itself, so inputs that follow each
 * other are blocks of a block-causal mask. Room is checked before anything is changed: WATT_ELIMIT "context
 * full" with the numbers when a sequence or the pool can't hold the tokens, WATT_EINVAL for
 * an id outside the vocabulary. On failure every sequence is as it was. */
int  session_eval(struct session *s, const struct session_input *in, uint32_t n_in, float *out,
                  struct err *e) MUST_CHECK;
/* The common case: one sequence, logits of the last token. */
int  session_append(struct session *s, uint32_t seq, const int32_t *tokens, uint32_t n_tokens,
                    float *logits, struct err *e) MUST_CHECK;

/* Keeps the first n_keep positions. Models with fixed state go back only to where session_mark
 * was called, or to 0: WATT_ENOTSUP otherwise, and nothing is changed. */
int  session_truncate(struct session *s, uint32_t seq, uint32_t n_keep, struct err *e) MUST_CHECK;
/* The longest beginning of at most n positions that session_truncate can keep. */
uint32_t session_reach(const struct session *s, uint32_t seq, uint32_t n);
/* Lets the sequence come back to where it is; of more than n_marks the oldest is forgotten.
 * Costs nothing, and is not needed, without fixed state. */
void session_mark(struct session *s, uint32_t seq);
void session_reset(struct session *s, uint32_t seq);        /* empties a sequence */
/* Begins to note where the time of steps goes (again: from zero), or stops; WATT_ENOMEM. Sessions
 * that share an executor share this too. */
int  session_profile(struct session *s, bool on, struct err *e) MUST_CHECK;
/* What was noted, by instructions of model_program(); NULL: nothing. Valid until the next call
 * that evaluates or closes. */
const struct profile *session_profiled(const struct session *s);
/* fn is told after every step of this session what it computed and moved, by the program's cost
 * model: for estimates of energy. NULL: nobody asks. */
void session_on_work(struct session *s, void (*fn)(void *ctx, double ops, double bytes), void *ctx);

/* Makes `to` a copy of `from` with its marks (what `to` held is dropped). Shares everything until
 * one of them is appended to. */
int  session_fork(struct session *s, uint32_t from, uint32_t to, struct err *e) MUST_CHECK;
/* Which of the model's adapters an empty sequence's tokens use from now on (model_opts.adapters,
 * from 1; 0: none). Stays until set again; forks have it too. WATT_EINVAL. */
int  session_set_adapter(struct session *s, uint32_t seq, uint32_t adapter, struct err *e) MUST_CHECK;
/* How much of what it adds [1]; of an empty sequence too, and stays as long. WATT_EINVAL: not
 * finite, or 0, for which there is adapter 0. */
int  session_set_adapter_scale(struct session *s, uint32_t seq, float scale, struct err *e) MUST_CHECK;

#endif
