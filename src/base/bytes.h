/* bytes.h: little-endian numbers at any address, on any machine. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint16_t load_le16(const void *p)
{
    const uint8_t *b = p;

    return (uint16_t)(b[0] | b[1] << 8);
}

static inline uint32_t load_le32(const void *p)
{
    const uint8_t *b = p;

    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static inline uint64_t load_le64(const void *p)
{
    const uint8_t *b = p;

    return load_le32(b) | (uint64_t)load_le32(b + 4) << 32;
}

static inline float load_le_f32(const void *p)
{
    const uint32_t bits = load_le32(p);
    float f;

    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline double load_le_f64(const void *p)
{
    const uint64_t bits = load_le64(p);
    double d;

    memcpy(&d, &bits, sizeof d);
    return d;
}

static inline void store_le16(void *p, uint16_t v)
{
    uint8_t *b = p;

    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
}

static inline void store_le32(void *p, uint32_t v)
{
    uint8_t *b = p;

    store_le16(b, (uint16_t)v);
    store_le16(b + 2, (uint16_t)(v >> 16));
}

static inline void store_le64(void *p, uint64_t v)
{
    uint8_t *b = p;

    store_le32(b, (uint32_t)v);
    store_le32(b + 4, (uint32_t)(v >> 32));
}

static inline void store_le_f32(void *p, float f)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof bits);
    store_le32(p, bits);
}

#endif
