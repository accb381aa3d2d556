/* mask.c: walking the vocabulary's tree through a grammar, and keeping what was found. */
#include <string.h>

#include "base/mem.h"
#include "models/grammar/mask_impl.h"

#define MAX_KEY   24u       /* states of a key: deeper ones are not kept */
#define MAX_PATHS 64u       /* keys of one state of a frontier */
#define LIST_MAX(n_words) ((n_words) / 2)   /* longer lists of tokens are kept as bits */

/* Tokens that follow for sure, and where the answer depends on what lies below: the nodes of the
 * tree at which the known calls have all returned. The next longer key answers for those. */
struct entry {
    uint64_t  hash;
    uint32_t  n_key, n;     /* n: tokens of a list */
    uint32_t  n_exits;
    bool      is_list;
    uint32_t  data[];       /* key, exits, then bits or list */
};

/* The words of m->exit_seen for one kind of exits. */
static size_t seen_words(const struct token_trie *t)
{
    return (size_t)t->end_rest / 64 + 1;
}

static uint64_t *seen_word(const struct grammar_masks *m, uint32_t place)
{
    return m->exit_seen + (place >> 30) * seen_words(m->t) + (place & MASK_NODE) / 64;
}

int grammar_masks_open(struct grammar_masks **out, struct grammar *g, const struct token_trie *t,
                       struct err *e)
{
    struct grammar_masks *m = mem_calloc(1, sizeof *m);

    if (!m)
        return err_set(e, WATT_ENOMEM, "grammar: masks");
    atomic_init(&m->refs, 1);
    pthread_mutex_init(&m->mu, NULL);
    m->g = grammar_ref(g);
    m->t = t;
    m->n_slots = 256;
    m->cap_confs = 256;
    m->slots = mem_calloc(m->n_slots, sizeof *m->slots);
    m->frames = mem_array((size_t)t->max_depth + 1, sizeof *m->frames);
    m->confs = mem_array(m->cap_confs, sizeof *m->confs);
    m->profiles = mem_calloc((size_t)g->n_profiles + 1, sizeof *m->profiles);
    m->kinds = mem_calloc((size_t)g->n_states + 1, sizeof *m->kinds);
    m->profile_kinds = mem_calloc((size_t)g->n_profiles + 1, sizeof *m->profile_kinds);
    m->exit_seen = mem_calloc(4 * seen_words(t), sizeof *m->exit_seen);
    m->bits = mem_array(t->n_words ? t->n_words : 1, sizeof *m->bits);
    for (unsigned c = 0; c < 256; c++)
        m->class_kinds[g->classes[c]] |= trie_kinds_of((unsigned char)c);
    if (!m->slots || !m->frames || !m->confs || !m->bits || !m->profiles || !m->kinds ||
        !m->profile_kinds || !m->exit_seen || gss_init(&m->stack, e) < 0) {
        grammar_masks_close(m);
        return err_set(e, WATT_ENOMEM, "grammar: masks");
    }
    *out = m;
    return 0;
}

struct grammar_masks *grammar_masks_ref(struct grammar_masks *m)
{
    atomic_fetch_add(&m->refs, 1);
    return m;
}

static void forget(struct grammar_masks *m)
{
    for (uint32_t i = 0; m->slots && i < m->n_slots; i++) {
        mem_free(m->slots[i]);
        m->slots[i] = NULL;
    }
    for (uint32_t i = 0; m->profiles && i < m->g->n_profiles; i++) {
        mask_profile_close(m->profiles[i]);
        m->profiles[i] = NULL;
    }
    m->n_entries = 0;
    m->bytes = 0;
}

