/* api_store.h: answers that clients may ask for again, in a bounded memory.
 *
 * An entry is three texts of JSON under an id: the response as it was given, the items that went
 * in, and the conversation as chat templates want it, so that a later request goes on from it.
 * Entries belong to an account (an API key); others don't see them. The one that was used longest
 * ago goes when room is needed. Nothing is written to disk. Any thread may call. */
#ifndef APPLICATIONS_API_STORE_H
#define APPLICATIONS_API_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/err.h"

#define API_STORE_MAX_ENTRIES 4096u

struct api_store;

enum api_stored { API_STORED_RESPONSE, API_STORED_INPUT, API_STORED_MESSAGES, API_N_STORED };

int  api_store_open(struct api_store **out, uint64_t max_bytes, struct err *e) MUST_CHECK;
void api_store_close(struct api_store *s);      /* NULL is fine */
/* The documents stay the caller's. One that doesn't fit, or for which memory is short, is not
 * kept: clients cope with answers that are gone. */
void api_store_put(struct api_store *s, const char *id, uint64_t account,
                   const json_t *const docs[API_N_STORED]);
/* A new reference, or NULL: unknown, gone, or somebody else's. */
json_t *api_store_get(struct api_store *s, const char *id, uint64_t account, enum api_stored which);
bool api_store_drop(struct api_store *s, const char *id, uint64_t account);
uint64_t api_store_bytes(struct api_store *s);

#endif
