/* tok_merge.c: the merge engine that byte-level BPE and SentencePiece BPE share.
 *
 * A word starts as symbols (bytes, or characters) and the best mergeable pair, the
 * leftmost of equals, is merged until none is left. Short words look for the best
 * pair by going over all of them; long ones keep a heap, so that any text takes
 * O(n log n). Answers for short words are kept in a bounded cache per thread. */
#include "base/mem.h"
#include "models/tok_impl.h"

/* ---- table of pairs ---- */

int merges_init(struct merges *m, uint32_t n_max, struct err *e)
{
    uint32_t cap = 16;

    while (cap < n_max + n_max / 2)
        cap *= 2;
    m->slots = mem_array(cap, sizeof *m->slots);
    if (!m->slots)
        return tok_nomem(e);
    memset(m->slots, 0xFF, cap * sizeof *m->slots);
    m->mask = cap - 1;
    m->n = 0;
    return 0;
}

void merges_deinit(struct merges *m)
{
    mem_free(m->slots);
    *m = (struct merges){ 0 };
}

bool merges_add(struct merges *m, uint32_t left, uint32_t right, uint32_t prio, uint32_t out)
{
    uint32_t i = pair_hash(left, right) & m->mask;

    for (; m->slots[i].left != NO_TOKEN; i = (i + 1) & m->mask)
        if (m->slots[i].left == left && m->slots[i].right == right)
            return false;
    m->slots[i] = (struct merge){ left, right, prio, out };
    m->n++;
    return true;
}

/* ---- cache of words ---- */

#define CACHE_BITS 14
#define CACHE_KEY  22
#define CACHE_IDS  8

struct word_cache {
    struct cached {
        uint64_t hash;
        uint8_t  len, n;            /* n 0: empty */
        char     key[CACHE_KEY];
        int32_t  ids[CACHE_IDS];
    } slots[1u << CACHE_BITS];
};

int cache_open(struct word_cache **out, struct err *e)
{
    struct word_cache *c = mem_calloc(1, sizeof *c);

    if (!c)
        return tok_nomem(e);
    *out = c;
    return 0;
}

void cache_close(struct word_cache *c) { mem_free(c); }

static struct cached *cache_slot(struct word_cache *c, uint64_t hash)
{
    return &c->slots[(hash >> 20) & ((1u << CACHE_BITS) - 1)];
}

/* ---- symbols ---- */

#define UNKNOWN (NO_TOKEN - 1)  /* a character that no token holds */

/* The symbol at word[i]; its length in *len. */
static uint32_t symbol_at(const struct tokenizer *t, const char *word, size_t i, size_t n,
                          size_t *len)
{
    const unsigned char c = (unsigned char)word[i];
    uint32_t cp, id;
    bool ok;

    *len = 1;
    if (t->type == TOKENIZER_BPE && !t->raw)
        return t->byte_ids[c] >= 0 ? (uint32_t)t->byte_ids[c] : UNKNOWN;
    if (c < 128)
        return t->char_ids[c];
    *len = utf8_decode(word + i, n - i, &cp, &ok);
    if (!ok)
        return UNKNOWN;
    if (cp == 0x2581 && t->escape_ws)
        return t->char_ids[' '];
    id = strmap_find(&t->by_piece, word + i, *len);
    if (id != NO_TOKEN)
        return id;
    id = t->extra.n > 0 ? strmap_find(&t->by_extra, word + i, *len) : NO_TOKEN;
    return id == NO_TOKEN ? UNKNOWN : t->n_vocab + id;
}

/* A symbol that is no token: its bytes if the vocabulary has them, else unknown
 * (one for several in a row). */
static int emit_unknown(const struct tokenizer *t, const char *bytes, size_t len,
                        bool after_unknown, struct tokens *out, struct err *e)
{
    bool bytes_known = true;
    int rc = 0;

    for (size_t i = 0; i < len; i++)
        bytes_known = bytes_known && t->byte_ids[(unsigned char)bytes[i]] >= 0;
    if (!bytes_known) {
        if (after_unknown || t->roles[TOKEN_UNK] < 0)
            return 0;
        return tok_emit(out, t->roles[TOKEN_UNK], e);
    }
    for (size_t i = 0; i < len && rc == 0; i++)
        rc = tok_emit(out, t->byte_ids[(unsigned char)bytes[i]], e);
    return rc;
}

static int merge_forbid(const struct tokenizer *t, struct tokenizer_scratch *s, const char *word,
                        size_t len, uint32_t forbid, unsigned depth, struct tokens *out,
                        struct err *e);

/* One finished symbol. SentencePiece takes a piece marked unused apart again,
 * into what it was merged from. */
