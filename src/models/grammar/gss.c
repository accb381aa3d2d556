/* gss.c: stepping a graph-structured stack. */
#include "models/grammar/gss.h"

#include <string.h>

#include "base/mem.h"

int gss_init(struct gss *s, struct err *e)
{
    memset(s, 0, sizeof *s);
    s->cap_nodes = s->cap_edges = s->cap_work = 64;
    s->nodes = mem_array(s->cap_nodes, sizeof *s->nodes);
    s->edges = mem_array(s->cap_edges, sizeof *s->edges);
    s->work = mem_array(s->cap_work, sizeof *s->work);
    if (!s->nodes || !s->edges || !s->work) {
        gss_deinit(s);
        return err_set(e, WATT_ENOMEM, "grammar: stack");
    }
    for (uint32_t i = 0; i < GSS_FIRST; i++)
        s->nodes[i] = (struct gss_node){ STATE_NONE, STATE_NONE };
    s->n_nodes = GSS_FIRST;
    return 0;
}

void gss_deinit(struct gss *s)
{
    mem_free(s->nodes);
    mem_free(s->edges);
    mem_free(s->work);
    memset(s, 0, sizeof *s);
}

static void spend(struct gss *s, uint32_t work)
{
    if (work > GSS_MAX_WORK - s->n_spent)
        s->failed = true;
    else
        s->n_spent += work;
}

static void add_edge(struct gss *s, uint32_t node, uint32_t back, uint32_t parent)
{
    for (uint32_t k = s->nodes[node].edges; k != STATE_NONE && !s->failed; k = s->edges[k].next, spend(s, 1))
        if (s->edges[k].back == back && s->edges[k].parent == parent)
            return;
    if (s->n_edges == s->cap_edges) {
        struct gss_edge *p = s->cap_edges < GSS_MAX_NODES
                                 ? mem_grow(s->edges, (size_t)s->cap_edges * 2, sizeof *p) : NULL;

        if (!p) {
            s->failed = true;
            s->no_memory = s->cap_edges < GSS_MAX_NODES;
            return;
        }
        s->edges = p;
        s->cap_edges *= 2;
    }
    s->edges[s->n_edges] = (struct gss_edge){ back, parent, s->nodes[node].edges };
    s->nodes[node].edges = s->n_edges++;
}

static uint32_t add_node(struct gss *s, uint32_t start)
{
    if (s->n_nodes == s->cap_nodes) {
        struct gss_node *p = s->cap_nodes < GSS_MAX_NODES
                                 ? mem_grow(s->nodes, (size_t)s->cap_nodes * 2, sizeof *p) : NULL;

        if (!p) {
            s->failed = true;
            s->no_memory = s->cap_nodes < GSS_MAX_NODES;
            return GSS_BOTTOM;
        }
        s->nodes = p;
        s->cap_nodes *= 2;
    }
    s->nodes[s->n_nodes] = (struct gss_node){ start, STATE_NONE };
    return s->n_nodes++;
}

uint32_t gss_push(struct gss *s, uint32_t start, uint32_t back, uint32_t parent)
{
    const uint32_t node = add_node(s, start);

    if (!s->failed)
        add_edge(s, node, back, parent);
    return node;
}

void gss_begin(struct gss *s)
{
    s->n_work = 0;
    s->at_bottom = s->at_open = false;
}

void gss_add(struct gss *s, uint32_t state, uint32_t node)
{
    spend(s, s->n_work);
    for (uint32_t i = 0; i < s->n_work; i++)
        if (s->work[i].state == state && s->work[i].node == node)
            return;
    if (s->n_work == s->cap_work) {
        struct gss_config *p = s->cap_work < GSS_MAX_CONFIGS
                                   ? mem_grow(s->work, (size_t)s->cap_work * 2, sizeof *p) : NULL;

        if (!p) {
            s->failed = true;
            s->no_memory = s->cap_work < GSS_MAX_CONFIGS;
            return;
        }
        s->work = p;
        s->cap_work *= 2;
    }
    s->work[s->n_work++] = (struct gss_config){ state, node };
}

/* Ends and has nothing else to do: returning to it is returning through it. */
static bool only_returns(const struct grammar *g, uint32_t state)
{
    return grammar_flags(g, state) == STATE_ACCEPT && !grammar_has_calls(g, state);
}

static void call(struct gss *s, const struct grammar *g, const struct rule_call *c, uint32_t node,
                 uint32_t first_node)
{
    uint32_t v = first_node;

    while (v < s->n_nodes && s->nodes[v].start != c->start)
        v++;
    spend(s, 1 + v - first_node);
    if (v == s->n_nodes) {
        v = add_node(s, c->start);
        if (s->failed)
            return;
        gss_add(s, c->start, v);
    }
    /* A call in last position returns to the caller's callers, so that right recursion does not
     * grow the stack. A caller of this very byte may still get edges: it keeps its own. */
    if (node >= GSS_FIRST && node < first_node && only_returns(g, c->back)) {
        for (uint32_t k = s->nodes[node].edges; k != STATE_NONE && !s->failed; k = s->edges[k].next)
            add_edge(s, v, s->edges[k].back, s->edges[k].parent);
        return;
    }
    add_edge(s, v, c->back, node);
}

