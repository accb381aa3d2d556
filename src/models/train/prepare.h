/* prepare.h: texts and records to a shard of tokens, by all threads.
 *
 * A file whose name ends in .jsonl (or .ndjson) has one record per line (models/train/chat_tokens.h),
 * each a document; empty lines are skipped. Any other file is text: one document, or one for each
 * line or paragraph (parts between empty lines). Documents get the vocabulary's tokens for
 * beginning and end. Long texts are tokenized in pieces of about 64 KiB that end with a line, and
 * files are read in blocks, so memory doesn't grow with them; the shard is the same for any number
 * of threads. */
#ifndef MODELS_TRAIN_PREPARE_H
#define MODELS_TRAIN_PREPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/team.h"
#include "models/template.h"
#include "models/tokenizer.h"

#define PREPARE_MAX_RECORD ((size_t)64 << 20)   /* bytes of a line of records, or of a paragraph */

enum prepare_split { PREPARE_FILE, PREPARE_LINES, PREPARE_PARAGRAPHS };
#define PREPARE_CHOICES "file|lines|paragraphs"

struct prepare_opts {
    const struct tokenizer *tok;
    const struct template  *tmpl;       /* NULL: no records of messages */
    enum prepare_split      split;      /* of texts */
    struct team            *team;       /* borrowed */
    /* Called between blocks; not 0 stops with WATT_ECANCEL. NULL: not. */
    int                   (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
    void                   *ctx;
};

struct prepare_result {
    uint64_t n_docs, n_tokens, n_learned;
    uint64_t n_hidden;      /* turns of the assistant that could not be learned */
};

/* Reads `path` and writes the shard `out`, which appears when complete. WATT_EFORMAT names file
 * and line. */
int prepare_shard(const char *path, const char *out, const struct prepare_opts *o,
                  struct prepare_result *r, struct err *e) MUST_CHECK;
/* Is the file one of records, by its name? */
bool prepare_is_records(const char *path);

#endif