void grammar_masks_close(struct grammar_masks *m)
{
    if (!m || atomic_fetch_sub(&m->refs, 1) != 1)
        return;
    forget(m);
    mem_free(m->slots);
    mem_free(m->profiles);
    mem_free(m->frames);
    mem_free(m->confs);
    mem_free(m->bits);
    mem_free(m->exits);
    mem_free(m->exit_seen);
    mem_free(m->kinds);
    mem_free(m->profile_kinds);
    gss_deinit(&m->stack);
    grammar_close(m->g);
    pthread_mutex_destroy(&m->mu);
    mem_free(m);
}

const struct token_trie *grammar_masks_trie(const struct grammar_masks *m)
{
    return m->t;
}

struct grammar *grammar_masks_grammar(const struct grammar_masks *m)
{
    return m->g;
}

void grammar_masks_stats(struct grammar_masks *m, struct mask_stats *st)
{
    pthread_mutex_lock(&m->mu);
    *st = m->stats;
    st->bytes = m->bytes;
    pthread_mutex_unlock(&m->mu);
}

/* ---- walking ---- */

static bool put_confs(struct grammar_masks *m, uint32_t at, const struct gss_config *c, uint32_t n)
{
    if (at + n > m->cap_confs) {
        struct gss_config *p;

        p = mem_grow(m->confs, 2 * ((size_t)at + n), sizeof *p);
        if (!p)
            return false;
        m->confs = p;
        m->cap_confs = 2 * (at + n);
    }
    if (n)
        memcpy(m->confs + at, c, n * sizeof *c);
    return true;
}

bool mask_leaves_at(struct grammar_masks *m, uint32_t place)
{
    uint64_t *seen = seen_word(m, place);

    if (*seen >> place % 64 & 1)     /* another way to it */
        return true;
    if (m->n_exits == m->cap_exits) {
        const uint32_t cap = m->cap_exits ? m->cap_exits * 2 : 256;
        uint32_t *p = mem_grow(m->exits, cap, sizeof *p);

        if (!p)
            return false;
        m->exits = p;
        m->cap_exits = cap;
    }
    *seen |= (uint64_t)1 << place % 64;
    m->exits[m->n_exits++] = place;
    return true;
}

static void begin_walk(struct grammar_masks *m)
{
    memset(m->bits, 0, m->t->n_words * sizeof *m->bits);
    while (m->n_exits > 0) {
        const uint32_t place = m->exits[--m->n_exits];

        *seen_word(m, place) &= ~((uint64_t)1 << place % 64);
    }
}

/* Tokens order[from..to). */
static void allow(struct grammar_masks *m, uint32_t from, uint32_t to)
{
    const int32_t *order = m->t->order;

    for (; from < to; from++)
        m->bits[order[from] / 64] |= (uint64_t)1 << order[from] % 64;
}

bool mask_frame(struct grammar_masks *m, const struct gss *s, uint32_t top, struct frame *to)
{
    to->n_nodes = s->n_nodes;
    to->n_edges = s->n_edges;
    to->first = top;
    to->n = s->n_work;
    to->top = top;
    to->base = STATE_NONE;
    to->state = STATE_NONE;
    if (s->n_work == 1) {
        to->state = s->work[0].state;
        to->node = s->work[0].node;
    } else {
        to->top += s->n_work;
        if (!put_confs(m, top, s->work, s->n_work))
            return false;
    }
    to->loop = mask_frame_loop(m, to);
    return true;
}

bool mask_step(struct grammar_masks *m, struct gss *s, const struct frame *f, struct frame *to,
               unsigned char byte)
{
    const struct gss_config one = { f->state, f->node };

    s->n_nodes = f->n_nodes;
    s->n_edges = f->n_edges;
    if (f->state != STATE_NONE)
        gss_step(s, m->g, &one, 1, byte);
    else
        gss_step(s, m->g, m->confs + f->first, f->n, byte);
    m->work += 1 + (f->state != STATE_NONE ? 1 : f->n) + s->n_work;
    return !s->failed && m->work <= MASK_MAX_WORK && mask_frame(m, s, f->top, to);
}

