/* bpe_words.h: counts the different words of a text, on a team of threads. Part of
 * models/bpe_train.h, which says what is counted.
 *
 * Text is taken in batches. Workers take parts of a batch and count into tables of
 * their own, cut into shards by hash; then each shard of all workers is added to the
 * words counted so far. Sums do not depend on who counted what, and words are put in
 * the order of their bytes at the end, so nothing of the threads is left in the result. */
#ifndef MODELS_BPE_WORDS_H
#define MODELS_BPE_WORDS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "models/bpe_train.h"

struct bpe_words;

struct bpe_word {
    const char *bytes;
    uint32_t    len;        /* 1..BPE_TRAIN_WORD_BYTES */
    uint64_t    count;
};

/* o: pre, added, max_words, n_threads as bpe_train_open has checked them; added must
 * stay where it is until bpe_words_close. */
int  bpe_words_open(struct bpe_words **out, const struct bpe_train_opts *o, struct err *e) MUST_CHECK;
void bpe_words_close(struct bpe_words *w);      /* NULL is fine */
int  bpe_words_add(struct bpe_words *w, const char *text, size_t len, struct err *e) MUST_CHECK;
/* Ends counting. *words: mem_free it; [n], in the order of their bytes; what they point to
 * lives as long as w. */
int  bpe_words_finish(struct bpe_words *w, struct bpe_word **words, uint32_t *n, struct err *e) MUST_CHECK;
uint64_t bpe_words_dropped(const struct bpe_words *w);

#endif
