/* shard.h: files of token ids that training reads: text, tokenized once.
 *
 * Layout, little-endian, parts in this order and each padded with zeros to 8 bytes:
 *
 *   header  96 bytes: char magic[8] "WATTSHRD"; u32 version 1; u32 flags (1: ids take 4 bytes,
 *           else 2; 2: has marks); u64 n_tokens; u64 n_docs; u64 n_vocab; u64 vocab_hash;
 *           u64 data_hash (of all behind the header); u64 reserved[4], zero; u64 header_hash (of
 *           what stands before it)
 *   ids     [n_tokens]
 *   ends    u64 [n_docs]: where each document ends, in tokens; increasing, the last is n_tokens
 *   marks   bit [n_tokens], lowest first: is the token one to learn? Without this part all are
 *
 * Hashes are XXH3 with 64 bits. vocab_hash is of the vocabulary the ids belong to
 * (shard_vocab_hash), so that a shard isn't used with another model's.
 *
 * A file is hostile: its size, header, order of ends, hash and every id are checked. Positions are
 * read with pread and never mapped, so that a file that somebody shortens meanwhile is an error and
 * not the end of the process; the system's page cache serves what is read again. */
#ifndef MODELS_TRAIN_SHARD_H
#define MODELS_TRAIN_SHARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "models/gguf.h"
#include "models/tokenizer.h"

#define SHARD_HEADER_BYTES 96u
#define SHARD_VERSION      1u
#define SHARD_MAX_TOKENS   ((uint64_t)1 << 44)

struct shard;

/* Checks everything, which reads the file once. WATT_EFORMAT names file and field. */
int  shard_open(struct shard **out, const char *path, struct err *e) MUST_CHECK;
void shard_close(struct shard *s);      /* NULL is fine */

const char *shard_path(const struct shard *s);
uint64_t shard_n_tokens(const struct shard *s);
uint64_t shard_n_docs(const struct shard *s);
uint64_t shard_n_vocab(const struct shard *s);
uint64_t shard_vocab(const struct shard *s);        /* vocab_hash */
uint64_t shard_hash(const struct shard *s);         /* data_hash: names the contents */
bool     shard_has_marks(const struct shard *s);

/* Tokens [first, first + n) into ids, and into marks (NULL: not wanted) 1 or 0 for each.
 * first + n <= shard_n_tokens. WATT_EIO: the file became shorter or can't be read;
 * WATT_EFORMAT: an id outside the vocabulary. Any thread. */
int  shard_read(const struct shard *s, uint64_t first, uint32_t n, int32_t *ids, uint8_t *marks,
                struct err *e) MUST_CHECK;
/* Where document i < shard_n_docs begins and ends. Any thread. */
int  shard_doc(const struct shard *s, uint64_t i, uint64_t *first, uint64_t *end,
               struct err *e) MUST_CHECK;

/* Does the file begin like a shard? False for what can't be read. */
bool shard_is(const char *path);
/* Of a vocabulary: its algorithm, size and every token's spelling. */
uint64_t shard_vocab_hash(const struct tokenizer *t);

/* ---- writing ---- */

struct shard_writer;

/* The file appears when shard_writer_commit succeeds (base/file.h). marks: documents bring one
 * byte per token. */
int  shard_writer_open(struct shard_writer **out, const char *path, uint64_t n_vocab,
                       uint64_t vocab_hash, bool marks, struct err *e) MUST_CHECK;
/* The next n tokens, and whether their document ends with them (n may be 0 when it does). A
 * document without tokens leaves no trace. */
int  shard_writer_add(struct shard_writer *w, const int32_t *ids, const uint8_t *marks, size_t n,
                      bool ends, struct err *e) MUST_CHECK;
uint64_t shard_writer_n_tokens(const struct shard_writer *w);
/* Frees w in every case. WATT_EINVAL: no document was added. */
int  shard_writer_commit(struct shard_writer *w, struct err *e) MUST_CHECK;
void shard_writer_abort(struct shard_writer *w);    /* NULL is fine */

#endif
