/* json_scan.h: JSON read byte by byte (RFC 8259, strict), for text that is still being written:
 * says where keys and values begin and end, and where the text stops being JSON. No memory of
 * its own; one owner thread. */
#ifndef MODELS_JSON_SCAN_H
#define MODELS_JSON_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#define JSON_SCAN_MAX_DEPTH 128u

/* What a byte is. */
#define JSON_SCAN_BAD    1u     /* not JSON; the scanner stays as it was before the byte */
#define JSON_SCAN_BEGIN  2u     /* the first byte of a value */
#define JSON_SCAN_END    4u     /* the last byte of a value */
#define JSON_SCAN_BEFORE 8u     /* a number ended before this byte */
#define JSON_SCAN_KEY    16u    /* part of a key, quotes included */
#define JSON_SCAN_KEY_END 32u   /* its last quote */
#define JSON_SCAN_DONE   64u    /* the value that the scanner was made for is complete */

struct json_scan {
    uint8_t  state, hex;
    bool     key, text;         /* the string is a key; inside a string */
    uint32_t depth;             /* of open objects and arrays */
    uint64_t objects[JSON_SCAN_MAX_DEPTH / 64];     /* bit: that level is an object */
    const char *word;           /* what is left of true, false, null */
};

void json_scan_init(struct json_scan *s);
/* Flags of the byte. A number at depth 0 has no end of its own: it is never DONE. */
unsigned json_scan_push(struct json_scan *s, unsigned char c);

#endif
