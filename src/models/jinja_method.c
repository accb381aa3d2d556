/* jinja_method.c: which methods which types have, and those of lists, dicts,
 * loops and cyclers. Methods that would change an object are marked unsafe, as in
 * Jinja2's immutable sandbox: touching them is fine, calling them an error. */
#include <string.h>

#include "models/jinja_run.h"

enum { STR = 1, LIST = 2, TUPLE = 4, DICT = 8, RANGE = 16, LOOP = 32, CYCLER = 64,
       LIST_UNSAFE = 128, DICT_UNSAFE = 256 };

/* Sorted by name. */
static const struct { const char *name; uint16_t of; } methods[] = {
    { "append", LIST_UNSAFE }, { "capitalize", STR }, { "casefold", STR }, { "center", STR },
    { "changed", LOOP }, { "clear", LIST_UNSAFE | DICT_UNSAFE }, { "copy", LIST | DICT },
    { "count", STR | LIST | TUPLE | RANGE }, { "cycle", LOOP }, { "encode", STR },
    { "endswith", STR }, { "expandtabs", STR }, { "extend", LIST_UNSAFE }, { "find", STR },
    { "format", STR }, { "format_map", STR }, { "fromkeys", DICT }, { "get", DICT },
    { "index", STR | LIST | TUPLE | RANGE }, { "insert", LIST_UNSAFE }, { "isalnum", STR },
    { "isalpha", STR }, { "isascii", STR }, { "isdecimal", STR }, { "isdigit", STR },
    { "isidentifier", STR }, { "islower", STR }, { "isnumeric", STR }, { "isprintable", STR },
    { "isspace", STR }, { "istitle", STR }, { "isupper", STR }, { "items", DICT },
    { "join", STR }, { "keys", DICT }, { "ljust", STR }, { "lower", STR }, { "lstrip", STR },
    { "maketrans", STR }, { "next", CYCLER }, { "partition", STR },
    { "pop", LIST_UNSAFE | DICT_UNSAFE }, { "popitem", DICT_UNSAFE }, { "remove", LIST_UNSAFE },
    { "removeprefix", STR }, { "removesuffix", STR }, { "replace", STR }, { "reset", CYCLER },
    { "reverse", LIST_UNSAFE }, { "rfind", STR }, { "rindex", STR }, { "rjust", STR },
    { "rpartition", STR }, { "rsplit", STR }, { "rstrip", STR }, { "setdefault", DICT_UNSAFE },
    { "sort", LIST_UNSAFE }, { "split", STR }, { "splitlines", STR }, { "startswith", STR },
    { "strip", STR }, { "swapcase", STR }, { "title", STR }, { "translate", STR },
    { "update", DICT_UNSAFE }, { "upper", STR }, { "values", DICT }, { "zfill", STR },
};
#define N_METHODS (sizeof methods / sizeof methods[0])