/* The nodes at and below i at which the rule of a counted state may end. */
static bool leave_counted(struct grammar_masks *m, const struct grammar_block *b, uint32_t before, uint32_t i)
{
    const struct trie_node *nodes = m->t->nodes;

    for (uint32_t k = i; k < nodes[i].skip; k++) {
        const uint32_t layer = before + nodes[k].above + !trie_goes_on(nodes[k].byte);

        if (nodes[k].skip > k + 1 && !trie_goes_on(nodes[k + 1].byte) && layer >= b->min &&
            (b->open || layer <= b->length) && !mask_leaves_at(m, k))
            return false;
    }
    return true;
}

/* The tokens at and below node i that a block has room for after f, as all characters are counted alike. */
static bool allow_counted(struct grammar_masks *m, const struct frame *f, uint32_t i)
{
    const struct token_trie *t = m->t;
    const uint32_t state = f->base != STATE_NONE ? f->base : f->state;
    const struct grammar_block *b = grammar_block(m->g, state);
    const uint32_t layer = (state - b->first) / b->n_kinds, kind = (state - b->first) % b->n_kinds;
    /* characters before node i, with the one that it goes on with, less those of its path */
    const uint32_t before = layer + (f->base != STATE_NONE) - t->nodes[i].above;
    const uint32_t end = t->nodes[t->nodes[i].skip].first;
    uint32_t most = 0;

    for (uint32_t k = t->nodes[i].first; k < end; k++) {
        const uint32_t n = before + t->chars[k];

        if (b->open || (uint64_t)n + b->ahead[kind] <= b->length)
            allow(m, k, k + 1);
        most = n > most ? n : most;
    }
    if (!(b->flags[kind] & KIND_ACCEPT) || f->node != GSS_OPEN || t->nodes[i].skip == i + 1)
        return true;
    if (layer + 1 >= b->min && (b->open || most <= b->length))
        return mask_leaves_at(m, i | MASK_BELOW | MASK_CHARS);
    return leave_counted(m, b, before, i);
}

/* Is there one state in f, from which no return leads elsewhere after each character? */
static bool may_stay(struct grammar_masks *m, const struct frame *f)
{
    const struct grammar_block *b;

    if (f->node < GSS_FIRST)
        return true;
    if (f->state < m->g->n_states)
        return mask_kinds_of(m, f->state)->plain;
    b = grammar_block(m->g, f->state);
    return !(b->flags[(f->state - b->first) % b->n_kinds] & KIND_ACCEPT);
}

/* Node i and all below it at once, where f->loop has their kinds. 0: they must be walked; < 0: failed. */
static int allow_pure(struct grammar_masks *m, struct gss *s, const struct frame *f, uint32_t i)
{
    const struct trie_node *nodes = m->t->nodes;
    uint32_t exits;
    int rc;

    if (f->state != STATE_NONE && f->state >= m->g->n_states && (f->base != STATE_NONE || may_stay(m, f)))
        return allow_counted(m, f, i) ? 1 : -1;
    rc = mask_pure(m, s, f, i, &exits);
    if (rc <= 0)
        return rc;
    allow(m, nodes[i].first, nodes[nodes[i].skip].first);
    return !exits || nodes[i].skip == i + 1 || mask_leaves_at(m, i | exits) ? 1 : -1;
}

/* After a step from f over node i to a state that is inside of a character, or to one that is not. */
static void set_loop(struct grammar_masks *m, const struct frame *f, uint32_t i, bool inside,
                     struct frame *after)
{
    const uint8_t byte = m->t->nodes[i].byte;

    after->base = STATE_NONE;
    if (m->t->kinds[i] & TRIE_BLANK && !(f->loop & TRIE_BLANK))
        ;       /* may lead elsewhere */
    else if (inside && f->base != STATE_NONE && trie_goes_on(byte) && m->t->kinds[i] != UINT64_MAX)
        after->base = f->base;
    else if (inside && f->base == STATE_NONE && byte >= 0xC2 && f->loop & TRIE_MULTI &&
             !(f->loop & TRIE_BROKEN) && may_stay(m, f))
        after->base = f->state;
    after->loop = after->base != STATE_NONE ? mask_loop_of(m, after->base) | TRIE_INSIDE
                                            : mask_frame_loop(m, after);
}