static int emit_symbol(const struct tokenizer *t, struct tokenizer_scratch *s, uint32_t id,
                       const char *bytes, size_t len, bool after_unknown, unsigned depth,
                       struct tokens *out, struct err *e)
{
    if (id >= t->n_vocab)
        return emit_unknown(t, bytes, len, after_unknown, out, e);
    if (t->has_unused && t->kinds[id] == TOKEN_UNUSED && depth > 0) {
        size_t first;

        (void)symbol_at(t, bytes, 0, len, &first);
        if (first < len)
            return merge_forbid(t, s, bytes, len, id, depth - 1, out, e);
    }
    return tok_emit(out, (int32_t)id, e);
}

/* ---- short words ---- */

#define SHORT_SYMBOLS 40

struct short_word {
    uint32_t id[SHORT_SYMBOLS + 1], prio[SHORT_SYMBOLS + 1], out[SHORT_SYMBOLS + 1];
    uint32_t start[SHORT_SYMBOLS + 2];
    uint32_t n;
};

static void short_pair(const struct tokenizer *t, struct short_word *w, uint32_t i,
                       uint32_t forbid)
{
    const struct merge *m = i + 1 < w->n ? merges_find(&t->merges, w->id[i], w->id[i + 1]) : NULL;

    w->prio[i] = m && m->out != forbid ? m->prio : UINT32_MAX;
    w->out[i] = m ? m->out : NO_TOKEN;
}

static void short_merge(const struct tokenizer *t, struct short_word *w, uint32_t forbid)
{
    for (uint32_t i = 0; i < w->n; i++)
        short_pair(t, w, i, forbid);
    for (;;) {
        uint32_t best = 0;

        for (uint32_t i = 1; i + 1 < w->n; i++)
            if (w->prio[i] < w->prio[best])
                best = i;
        if (w->n < 2 || w->prio[best] == UINT32_MAX)
            return;
        w->id[best] = w->out[best];
        w->n--;
        for (uint32_t i = best + 1; i < w->n; i++) {
            w->id[i] = w->id[i + 1];
            w->prio[i] = w->prio[i + 1];
            w->out[i] = w->out[i + 1];
            w->start[i] = w->start[i + 1];
        }
        w->start[w->n] = w->start[w->n + 1];
        short_pair(t, w, best, forbid);
        if (best > 0)
            short_pair(t, w, best - 1, forbid);
    }
}

/* ---- long words ---- */

static inline void heap_down(struct heap_item *h, size_t n, size_t i)
{
    const struct heap_item x = h[i];

    for (size_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && h[child + 1].key < h[child].key)
            child++;
        if (x.key <= h[child].key)
            break;
        h[i] = h[child];
        i = child;
    }
    h[i] = x;
}

static bool heap_push(struct tokenizer_scratch *s, uint64_t key, uint32_t out)
{
    size_t i = s->n_heap;

    if (!tok_room(&s->heap, &s->cap_heap, i + 1, sizeof *s->heap))
        return false;
    s->n_heap++;
    for (; i > 0 && s->heap[(i - 1) / 2].key > key; i = (i - 1) / 2)
        s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = (struct heap_item){ key, out };
    return true;
}

static struct heap_item heap_pop(struct tokenizer_scratch *s)
{
    const struct heap_item top = s->heap[0];

    s->heap[0] = s->heap[--s->n_heap];
    if (s->n_heap > 0)
        heap_down(s->heap, s->n_heap, 0);
    return top;
}

/* The pair that begins at symbol `at`, if it merges. */
static bool long_pair(const struct tokenizer *t, struct tokenizer_scratch *s, uint32_t at,
                      uint32_t forbid)
{
    const struct symbol *a = &s->symbols[at];
    const struct merge *m;

    if (a->next == NO_TOKEN)
        return true;
    m = merges_find(&t->merges, a->id, s->symbols[a->next].id);
    if (!m || m->out == forbid)
        return true;
    return heap_push(s, (uint64_t)m->prio << 32 | at, m->out);
}

#define DEAD (NO_TOKEN - 2)     /* merged into its left neighbour */

static bool long_merge(const struct tokenizer *t, struct tokenizer_scratch *s, uint32_t n,
                       uint32_t forbid)
{
    s->n_heap = 0;
    for (uint32_t i = 0; i < n; i++)
        if (!long_pair(t, s, i, forbid))
            return false;
    while (s->n_heap > 0) {
        const struct heap_item top = heap_pop(s);
        struct symbol *a = &s->symbols[(uint32_t)top.key], *b;
        const struct merge *m;

        if (a->id == DEAD || a->next == NO_TOKEN)
            continue;
        b = &s->symbols[a->next];
        m = merges_find(&t->merges, a->id, b->id);
        if (!m || m->out != top.out)    /* the pair has changed since */
            continue;
        a->id = m->out;
        b->id = DEAD;
        a->next = b->next;
        if (b->next != NO_TOKEN)
            s->symbols[b->next].prev = (uint32_t)top.key;
        if (!long_pair(t, s, (uint32_t)top.key, forbid) ||
            (a->prev != NO_TOKEN && !long_pair(t, s, a->prev, forbid)))
            return false;
    }
    return true;
}

/* ---- words ---- */

