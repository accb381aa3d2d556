/* api_keys.h: API keys, known only by their SHA-256. */
#ifndef APPLICATIONS_API_KEYS_H
#define APPLICATIONS_API_KEYS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define API_KEY_HASH_BYTES 65       /* hexadecimal and a NUL */
#define API_MAX_KEYS       10000u

/* SHA-256 (FIPS 180-4) of the key in lower-case hexadecimal. */
void api_key_hash(const char *key, char out[API_KEY_HASH_BYTES]);
/* Compares with every hash, whichever fits: the time says nothing. */
bool api_key_known(const char *const *hashes, size_t n, const char *key);

#endif
