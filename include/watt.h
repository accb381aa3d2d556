/* watt.h: the C interface of libwatt: open a model file, turn text into tokens,
 * run the model, draw tokens.
 *
 *     struct watt_error_info e;
 *     struct watt_model *m;
 *     struct watt_session *s;
 *     if (watt_model_open(&m, "model.gguf", NULL, &e) < 0) …
 *
 * examples/complete.c is a whole program; docs/library.md is the guide.
 *
 * Errors. What can fail returns 0 or a negative WATT_E… (watt_error.h) and takes
 * a struct watt_error_info last, which may be NULL. On failure outputs are left
 * as they were, unless said otherwise. The library never prints, never exits and
 * installs no signal handlers.
 *
 * Ownership. x_open gives an object that x_close frees; closing NULL is fine.
 * Sessions and samplers must be closed before their model. Pointers that a
 * function returns belong to the object they came from; the comment says until
 * when. Arguments are copied unless said otherwise.
 *
 * Threads. Tokenizing, rendering and watt_model_info may be called on one model
 * by any number of threads at once. A session or a sampler has one owner thread
 * at a time, and the sessions of one model may not run (watt_session_eval,
 * watt_generate) at the same time. watt_session_cancel may be called from any
 * thread and from a signal handler.
 *
 * Versions. Structs whose first member is `size` may grow at the end: set it to
 * the size of the struct you compiled with, or call the _init function. */
#ifndef WATT_H
#define WATT_H

#include <stddef.h>
#include <stdint.h>

#include "watt_error.h"

#define WATT_VERSION_MAJOR 0
#define WATT_VERSION_MINOR 1
#define WATT_VERSION_PATCH 0

#if defined(__GNUC__)
#define WATT_API __attribute__((visibility("default")))
#else
#define WATT_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct watt_model;      /* weights, vocabulary, chat template; read-only once open */
struct watt_session;    /* one text in the making: its tokens and their cache */
struct watt_sampler;    /* how the next token is drawn */

#define WATT_MESSAGE_BYTES 512

struct watt_error_info {
    int  code;                      /* 0 or WATT_E… */
    char msg[WATT_MESSAGE_BYTES];   /* UTF-8, one line; names file, field and value */
};

/* "0.1.0"; the library's, which may differ from the header's. */
WATT_API const char *watt_version(void);
/* "invalid argument", …; never NULL. */
WATT_API const char *watt_error_name(int code);

/* ---- models ---- */

/* Element type of the key/value cache. */
enum watt_kv_type { WATT_KV_DEFAULT, WATT_KV_F32, WATT_KV_F16, WATT_KV_BF16, WATT_KV_Q8_0 };

/* Threads of a model are bound to the memory node that they were placed on (nothing on machines
 * with one node), to a processor each, or not at all. With WATT_PIN_CPU or a list of processors
 * the thread that opens the model is bound as well, until it closes it. */
enum { WATT_PIN_NODE, WATT_PIN_CPU, WATT_PIN_NONE };

/* All zeros but `size` are the defaults; NULL in place of the struct, too. */
struct watt_model_options {
    size_t            size;         /* sizeof(struct watt_model_options) */
    uint32_t          n_threads;    /* 0: one per core of the processors this process may use */
    uint32_t          n_ctx;        /* tokens a session can hold; 0: what the model was trained
                                       for, at most 4,096 */
    uint32_t          n_sessions;   /* sessions that may be open at once; 0: 1 */
    enum watt_kv_type kv_type;      /* default: F32 where most weights are F32, else F16 */
    const char       *isa;          /* "ref", "avx2", "avx512", … joined by '+': no other kernels
                                       than these; NULL: the best this processor has */
    /* Called while weights are prepared, from the calling thread: done of total
     * bytes. May be NULL. */
    void            (*progress)(void *ctx, uint64_t done, uint64_t total);
    void             *progress_ctx;
    const char       *cpus;         /* "0-7,16": run on these processors only; NULL: all */
    int               pin;          /* WATT_PIN_… */
    const char       *weights_cache;    /* folder for prepared weights, mapped at the next opening;
                                       NULL: none */
    int               lock_memory;  /* not 0: weights and caches are never swapped out (mlock);
                                       refused when RLIMIT_MEMLOCK is too low */
};

