/* api_keys.c: keys against the hashes that are known. */
#include "applications/api_keys.h"

#include <stdio.h>
#include <string.h>

#include "base/sha256.h"

void api_key_hash(const char *key, char out[API_KEY_HASH_BYTES])
{
    uint8_t digest[SHA256_BYTES];

    sha256(key, strlen(key), digest);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

bool api_key_known(const char *const *hashes, size_t n, const char *key)
{
    char hash[API_KEY_HASH_BYTES];
    bool known = false;

    if (strlen(key) > 1024)
        return false;
    api_key_hash(key, hash);
    for (size_t i = 0; i < n; i++) {
        unsigned char differs = 0;

        for (size_t k = 0; k < API_KEY_HASH_BYTES - 1; k++)
            differs |= (unsigned char)(hashes[i][k] ^ hash[k]);
        known |= differs == 0;
    }
    return known;
}
