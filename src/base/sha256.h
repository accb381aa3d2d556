/* sha256.h: SHA-256 (FIPS 180-4), for names and checks of what lies on a disk. */
#ifndef BASE_SHA256_H
#define BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32

struct sha256 {
    uint32_t h[8];
    uint64_t n_bytes;
    uint8_t  block[64];
};

void sha256_init(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *bytes, size_t n);
void sha256_end(struct sha256 *s, uint8_t digest[SHA256_BYTES]);
/* All at once. */
void sha256(const void *bytes, size_t n, uint8_t digest[SHA256_BYTES]);

#endif