/* Opens a GGUF file (a split model by its first part). The memory of all its
 * sessions is taken here; running allocates nothing that grows with the model. */
WATT_API int  watt_model_open(struct watt_model **out, const char *path,
                              const struct watt_model_options *options,
                              struct watt_error_info *e);
WATT_API void watt_model_close(struct watt_model *m);

struct watt_model_info {
    size_t      size;               /* set by the caller: sizeof(struct watt_model_info) */
    const char *architecture;       /* "llama"; strings live as long as the model */
    const char *name;               /* general.name, "" when absent */
    uint64_t    n_params;
    uint64_t    file_bytes;
    uint64_t    memory_bytes;       /* weights, caches of all sessions, work space */
    uint32_t    n_vocab, n_layers, n_embd;
    uint32_t    n_ctx_train;        /* the model's own context, tokens */
    uint32_t    n_ctx;              /* a session's, tokens */
    uint32_t    n_threads;
    int32_t     bos, eos;           /* token ids, -1: none */
    int         has_vocabulary;     /* can tokenize */
    int         has_chat_template;
};

/* Fills what fits in info->size bytes. WATT_EINVAL when size is 0. */
WATT_API int watt_model_info(const struct watt_model *m, struct watt_model_info *info,
                             struct watt_error_info *e);

/* ---- text and tokens ---- */

#define WATT_ADD_SPECIAL   1u   /* bos and the like, as the vocabulary asks */
#define WATT_PARSE_SPECIAL 2u   /* "<|im_end|>" in the text is the token, not its letters;
                                   never for what untrusted users wrote */

/* Writes up to cap ids and sets *n to how many the text has; when that is more
 * than cap, nothing is usable and the result is WATT_ELIMIT. ids may be NULL
 * with cap 0, to ask for the number. */
WATT_API int watt_tokenize(const struct watt_model *m, const char *text, size_t n_bytes,
                           unsigned flags, int32_t *ids, size_t cap, size_t *n,
                           struct watt_error_info *e);

#define WATT_SHOW_SPECIAL 1u    /* control tokens as they are spelled; else left out */

/* Writes the text's bytes and, where there is room, a NUL; sets *n_bytes to the
 * length without it. Text longer than cap is WATT_ELIMIT, as above. */
WATT_API int watt_detokenize(const struct watt_model *m, const int32_t *ids, size_t n,
                             unsigned flags, char *text, size_t cap, size_t *n_bytes,
                             struct watt_error_info *e);

/* The bytes of one token (perhaps part of a UTF-8 character), not
 * NUL-terminated, valid as long as the model; NULL and *n_bytes 0 for ids out
 * of range. */
WATT_API const char *watt_token_piece(const struct watt_model *m, int32_t id, size_t *n_bytes);
/* 1 when this token ends an answer. */
WATT_API int watt_token_is_end(const struct watt_model *m, int32_t id);

struct watt_message {
    const char *role;       /* "system", "user", "assistant", "tool" */
    const char *content;    /* UTF-8 */
};

/* Renders a conversation with the model's chat template, up to where the
 * assistant is to answer. Output as in watt_detokenize. Tokenize it with
 * WATT_PARSE_SPECIAL, and without WATT_ADD_SPECIAL: templates write their own
 * bos. WATT_ENOTSUP: the model has no template. */
WATT_API int watt_chat_render(const struct watt_model *m, const struct watt_message *messages,
                              size_t n, char *text, size_t cap, size_t *n_bytes,
                              struct watt_error_info *e);

/* ---- sessions ---- */

/* WATT_ELIMIT: n_sessions are open already. */
WATT_API int  watt_session_open(struct watt_session **out, struct watt_model *m,
                                struct watt_error_info *e);
WATT_API void watt_session_close(struct watt_session *s);
/* Back to no tokens; the memory is kept. */
WATT_API void watt_session_reset(struct watt_session *s);
/* Tokens held so far. */
WATT_API uint32_t watt_session_length(const struct watt_session *s);
/* Forgets all but the first n tokens. WATT_EINVAL when there are fewer;
 * WATT_ENOTSUP when this architecture's state can't go back to n: recurrent
 * models can to where one of the last two calls of watt_session_eval ended, and to 0. */
