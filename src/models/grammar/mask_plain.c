/* mask_plain.c: where the grammar takes plain characters (token_trie.h), all alike: plain tokens are
 * then known by how many characters they have, and only the tree of the others is walked. That is what JSON
 * strings are made of. */
#include "models/grammar/mask_impl.h"

#define MAX_CHECKED 24u

/* What may follow the bytes so far of a character: how many bytes, and the bounds of the first. */
struct rest {
    unsigned left, lo, hi;
};

struct checker {
    mask_next_fn *next;
    const void   *ctx;
    uint32_t      to;               /* where every character has to lead */
    struct { uint32_t at; struct rest r; } seen[MAX_CHECKED];
    unsigned      n_seen;
    bool          blanks;           /* do those lead there, too? */
};

/* Do the bits so far, with so many more bytes, begin a blank? */
static bool may_be_blank(uint32_t so_far, unsigned left)
{
    for (size_t i = 0; i < TRIE_N_BLANKS; i++)
        if ((uint32_t)trie_blanks[i] >> 6 * left == so_far)
            return true;
    return false;
}

static bool check_rest(struct checker *c, uint32_t at, struct rest r, uint32_t so_far)
{
    const bool blank = may_be_blank(so_far, r.left);

    for (unsigned i = 0; i < c->n_seen && !blank; i++)
        if (c->seen[i].at == at && c->seen[i].r.left == r.left && c->seen[i].r.lo == r.lo &&
            c->seen[i].r.hi == r.hi)
            return true;
    if (c->n_seen == MAX_CHECKED && !blank)
        return false;
    if (!blank) {
        c->seen[c->n_seen].at = at;
        c->seen[c->n_seen++].r = r;
    }
    for (unsigned b = r.lo; b <= r.hi; b++) {
        const uint32_t bits = so_far << 6 | (b & 0x3F);
        bool inner;
        const uint32_t next = c->next(c->ctx, at, (unsigned char)b, &inner);

        if (r.left == 1 && blank && next != c->to && may_be_blank(bits, 0)) {
            c->blanks = false;
            continue;
        }
        if (r.left == 1 ? next != c->to
                        : !inner || !check_rest(c, next, (struct rest){ r.left - 1, 0x80, 0xBF }, bits))
            return false;
    }
    return true;
}

static struct rest after_lead(unsigned b)
{
    if (b < 0xE0)
        return (struct rest){ 1, 0x80, 0xBF };
    if (b < 0xF0)
        return (struct rest){ 2, b == 0xE0 ? 0xA0 : 0x80, b == 0xED ? 0x9F : 0xBF };
    return (struct rest){ 3, b == 0xF0 ? 0x90 : 0x80, b == 0xF4 ? 0x8F : 0xBF };
}

uint64_t mask_multi_step(mask_next_fn *next, const void *ctx, uint32_t at, uint32_t to)
{
    struct checker c = { .next = next, .ctx = ctx, .to = to, .blanks = true };
    bool inner;

    for (unsigned b = 0xC2; b <= 0xF4; b++) {
        const uint32_t lead = next(ctx, at, (unsigned char)b, &inner);

        if (!inner || !check_rest(&c, lead, after_lead(b), b & (b < 0xE0 ? 0x1F : b < 0xF0 ? 0xF : 7)))
            return 0;
    }
    return c.blanks ? TRIE_MULTI | TRIE_BLANK : TRIE_MULTI;
}

bool mask_plain_step(mask_next_fn *next, const void *ctx, uint32_t at, uint32_t *to)
{
    bool inner;

    *to = next(ctx, at, ' ', &inner);
    for (unsigned b = ' '; b < 0x80; b++)
        if (trie_plain_byte((unsigned char)b) && next(ctx, at, (unsigned char)b, &inner) != *to)
            return false;
    for (unsigned b = 0xC2; *to == STATE_NONE && b <= 0xF4; b++)
        if (next(ctx, at, (unsigned char)b, &inner) != STATE_NONE)
            return false;
    return *to == STATE_NONE || mask_multi_step(next, ctx, at, *to) & TRIE_BLANK;
}

uint32_t mask_next_state(const void *ctx, uint32_t at, unsigned char byte, bool *inner)
{
    const struct grammar *g = ctx;
    const uint32_t next = grammar_next(g, at, byte);

    *inner = next != STATE_NONE && grammar_flags(g, next) == STATE_BYTES && !grammar_has_calls(g, next);
    return next;
}

uint32_t mask_next_kind(const void *ctx, uint32_t at, unsigned char byte, bool *inner)
{
    const struct mask_block *t = ctx;
    const uint32_t v = t->b->next[(size_t)at * t->g->n_classes + t->g->classes[byte]];

    *inner = v != STATE_NONE && (v & ~BLOCK_VALUE) == BLOCK_KIND;
    return v;
}

/* Is `to` the same kind of the same block one character later? It then does with plain characters what
 * `state` does, but for the end of the block, and there all of them lead nowhere. */
static bool same_kind(const struct grammar *g, uint32_t state, uint32_t to)
{
    return state >= g->n_states && to != STATE_NONE && to >= g->n_states &&
           grammar_block(g, state) == grammar_block(g, to) && to - state == grammar_block(g, state)->n_kinds;
}

uint32_t mask_plain_run(const struct grammar *g, uint32_t state)
{
    bool calls = false;     /* on the way: other rules may take plain characters further */
    bool alike = false;     /* state and the one before it are of one kind */
    uint32_t to;

    for (uint32_t n = 0; n < TRIE_MAX_PLAIN; n++) {
        if (alike)
            to = grammar_next(g, state, ' ');
        else if (!mask_plain_step(mask_next_state, g, state, &to))
            return 0;
        alike = same_kind(g, state, to);
        calls |= n > 0 && grammar_has_calls(g, state);
        if (to == STATE_NONE)
            return calls ? 0 : n;
        if (grammar_flags(g, to) & STATE_ACCEPT)
            return 0;
        if (to == state)
            break;
        state = to;
    }
    return TRIE_MAX_PLAIN;
}
