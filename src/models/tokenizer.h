/* tokenizer.h: text to token ids and back, exactly as the model's own tokenizer.
 *
 * A tokenizer is opened from a GGUF file's `tokenizer.ggml.*` keys or from a
 * struct vocab_spec in memory. Algorithms: byte-level BPE (Sennrich et al. 2016;
 * GPT-2's byte alphabet) with the published pre-tokenizer of each family,
 * SentencePiece BPE with byte fallback, SentencePiece Unigram (Kudo 2018),
 * WordPiece (Devlin et al. 2018), RWKV's greedy trie, PLaMo-2's suffix automaton.
 * docs/tokenizer.md says where each came from and what is checked.
 *
 * Nothing in a vocabulary is trusted: an error names the key and the entry.
 *
 * Threads: immutable after open; any number of threads may use it at once. What
 * encoding needs to write lives in a struct tokenizer_scratch, one per thread. */
#ifndef MODELS_TOKENIZER_H
#define MODELS_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct gguf;
struct tokenizer;
struct tokenizer_scratch;

/* Named maxima. */
#define TOKENIZER_MAX_VOCAB       (1u << 22)
#define TOKENIZER_MAX_MERGES      (1u << 23)
#define TOKENIZER_MAX_PIECE_BYTES (1u << 16)            /* text of one token */
#define TOKENIZER_MAX_TEXT_BYTES  ((size_t)1 << 30)     /* one call of encode */

enum tokenizer_type {
    TOKENIZER_NONE,     /* the model has no text vocabulary: ids only */
    TOKENIZER_BPE,      /* byte-level BPE, "gpt2"; also "gemma4" */
    TOKENIZER_SPM,      /* SentencePiece BPE, "llama" */
    TOKENIZER_WPM,      /* WordPiece, "bert" */
    TOKENIZER_UGM,      /* SentencePiece Unigram, "t5" */
    TOKENIZER_RWKV,     /* greedy longest match, "rwkv" */
    TOKENIZER_PLAMO2    /* "plamo2" */
};

/* Kinds of token, numbered as tokenizer.ggml.token_type numbers them. */
enum token_kind {
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN = 2,
    TOKEN_CONTROL = 3,      /* <s>, <|im_end|>: never made from user text unless PARSE_SPECIAL */
    TOKEN_USER_DEFINED = 4, /* added text, always matched whole */
    TOKEN_UNUSED = 5,
    TOKEN_BYTE = 6          /* <0x0A>: one byte */
};

/* What a token does to the text around it (Hugging Face's AddedToken), as flags
 * of vocab_spec.attrs. */
#define TOKEN_LSTRIP 1u     /* swallows white space before it */
#define TOKEN_RSTRIP 2u     /* swallows white space after it */
#define TOKEN_SINGLE_WORD 4u /* not inside a word */

/* Ids with a role; -1 where the vocabulary has none. */
enum token_role {
    TOKEN_BOS, TOKEN_EOS, TOKEN_EOT, TOKEN_EOM, TOKEN_UNK, TOKEN_SEP, TOKEN_PAD,
    TOKEN_CLS, TOKEN_MASK, TOKEN_NL,
    TOKEN_FIM_PRE, TOKEN_FIM_SUF, TOKEN_FIM_MID, TOKEN_FIM_PAD, TOKEN_FIM_REP, TOKEN_FIM_SEP,
    TOKEN_ROLES
};

/* A vocabulary in memory: tests, trained tokenizers, other file formats. All
 * arrays are the caller's and are copied by tokenizer_open_spec. */