WATT_API int  watt_session_truncate(struct watt_session *s, uint32_t n, struct watt_error_info *e);
/* Appends n > 0 tokens and runs the model over them. *logits (may be NULL)
 * becomes the [n_vocab] scores of the token that follows the last one, valid
 * until the next call on s. WATT_ELIMIT: they don't fit in n_ctx (nothing was
 * appended). WATT_ECANCEL: stopped; the session holds the tokens that were done. */
WATT_API int  watt_session_eval(struct watt_session *s, const int32_t *ids, size_t n,
                                const float **logits, struct watt_error_info *e);
/* Makes the running call on s return WATT_ECANCEL soon, between two steps
 * (watt_generate: return 0 with the reason cancelled). With none running, the
 * next one. */
WATT_API void watt_session_cancel(struct watt_session *s);

/* ---- drawing tokens ---- */

struct watt_logit_bias {
    int32_t id;
    float   bias;           /* added to the logit; -INFINITY bans the token */
};

/* docs/sampler.md has the formulas. Defaults, as watt_sampler_options_init sets
 * them, are in brackets. */
struct watt_sampler_options {
    size_t   size;              /* sizeof(struct watt_sampler_options) */
    uint64_t seed;              /* [0] same seed, same text */
    float    temperature;       /* [0.8] 0: always the most probable token */
    float    dynatemp_range;    /* [0] */
    float    dynatemp_exponent; /* [1] */
    uint32_t top_k;             /* [40] 0: off */
    float    top_p;             /* [0.95] 1: off */
    float    min_p;             /* [0.05] 0: off */
    float    typical_p;         /* [1] 1: off */
    float    xtc_probability;   /* [0] 0: off */
    float    xtc_threshold;     /* [0.1] */
    float    repeat_penalty;    /* [1] 1: off */
    float    frequency_penalty; /* [0] */
    float    presence_penalty;  /* [0] */
    int32_t  penalty_last_n;    /* [64] tokens; -1: the whole context */
    float    dry_multiplier;    /* [0] 0: off */
    float    dry_base;          /* [1.75] */
    uint32_t dry_allowed_length;/* [2] */
    int32_t  dry_last_n;        /* [-1] */
    const char *const *dry_breakers;    /* [NULL: newline, colon, quote, asterisk] */
    size_t   n_dry_breakers;
    uint32_t mirostat;          /* [0] 2: version 2 */
    float    mirostat_tau;      /* [5] */
    float    mirostat_eta;      /* [0.1] */
    const struct watt_logit_bias *bias; /* [none] */
    size_t   n_bias;
    const char *order;          /* [NULL] "penalties;dry;top_k;typical_p;top_p;min_p;xtc;temperature" */
};

WATT_API void watt_sampler_options_init(struct watt_sampler_options *options);

/* options NULL: the defaults. */
WATT_API int  watt_sampler_open(struct watt_sampler **out, const struct watt_model *m,
                                const struct watt_sampler_options *options,
                                struct watt_error_info *e);
WATT_API void watt_sampler_close(struct watt_sampler *s);
/* Forgets the history and seeds again. */
WATT_API void watt_sampler_reset(struct watt_sampler *s);
/* Enters a token into the history that penalties look at. */
WATT_API void watt_sampler_accept(struct watt_sampler *s, int32_t id);
/* Draws from logits [n_vocab] of the model. mask: NULL or one bit per token, 1 =
 * allowed, bit id % 64 of word id / 64. Does not accept the token. */
WATT_API int  watt_sampler_sample(struct watt_sampler *s, const float *logits,
                                  const uint64_t *mask, int32_t *id, struct watt_error_info *e);

struct watt_logprob {
    int32_t id;
    float   logprob;        /* natural logarithm of the raw probability */
};

/* The n most probable tokens of softmax(logits), best first; returns how many. */
WATT_API size_t watt_sampler_top_logprobs(struct watt_sampler *s, const float *logits, size_t n,
                                          struct watt_logprob *out);

/* ---- generating ---- */

/* One step of an answer. text holds whole UTF-8 characters only and may be
 * empty: a character or a possible stop string is held back until it is
 * decided. Valid during the callback. */
