/* bpe_train.h: makes a byte-level BPE vocabulary from text.
 *
 * Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words with
 * Subword Units" (2016), over bytes in GPT-2's alphabet. Text is cut by a named
 * pre-tokenizer (the names of tokenizer.ggml.pre); each different word is kept
 * once with its count; then the pair of neighbours that occurs most often becomes a
 * token, again and again. Of pairs that occur equally often the one whose left
 * token, then right token, is older goes first: the same text gives the same
 * vocabulary on any number of threads and any machine.
 *
 * Ids: 256 bytes in the order of GPT-2's alphabet, merged tokens in the order they
 * were made, then added tokens in the order given. Encoding text with the result
 * cuts every word exactly as training left it.
 *
 * Memory: the different words, at most bpe_train_opts.max_words of them (when there
 * are more, the rarest are forgotten, and bpe_train_dropped counts them), some 60
 * bytes each plus 20 per letter, and a batch of 32 MiB of text.
 * One owner thread; counting runs on a team of its own. */
#ifndef MODELS_BPE_TRAIN_H
#define MODELS_BPE_TRAIN_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "models/tokenizer.h"

/* Named maxima. */
#define BPE_TRAIN_MAX_ADDED 4096u
#define BPE_TRAIN_MAX_WORDS (1u << 24)
#define BPE_TRAIN_WORD_BYTES 512u       /* longer words are counted in parts of this length */
#define BPE_TRAIN_TOKEN_BYTES 256u      /* no token is longer */

/* A token that is not made from pairs. Its spelling in the text is no word. */
struct bpe_added {
    struct sv       text;
    enum token_kind kind;       /* TOKEN_CONTROL or TOKEN_USER_DEFINED */
};

struct bpe_train_opts {
    uint32_t                n_vocab;    /* ids in all, bytes and added tokens among them */
    const char             *pre;        /* NULL: "gpt-2" */
    const struct bpe_added *added;
    uint32_t                n_added;
    uint64_t                min_count;  /* pairs that are rarer don't merge; 0: 2 */
    uint32_t                max_words;  /* 0: BPE_TRAIN_MAX_WORDS */
    unsigned                n_threads;  /* 0: all */
    /* Called now and then while merging; not 0 ends training with WATT_ECANCEL. */
    int                   (*progress)(void *ctx, uint64_t done, uint64_t total);
    void                   *ctx;
};

struct bpe_train;
struct gguf_writer;

/* Copies what o points to. WATT_EINVAL an option is out of range, an added token
 * twice; WATT_ENOTSUP a pre-tokenizer that is unknown or not over bytes; WATT_ENOMEM. */
int  bpe_train_open(struct bpe_train **out, const struct bpe_train_opts *o, struct err *e) MUST_CHECK;
void bpe_train_close(struct bpe_train *b);      /* NULL is fine */

/* Counts the words of a document, any bytes; the end of a document ends a word.
 * WATT_ENOMEM; WATT_ELIMIT the pre-tokenizer gave up on it. */
int  bpe_train_add(struct bpe_train *b, const char *text, size_t len, struct err *e) MUST_CHECK;

/* Makes the vocabulary, once; no text can be added after it. Fewer tokens than asked
 * for come out when no pair is left. WATT_EINVAL no text was added. */
int  bpe_train_run(struct bpe_train *b, struct err *e) MUST_CHECK;

/* The result, after bpe_train_run: arrays that live as long as b. roles that the
 * added tokens have by their spelling are found when it is opened as a tokenizer. */
void bpe_train_spec(const struct bpe_train *b, struct vocab_spec *out);
uint64_t bpe_train_words(const struct bpe_train *b);        /* different ones */
uint64_t bpe_train_bytes(const struct bpe_train *b);        /* of text added */
uint64_t bpe_train_dropped(const struct bpe_train *b);      /* words that memory did not hold */

/* Adds the tokenizer.ggml.* keys of the result. eos: an added token's text, which
 * ends an answer, or empty; bos likewise. WATT_EINVAL: it is no token. */
int  bpe_train_write(const struct bpe_train *b, struct gguf_writer *w, struct sv bos, struct sv eos,
                     struct err *e) MUST_CHECK;

#endif
