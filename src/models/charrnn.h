/* charrnn.h: character models of char-rnn-tensorflow as ml5 publishes them, opened as if they were
 * GGUF files.
 *
 * The folder has manifest.json (variable name: file name and shape), a file of little-endian f32 per
 * variable, and vocab.json (character: id). Layers are TensorFlow's BasicLSTMCell: one matrix over
 * the input and the hidden state side by side, gates in the order in, candidate, forget, out,
 * 1 added to the forget gate. They become architecture "lstm" (models/arch/lstm.c), the vocabulary
 * one token per character. Nothing in a folder is trusted. */
#ifndef MODELS_CHARRNN_H
#define MODELS_CHARRNN_H

#include <stdbool.h>

#include "base/err.h"
#include "models/gguf.h"

/* Is this path a folder with a manifest.json and a vocab.json? */
bool charrnn_is_folder(const char *path);

/* On failure *out is untouched: WATT_ENOENT, WATT_EFORMAT, WATT_ELIMIT, WATT_EIO, WATT_ENOMEM.
 * warn (may be NULL) is told of characters that the vocabulary lost: entries that are no single
 * character get the letters of a-z and A-Z that are missing, in that order by id (ids go from
 * frequent to rare). */
int charrnn_open(struct gguf **out, const char *path, void (*warn)(void *ctx, const char *text),
                 void *ctx, struct err *e) MUST_CHECK;

#endif