struct vocab_spec {
    const char      *name;      /* for messages; NULL: "vocabulary" */
    const char      *model;     /* as tokenizer.ggml.model: "gpt2", "llama", "bert", "t5",
                                   "rwkv", "plamo2", "gemma4", "none" */
    const char      *pre;       /* as tokenizer.ggml.pre; NULL or "": the model's default */
    uint32_t         n_tokens;
    const struct sv *tokens;    /* [n_tokens], in the file's spelling (GPT-2 letters for
                                   byte-level BPE, U+2581 for SentencePiece) */
    const float     *scores;    /* [n_tokens] or NULL: zeros */
    const int32_t   *kinds;     /* [n_tokens] of enum token_kind or NULL: all normal */
    const uint8_t   *attrs;     /* [n_tokens] of TOKEN_LSTRIP… or NULL: none */
    uint32_t         n_merges;
    const struct sv *merges;    /* [n_merges] "left right", best first */
    /* Stages of a pre-tokenizer without a name, as regular expressions; they come before `pre`. */
    uint32_t         n_patterns;
    const struct sv *patterns;  /* [n_patterns] */
    struct sv        charsmap;  /* SentencePiece precompiled normaliser, or empty */
    int32_t          roles[TOKEN_ROLES];    /* vocab_spec_init: -1 */
    /* -1: the model's default; 0 or 1. */
    int              add_bos, add_eos, add_sep, add_space_prefix, remove_extra_whitespaces,
                     escape_whitespaces, ignore_merges, lowercase, strip_accents, nfc;
};

/* Everything unset. */
void vocab_spec_init(struct vocab_spec *s);

/* Opens the vocabulary of a model file; g is not needed afterwards. On failure
 * *out is untouched: WATT_ENOENT no tokenizer.ggml.model key, WATT_EFORMAT a bad
 * value, WATT_ENOTSUP an unknown model or pre-tokenizer, WATT_ENOMEM. */
int  tokenizer_open(struct tokenizer **out, const struct gguf *g, struct err *e) MUST_CHECK;
int  tokenizer_open_spec(struct tokenizer **out, const struct vocab_spec *s,
                         struct err *e) MUST_CHECK;
void tokenizer_close(struct tokenizer *t);      /* NULL is fine */

enum tokenizer_type tokenizer_type(const struct tokenizer *t);
const char *tokenizer_type_name(enum tokenizer_type type);  /* "BPE", "SPM", …, "none" */
const char *tokenizer_pre(const struct tokenizer *t);       /* "" when it has none */
uint32_t    tokenizer_n_vocab(const struct tokenizer *t);
uint32_t    tokenizer_n_merges(const struct tokenizer *t);

/* The id of a role, -1 when there is none. */
int32_t tokenizer_role(const struct tokenizer *t, enum token_role role);
static inline int32_t tokenizer_bos(const struct tokenizer *t) { return tokenizer_role(t, TOKEN_BOS); }
static inline int32_t tokenizer_eos(const struct tokenizer *t) { return tokenizer_role(t, TOKEN_EOS); }
/* Does this id end a generation? eos, eot, eom and the turn-ending tokens that
 * are known by their text. False for ids out of range. */
bool    tokenizer_is_eog(const struct tokenizer *t, int32_t id);
/* What TOKENIZE_ADD_SPECIAL adds. */
bool    tokenizer_add_bos(const struct tokenizer *t);
bool    tokenizer_add_eos(const struct tokenizer *t);

/* Ids out of range: TOKEN_UNUSED and an empty text. */
enum token_kind tokenizer_kind(const struct tokenizer *t, int32_t id);
/* TOKEN_LSTRIP … flags. */
unsigned        tokenizer_attrs(const struct tokenizer *t, int32_t id);
/* The token as the file spells it. Lives as long as t. */
struct sv       tokenizer_text(const struct tokenizer *t, int32_t id);
/* SentencePiece score; 0 without scores. */
float           tokenizer_score(const struct tokenizer *t, int32_t id);
/* The id spelled exactly so in the file, -1 when there is none; the lowest id
 * of several. */
int32_t         tokenizer_find(const struct tokenizer *t, struct sv text);
/* The bytes that the token stands for inside a text (a leading space kept; a
 * control token gives its spelling). Lives as long as t. */
struct sv       tokenizer_piece(const struct tokenizer *t, int32_t id);

/* ---- encoding ---- */