uint32_t gss_finish(struct gss *s, const struct grammar *g, uint32_t first_node)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->n_work && !s->failed; i++) {
        const struct gss_config c = s->work[i];
        uint32_t end, k = grammar_calls(g, c.state, &end);

        if (grammar_flags(g, c.state) & STATE_ACCEPT) {
            s->at_bottom |= c.node == GSS_BOTTOM;
            s->at_open |= c.node == GSS_OPEN;
            for (uint32_t x = s->nodes[c.node].edges; x != STATE_NONE; x = s->edges[x].next)
                gss_add(s, s->edges[x].back, s->edges[x].parent);
        }
        for (; k < end && !s->failed; k++)
            call(s, g, &g->calls[k], c.node, first_node);
    }
    if (s->failed)
        return 0;
    for (uint32_t i = 0; i < s->n_work; i++)
        if (grammar_flags(g, s->work[i].state) & STATE_BYTES)
            s->work[n++] = s->work[i];
    s->n_work = n;
    return n;
}

uint32_t gss_step(struct gss *s, const struct grammar *g, const struct gss_config *at, uint32_t n,
                  unsigned char c)
{
    const uint32_t first_node = s->n_nodes;

    gss_begin(s);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t to = grammar_next(g, at[i].state, c);

        if (to != STATE_NONE)
            gss_add(s, to, at[i].node);
    }
    return gss_finish(s, g, first_node);
}

int gss_compact(struct gss *s, struct gss_config *configs, size_t n, struct err *e)
{
    uint32_t *map = mem_array(s->n_nodes, sizeof *map), *todo = mem_array(s->n_nodes, sizeof *todo);
    struct gss_edge *edges = mem_array(s->cap_edges, sizeof *edges);
    uint32_t n_todo = 0, kept = GSS_FIRST, k_edges = 0;

    if (!map || !todo || !edges) {
        mem_free(map);
        mem_free(todo);
        mem_free(edges);
        return err_set(e, WATT_ENOMEM, "grammar: stack");
    }
    memset(map, 0xFF, s->n_nodes * sizeof *map);
    for (uint32_t i = 0; i < GSS_FIRST; i++)
        map[i] = i;
    for (size_t i = 0; i < n; i++)
        if (map[configs[i].node] == STATE_NONE) {
            map[configs[i].node] = 0;
            todo[n_todo++] = configs[i].node;
        }
    while (n_todo) {
        const uint32_t at = todo[--n_todo];

        for (uint32_t k = s->nodes[at].edges; k != STATE_NONE; k = s->edges[k].next)
            if (map[s->edges[k].parent] == STATE_NONE) {
                map[s->edges[k].parent] = 0;
                todo[n_todo++] = s->edges[k].parent;
            }
    }
    for (uint32_t i = GSS_FIRST; i < s->n_nodes; i++)
        if (map[i] != STATE_NONE)
            map[i] = kept++;
    for (uint32_t i = GSS_FIRST; i < s->n_nodes; i++) {
        uint32_t first = STATE_NONE;

        if (map[i] == STATE_NONE)
            continue;
        for (uint32_t k = s->nodes[i].edges; k != STATE_NONE; k = s->edges[k].next) {
            edges[k_edges] = (struct gss_edge){ s->edges[k].back, map[s->edges[k].parent], first };
            first = k_edges++;
        }
        s->nodes[map[i]] = (struct gss_node){ s->nodes[i].start, first };
    }
    for (size_t i = 0; i < n; i++)
        configs[i].node = map[configs[i].node];
    mem_free(s->edges);
    s->edges = edges;
    s->n_edges = k_edges;
    s->n_nodes = kept;
    mem_free(map);
    mem_free(todo);
    return 0;
}

bool grammar_matches(const struct grammar *g, struct sv text)
{
    struct gss s;
    struct gss_config *at = NULL;
    uint32_t n = 0;
    bool ok = false;

    if (gss_init(&s, NULL) < 0)
        return false;
    gss_begin(&s);
    gss_add(&s, g->root, GSS_BOTTOM);
    n = gss_finish(&s, g, s.n_nodes);
    for (size_t i = 0; i < text.len && !s.failed; i++) {
        struct gss_config *p = mem_grow(at, n ? n : 1, sizeof *p);

        if (!p)
            goto done;
        at = p;
        memcpy(at, s.work, n * sizeof *at);
        gss_rest(&s);
        n = gss_step(&s, g, at, n, (unsigned char)text.data[i]);
        if (n == 0 && !(s.at_bottom && i + 1 == text.len))
            goto done;
    }
    ok = s.at_bottom && !s.failed;
done:
    mem_free(at);
    gss_deinit(&s);
    return ok;
}