/* Goes to a state that has transitions on bytes and no calls, and may end its rule at most: no need to step
 * the stack. */
static bool simple_step(struct grammar_masks *m, const struct frame *f, uint32_t next, uint32_t i,
                        struct frame *after, bool *open)
{
    const bool counted = next >= m->g->n_states;
    bool plain, ends, inside;

    if (counted) {
        const struct grammar_block *b = grammar_block(m->g, next);
        const unsigned flags = grammar_flags(m->g, next);

        plain = flags == STATE_BYTES;
        ends = flags == (STATE_BYTES | STATE_ACCEPT);
        inside = (next - b->first) % b->n_kinds >= b->n_before;
    } else {
        const struct mask_kinds *k = mask_kinds_of(m, next);

        plain = k->plain;
        ends = k->ends;
        inside = next != (f->base != STATE_NONE ? f->base : f->state);
    }
    if (!plain && !(ends && f->node < GSS_FIRST))
        return false;
    *after = *f;
    after->state = next;
    *open = ends && f->node == GSS_OPEN;
    /* into a block, or out of one: not one character of the same text */
    set_loop(m, f, i, inside && counted == (f->state >= m->g->n_states), after);
    return true;
}

/* Walks the tree's nodes from..to, whose path so far led to frames[depth of `from` - 1]. Adds to
 * m->bits the tokens that fit, and to m->exits the nodes at which GSS_OPEN was returned through
 * while tokens go on. */
static bool walk(struct grammar_masks *m, struct gss *s, uint32_t from, uint32_t to)
{
    const struct grammar *g = m->g;
    const struct trie_node *nodes = m->t->nodes;
    const uint64_t *kinds = m->t->kinds;

    for (uint32_t i = from; i < to;) {
        const struct trie_node *node = &nodes[i];
        const struct frame *f = &m->frames[node->depth - 1];
        struct frame *after = &m->frames[node->depth];
        bool open = false, more = true;

        if (++m->work > MASK_MAX_WORK)
            return false;
        if (f->loop && (kinds[i] & ~f->loop) == 0) {
            const int rc = allow_pure(m, s, f, i);

            if (rc < 0)
                return false;
            if (rc > 0) {
                i = node->skip;
                continue;
            }
        }
        if (f->state != STATE_NONE) {
            const uint32_t next = grammar_next(g, f->state, node->byte);

            if (next == STATE_NONE) {
                i = node->skip;
                continue;
            }
            if (simple_step(m, f, next, i, after, &open))
                goto stepped;
        }
        if (!mask_step(m, s, f, after, node->byte))
            return false;
        open = s->at_open;
        more = s->n_work != 0;
        if (!more && !open && !s->at_bottom) {
            i = node->skip;
            continue;
        }
stepped:
        allow(m, node->first, node[1].first);
        if (open && node->skip > i + 1 && !mask_leaves_at(m, i))
            return false;
        i = more ? i + 1 : node->skip;
    }
    return true;
}

static int walk_failed(struct gss *s, struct err *e)
{
    const bool memory = s->no_memory;

    s->failed = s->no_memory = false;
    if (memory)
        return err_set(e, WATT_ENOMEM, "grammar: out of memory");
    return err_set(e, WATT_ELIMIT, "grammar: too ambiguous (over %u states at once, or too many ways to "
                   "read one token)", GSS_MAX_CONFIGS);
}

/* ---- what is kept ---- */

static uint64_t hash_key(const uint32_t *key, uint32_t n)
{
    uint64_t h = n;

    for (uint32_t i = 0; i < n; i++) {
        h = (h ^ key[i]) * 0xFF51AFD7ED558CCDu;
        h ^= h >> 32;
    }
    return h;
}