/* A growing list of ids. Zeroed is empty; tokens_deinit frees it. */
struct tokens {
    int32_t *ids;
    size_t   n, cap;
};

void tokens_deinit(struct tokens *v);
/* False when memory is short (then v is unchanged). */
bool tokens_push(struct tokens *v, int32_t id);
bool tokens_reserve(struct tokens *v, size_t n_more);

/* Flags of tokenizer_encode. Without PARSE_SPECIAL the spelling of a control
 * token in the text is ordinary text: what an untrusted user wrote must be
 * encoded so. User-defined tokens are matched either way. */
#define TOKENIZE_ADD_SPECIAL   1u   /* bos, eos, cls, sep as the vocabulary asks */
#define TOKENIZE_PARSE_SPECIAL 2u
#define TOKENIZE_NO_BOS        4u   /* with ADD_SPECIAL: all but bos */
#define TOKENIZE_NO_PREFIX     8u   /* SPM and Unigram: no leading space before the text
                                       (it goes on where other text ended) */

/* Appends the ids of text[0..len) to out. The bytes need not be valid UTF-8:
 * byte-level and byte-fallback vocabularies encode every byte that has a token
 * (some lack those that UTF-8 never has, F5 to FF); the others see U+FFFD per bad
 * byte. scratch NULL: one is made for this call. Time is
 * O(len log len) for any text, memory O(len). On failure out holds what it held:
 * WATT_ELIMIT text too long, WATT_ENOTSUP no vocabulary, WATT_ENOMEM. */
int  tokenizer_encode(const struct tokenizer *t, struct tokenizer_scratch *scratch,
                      const char *text, size_t len, unsigned flags, struct tokens *out,
                      struct err *e) MUST_CHECK;

/* One thread's working memory and cache of words; bounded. It may outlive no
 * tokenizer. WATT_ENOMEM. */
int  tokenizer_scratch_open(struct tokenizer_scratch **out, const struct tokenizer *t,
                            struct err *e) MUST_CHECK;
void tokenizer_scratch_close(struct tokenizer_scratch *s);  /* NULL is fine */

/* ---- decoding ---- */

#define DETOKENIZE_SPECIAL  1u  /* control tokens appear as spelled; else they are dropped */
#define DETOKENIZE_CONTINUE 2u  /* the ids go on a text: keep the first token's leading space */
#define DETOKENIZE_CLEAN    4u  /* WordPiece: " ." becomes "." and so on */

/* Appends the bytes of ids[0..n) to out, exactly: a token that is half of a
 * character gives half of a character. The leading space that encoding adds
 * (SentencePiece) is taken away again unless CONTINUE. Ids out of range are
 * WATT_EINVAL. out->failed is checked: WATT_ENOMEM. */
int  tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n, unsigned flags,
                      struct str *out, struct err *e) MUST_CHECK;

/* Streaming: tokens in, whole UTF-8 characters out. Holds back at most 3 bytes,
 * which begin a character that may still become valid. A byte that cannot belong
 * to a character comes out as U+FFFD, one per maximal ill-formed part (Unicode
 * 3.9, as browsers and Python do). One owner thread; nothing but `out` grows: at
 * most 3 bytes per byte of the piece and of what was held. */
#define DETOK_HOLD 3

struct detok {
    const struct tokenizer *t;
    unsigned char           held[DETOK_HOLD + 1];
    uint8_t                 n_held;
    bool                    at_start;   /* nothing was pushed yet */
    unsigned                flags;
    const int32_t          *shown;      /* [n_shown] control tokens that appear as spelled; */
    size_t                  n_shown;    /* borrowed */
};

/* flags: DETOKENIZE_…. */
void detok_init(struct detok *d, const struct tokenizer *t, unsigned flags);
/* Appends to out what can be said for certain after this token. Ids out of range
 * give nothing. out is valid UTF-8 if it was before. */
void detok_push(struct detok *d, int32_t id, struct str *out);
/* The end: an unfinished character comes out as U+FFFD; d is as after init. */
void detok_finish(struct detok *d, struct str *out);

#endif
