/* cfg.h: a context-free grammar over bytes while it is put together, and its compilation.
 *
 * Rules are automata that may call rules, so what is regular needs no rule of its own. The
 * front ends (GBNF, regular expressions, JSON Schema, tags) record nodes and edges in one nfa;
 * cfg_compile then
 *  - drops calls of rules that can produce nothing, so that no path of the result is a dead end,
 *  - writes small rules that don't recurse into their callers,
 *  - makes every rule deterministic,
 * and gives an immutable struct grammar. Left recursion and empty rules are fine.
 * One owner thread; everything is freed by cfg_deinit. */
#ifndef MODELS_GRAMMAR_CFG_H
#define MODELS_GRAMMAR_CFG_H

#include "base/err.h"
#include "base/str.h"
#include "models/grammar/fa.h"

struct grammar;

#define CFG_MAX_RULES  (1u << 16)
#define CFG_MAX_NODES  (1u << 20)   /* of all rules as recorded, and of any one when expanded */
#define CFG_MAX_STATES (1u << 19)
#define CFG_MAX_TABLE_BYTES ((size_t)192 << 20)

struct cfg_rule {
    uint32_t start, end;        /* nodes; FA_NONE until defined */
    bool     keep;              /* called even where it is small: its masks are then found once
                                 * for all its callers (mask.h) */
    bool     counted;           /* it has jumps (cfg_counted.h) */
};

/* Strings of min..max characters of any kind, as JSON: one rule for all of them. */
struct cfg_length {
    uint32_t min, max, rule;
};

struct cfg {
    struct nfa       a;
    struct cfg_rule *rules;
    uint32_t         n_rules, cap_rules;
    uint32_t         rare_char; /* shared rule of json strings, FA_NONE until used */
    struct counted_chain *chains;       /* cfg_counted.h */
    struct counted_bound *bounds;
    struct counted_jump  *jumps;
    struct cfg_length    *lengths;
    uint32_t         n_chains, cap_chains, n_bounds, cap_bounds, n_jumps, cap_jumps, n_lengths,
                     cap_lengths;
    bool             failed;    /* memory, or CFG_MAX_RULES */
};

void     cfg_init(struct cfg *g);
void     cfg_deinit(struct cfg *g);
/* A rule without a body; 0 after a failure. */
uint32_t cfg_rule(struct cfg *g);
void     cfg_define(struct cfg *g, uint32_t rule, uint32_t start, uint32_t end);
void     cfg_call(struct cfg *g, uint32_t from, uint32_t rule, uint32_t to);

/* The UTF-8 of the characters lo..hi (surrogates are left out). */
void     cfg_chars(struct cfg *g, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to);
/* Words of an automaton over characters, as UTF-8. */
void     cfg_text(struct cfg *g, uint32_t from, const struct dfa *d, uint32_t to);
/* The same as a JSON string with its quotes (RFC 8259, 7): every character plain where that is
 * allowed, the short escapes that are needed, and \uXXXX for what is not printable ASCII. */
void     cfg_json_text(struct cfg *g, uint32_t from, const struct dfa *d, uint32_t to);
/* The same for those of its words that have min..max characters, or that have so many before the first
 * `until` (FA_NONE: of all), which every word has. max FA_NONE: no bound, without `until`. cfg_can_count says
 * whether that can be done. */
struct cfg_count {
    uint32_t min, max, until;
};
void     cfg_json_counted(struct cfg *g, uint32_t from, const struct dfa *d, const struct cfg_count *c,
                          uint32_t to);
/* WATT_ENOMEM. *empty: no such word. */
int      cfg_can_count(const struct dfa *d, const struct cfg_count *c, bool *can, bool *empty,
                       struct err *e) MUST_CHECK;

/* WATT_EINVAL when the language is empty ("can't be satisfied"), WATT_ELIMIT, WATT_ENOMEM. */
int      cfg_compile(struct grammar **out, struct cfg *g, uint32_t root, const char *what,
                     struct err *e) MUST_CHECK;

#endif