static struct entry **find(struct grammar_masks *m, uint64_t hash, const uint32_t *key, uint32_t n)
{
    for (uint64_t at = hash;; at++) {
        struct entry **p = &m->slots[at & (m->n_slots - 1)];

        if (!*p || ((*p)->hash == hash && (*p)->n_key == n &&
                    memcmp((*p)->data, key, n * sizeof *key) == 0))
            return p;
    }
}

static bool more_slots(struct grammar_masks *m)
{
    struct entry **old = m->slots, **slots = mem_calloc((size_t)m->n_slots * 2, sizeof *slots);
    const uint32_t n = m->n_slots;

    if (!slots)
        return false;
    m->slots = slots;
    m->n_slots = n * 2;
    for (uint32_t i = 0; i < n; i++)
        if (old[i])
            *find(m, old[i]->hash, old[i]->data, old[i]->n_key) = old[i];
    mem_free(old);
    return true;
}

/* Keeps what m->bits and m->exits hold. NULL: no memory. */
static struct entry *keep(struct grammar_masks *m, uint64_t hash, const uint32_t *key, uint32_t n)
{
    const size_t n_words = m->t->n_words;
    uint32_t count = 0;
    struct entry *x;
    size_t words, size;

    if ((m->n_entries + 1) * 2 > m->n_slots && !more_slots(m))
        return NULL;
    for (size_t i = 0; i < n_words; i++)
        count += (uint32_t)__builtin_popcountll(m->bits[i]);
    words = count <= LIST_MAX(n_words) ? count : 2 * n_words;
    size = sizeof *x + (n + m->n_exits + words) * sizeof *x->data;
    x = mem_alloc(size);
    if (!x)
        return NULL;
    x->hash = hash;
    x->n_key = n;
    x->n = count;
    x->n_exits = m->n_exits;
    x->is_list = count <= LIST_MAX(n_words);
    memcpy(x->data, key, n * sizeof *key);
    if (m->n_exits)
        memcpy(x->data + n, m->exits, m->n_exits * sizeof *key);
    if (x->is_list) {
        uint32_t k = n + m->n_exits;

        for (size_t i = 0; i < n_words; i++)
            for (uint64_t w = m->bits[i]; w; w &= w - 1)
                x->data[k++] = (uint32_t)(i * 64) + (uint32_t)__builtin_ctzll(w);
    } else {
        memcpy(x->data + n + m->n_exits, m->bits, n_words * sizeof *m->bits);
    }
    *find(m, hash, key, n) = x;
    m->n_entries++;
    m->bytes += size;
    return x;
}

static void merge(const struct entry *x, size_t n_words, uint64_t *bits)
{
    const uint32_t *v = x->data + x->n_key + x->n_exits;

    if (x->is_list) {
        for (uint32_t i = 0; i < x->n; i++)
            bits[v[i] / 64] |= (uint64_t)1 << v[i] % 64;
    } else {
        for (size_t i = 0; i < n_words; i++)
            bits[i] |= (uint64_t)v[2 * i] | (uint64_t)v[2 * i + 1] << 32;
    }
}

/* Walks the tree for one state, but for what is known without. */
static bool walk_state(struct grammar_masks *m, struct gss *s, uint32_t state)
{
    const uint32_t run = mask_plain_run(m->g, state);
    const size_t n_words = m->t->n_words;

    if (run == 0)
        return walk(m, s, 0, m->t->n_nodes);
    memcpy(m->bits, m->t->plain + (run - 1) * n_words, n_words * sizeof *m->bits);
    return walk(m, s, m->t->rest, m->t->end_rest);
}

/* Goes on below a node at which what was called has returned to f. */
static bool walk_below(struct grammar_masks *m, struct gss *s, const struct frame *f, uint32_t node)
{
    m->frames[m->t->nodes[node].depth] = *f;
    return walk(m, s, node + 1, m->t->nodes[node].skip);
}

