/* matcher.c: frontiers of one text, one after each token. */
#include "models/grammar/matcher.h"

#include <string.h>

#include "base/mem.h"

#define COMPACT_NODES 1024u     /* stacks smaller than this are left alone */

struct front {
    struct gss_config *at;      /* [n] */
    uint32_t           n, cap;
    bool               complete;
};

struct matcher {
    struct grammar_masks *masks;
    const struct grammar *g;
    const struct token_trie *t;
    struct gss            s;
    struct front          fronts[MATCHER_HISTORY + 1];  /* a ring; the current one is `now` */
    uint32_t              now, n_history;
    uint32_t              live_nodes;   /* after the last compaction */
    struct front          spare;        /* scratch of matcher_forced and of single bytes */
};

static bool front_set(struct front *f, const struct gss_config *at, uint32_t n, bool complete)
{
    if (n > f->cap) {
        const uint32_t cap = n < 16 ? 16 : n * 2;
        struct gss_config *p = mem_grow(f->at, cap, sizeof *p);

        if (!p)
            return false;
        f->at = p;
        f->cap = cap;
    }
    if (n)
        memcpy(f->at, at, n * sizeof *at);
    f->n = n;
    f->complete = complete;
    return true;
}

static struct front *past(struct matcher *m, uint32_t back)
{
    return &m->fronts[(m->now + MATCHER_HISTORY + 1 - back) % (MATCHER_HISTORY + 1)];
}

void matcher_reset(struct matcher *m)
{
    uint32_t n;

    m->s.n_nodes = GSS_FIRST;
    m->s.n_edges = 0;
    m->s.failed = m->s.no_memory = false;
    gss_rest(&m->s);
    m->now = 0;
    m->n_history = 0;
    m->live_nodes = 0;
    gss_begin(&m->s);
    gss_add(&m->s, m->g->root, GSS_BOTTOM);
    n = gss_finish(&m->s, m->g, m->s.n_nodes);
    if (!front_set(&m->fronts[0], m->s.work, n, m->s.at_bottom))
        m->s.failed = m->s.no_memory = true;
}

int matcher_open(struct matcher **out, struct grammar_masks *masks, struct err *e)
{
    struct matcher *m = mem_calloc(1, sizeof *m);

    if (!m)
        return err_set(e, WATT_ENOMEM, "grammar: matcher");
    m->masks = grammar_masks_ref(masks);
    m->g = grammar_masks_grammar(masks);
    m->t = grammar_masks_trie(masks);
    if (gss_init(&m->s, e) < 0) {
        matcher_close(m);
        return err_set(e, WATT_ENOMEM, "grammar: matcher");
    }
    matcher_reset(m);
    if (m->s.failed) {
        const bool memory = m->s.no_memory;

        matcher_close(m);
        return memory ? err_set(e, WATT_ENOMEM, "grammar: out of memory")
                      : err_set(e, WATT_ELIMIT, "grammar: too ambiguous at its start");
    }
    *out = m;
    return 0;
}

void matcher_close(struct matcher *m)
{
    if (!m)
        return;
    for (uint32_t i = 0; i <= MATCHER_HISTORY; i++)
        mem_free(m->fronts[i].at);
    mem_free(m->spare.at);
    gss_deinit(&m->s);
    grammar_masks_close(m->masks);
    mem_free(m);
}

int matcher_clone(struct matcher **out, const struct matcher *from, struct err *e)
{
    struct matcher *m;
    int rc = matcher_open(&m, from->masks, e);
    struct gss *s;

    if (rc < 0)
        return rc;
    s = &m->s;
    while (s->cap_nodes < from->s.n_nodes)
        s->cap_nodes *= 2;
    while (s->cap_edges < from->s.n_edges)
        s->cap_edges *= 2;
    mem_free(s->nodes);
    mem_free(s->edges);
    s->nodes = mem_array(s->cap_nodes, sizeof *s->nodes);
    s->edges = mem_array(s->cap_edges, sizeof *s->edges);
    if (!s->nodes || !s->edges)
        goto no_memory;
    memcpy(s->nodes, from->s.nodes, from->s.n_nodes * sizeof *s->nodes);
    memcpy(s->edges, from->s.edges, from->s.n_edges * sizeof *s->edges);
    s->n_nodes = from->s.n_nodes;
    s->n_edges = from->s.n_edges;
    for (uint32_t i = 0; i <= MATCHER_HISTORY; i++)
        if (!front_set(&m->fronts[i], from->fronts[i].at, from->fronts[i].n,
                       from->fronts[i].complete))
            goto no_memory;
    m->now = from->now;
    m->n_history = from->n_history;
    m->live_nodes = from->live_nodes;
    s->failed = from->s.failed;
    *out = m;
    return 0;
no_memory:
    matcher_close(m);
    return err_set(e, WATT_ENOMEM, "grammar: matcher");
}

const struct token_trie *matcher_trie(const struct matcher *m)
{
    return m->t;
}

size_t matcher_n_words(const struct matcher *m)
{
    return m->t->n_words;
}

bool matcher_complete(const struct matcher *m)
{
    return m->fronts[m->now].complete;
}

bool matcher_must_end(const struct matcher *m)
{
    return m->fronts[m->now].complete && m->fronts[m->now].n == 0;
}

uint32_t matcher_n_history(const struct matcher *m)
{
    return m->n_history;
}

int matcher_mask(struct matcher *m, uint64_t *bits, struct err *e)
{
    struct front *f = &m->fronts[m->now];
    int rc;

    memset(bits, 0, m->t->n_words * sizeof *bits);
    rc = grammar_masks_of(m->masks, &m->s, f->at, f->n, bits, e);
    if (rc < 0) {
        memset(bits, 0, m->t->n_words * sizeof *bits);
        return rc;
    }
    if (f->complete)
        for (size_t i = 0; i < m->t->n_words; i++)
            bits[i] |= m->t->eog[i];
    return 0;
}

