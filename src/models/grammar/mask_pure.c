/* mask_pure.c: parts of the vocabulary's tree that need no walk. Where a state takes characters of some kinds
 * back to itself, every token that goes on with such characters only fits, with the same states after each of
 * them: a pattern's letters, the text of a comment, anything up to a mark. The tree knows which kinds of
 * characters occur below each of its nodes (token_trie.h). */
#include "models/grammar/mask_impl.h"

#define ALL_KINDS (TRIE_ASCII | TRIE_MULTI | TRIE_BROKEN)

static void find_kinds(const struct grammar_masks *m, uint32_t state, struct mask_kinds *k)
{
    const struct grammar *g = m->g;
    const uint32_t *row = g->next + (size_t)state * g->n_classes;
    const unsigned flags = grammar_flags(g, state);

    k->known = true;
    k->calls = grammar_has_calls(g, state);
    k->plain = flags == STATE_BYTES && !k->calls;
    k->ends = flags == (STATE_BYTES | STATE_ACCEPT) && !k->calls;
    k->loop = k->dead = ALL_KINDS;
    for (uint32_t c = 0; c < g->n_classes; c++) {
        if (row[c] != state)
            k->loop &= ~m->class_kinds[c];
        if (row[c] != STATE_NONE)
            k->dead &= ~m->class_kinds[c];
    }
    if (!k->plain && !k->ends)
        k->loop = 0;
    else if (!((k->loop | k->dead) & TRIE_MULTI) && mask_multi_step(mask_next_state, g, state, state))
        k->loop |= TRIE_MULTI;
}

const struct mask_kinds *mask_kinds_of(struct grammar_masks *m, uint32_t state)
{
    struct mask_kinds *k = &m->kinds[state];

    if (!k->known)
        find_kinds(m, state, k);
    return k;
}

uint64_t mask_kinds_counted(struct grammar_masks *m, const struct grammar_block *b, uint32_t kind)
{
    const struct mask_block at = { m->g, b };
    const uint32_t *row = b->next + (size_t)kind * m->g->n_classes;
    struct mask_kinds *k;

    if (kind >= b->n_before)
        return 0;
    k = &m->profile_kinds[b->profile + kind];
    if (k->known)
        return k->loop;
    k->known = true;
    k->loop = ALL_KINDS;
    for (uint32_t c = 0; c < m->g->n_classes; c++)
        if (row[c] != (BLOCK_ADVANCE | kind))
            k->loop &= ~m->class_kinds[c];
    k->loop &= ~TRIE_BROKEN;
    if (k->loop & TRIE_MULTI)       /* bytes are counted */
        k->loop = 0;
    else if (mask_multi_step(mask_next_kind, &at, kind, BLOCK_ADVANCE | kind))
        k->loop |= TRIE_MULTI;
    if (b->flags[kind] & KIND_FIXED)
        k->loop = 0;
    return k->loop;
}

uint64_t mask_frame_loop(struct grammar_masks *m, const struct frame *f)
{
    const struct grammar_block *b;
    uint64_t loop = 0;

    if (f->state == STATE_NONE) {
        for (uint32_t i = f->first; i < f->first + f->n; i++)
            if (m->confs[i].state < m->g->n_states)
                loop |= mask_kinds_of(m, m->confs[i].state)->loop;
        return loop;
    }
    if (f->state < m->g->n_states)
        return mask_kinds_of(m, f->state)->loop;
    b = grammar_block(m->g, f->state);
    return b->flags[(f->state - b->first) % b->n_kinds] & KIND_ACCEPT
               ? 0 : mask_kinds_counted(m, b, (f->state - b->first) % b->n_kinds);
}

/* A state that goes on by itself stays and one that can't is gone after the first character, so that all
 * further ones lead to what the first led to: those that stay, and what they return to. A state that stays has
 * no calls: those would begin anew at each character. */
int mask_pure(struct grammar_masks *m, struct gss *s, const struct frame *f, uint32_t i,
              uint32_t *exits)
{
    const struct gss_config one = { f->state, f->node };
    const struct gss_config *at = f->state != STATE_NONE ? &one : m->confs + f->first;
    const uint32_t n = f->state != STATE_NONE ? 1 : f->n;
    const uint64_t kinds = m->t->kinds[i];
    bool stays = false;

    for (uint32_t c = 0; c < n; c++) {
        const struct mask_kinds *k = at[c].state < m->g->n_states ? mask_kinds_of(m, at[c].state) : NULL;

        if (!k)
            return 0;
        if ((kinds & ~k->loop) == 0) {
            if (n == 1 && (k->plain || at[c].node < GSS_FIRST)) {
                *exits = k->plain || at[c].node != GSS_OPEN ? 0
                         : k->loop & TRIE_BROKEN ? MASK_BELOW : MASK_BELOW | MASK_CHARS;
                return 1;
            }
            stays = true;
        } else if (kinds & ~k->dead) {
            return 0;
        }
    }
    if (!stays || kinds & (TRIE_MULTI | TRIE_BROKEN))   /* inside of those it differs */
        return 0;
    s->n_nodes = f->n_nodes;
    s->n_edges = f->n_edges;
    (void)gss_step(s, m->g, at, n, m->t->nodes[i].byte);
    *exits = s->at_open ? MASK_BELOW : 0;
    return s->failed ? -1 : 1;
}

static uint64_t first_kinds(struct grammar_masks *m, uint32_t state)
{
    const struct grammar *g = m->g;
    const struct grammar_block *b;
    const uint32_t *row;
    uint64_t kinds = 0;

    if (state < g->n_states)
        return ~mask_kinds_of(m, state)->dead;
    b = grammar_block(g, state);
    row = b->next + (size_t)((state - b->first) % b->n_kinds) * g->n_classes;
    for (uint32_t c = 0; c < g->n_classes; c++)
        if (row[c] != STATE_NONE)
            kinds |= m->class_kinds[c];
    return kinds;
}

uint64_t mask_first_kinds(struct grammar_masks *m, const struct frame *f)
{
    uint64_t kinds = 0;

    if (f->state != STATE_NONE)
        return first_kinds(m, f->state);
    for (uint32_t i = f->first; i < f->first + f->n; i++)
        kinds |= first_kinds(m, m->confs[i].state);
    return kinds;
}
