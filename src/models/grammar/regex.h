/* regex.h: regular expressions of JSON Schema's `pattern` and of `structured_outputs.regex`,
 * turned into automata over characters.
 *
 * The syntax is ECMA-262's with the `u` flag, as JSON Schema asks, plus what does no harm from
 * other dialects: \A \z \Z, possessive-free quantifiers of either greed, (?<name>…), (?P<name>…),
 * \p{General_Category}, \p{L}, \d \w \s (ASCII digits and words, Unicode spaces, as ECMA-262
 * has them). What is not a regular language or not known here is WATT_ENOTSUP and named:
 * look-around, word boundaries, back references, scripts, inline flags. */
#ifndef MODELS_GRAMMAR_REGEX_H
#define MODELS_GRAMMAR_REGEX_H

#include "base/err.h"
#include "base/str.h"
#include "models/grammar/fa.h"

#define REGEX_MAX_BYTES  (64u << 10)
#define REGEX_MAX_STATES (1u << 15)
#define REGEX_MAX_DEPTH  100u
#define REGEX_MAX_REPEAT 10000u

enum regex_match {
    REGEX_SEARCH,       /* somewhere in the string, as JSON Schema's pattern */
    REGEX_WHOLE         /* the whole string */
};

/* The automaton of the strings that match. `what` stands in front of messages. WATT_EFORMAT
 * with the place, WATT_ENOTSUP, WATT_ELIMIT, WATT_ENOMEM. */
int regex_compile(struct dfa **out, struct sv pattern, enum regex_match match, const char *what,
                  struct err *e) MUST_CHECK;

/* A set of characters as sorted disjoint ranges, growing. */
struct charset {
    uint32_t (*ranges)[2];
    uint32_t n, cap;
    bool     failed;
};

void charset_deinit(struct charset *s);
void charset_add(struct charset *s, uint32_t lo, uint32_t hi);
void charset_merge(struct charset *s, const struct charset *other);
void charset_invert(struct charset *s);         /* of all characters but surrogates */
void charset_normalise(struct charset *s);      /* sorts and joins; others leave it unsorted */

#endif