/* Steps from f over bytes into m->spare; false when they don't fit. */
static bool run(struct matcher *m, const struct front *f, struct sv bytes)
{
    gss_rest(&m->s);
    m->s.no_memory = !front_set(&m->spare, f->at, f->n, f->complete);
    if (m->s.no_memory)
        return false;
    for (size_t i = 0; i < bytes.len; i++) {
        const uint32_t n = gss_step(&m->s, m->g, m->spare.at, m->spare.n,
                                    (unsigned char)bytes.data[i]);

        if (!m->s.failed && !front_set(&m->spare, m->s.work, n, m->s.at_bottom))
            m->s.failed = m->s.no_memory = true;
        if (m->s.failed)
            return false;
        if (n == 0 && !(m->s.at_bottom && i + 1 == bytes.len))
            return false;
    }
    return true;
}

static bool ends(const struct matcher *m, int32_t token)
{
    return token >= 0 && (uint32_t)token < m->t->n_vocab &&
           (m->t->eog[token / 64] >> token % 64 & 1);
}

/* Leaves the stack as it was when the token doesn't fit. */
static bool try_token(struct matcher *m, int32_t token)
{
    const uint32_t n_nodes = m->s.n_nodes, n_edges = m->s.n_edges;

    if (token < 0 || (uint32_t)token >= m->t->n_vocab || m->t->pieces[token].len == 0)
        return false;
    if (run(m, &m->fronts[m->now], m->t->pieces[token]))
        return true;
    m->s.n_nodes = n_nodes;
    m->s.n_edges = n_edges;
    m->s.failed = false;
    return false;
}

bool matcher_allows(struct matcher *m, int32_t token)
{
    const uint32_t n_nodes = m->s.n_nodes, n_edges = m->s.n_edges;
    const bool ok = (ends(m, token) && matcher_complete(m)) || try_token(m, token);

    m->s.n_nodes = n_nodes;
    m->s.n_edges = n_edges;
    return ok;
}

/* Drops what no kept frontier needs once the stack has doubled. */
static int compact(struct matcher *m, struct err *e)
{
    struct gss_config *all;
    size_t n = 0, at = 0;
    int rc;

    if (m->s.n_nodes < COMPACT_NODES || m->s.n_nodes < 2 * m->live_nodes)
        return 0;
    for (uint32_t i = 0; i <= m->n_history; i++)
        n += past(m, i)->n;
    all = mem_array(n ? n : 1, sizeof *all);
    if (!all)
        return err_set(e, WATT_ENOMEM, "grammar: matcher");
    for (uint32_t i = 0; i <= m->n_history; i++) {
        const struct front *f = past(m, i);

        if (f->n)
            memcpy(all + at, f->at, f->n * sizeof *all);
        at += f->n;
    }
    rc = gss_compact(&m->s, all, n, e);
    at = 0;
    for (uint32_t i = 0; rc == 0 && i <= m->n_history; i++) {
        struct front *f = past(m, i);

        if (f->n)
            memcpy(f->at, all + at, f->n * sizeof *all);
        at += f->n;
    }
    m->live_nodes = m->s.n_nodes;
    mem_free(all);
    return rc;
}

int matcher_accept(struct matcher *m, int32_t token, struct err *e)
{
    const uint32_t next = (m->now + 1) % (MATCHER_HISTORY + 1);
    const struct front *f = &m->fronts[m->now];

    if (ends(m, token) && f->complete) {
        if (!front_set(&m->fronts[next], NULL, 0, true))
            return err_set(e, WATT_ENOMEM, "grammar: matcher");
    } else {
        if (!try_token(m, token))
            return m->s.no_memory ? err_set(e, WATT_ENOMEM, "grammar: out of memory")
                                  : err_set(e, WATT_EINVAL, "grammar: token %d is not allowed here",
                                            token);
        if (!front_set(&m->fronts[next], m->spare.at, m->spare.n, m->spare.complete))
            return err_set(e, WATT_ENOMEM, "grammar: matcher");
    }
    m->now = next;
    if (m->n_history < MATCHER_HISTORY)
        m->n_history++;
    return compact(m, e);
}

void matcher_rollback(struct matcher *m, uint32_t n)
{
    CHECK(n <= m->n_history);
    m->now = (m->now + MATCHER_HISTORY + 1 - n) % (MATCHER_HISTORY + 1);
    m->n_history -= n;
}

size_t matcher_forced(struct matcher *m, char *bytes, size_t cap)
{
    const uint32_t n_nodes = m->s.n_nodes, n_edges = m->s.n_edges;
    struct front *f = &m->spare;
    size_t n_bytes = 0;
    bool ok = front_set(f, m->fronts[m->now].at, m->fronts[m->now].n, m->fronts[m->now].complete);

    while (ok && n_bytes < cap && !f->complete && f->n > 0) {
        int only = -1;

        for (unsigned c = 0; c < 256 && only > -2; c++)
            for (uint32_t i = 0; i < f->n; i++)
                if (grammar_next(m->g, f->at[i].state, (unsigned char)c) != STATE_NONE) {
                    only = only == -1 ? (int)c : -2;
                    break;
                }
        if (only < 0)
            break;
        gss_rest(&m->s);
        gss_step(&m->s, m->g, f->at, f->n, (unsigned char)only);
        ok = !m->s.failed && front_set(f, m->s.work, m->s.n_work, m->s.at_bottom);
        if (ok)
            bytes[n_bytes++] = (char)only;
    }
    m->s.n_nodes = n_nodes;
    m->s.n_edges = n_edges;
    m->s.failed = false;
    return n_bytes;
}