static int merge_long(const struct tokenizer *t, struct tokenizer_scratch *s, const char *word,
                      size_t len, uint32_t forbid, unsigned depth, struct tokens *out,
                      struct err *e)
{
    uint32_t n = 0;
    bool unknown = false;
    size_t l;
    int rc = 0;

    for (size_t i = 0; i < len; i += l, n++) {
        if (!tok_room(&s->symbols, &s->cap_symbols, (size_t)n + 1, sizeof *s->symbols))
            return tok_nomem(e);
        s->symbols[n].id = symbol_at(t, word, i, len, &l);
        s->symbols[n].start = (uint32_t)i;
        s->symbols[n].prev = n == 0 ? NO_TOKEN : n - 1;
        s->symbols[n].next = i + l < len ? n + 1 : NO_TOKEN;
    }
    if (!long_merge(t, s, n, forbid))
        return tok_nomem(e);
    if (t->has_unused) {    /* emitting may need s->symbols again: keep only the ids */
        struct tokens starts = { 0 };
        uint32_t at = 0;

        for (; at != NO_TOKEN && rc == 0; at = s->symbols[at].next)
            if (!tokens_push(&starts, (int32_t)s->symbols[at].id) ||
                !tokens_push(&starts, (int32_t)s->symbols[at].start))
                rc = tok_nomem(e);
        for (size_t i = 0; i < starts.n && rc == 0; i += 2) {
            const size_t from = (uint32_t)starts.ids[i + 1];
            const size_t to = i + 3 < starts.n ? (uint32_t)starts.ids[i + 3] : len;
            const uint32_t id = (uint32_t)starts.ids[i];

            rc = emit_symbol(t, s, id, word + from, to - from, unknown, depth, out, e);
            unknown = id >= t->n_vocab;
        }
        tokens_deinit(&starts);
        return rc;
    }
    for (uint32_t at = 0; at != NO_TOKEN && rc == 0; at = s->symbols[at].next) {
        const struct symbol *a = &s->symbols[at];
        const size_t end = a->next == NO_TOKEN ? len : s->symbols[a->next].start;

        rc = emit_symbol(t, s, a->id, word + a->start, end - a->start, unknown, 0, out, e);
        unknown = a->id >= t->n_vocab;
    }
    return rc;
}

static int merge_forbid(const struct tokenizer *t, struct tokenizer_scratch *s, const char *word,
                        size_t len, uint32_t forbid, unsigned depth, struct tokens *out,
                        struct err *e)
{
    struct short_word w;
    bool unknown = false;
    size_t l;
    int rc = 0;

    w.n = 0;
    for (size_t i = 0; i < len; i += l) {
        if (w.n == SHORT_SYMBOLS)
            return merge_long(t, s, word, len, forbid, depth, out, e);
        w.id[w.n] = symbol_at(t, word, i, len, &l);
        w.start[w.n++] = (uint32_t)i;
    }
    w.start[w.n] = (uint32_t)len;
    short_merge(t, &w, forbid);
    for (uint32_t i = 0; i < w.n && rc == 0; i++) {
        rc = emit_symbol(t, s, w.id[i], word + w.start[i], w.start[i + 1] - w.start[i], unknown,
                         depth, out, e);
        unknown = w.id[i] >= t->n_vocab;
    }
    return rc;
}

/* Deep enough for any real vocabulary; a piece below it comes out whole. */
#define UNUSED_DEPTH 32

static int merge_uncached(const struct tokenizer *t, struct tokenizer_scratch *s,
                          const char *word, size_t len, uint64_t hash, struct tokens *out,
                          struct err *e)
{
    if (t->ignore_merges) {
        const uint32_t id = strmap_find_hashed(&t->by_piece, word, len, hash);

        if (id != NO_TOKEN)
            return tok_emit(out, (int32_t)id, e);
    }
    return merge_forbid(t, s, word, len, NO_TOKEN, UNUSED_DEPTH, out, e);
}

int merge_word(const struct tokenizer *t, struct tokenizer_scratch *s, const char *word,
               size_t len, struct tokens *out, struct err *e)
{
    const uint64_t hash = tok_hash(word, len);
    const size_t before = out->n;
    struct cached *c;
    int rc;

    if (len > CACHE_KEY)
        return merge_uncached(t, s, word, len, hash, out, e);
    c = cache_slot(s->cache, hash);
    if (c->n > 0 && c->hash == hash && c->len == len && memcmp(c->key, word, len) == 0) {
        if (!tokens_reserve(out, c->n))
            return tok_nomem(e);
        memcpy(out->ids + out->n, c->ids, c->n * sizeof *c->ids);
        out->n += c->n;
        return 0;
    }
    rc = merge_uncached(t, s, word, len, hash, out, e);
    if (rc == 0 && out->n > before && out->n - before <= CACHE_IDS) {
        c->hash = hash;
        c->len = (uint8_t)len;
        c->n = (uint8_t)(out->n - before);
        memcpy(c->key, word, len);
        memcpy(c->ids, out->ids + before, c->n * sizeof *c->ids);
    }
    return rc;
}
