/* mask_pure.c: parts of the vocabulary's tree that need no walk. Where a state takes characters of some kinds
 * back to itself, every token that goes on with such characters only fits, with the same states after each of
 * them: a pattern's letters, the text of a comment, anything up to a mark. The tree knows which kinds of
 * characters occur below each of its nodes (token_trie.h). */
#include "models/grammar/mask_impl.h"

#define MAX_RUN 24u     /* states that are looked at */

static bool is_plain(const struct grammar *g, uint32_t state)
{
    return state < g->n_states && grammar_flags(g, state) == STATE_BYTES && !grammar_has_calls(g, state);
}

/* Where letters or digits lead on, to another state: texts whose characters are counted by states, or whose
 * first is not as the others. */
static void find_step(const struct grammar_masks *m, uint32_t state, const uint32_t *row, struct mask_kinds *k)
{
    const struct grammar *g = m->g;

    k->to = row[g->classes['a']] != STATE_NONE ? row[g->classes['a']] : row[g->classes['0']];
    if (k->to == STATE_NONE || k->to == state || k->calls || !is_plain(g, k->to))
        return;
    k->step = ~TRIE_BEYOND;
    for (uint32_t c = 0; c < g->n_classes; c++)
        if (row[c] != k->to)
            k->step &= ~m->class_kinds[c];
}

static void find_kinds(const struct grammar_masks *m, uint32_t state, struct mask_kinds *k)
{
    const struct grammar *g = m->g;
    const uint32_t *row = g->next + (size_t)state * g->n_classes;
    const unsigned flags = grammar_flags(g, state);

    k->known = true;
    k->calls = grammar_has_calls(g, state);
    k->plain = flags == STATE_BYTES && !k->calls;
    k->ends = flags == (STATE_BYTES | STATE_ACCEPT) && !k->calls;
    k->loop = k->dead = UINT64_MAX;
    for (uint32_t c = 0; c < g->n_classes; c++) {
        if (row[c] != state)
            k->loop &= ~m->class_kinds[c];
        if (row[c] != STATE_NONE)
            k->dead &= ~m->class_kinds[c];
    }
    if (!k->plain && !k->ends)
        k->loop = 0;
    else if (!((k->loop | k->dead) & TRIE_MULTI))
        k->loop |= mask_multi_step(mask_next_state, g, state, state);
    find_step(m, state, row, k);
}

const struct mask_kinds *mask_kinds_of(struct grammar_masks *m, uint32_t state)
{
    struct mask_kinds *k = &m->kinds[state];

    if (!k->known)
        find_kinds(m, state, k);
    return k;
}

/* k->run: of the kinds of the first step those that go on, until more than half of them don't. */
static uint64_t run_of(struct grammar_masks *m, uint32_t state)
{
    struct mask_kinds *k = &m->kinds[state];
    const struct mask_kinds *at = mask_kinds_of(m, state);

    if (k->run_known)
        return k->run;
    k->run_known = true;
    k->run = k->step;
    for (k->n_run = k->run != 0; k->run && k->n_run < MAX_RUN; k->n_run++) {
        uint64_t on;

        at = mask_kinds_of(m, at->to);
        on = k->run & (at->plain ? at->loop : 0);
        if (2 * __builtin_popcountll(on) > __builtin_popcountll(k->run)) {
            k->run = on;
            k->n_run = UINT32_MAX;      /* it stays there */
            break;
        }
        on = k->run & at->step;
        if (2 * __builtin_popcountll(on) <= __builtin_popcountll(k->run))
            break;
        k->run = on;
    }
    return k->run;
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
    k->loop = k->dead = UINT64_MAX;
    for (uint32_t c = 0; c < m->g->n_classes; c++) {
        if (row[c] != (BLOCK_ADVANCE | kind))
            k->loop &= ~m->class_kinds[c];
        if (row[c] != STATE_NONE)
            k->dead &= ~m->class_kinds[c];
    }
    if (k->loop & TRIE_BEYOND)      /* bytes are counted */
        k->loop = 0;
    else if (!(k->dead & TRIE_MULTI))
        k->loop = (k->loop & ~TRIE_BEYOND) | mask_multi_step(mask_next_kind, &at, kind, BLOCK_ADVANCE | kind);
    if (b->flags[kind] & KIND_FIXED)
        k->loop = 0;
    return k->loop;
}

