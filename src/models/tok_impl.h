/* tok_impl.h: what the parts of the tokenizer share. Private to src/models/tok_*.c,
 * tokenizer.c and detok.c; everybody else uses models/tokenizer.h.
 *
 * tokenizer.c   opening, questions, encode and decode drivers
 * tok_vocab.c   texts, pieces and their hash tables
 * tok_roles.c   tokens known by their spelling: turn ends, fill-in-the-middle, …
 * tok_hf.c      character tables of the original's age
 * tok_special.c finds added tokens in a text
 * tok_pretok.c  the table of pre-tokenizers and its PCRE2 stages
 * tok_split.c   pre-tokenizers written out by hand
 * tok_merge.c   the merge engine of BPE and SentencePiece BPE, and the word cache
 * tok_bpe.c, tok_spm.c, tok_wpm.c, tok_unigram.c, tok_rwkv.c, tok_plamo.c
 * tok_gguf.c    a vocabulary as GGUF files describe it
 * tok_trie.c    longest and all prefixes, for the last four
 * tok_norm.c    SentencePiece normaliser and Unicode NFC */
#ifndef MODELS_TOK_IMPL_H
#define MODELS_TOK_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "base/str.h"
#include "base/utf8.h"
#include "models/tokenizer.h"

#define NO_TOKEN UINT32_MAX

/* ---- strings of a vocabulary ---- */

/* n strings in one block. */
struct strtab {
    char     *bytes;
    uint32_t *off;      /* [n + 1] */
    uint32_t  n;
};

static inline struct sv strtab_at(const struct strtab *s, uint32_t i)
{
    return (struct sv){ s->bytes + s->off[i], s->off[i + 1] - s->off[i] };
}

/* Finds the strings of a strtab: open addressing, each slot an id and the upper
 * half of the hash. */
struct strmap {
    const struct strtab *tab;
    uint64_t            *slots;     /* hash's upper 32 bits << 32 | id; EMPTY_SLOT */
    uint32_t             mask;
};

#define EMPTY_SLOT UINT64_MAX

uint64_t tok_hash(const char *s, size_t n);
int      strmap_init(struct strmap *m, const struct strtab *tab, uint32_t n_hint, struct err *e)
    MUST_CHECK;
void     strmap_deinit(struct strmap *m);
/* Adds all strings that are not empty and that want (NULL: all) says yes to; of
 * equal ones the first stays. Without want the first duplicate ends it: its id is
 * returned and *other is the id that has its text; else NO_TOKEN. */
typedef bool strmap_want(const struct tokenizer *t, uint32_t id);
uint32_t strmap_fill(struct strmap *m, const struct tokenizer *t, strmap_want *want,
                     uint32_t *other);
uint32_t strmap_find_hashed(const struct strmap *m, const char *s, size_t n, uint64_t hash);
static inline uint32_t strmap_find(const struct strmap *m, const char *s, size_t n)
{
    return strmap_find_hashed(m, s, n, tok_hash(s, n));
}

/* ---- merges ---- */

/* Pairs of ids that merge, best (lowest) priority first. */
struct merge {
    uint32_t left, right, prio, out;    /* left NO_TOKEN: empty slot */
};

struct merges {
    struct merge *slots;
    uint32_t      mask, n;
};

int  merges_init(struct merges *m, uint32_t n_max, struct err *e) MUST_CHECK;
void merges_deinit(struct merges *m);
/* False when the pair is there already (then nothing changes). */
bool merges_add(struct merges *m, uint32_t left, uint32_t right, uint32_t prio, uint32_t out);

static inline uint32_t pair_hash(uint32_t left, uint32_t right)
{
    const uint64_t h = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15u;

    return (uint32_t)(h >> 32) ^ (uint32_t)(h >> 15);
}

static inline const struct merge *merges_find(const struct merges *m, uint32_t left, uint32_t right)
{
    for (uint32_t i = pair_hash(left, right) & m->mask;; i = (i + 1) & m->mask) {
        const struct merge *s = &m->slots[i];

        if (s->left == left && s->right == right)
            return s;
        if (s->left == NO_TOKEN)
            return NULL;
    }
}

/* ---- tries ---- */

struct trie_node {
    uint32_t first;         /* first child; children are contiguous, sorted by byte */
    uint32_t token;         /* NO_TOKEN: none ends here */
    uint16_t n_children;
    uint8_t  byte;
};

struct trie {
    struct trie_node *nodes;
    uint32_t          n;
    uint32_t          root[256];    /* child of the root, 0: none */
};

