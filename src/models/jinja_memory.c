/* jinja_memory.c: arena, failure, limits, growing buffers and JSON input of one
 * run; see jinja_value.h. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "models/jinja_value.h"

#define CHUNK_MIN ((size_t)32 << 10)
#define CHUNK_MAX ((size_t)1 << 20)
#define STEPS_PER_LOOK 4096u     /* steps between two looks at the clock */
#define JSON_DEPTH_MAX 100u

struct jchunk {
    struct jchunk *next;
    size_t size;
    _Alignas(16) char data[];
};

void jmem_deinit(struct jmem *m)
{
    while (m->head) {
        struct jchunk *next = m->head->next;

        mem_free(m->head);
        m->head = next;
    }
    m->p = m->end = NULL;
}

static void *alloc_slow(struct jrt *rt, size_t n)
{
    struct jmem *m = &rt->mem;
    size_t size = m->head ? m->head->size * 2 : CHUNK_MIN;
    struct jchunk *c;

    if (size > CHUNK_MAX)
        size = CHUNK_MAX;
    if (n > m->limit - m->total)
        jfail(rt, WATT_ELIMIT, "values need more than the memory limit of %zu bytes", m->limit);
    if (size < n)
        size = n;
    if (size > m->limit - m->total)
        size = m->limit - m->total;
    c = mem_alloc(sizeof *c + size);
    if (!c)
        jfail(rt, WATT_ENOMEM, "no memory for %zu bytes of values", n);
    c->size = size;
    c->next = m->head;
    m->head = c;
    m->total += size;
    m->p = c->data + n;
    m->end = c->data + size;
    return c->data;
}

void *jalloc(struct jrt *rt, size_t n)
{
    char *p = rt->mem.p;

    if (n > SIZE_MAX - 15)
        jfail(rt, WATT_ELIMIT, "a value is too large");
    n = (n + 15) & ~(size_t)15;
    if (n == 0)
        n = 16;
    if (n > (size_t)(rt->mem.end - p))
        return alloc_slow(rt, n);
    rt->mem.p = p + n;
    return p;
}

void *jalloc_array(struct jrt *rt, size_t n, size_t size)
{
    size_t bytes;

    if (!mul_size(n, size, &bytes))
        jfail(rt, WATT_ELIMIT, "a value of %zu elements is too large", n);
    return jalloc(rt, bytes);
}

void jfail(struct jrt *rt, int code, const char *fmt, ...)
{
    char text[ERR_MSG_MAX];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (rt->line)
        err_set(rt->e, code, "%s:%u: %s", rt->name, rt->line, text);
    else
        err_set(rt->e, code, "%s: %s", rt->name, text);
    longjmp(rt->fail, code);
}

void jsteps_look(struct jrt *rt)
{
    if (rt->steps > rt->steps_max)
        jfail(rt, WATT_ELIMIT, "more than %llu steps of work",
              (unsigned long long)rt->steps_max);
    if (rt->deadline_ns && clock_mono_ns() > rt->deadline_ns)
        jfail(rt, WATT_ETIME, "the time limit of a render ran out");
    rt->steps_next_look = rt->steps + STEPS_PER_LOOK;
    if (rt->steps_next_look > rt->steps_max)
        rt->steps_next_look = rt->steps_max + 1;
}

void jenter_slow(struct jrt *rt)
{
    jfail(rt, WATT_ELIMIT, "nested deeper than %u levels", rt->depth_max);
}

void jvec_push(struct jrt *rt, struct jvec *a, struct jval v)
{
    if (a->n == a->cap) {
        const uint32_t cap = a->cap ? a->cap * 2 : 8;
        struct jval *p;

        if (a->cap > UINT32_MAX / 4)
            jfail(rt, WATT_ELIMIT, "a list is too long");
        p = jalloc_array(rt, cap, sizeof *p);
        if (a->n)
            memcpy(p, a->v, a->n * sizeof *p);
        a->v = p;
        a->cap = cap;
    }
    a->v[a->n++] = v;
}

void jbuf_put(struct jrt *rt, struct jbuf *b, const char *p, size_t n)
{
    if (n > b->cap - b->len) {
        size_t cap = b->cap < 64 ? 128 : b->cap * 2;
        char *grown;

        if (n > UINT32_MAX / 4 || b->len > UINT32_MAX / 4)
            jfail(rt, WATT_ELIMIT, "a string is too long");
        if (cap < b->len + n)
            cap = b->len + n;
        grown = jalloc(rt, cap);
        if (b->len)
            memcpy(grown, b->p, b->len);
        b->p = grown;
        b->cap = cap;
    }
    if (n)
        memcpy(b->p + b->len, p, n);
    b->len += n;
}

void jbuf_puts(struct jrt *rt, struct jbuf *b, const char *z)
{
    jbuf_put(rt, b, z, strlen(z));
}

void jbuf_cp(struct jrt *rt, struct jbuf *b, uint32_t cp)
{
    char c[4];

    jbuf_put(rt, b, c, utf8_encode(cp, c));
}

struct jval jbuf_str(struct jrt *rt, struct jbuf *b)
{
    return jv_str(jstr_view(rt, b->len ? b->p : "", b->len));
}

static struct jval from_json(struct jrt *rt, const json_t *j, unsigned depth)
{
    jcharge(rt, 1);
    if (depth > JSON_DEPTH_MAX)
        jfail(rt, WATT_ELIMIT, "variables are nested deeper than %u levels", JSON_DEPTH_MAX);
    switch (json_typeof(j)) {
    case JSON_NULL:
        return jv_none();
    case JSON_TRUE:
    case JSON_FALSE:
        return jv_bool(json_is_true(j));
    case JSON_INTEGER:
        return jv_int(json_integer_value(j));
    case JSON_REAL:
        return jv_float(json_real_value(j));
    case JSON_STRING:
        return jv_str(jstr_view(rt, json_string_value(j), json_string_length(j)));
    case JSON_ARRAY: {
        const size_t n = json_array_size(j);
        struct jval *v = jalloc_array(rt, n, sizeof *v);

        for (size_t i = 0; i < n; i++)
            v[i] = from_json(rt, json_array_get(j, i), depth + 1);
        return jv_list(rt, v, n);
    }
    case JSON_OBJECT: {
        struct jdict *d = jdict_new(rt, (uint32_t)json_object_size(j));
        json_t *o = (json_t *)(uintptr_t)j;   /* jansson iterates non-const objects only */

        for (void *it = json_object_iter(o); it; it = json_object_iter_next(o, it)) {
            const char *key = json_object_iter_key(it);

            jdict_set(rt, d, jv_str(jstr_view(rt, key, strlen(key))),
                      from_json(rt, json_object_iter_value(it), depth + 1));
        }
        return (struct jval){ .kind = J_DICT, .u.dict = d };
    }
    default:
        return jv_none();
    }
}

struct jval jv_from_json(struct jrt *rt, const json_t *j)
{
    return from_json(rt, j, 0);
}