uint64_t mask_loop_of(struct grammar_masks *m, uint32_t state)
{
    const struct grammar_block *b;

    if (state < m->g->n_states)
        return mask_kinds_of(m, state)->loop;
    b = grammar_block(m->g, state);
    return mask_kinds_counted(m, b, (state - b->first) % b->n_kinds);
}

uint64_t mask_frame_loop(struct grammar_masks *m, const struct frame *f)
{
    uint64_t loop = 0;

    if (f->state != STATE_NONE)
        return mask_loop_of(m, f->state) | (f->state < m->g->n_states ? run_of(m, f->state) : 0);
    for (uint32_t i = f->first; i < f->first + f->n; i++)
        loop |= mask_loop_of(m, m->confs[i].state);
    return loop;
}

/* The characters of the longest token at and below node i, from i on. */
static uint32_t longest(const struct token_trie *t, uint32_t i)
{
    const uint32_t end = t->nodes[t->nodes[i].skip].first;
    uint32_t n = 0;

    for (uint32_t k = t->nodes[i].first; k < end; k++)
        n = t->chars[k] > n ? t->chars[k] : n;
    return n - t->nodes[i].above;
}

enum pure { MIXED, STAYS, DIES };

/* What a state does at all the characters at and below node i. One that is counted stays where there is room
 * for all of them, and where its rule may end after each of them or after none. */
static enum pure pure_state(struct grammar_masks *m, uint32_t state, uint32_t i)
{
    const uint64_t kinds = m->t->kinds[i];
    const struct grammar_block *b;
    uint32_t layer, kind;

    if (state < m->g->n_states) {
        const struct mask_kinds *k = mask_kinds_of(m, state);

        return !(kinds & ~k->loop) ? STAYS : !(kinds & ~k->dead) ? DIES : MIXED;
    }
    b = grammar_block(m->g, state);
    layer = (state - b->first) / b->n_kinds;
    kind = (state - b->first) % b->n_kinds;
    if (kinds & ~mask_kinds_counted(m, b, kind))
        return kind < b->n_before && !(kinds & ~m->profile_kinds[b->profile + kind].dead) ? DIES : MIXED;
    if (b->flags[kind] & KIND_ACCEPT && layer + 1 < b->min)
        return MIXED;
    return b->open || (uint64_t)b->ahead[kind] + longest(m->t, i) <= block_room(b, layer) ? STAYS : MIXED;
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

    if (f->state != STATE_NONE && f->base != STATE_NONE) {
        *exits = mask_kinds_of(m, f->base)->ends && f->node == GSS_OPEN ? MASK_BELOW | MASK_CHARS : 0;
        return 1;
    }

    if (n == 1 && at->state < m->g->n_states) {
        const struct mask_kinds *k = mask_kinds_of(m, at->state);

        *exits = 0;
        if (kinds & ~k->loop)
            return !(kinds & ~run_of(m, at->state)) && longest(m->t, i) <= k->n_run;
        if (k->plain || at->node < GSS_FIRST) {
            *exits = k->plain || at->node != GSS_OPEN ? 0
                     : k->loop & TRIE_BROKEN ? MASK_BELOW : MASK_BELOW | MASK_CHARS;
            return 1;
        }
    }
    for (uint32_t c = 0; c < n; c++) {
        const enum pure does = pure_state(m, at[c].state, i);

        if (does == MIXED)
            return 0;
        stays |= does == STAYS;
    }
    if (!stays || kinds & TRIE_BEYOND)      /* inside of those it differs */
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