/* The same for exits; `first` are the kinds of characters with which it can go on at all. */
static bool walk_from(struct grammar_masks *m, struct gss *s, const struct frame *f, uint32_t place,
                      uint64_t first)
{
    const struct trie_node *nodes = m->t->nodes;
    const uint32_t node = place & MASK_NODE;

    if (!(m->t->kinds[node] & first))
        return true;
    if (!(place & MASK_BELOW))
        return walk_below(m, s, f, node);
    for (uint32_t i = node; i < nodes[node].skip; i++) {
        const bool inside = trie_goes_on(nodes[i + 1].byte) && place & MASK_CHARS;

        if (nodes[i].skip > i + 1 && !inside && !walk_below(m, s, f, i))
            return false;
    }
    return true;
}

/* What a key adds to the key without its last state: the tokens that go on from that one's exits
 * after a return to the last state. The first key walks the whole tree. */
static struct entry *compute(struct grammar_masks *m, uint64_t hash, const uint32_t *key,
                             uint32_t n, const uint32_t *exits, uint32_t n_exits, struct err *e)
{
    struct gss *s = &m->stack;
    struct entry *x;
    bool ok = true;

    begin_walk(m);
    s->n_nodes = GSS_FIRST;
    s->n_edges = 0;
    gss_begin(s);
    gss_add(s, key[n - 1], GSS_OPEN);
    if (n == 1) {
        m->frames[0] = (struct frame){ .state = key[0], .node = GSS_OPEN, .n_nodes = s->n_nodes,
                                       .base = STATE_NONE };
        m->frames[0].loop = mask_frame_loop(m, &m->frames[0]);
        ok = walk_state(m, s, key[0]);
    } else {
        struct frame f;
        uint64_t first;
        bool through;

        gss_finish(s, m->g, s->n_nodes);
        through = s->at_open;
        ok = !s->failed && mask_frame(m, s, 0, &f);
        if (s->n_work == 0 && !through)     /* nothing goes on there */
            n_exits = 0;
        first = ok ? mask_first_kinds(m, &f) : 0;
        for (uint32_t i = 0; ok && i < n_exits; i++)
            ok = (!through || mask_leaves_at(m, exits[i])) && walk_from(m, s, &f, exits[i], first);
    }
    m->stats.n_walks++;
    if (!ok) {
        walk_failed(s, e);
        return NULL;
    }
    x = keep(m, hash, key, n);
    if (!x)
        err_set(e, WATT_ENOMEM, "grammar: masks");
    return x;
}

struct query {
    struct grammar_masks *m;
    const struct gss     *s;
    uint64_t             *bits;
    uint32_t              key[MAX_KEY], n_key;
    uint32_t              n_paths;
    bool                  too_deep;
    struct err           *e;
};

static int ask(struct query *q, uint32_t node, const uint32_t *exits, uint32_t n_exits);

/* The same for everything that can be returned to through `node`, from the places of the tree where
 * the key so far has returned. */
static int ask_below(struct query *q, uint32_t node, const uint32_t *exits, uint32_t n_exits)
{
    int rc = 0;

    if (n_exits == 0)
        return 0;
    for (uint32_t k = q->s->nodes[node].edges; k != STATE_NONE && rc == 0 && !q->too_deep;
         k = q->s->edges[k].next) {
        if (q->n_key == MAX_KEY || ++q->n_paths > MAX_PATHS) {
            q->too_deep = true;
            break;
        }
        if (grammar_flags(q->m->g, q->s->edges[k].back) == STATE_ACCEPT &&
            !grammar_has_calls(q->m->g, q->s->edges[k].back)) {     /* it only returns as well */
            rc = ask_below(q, q->s->edges[k].parent, exits, n_exits);
            continue;
        }
        q->key[q->n_key++] = q->s->edges[k].back;
        rc = ask(q, q->s->edges[k].parent, exits, n_exits);
        q->n_key--;
    }
    return rc;
}

