/* vocab.h: the smallest vocabularies: the bytes, or the characters of some files.
 *
 * Both are byte-level BPE vocabularies to whoever reads the model: a character of several bytes is
 * a token made of its bytes by merges of its own. Characters are in order of code point, so that a
 * file in ASCII gives the ids that its sorted set of characters would. */
#ifndef MODELS_TRAIN_VOCAB_H
#define MODELS_TRAIN_VOCAB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "models/gguf.h"
#include "models/tokenizer.h"

#define VOCAB_MAX_CHARS 65536u

struct char_vocab;

/* end: with a token <|endoftext|> that ends documents. */
int  char_vocab_open(struct char_vocab **out, bool end, struct err *e) MUST_CHECK;
void char_vocab_close(struct char_vocab *v);    /* NULL is fine */
/* Takes in the characters of a file; a byte that is in no character stands for itself. WATT_ELIMIT:
 * more than VOCAB_MAX_CHARS. */
int  char_vocab_add_file(struct char_vocab *v, const char *path, struct err *e) MUST_CHECK;
/* Takes in all 256 bytes. */
void char_vocab_add_bytes(struct char_vocab *v);

/* Tokens that char_vocab_write will write; nothing is added after this. WATT_EINVAL: none. */
int  char_vocab_finish(struct char_vocab *v, uint32_t *n_vocab, struct err *e) MUST_CHECK;
/* Adds the tokenizer's keys. */
int  char_vocab_write(const struct char_vocab *v, struct gguf_writer *w, struct err *e) MUST_CHECK;
/* The tokenizer that those keys describe. */
int  char_vocab_tokenizer(const struct char_vocab *v, struct tokenizer **out,
                          struct err *e) MUST_CHECK;

#endif