/* Builds over tab's strings whose ids are in ids[0..n_ids); empty ones are left
 * out; of equal strings the lowest id stays. ids is reordered. */
int  trie_init(struct trie *t, const struct strtab *tab, uint32_t *ids, uint32_t n_ids,
               struct err *e) MUST_CHECK;
void trie_deinit(struct trie *t);
/* Child of node by byte; 0 when there is none. */
static inline uint32_t trie_child(const struct trie *t, uint32_t node, uint8_t byte)
{
    const struct trie_node *nd = &t->nodes[node];
    uint32_t lo = nd->first, hi = nd->first + nd->n_children;

    if (node == 0)
        return t->root[byte];
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;

        if (t->nodes[mid].byte == byte)
            return mid;
        if (t->nodes[mid].byte < byte)
            lo = mid + 1;
        else
            hi = mid;
    }
    return 0;
}
/* Longest string that s begins with: its id and length, or NO_TOKEN. */
uint32_t trie_longest(const struct trie *t, const char *s, size_t n, size_t *len);

/* ---- pre-tokenizers ---- */

#define PRETOK_MAX_STAGES 6

enum split_kind {
    SPLIT_REGEX,        /* PCRE2; what it does not match stays together */
    SPLIT_GPT2,         /* the pattern of GPT-2 */
    SPLIT_CL100K,       /* that of GPT-4 and its many variations */
    SPLIT_O200K,        /* that of GPT-4o, which looks at letter case */
    SPLIT_NUMBERS,      /* \p{N}{1,k} alone */
    SPLIT_PUNCT,        /* Hugging Face's punctuation; max_digits characters at once */
    SPLIT_TRAILING,     /* \s+$ */
    SPLIT_BYTE_DIGITS,  /* runs of what look like digits after byte-level mapping (Falcon) */
    SPLIT_ASCII3,       /* [0-9][0-9][0-9], on bytes */
    SPLIT_GROUP3,       /* \d{1,3}(?=(?:\d{3})*\b) */
    SPLIT_BEFORE3,      /* (?=(\d{3})+(?!\d)) */
    SPLIT_LEAD3,        /* \p{N}+ cut in threes from the right */
    SPLIT_LINES         /* [^\n]+|\n+ */
};

/* Parameters of SPLIT_CL100K and SPLIT_O200K. */
#define SPLIT_CONTRACTION 1u    /* (?i:'s|'t|'re|'ve|'m|'ll|'d) */
#define SPLIT_MARKS       2u    /* marks count as letters */
#define SPLIT_SLASH       4u    /* [\r\n/]* after punctuation, else [\r\n]* */
#define SPLIT_NO_TAIL     8u    /* nothing after punctuation */
#define SPLIT_CASCADE     32u   /* long white space in pieces of powers of two (Jais 2) */
#define SPLIT_NO_HAN      16u   /* runs of Han apart, and no letters elsewhere */

struct split_stage {
    enum split_kind kind;
    unsigned        flags;
    unsigned        max_digits;     /* 0: no limit */
    const char     *regex;          /* the same as a pattern, in the originals' spelling */
};

struct pretok {
    const char        *name;
    bool               ignore_merges, add_bos, add_sep, nfc, raw;
    struct split_stage stages[PRETOK_MAX_STAGES];
    unsigned           n_stages;
};

/* NULL when the name is not known. "" is "default". */
const struct pretok *pretok_find(struct sv name);
size_t               pretok_count(void);
const struct pretok *pretok_at(size_t i);

/* A pre-tokenizer ready to run: compiled patterns, shared by threads. */
struct splitter;
struct split_scratch;

int  splitter_open(struct splitter **out, const struct pretok *p, struct err *e) MUST_CHECK;
/* Every stage by its pattern, none by hand: what tests compare with. */
int  splitter_open_regex(struct splitter **out, const struct pretok *p, struct err *e) MUST_CHECK;
void splitter_close(struct splitter *s);
int  split_scratch_open(struct split_scratch **out, const struct splitter *s, struct err *e)
    MUST_CHECK;
void split_scratch_close(struct split_scratch *s);

/* Calls fn for each piece of text in order; they cover it. Stops at fn's first
 * negative value and returns it. */
typedef int split_fn(void *ctx, const char *piece, size_t len, struct err *e);
int splitter_run(const struct splitter *s, struct split_scratch *scratch, const char *text,
                 size_t len, split_fn *fn, void *ctx, struct err *e) MUST_CHECK;

