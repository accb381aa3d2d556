/* utf8.h: strict UTF-8 (RFC 3629: no surrogates, no overlong forms). */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UTF8_REPLACEMENT 0xFFFDu

/* Decodes one character of s[0..n), n > 0. Returns the bytes it took (1..4) and
 * sets *cp; on an invalid byte returns 1 and sets *cp to UTF8_REPLACEMENT and
 * *valid (may be NULL) to false. */
size_t utf8_decode(const char *s, size_t n, uint32_t *cp, bool *valid);
/* Writes 1..4 bytes to out and returns how many; an invalid cp is written as
 * U+FFFD. */
size_t utf8_encode(uint32_t cp, char out[4]);
bool   utf8_valid(const char *s, size_t n);
/* Length of the longest prefix that does not end inside a character: what a
 * stream may emit now. Bytes that can never become valid count as complete. */
size_t utf8_complete(const char *s, size_t n);

#endif