struct watt_token {
    size_t      size;
    int32_t     id;         /* -1: no new token, text that had been held back */
    const char *text;       /* not NUL-terminated */
    size_t      n_bytes;
};

enum watt_stop_reason {
    WATT_STOP_END,          /* the model ended its answer */
    WATT_STOP_STRING,       /* a stop string came */
    WATT_STOP_LENGTH,       /* max_tokens */
    WATT_STOP_CONTEXT,      /* the session is full */
    WATT_STOP_CANCELLED     /* watt_session_cancel, or on_token asked */
};

struct watt_generate_options {
    size_t             size;        /* sizeof(struct watt_generate_options) */
    uint32_t           max_tokens;  /* 0: until the context is full */
    const char *const *stop;        /* the answer ends before the first of these; at most 16
                                       of 1..256 bytes */
    size_t             n_stop;
    int                ignore_end;  /* 1: go on after the model's end token */
    /* Called per step on the calling thread; not 0 ends the answer. May be NULL. */
    int              (*on_token)(void *ctx, const struct watt_token *t);
    void              *ctx;
};

struct watt_generate_result {
    size_t   size;                  /* set by the caller */
    enum watt_stop_reason reason;
    uint32_t n_prompt, n_generated; /* tokens */
    uint64_t prefill_ns;            /* running the prompt */
    uint64_t first_token_ns;        /* from the call to the first token */
    uint64_t decode_ns;             /* from the first token to the last */
};

/* Appends a prompt of n > 0 tokens to the session and an answer after it. Prompt
 * and answer enter the sampler's history. A prompt that doesn't fit is
 * WATT_ELIMIT with nothing appended; an answer never silently loses its
 * beginning: at the end of the context it stops. result may be NULL. */
WATT_API int watt_generate(struct watt_session *s, struct watt_sampler *sampler,
                           const int32_t *prompt, size_t n,
                           const struct watt_generate_options *options,
                           struct watt_generate_result *result, struct watt_error_info *e);

/* ---- embeddings ---- */

/* A model opened for vectors of texts, or for scores of documents; one owner thread. */
struct watt_embedder;

/* How a text's tokens become one vector: docs/embed.md. */
enum watt_pooling {
    WATT_POOLING_DEFAULT,   /* as the file says */
    WATT_POOLING_MEAN, WATT_POOLING_CLS, WATT_POOLING_LAST,
    WATT_POOLING_RANK       /* the classification head of a cross-encoder: for watt_rerank */
};

/* All zeros but `size` are the defaults; NULL in place of the struct, too. */
struct watt_embedder_options {
    size_t            size;         /* sizeof(struct watt_embedder_options) */
    enum watt_pooling pooling;
    int               raw;          /* 1: vectors as the model gives them, not of length 1 */
    int               truncate;     /* 1: longer texts lose their end; else WATT_ELIMIT */
    uint32_t          max_tokens;   /* of one text; 0: as trained, at most 8,192 */
    uint32_t          n_dims;       /* keep the first so many numbers; 0: all */
    uint32_t          n_threads;    /* 0: all processors this process may use */
    const char       *isa;          /* as in watt_model_options */
};

WATT_API int  watt_embedder_open(struct watt_embedder **out, const char *path,
                                 const struct watt_embedder_options *options,
                                 struct watt_error_info *e);
WATT_API void watt_embedder_close(struct watt_embedder *x);
/* Numbers of one vector. */
WATT_API uint32_t watt_embedder_width(const struct watt_embedder *x);
/* out: [n][watt_embedder_width]; texts are UTF-8. n_tokens: of all texts, may be NULL.
 * WATT_ELIMIT names the text that is too long. */
WATT_API int watt_embed(struct watt_embedder *x, const char *const *texts, size_t n, float *out,
                        uint64_t *n_tokens, struct watt_error_info *e);
/* scores: [n] how well each document answers the query, higher is better. WATT_EINVAL unless
 * opened with WATT_POOLING_RANK. */
WATT_API int watt_rerank(struct watt_embedder *x, const char *query, const char *const *documents,
                         size_t n, float *scores, uint64_t *n_tokens, struct watt_error_info *e);

#ifdef __cplusplus
}
#endif

#endif