/* One step of a hand-written stage: the end of the piece that begins at i < n.
 * *note is the stage's own, 0 at the beginning of a text. */
size_t split_next(const struct split_stage *st, const char *s, size_t i, size_t n,
                  size_t *note);

/* Character classes, as bits. */
#define UC_L_UPPER 1u       /* Lu Lt */
#define UC_L_LOWER 2u       /* Ll */
#define UC_L_OTHER 4u       /* Lm Lo */
#define UC_M       8u
#define UC_N       16u
#define UC_P       32u
#define UC_S       64u
#define UC_SPACE   128u     /* White_Space */
#define UC_ND      256u     /* Nd */
#define UC_CONTROL 512u     /* Cc Cf Co Cs */
#define UC_CONNECT 1024u    /* Pc */
#define UC_MN      2048u
#define UC_L       (UC_L_UPPER | UC_L_LOWER | UC_L_OTHER)
unsigned uc_class_slow(uint32_t cp);
extern const uint16_t uc_ascii[128];
static inline unsigned uc_class(uint32_t cp) { return cp < 128 ? uc_ascii[cp] : uc_class_slow(cp); }
bool uc_is_han(uint32_t cp);
/* tok_hf.c: as Hugging Face's tables have it. */
bool hf_is_punctuation(uint32_t cp);
bool hf_is_mark(uint32_t cp);
bool hf_is_control(uint32_t cp);
/* Class of the character at s[i], its length in *len. A byte that is not UTF-8
 * counts as a control character. */
static inline unsigned uc_at(const char *s, size_t i, size_t n, size_t *len)
{
    const unsigned char c = (unsigned char)s[i];
    uint32_t cp;
    bool ok;

    if (c < 128) {
        *len = 1;
        return uc_ascii[c];
    }
    *len = utf8_decode(s + i, n - i, &cp, &ok);
    return ok ? uc_class_slow(cp) : UC_CONTROL;
}

/* ---- the tokenizer ---- */

struct tok_special;     /* tok_special.c */
struct tok_norm;        /* tok_norm.c */

struct tokenizer {
    enum tokenizer_type  type;
    char                *name;          /* for messages */
    char                *model, *pre;
    uint32_t             n_vocab, n_merges;
    struct strtab        texts;         /* as the file spells them */
    struct strtab        pieces;        /* bytes they stand for */
    struct strmap        by_text, by_piece;  /* by_piece: what text may become (tok_matchable) */
    float               *scores;        /* NULL: none */
    uint8_t             *kinds, *attrs, *eog;   /* [n_vocab] */
    int32_t              roles[TOKEN_ROLES];
    int32_t              byte_ids[256]; /* the token of a byte, -1: none */
    bool                 add_bos, add_eos, add_sep;
    bool                 add_space_prefix, remove_extra_ws, escape_ws, ignore_merges;
    bool                 lowercase, strip_accents, nfc;
    bool                 byte_fallback; /* all 256 byte tokens are there */
    bool                 raw;           /* BPE on UTF-8 characters, not bytes */
    bool                 cut_at_space;  /* no token has a space after another character */
    bool                 dna, drop_space;
    uint32_t             max_piece;     /* longest piece in bytes */
    const struct pretok *pretok;
    struct pretok        own_pretok;    /* of vocab_spec.patterns, which it holds copies of */
    struct splitter     *splitter;
    struct merges        merges;
    uint32_t            *char_ids;      /* see tok_merge.c: characters that are no tokens */
    struct strtab        extra;         /* their texts, ids from n_vocab on */
    struct strmap        by_extra;
    bool                 has_unused;
    struct trie          trie;
    double               unk_score;
    struct tok_special  *special;
    struct tok_norm     *norm;
};

/* One thread's memory. */
struct word_cache;
struct symbol { uint32_t id, prev, next, start; };
struct heap_item { uint64_t key; uint32_t out; };   /* prio << 32 | position */

struct tokenizer_scratch {
    struct split_scratch *split;
    struct word_cache    *cache;
    struct symbol        *symbols;
    size_t                cap_symbols;
    struct heap_item     *heap;
    size_t                n_heap, cap_heap;
    struct str            text, text2;      /* normalised text */
    void                 *lattice;          /* Unigram, PLaMo */
    size_t                cap_lattice;
};

/* May this token come out of ordinary text? */
static inline bool tok_matchable(const struct tokenizer *t, uint32_t id)
{
    const uint8_t k = t->kinds[id];

    return k == TOKEN_NORMAL || k == TOKEN_USER_DEFINED || k == TOKEN_UNUSED;
}