/* Ors the mask of the state in key[0], called through key[1..n_key), with `node` below. */
static int ask(struct query *q, uint32_t node, const uint32_t *exits, uint32_t n_exits)
{
    struct grammar_masks *m = q->m;
    const uint64_t hash = hash_key(q->key, q->n_key);
    const struct entry *x = *find(m, hash, q->key, q->n_key);

    if (x) {
        m->stats.n_hits++;
    } else {
        x = compute(m, hash, q->key, q->n_key, exits, n_exits, q->e);
        if (!x)
            return q->e ? q->e->code : WATT_ELIMIT;
    }
    merge(x, m->t->n_words, q->bits);
    return ask_below(q, node, x->data + x->n_key, x->n_exits);
}

/* Is there a return through `node` after which a text may go on? Yes after MAX_PATHS returns. */
static bool goes_on_below(const struct query *q, uint32_t node, uint32_t *n_paths)
{
    for (uint32_t k = q->s->nodes[node].edges; k != STATE_NONE; k = q->s->edges[k].next)
        if (++*n_paths > MAX_PATHS || grammar_flags(q->m->g, q->s->edges[k].back) != STATE_ACCEPT ||
            grammar_has_calls(q->m->g, q->s->edges[k].back) ||
            goes_on_below(q, q->s->edges[k].parent, n_paths))
            return true;
    return false;
}

/* The same for a state before a counted character: its mask is put together, not kept. */
static int ask_counted(struct query *q, uint32_t node)
{
    struct mask_exits exits;
    uint32_t n_paths = 0;
    const bool below = goes_on_below(q, node, &n_paths);

    if (!mask_counted(q->m, q->key[0], below, q->bits, &exits))
        return walk_failed(&q->m->stack, q->e);
    memcpy(q->key, exits.class, sizeof exits.class);
    q->n_key = sizeof exits.class / sizeof *exits.class;
    return ask_below(q, node, exits.nodes, exits.n);
}

/* The whole walk over the real stack, which is left as it was. */
static int uncached(struct grammar_masks *m, struct gss *s, const struct gss_config *at,
                    uint64_t *bits, struct err *e)
{
    const uint32_t n_nodes = s->n_nodes, n_edges = s->n_edges;
    bool ok;

    begin_walk(m);
    m->frames[0] = (struct frame){ .state = at->state, .node = at->node, .n_nodes = n_nodes,
                                   .n_edges = n_edges, .base = STATE_NONE };
    m->frames[0].loop = mask_frame_loop(m, &m->frames[0]);
    ok = walk(m, s, 0, m->t->n_nodes);
    m->stats.n_uncached++;
    s->n_nodes = n_nodes;
    s->n_edges = n_edges;
    if (!ok)
        return walk_failed(s, e);
    for (size_t k = 0; k < m->t->n_words; k++)
        bits[k] |= m->bits[k];
    return 0;
}

int grammar_masks_of(struct grammar_masks *m, struct gss *s, const struct gss_config *at,
                     uint32_t n, uint64_t *bits, struct err *e)
{
    int rc = 0;

    pthread_mutex_lock(&m->mu);
    m->work = 0;
    gss_rest(&m->stack);
    gss_rest(s);
    if (m->bytes > MASK_CACHE_BYTES)
        forget(m);
    for (uint32_t i = 0; i < n && rc == 0; i++) {
        struct query q = { .m = m, .s = s, .bits = bits, .key = { at[i].state }, .n_key = 1,
                           .e = e };

        rc = mask_is_counted(m->g, at[i].state) ? ask_counted(&q, at[i].node)
                                                : ask(&q, at[i].node, NULL, 0);
        if (rc == 0 && q.too_deep)
            rc = uncached(m, s, &at[i], bits, e);
    }
    pthread_mutex_unlock(&m->mu);
    return rc;
}
