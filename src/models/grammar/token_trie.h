/* token_trie.h: a vocabulary as a tree of bytes, laid out for walking: a node is followed by its
 * children, and says where its next sibling is. Immutable, shared by threads. */
#ifndef MODELS_GRAMMAR_TOKEN_TRIE_H
#define MODELS_GRAMMAR_TOKEN_TRIE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "models/tokenizer.h"

#define TRIE_MAX_DEPTH 256u     /* longer tokens are never allowed under a grammar */
#define TRIE_MAX_PLAIN 32u      /* characters of a plain token */

/* Characters that stand for themselves in JSON strings and in nearly every other text: all but controls,
 * quotes and backslashes. A token of 1 to TRIE_MAX_PLAIN whole ones is plain. */
static inline bool trie_plain_byte(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

/* Kinds of characters, bits of a set: small letters and what else of ASCII occurs in texts most often by
 * themselves (a few together), digits, capitals in two parts, the controls; blanks and ends of lines
 * beyond ASCII; all characters beyond ASCII; bytes that make no whole character; a place inside of one. */
#define TRIE_BLANK   ((uint64_t)1 << 60)
#define TRIE_MULTI   ((uint64_t)1 << 61)
#define TRIE_BROKEN  ((uint64_t)1 << 62)
#define TRIE_INSIDE  ((uint64_t)1 << 63)
#define TRIE_BEYOND  (TRIE_BLANK | TRIE_MULTI | TRIE_BROKEN | TRIE_INSIDE)  /* of bytes beyond ASCII */

/* Those of texts in which a byte occurs. */
uint64_t trie_kinds_of(unsigned char byte);

#define TRIE_N_BLANKS 20u
extern const uint16_t trie_blanks[TRIE_N_BLANKS];       /* what TRIE_BLANK stands for */

struct trie_node {
    uint32_t skip;              /* the next node that is not below this one */
    uint32_t first;             /* order[first..first of node + 1) end here, up to that of skip below it, too */
    uint16_t depth;             /* 1: first byte */
    uint8_t  byte;
    uint8_t  above;             /* characters that begin before this byte */
};

struct token_trie {
    struct trie_node *nodes;    /* [n_nodes + 1], the last one only for its `first` */
    uint32_t  n_nodes, n_vocab, max_depth;
    uint32_t  rest, end_rest;   /* nodes[rest..end_rest], the same for the tokens that aren't plain */
    uint64_t *kinds;            /* [end_rest] those of node and what is below. TRIE_INSIDE: the node itself goes on
                                 * with a character; all bits: with none */
    int32_t  *order;            /* tokens in the order of the nodes */
    uint16_t *chars;            /* of each in order: characters, which are bytes that go on with none */
    uint64_t *plain;            /* [TRIE_MAX_PLAIN][n_words]: the plain ones of up to 1, 2, … of them */
    uint64_t *eog;              /* [n_words] bits of tokens that end a generation */
    size_t    n_words;          /* of a mask: 64 tokens each, bit i % 64 of word i / 64 */
    struct sv *pieces;          /* [n_vocab] bytes; empty: not in the tree */
    char      *bytes;
};

/* Normal, user-defined and byte tokens are in the tree, and control tokens listed in `also`
 * (their spelling counts as text); tokens without bytes are not. WATT_ENOTSUP without a text
 * vocabulary, WATT_ENOMEM. */
int  token_trie_open(struct token_trie **out, const struct tokenizer *t, const int32_t *also,
                     size_t n_also, struct err *e) MUST_CHECK;
/* The same over plain texts, for tests; `eog` is the id that ends, or -1. */
int  token_trie_from(struct token_trie **out, const struct sv *texts, uint32_t n, int32_t eog,
                     struct err *e) MUST_CHECK;
void token_trie_close(struct token_trie *t);        /* NULL is fine */

static inline bool trie_goes_on(uint8_t byte)   /* with a character */
{
    return (byte & 0xC0) == 0x80;
}

#endif