/* Grows *p to hold n items of size_bytes; false when memory is short. */
bool tok_room(void *p, size_t *cap, size_t n, size_t size_bytes);

/* tok_vocab.c */
int  strtab_build(struct strtab *s, const struct sv *v, uint32_t n, const char *what,
                  struct err *e) MUST_CHECK;
void strtab_deinit(struct strtab *s);
int  vocab_make_pieces(struct tokenizer *t, struct err *e) MUST_CHECK;
/* No token has a space after another character: then no merge crosses from a
 * character into a space, and a text may be cut there into words. */
bool vocab_spaces_lead(const struct tokenizer *t);
/* GPT-2's letter of a byte, and back: -1 for other characters. */
uint32_t gpt2_letter(uint8_t byte);
int      gpt2_byte(uint32_t cp);
/* "<0x0A>" gives 10; -1 for others. */
int byte_token_value(struct sv text);

/* tok_roles.c */
int roles_detect(struct tokenizer *t, const struct vocab_spec *s, struct err *e) MUST_CHECK;

/* tok_special.c: an added token found in text. */
struct special_hit {
    size_t  start, end;     /* of what it swallows */
    int32_t id;
};
int  special_open(struct tokenizer *t, struct err *e) MUST_CHECK;
void special_close(struct tok_special *s);
/* The first hit at or after `from`; false when there is none. */
bool special_next(const struct tokenizer *t, const char *text, size_t from, size_t n,
                  bool parse_control, struct special_hit *hit);

/* tok_norm.c */
int  norm_open(struct tokenizer *t, struct sv charsmap, struct err *e) MUST_CHECK;
void norm_close(struct tok_norm *n);
/* SentencePiece's normaliser: spaces stay ' '. at_start: add the dummy prefix. */
int  norm_run(const struct tokenizer *t, const char *text, size_t len, bool prefix,
              struct str *out, struct err *e) MUST_CHECK;
/* *out and *n point at text when it is NFC already, else into buf. */
int  norm_nfc(const char *text, size_t len, struct str *buf, const char **out, size_t *n,
              struct err *e) MUST_CHECK;

/* tok_merge.c: words[0..len) by merges, appended to out. */
int  merge_word(const struct tokenizer *t, struct tokenizer_scratch *s, const char *word,
                size_t len, struct tokens *out, struct err *e) MUST_CHECK;
int  cache_open(struct word_cache **out, struct err *e) MUST_CHECK;
void cache_close(struct word_cache *c);

/* One fragment of ordinary text each. prefix: the text begins here (or after an
 * added token), so that a space goes in front where the vocabulary wants one. */
int bpe_open(struct tokenizer *t, const struct vocab_spec *s, struct err *e) MUST_CHECK;
int bpe_encode(const struct tokenizer *t, struct tokenizer_scratch *s, const char *text,
               size_t len, struct tokens *out, struct err *e) MUST_CHECK;
int spm_open(struct tokenizer *t, struct err *e) MUST_CHECK;
int spm_encode(const struct tokenizer *t, struct tokenizer_scratch *s, const char *text,
               size_t len, bool prefix, struct tokens *out, struct err *e) MUST_CHECK;
int wpm_open(struct tokenizer *t, struct err *e) MUST_CHECK;
int wpm_encode(const struct tokenizer *t, struct tokenizer_scratch *s, const char *text,
               size_t len, struct tokens *out, struct err *e) MUST_CHECK;
int unigram_open(struct tokenizer *t, struct err *e) MUST_CHECK;
int unigram_encode(const struct tokenizer *t, struct tokenizer_scratch *s, const char *text,
                   size_t len, bool prefix, struct tokens *out, struct err *e) MUST_CHECK;
int rwkv_open(struct tokenizer *t, struct err *e) MUST_CHECK;
int rwkv_encode(const struct tokenizer *t, const char *text, size_t len, struct tokens *out,
                struct err *e) MUST_CHECK;
int plamo_open(struct tokenizer *t, struct err *e) MUST_CHECK;
int plamo_encode(const struct tokenizer *t, struct tokenizer_scratch *s, const char *text,
                 size_t len, struct tokens *out, struct err *e) MUST_CHECK;

int tok_nomem(struct err *e);
/* Appends one id. */
static inline int tok_emit(struct tokens *out, int32_t id, struct err *e)
{
    return tokens_push(out, id) ? 0 : tok_nomem(e);
}

#endif
