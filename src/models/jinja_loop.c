/* jinja_loop.c: the iterator behind {% for %} and its `loop` variable, lazy like
 * Jinja2's LoopContext: an item is fetched, and the loop's filter asked, when the
 * turn comes or when loop.last or loop.nextitem look ahead. */
#include <string.h>

#include "models/jinja_run.h"

struct jloop *jloop_open(struct jrt *rt, const struct jnode *n, struct jval iterable,
                         struct jframe *f)
{
    struct jloop *l = jalloc(rt, sizeof *l);

    memset(l, 0, sizeof *l);
    l->iterable = iterable;
    l->node = n;
    l->frame = f;
    l->index0 = -1;
    l->filtered = n->u.loop->test != NULL;
    if (iterable.kind == J_RANGE) {
        l->range = iterable;
        l->items.n = iterable.u.range->n;
    } else {
        jiterate(rt, iterable, &l->items);
    }
    if (l->filtered)
        jenter_scope(rt, f, &n->u.loop->test_scope);
    return l;
}

/* The next item that passes the filter. */
static bool fetch(struct jrt *rt, struct jloop *l, struct jval *out)
{
    while (l->at < l->items.n) {
        const uint32_t i = l->at++;

        if (++rt->iterations > rt->iterations_max)
            jfail(rt, WATT_ELIMIT, "more than %llu turns of loops",
                  (unsigned long long)rt->iterations_max);
        *out = l->range.kind == J_RANGE ? jrange_at(l->range.u.range, i) : l->items.v[i];
        if (!l->filtered)
            return true;
        jassign(rt, l->frame, l->node->u.loop->test_target, *out);
        if (jtruth(rt, jeval(rt, l->frame, l->node->u.loop->test)))
            return true;
    }
    return false;
}

static bool look_ahead(struct jrt *rt, struct jloop *l)
{
    if (!l->has_after)
        l->has_after = fetch(rt, l, &l->after);
    return l->has_after;
}

bool jloop_next(struct jrt *rt, struct jloop *l)
{
    struct jval v;

    if (l->has_after) {
        v = l->after;
        l->has_after = false;
    } else if (!fetch(rt, l, &v)) {
        return false;
    }
    l->index0++;
    if (l->index0 > 0) {
        l->before = l->current;
        l->has_before = true;
    }
    l->current = v;
    return true;
}

uint32_t jloop_length(struct jrt *rt, struct jloop *l)
{
    struct jvec rest = { 0 };
    struct jval v;

    if (l->has_length)
        return l->length;
    l->has_length = true;
    if (!l->filtered && jhas_length(l->iterable)) {
        l->length = jlength(rt, l->iterable);
        return l->length;
    }
    while (fetch(rt, l, &v))
        jvec_push(rt, &rest, v);
    l->items = (struct jlist){ rest.v, rest.n };
    l->range = jv_absent();
    l->at = 0;
    l->filtered = false;
    l->length = rest.n + (uint32_t)(l->index0 + 1) + l->has_after;
    return l->length;
}

struct jval jloop_attr(struct jrt *rt, struct jloop *l, const struct jstr *name)
{
    if (jstr_is(name, "index"))
        return jv_int(l->index0 + 1);
    if (jstr_is(name, "index0"))
        return jv_int(l->index0);
    if (jstr_is(name, "first"))
        return jv_bool(l->index0 == 0);
    if (jstr_is(name, "last"))
        return jv_bool(!look_ahead(rt, l));
    if (jstr_is(name, "length"))
        return jv_int(jloop_length(rt, l));
    if (jstr_is(name, "revindex"))
        return jv_int(jloop_length(rt, l) - l->index0);
    if (jstr_is(name, "revindex0"))
        return jv_int(jloop_length(rt, l) - l->index0 - 1);
    if (jstr_is(name, "depth"))
        return jv_int((int64_t)l->depth + 1);
    if (jstr_is(name, "depth0"))
        return jv_int(l->depth);
    if (jstr_is(name, "previtem"))
        return l->has_before ? l->before
                             : jv_undef(rt, JUNDEF_HINT, jv_strz(rt, "there is no previous item").u.s,
                                        NULL);
    if (jstr_is(name, "nextitem"))
        return look_ahead(rt, l) ? l->after
                                 : jv_undef(rt, JUNDEF_HINT, jv_strz(rt, "there is no next item").u.s,
                                            NULL);
    return jv_absent();
}