uint16_t jmethod_find(const struct jstr *name)
{
    size_t low = 0, high = N_METHODS;

    while (low < high) {
        const size_t mid = (low + high) / 2;
        const struct jstr m = { methods[mid].name, (uint32_t)strlen(methods[mid].name), 0 };
        const int c = jstr_cmp(&m, name);

        if (c == 0)
            return (uint16_t)mid;
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return JMETHOD_NONE;
}

const char *jmethod_name(uint16_t id) { return methods[id].name; }

enum jmethod_kind jmethod_of(struct jval obj, uint16_t id)
{
    unsigned yes = 0, unsafe = 0;

    switch ((enum jkind)obj.kind) {
    case J_STR:    yes = STR; break;
    case J_LIST:   yes = LIST; unsafe = LIST_UNSAFE; break;
    case J_TUPLE:  yes = TUPLE; break;
    case J_DICT:   yes = DICT; unsafe = DICT_UNSAFE; break;
    case J_RANGE:  yes = RANGE; break;
    case J_LOOP:   yes = LOOP; break;
    case J_CYCLER: yes = CYCLER; break;
    default: break;
    }
    return methods[id].of & yes ? JM_YES : methods[id].of & unsafe ? JM_UNSAFE : JM_NO;
}

static struct jval dict_method(struct jrt *rt, struct jval self, const char *name,
                               const struct jargs *a)
{
    struct jval p[JBIND_MAX];
    struct jval v = self;

    if (strcmp(name, "get") == 0) {
        const struct jval *found;

        jbind(rt, "dict.get", "key default=? /", a, p);
        found = jdict_get(rt, self.u.dict, p[0]);
        return found ? *found : p[1].kind == J_ABSENT ? jv_none() : p[1];
    }
    if (strcmp(name, "fromkeys") == 0) {
        struct jdict *d = jdict_new(rt, 4);
        struct jlist keys;

        jbind(rt, "dict.fromkeys", "iterable value=? /", a, p);
        jiterate(rt, p[0], &keys);
        for (uint32_t i = 0; i < keys.n; i++)
            jdict_set(rt, d, keys.v[i], p[1].kind == J_ABSENT ? jv_none() : p[1]);
        return (struct jval){ .kind = J_DICT, .u.dict = d };
    }
    jbind(rt, name, "", a, p);
    if (strcmp(name, "copy") == 0)
        return self;
    v.kind = J_VIEW;
    v.id = strcmp(name, "keys") == 0 ? JVIEW_KEYS : strcmp(name, "values") == 0 ? JVIEW_VALUES
         : JVIEW_ITEMS;
    return v;
}

static struct jval list_method(struct jrt *rt, struct jval self, const char *name,
                               const struct jargs *a)
{
    struct jval p[JBIND_MAX];
    struct jlist l;
    int64_t from = 0, to, n = 0;

    if (strcmp(name, "copy") == 0) {
        jbind(rt, name, "", a, p);
        return self;
    }
    jiterate(rt, self, &l);
    if (strcmp(name, "count") == 0) {
        jbind(rt, name, "value /", a, p);
        for (uint32_t i = 0; i < l.n; i++)
            n += jequal(rt, l.v[i], p[0]);
        return jv_int(n);
    }
    jbind(rt, name, self.kind == J_RANGE ? "value /" : "value start=? stop=? /", a, p);
    to = l.n;
    if (p[1].kind != J_ABSENT)
        from = jneed_int(rt, p[1], "the start");
    if (p[2].kind != J_ABSENT)
        to = jneed_int(rt, p[2], "the stop");
    if (from < 0)
        from = from + l.n < 0 ? 0 : from + l.n;
    if (to < 0)
        to += l.n;
    for (int64_t i = from; i < to && i < l.n; i++)
        if (jequal(rt, l.v[i], p[0]))
            return jv_int(i);
    jraise(rt, "the value is not in the %s", jtype_name(self));
}

static struct jval cycler_method(struct jrt *rt, struct jval self, const char *name,
                                 const struct jargs *a)
{
    struct jcycler *c = self.u.cycler;
    struct jval p[JBIND_MAX], v;

    jbind(rt, name, "", a, p);
    if (strcmp(name, "reset") == 0) {
        c->pos = 0;
        return jv_none();
    }
    v = c->items.v[c->pos];
    c->pos = (c->pos + 1) % c->items.n;
    return v;
}

struct jval jmethod_call(struct jrt *rt, struct jval self, uint16_t id, const struct jargs *a)
{
    const char *name = methods[id].name;

    switch ((enum jkind)self.kind) {
    case J_STR:
        return jstring_method(rt, self, name, a);
    case J_DICT:
        return dict_method(rt, self, name, a);
    case J_LOOP:
        return jloop_method(rt, self.u.loop, id, a);
    case J_CYCLER:
        return cycler_method(rt, self, name, a);
    default:
        return list_method(rt, self, name, a);
    }
}
