/* jinja_value.h: the values of the template language and the memory, limits and
 * errors of one run. Inside models/template only.
 *
 * All values of a render live in its arena (struct jmem) and are released with
 * it at once; those of a parsed template live in the template's arena and are
 * never written again. A failure anywhere jumps to the one setjmp of the run
 * (template.c): functions here return only on success, own nothing but arena
 * memory, and so need no clean-up. Values are immutable except namespaces,
 * cyclers, joiners and iterators, hence sharing and slicing need no copies. */
#ifndef MODELS_JINJA_VALUE_H
#define MODELS_JINJA_VALUE_H

#include <jansson.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum jkind {
    J_ABSENT,                /* no value: an unset slot, an argument not given */
    J_UNDEF, J_NONE, J_BOOL, J_INT, J_FLOAT, J_STR,
    J_LIST, J_TUPLE, J_DICT,
    J_VIEW,                  /* dict.keys(), .values(), .items() */
    J_RANGE,
    J_ITER,                  /* what Python calls a generator: read once */
    J_NS, J_MACRO, J_FUNC, J_METHOD, J_LOOP, J_CYCLER, J_JOINER
};

enum jview { JVIEW_KEYS, JVIEW_VALUES, JVIEW_ITEMS };

struct jstr;
struct jlist;
struct jdict;
struct jundef;
struct jrange;
struct jiter;
struct jmacro;
struct jmethod;
struct jloop;
struct jcycler;

struct jval {
    uint8_t  kind;           /* enum jkind */
    bool     markup;         /* J_STR: markupsafe.Markup; J_TUPLE: made by groupby */
    uint16_t id;             /* J_VIEW: enum jview; J_FUNC: enum jfunc */
    union {
        bool            b;
        int64_t         i;
        double          f;
        struct jstr    *s;
        struct jlist   *list;    /* J_LIST, J_TUPLE */
        struct jdict   *dict;    /* J_DICT, J_VIEW, J_NS */
        struct jundef  *undef;   /* may be NULL */
        struct jrange  *range;
        struct jiter   *iter;
        struct jmacro  *macro;
        struct jmethod *method;
        struct jloop   *loop;
        struct jcycler *cycler;
        bool           *used;    /* J_JOINER: was it called before? */
    } u;
};

/* Python's str: UTF-8 bytes, measured and indexed in characters. An invalid
 * byte counts as one character. */
#define JSTR_UNCOUNTED UINT32_MAX
struct jstr {
    const char *p;
    uint32_t    len;         /* bytes */
    uint32_t    n_chars;     /* JSTR_UNCOUNTED until asked for */
};

struct jlist { struct jval *v; uint32_t n; };

struct jentry { struct jval key, val; uint64_t hash; };
struct jdict {
    struct jentry *e;        /* in order of insertion */
    uint32_t n, cap;
    uint32_t *index;         /* open addressing, entry + 1; NULL while small */
    uint32_t mask;
};

enum jundef_why { JUNDEF_NAME, JUNDEF_ATTR, JUNDEF_UNSAFE, JUNDEF_HINT };
struct jundef {
    enum jundef_why why;
    struct jstr    *name;    /* the variable or attribute; the text of a HINT */
    const char     *type;    /* of the object that lacked it, as Python names it */
};

struct jrt;
struct jrange { int64_t start, stop, step; uint32_t n; };
/* Positional and keyword arguments of a call. */
struct jargs {
    struct jval  *pos;
    struct jstr **names;
    struct jval  *kw;
    uint32_t n_pos, n_kw;
};
/* Filled by `fill` the first time that somebody reads it. */
struct jiter {
    struct jval *v;
    uint32_t n, pos;
    const char *type;
    void (*fill)(struct jrt *rt, struct jiter *it);
    struct jval in;
    struct jargs args;
    int mode;
};
struct jmethod { struct jval self; uint16_t id; };
struct jcycler { struct jlist items; uint32_t pos; };

/* ---- memory, limits, failure -------------------------------------------- */

struct jchunk;
struct jmem {
    struct jchunk *head;
    char  *p, *end;
    size_t total, limit;     /* bytes of all chunks */
};

/* A growing byte string in the arena. */
struct jbuf { char *p; size_t len, cap; };

struct jframe;
struct template;

/* One run: the parsing of a template or one render. */
struct jrt {
    struct jmem  mem;
    jmp_buf      fail;
    struct err  *e;
    const char  *name;       /* of the template, for messages */
    uint32_t     line;       /* of what is being done */
    uint32_t     depth, depth_max;
    uint64_t     steps, steps_max, steps_next_look;
    uint64_t     iterations, iterations_max;
    uint64_t     deadline_ns;    /* 0: none */
    /* render only */
    const struct template *t;
    struct jdict *vars;          /* the context */
    struct jframe *root;
    struct jbuf *buf;            /* where output goes; NULL: out */
    struct str  *out;
    size_t       out_start, out_max;
    bool         has_now;
    int64_t      now_s;
    int32_t      utc_offset_s;
};

void  jmem_deinit(struct jmem *m);
/* 16-byte aligned, uninitialised. */
void *jalloc(struct jrt *rt, size_t n);
void *jalloc_array(struct jrt *rt, size_t n, size_t size);

/* "NAME:LINE: message" and out. */
NORETURN void jfail(struct jrt *rt, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* What Python would raise as TypeError, ValueError, …. */
#define jraise(rt, ...) jfail((rt), WATT_EINVAL, __VA_ARGS__)

/* Counts work: n units of about one expression or some 64 bytes. */
void jsteps_look(struct jrt *rt);
static inline void jcharge(struct jrt *rt, uint64_t n)
{
    rt->steps += n;
    if (__builtin_expect(rt->steps >= rt->steps_next_look, 0))
        jsteps_look(rt);
}
void jenter_slow(struct jrt *rt);
static inline void jenter(struct jrt *rt)
{
    if (__builtin_expect(++rt->depth > rt->depth_max, 0))
        jenter_slow(rt);
}
static inline void jleave(struct jrt *rt) { rt->depth--; }

/* ---- making values ------------------------------------------------------- */

static inline struct jval jv_absent(void) { return (struct jval){ .kind = J_ABSENT }; }
static inline struct jval jv_none(void) { return (struct jval){ .kind = J_NONE }; }
static inline struct jval jv_bool(bool b) { return (struct jval){ .kind = J_BOOL, .u.b = b }; }
static inline struct jval jv_int(int64_t i) { return (struct jval){ .kind = J_INT, .u.i = i }; }
static inline struct jval jv_float(double f) { return (struct jval){ .kind = J_FLOAT, .u.f = f }; }
static inline struct jval jv_str(struct jstr *s) { return (struct jval){ .kind = J_STR, .u.s = s }; }

struct jstr *jstr_view(struct jrt *rt, const char *p, size_t len);  /* does not copy */
struct jstr *jstr_new(struct jrt *rt, const char *p, size_t len);   /* copies */
struct jval  jv_strn(struct jrt *rt, const char *p, size_t len);    /* copies */
struct jval  jv_strz(struct jrt *rt, const char *z);                /* a view of z */
/* As s with other bytes: keeps the markup flag of `like`. */
struct jval  jv_like(struct jval like, struct jstr *s);
struct jval  jv_list(struct jrt *rt, struct jval *v, size_t n);     /* takes v */
struct jval  jv_tuple(struct jrt *rt, struct jval *v, size_t n);
struct jval  jv_iter(struct jrt *rt, struct jval *v, size_t n, const char *type);
struct jval  jv_undef(struct jrt *rt, enum jundef_why why, struct jstr *name, const char *type);
struct jval  jv_range(struct jrt *rt, int64_t start, int64_t stop, int64_t step);
struct jval  jrange_at(const struct jrange *r, uint32_t i);

/* A growing array of values in the arena. */
struct jvec { struct jval *v; uint32_t n, cap; };
void jvec_push(struct jrt *rt, struct jvec *a, struct jval v);

void jbuf_put(struct jrt *rt, struct jbuf *b, const char *p, size_t n);
static inline void jbuf_putc(struct jrt *rt, struct jbuf *b, char c) { jbuf_put(rt, b, &c, 1); }
void jbuf_puts(struct jrt *rt, struct jbuf *b, const char *z);
void jbuf_cp(struct jrt *rt, struct jbuf *b, uint32_t cp);
struct jval jbuf_str(struct jrt *rt, struct jbuf *b);   /* a view; b must not grow after */

/* ---- strings ------------------------------------------------------------- */

uint32_t jstr_chars(struct jstr *s);                   /* length in characters */
bool     jstr_ascii(struct jstr *s);
/* Byte offset of character i, i <= jstr_chars(s). */
size_t   jstr_offset(struct jstr *s, uint32_t i);
/* Characters from..to as a view. */
struct jstr *jstr_slice(struct jrt *rt, struct jstr *s, uint32_t from, uint32_t to);
bool     jstr_eq(const struct jstr *a, const struct jstr *b);
bool     jstr_is(const struct jstr *s, const char *z);
int      jstr_cmp(const struct jstr *a, const struct jstr *b);
/* Position in bytes at or after `from`, or SIZE_MAX. */
size_t   jstr_find(struct jrt *rt, const struct jstr *s, const struct jstr *what, size_t from);
size_t   jstr_rfind(struct jrt *rt, const struct jstr *s, const struct jstr *what);

/* ---- dictionaries --------------------------------------------------------- */

struct jdict *jdict_new(struct jrt *rt, uint32_t n_expected);
void jdict_set(struct jrt *rt, struct jdict *d, struct jval key, struct jval val);
/* NULL when absent; unhashable keys raise. */
struct jval *jdict_get(struct jrt *rt, const struct jdict *d, struct jval key);
struct jval *jdict_get_str(struct jrt *rt, const struct jdict *d, const struct jstr *key);
struct jval *jdict_get_z(struct jrt *rt, const struct jdict *d, const char *key);

/* ---- what Python does with any value --------------------------------------- */

const char *jtype_name(struct jval v);      /* 'str', 'dict', …: type(v).__name__ */
bool jtruth(struct jrt *rt, struct jval v);
bool jequal(struct jrt *rt, struct jval a, struct jval b);
enum jorder { J_LT, J_LE, J_GT, J_GE };
bool jordered(struct jrt *rt, struct jval a, struct jval b, enum jorder op);
int  jcompare_numbers(struct jval a, struct jval b);  /* -1 0 1; 2 unordered (NaN) */
bool jcontains(struct jrt *rt, struct jval box, struct jval item);   /* item in box */
bool jhashable(struct jval v);
bool jis_number(struct jval v);             /* bool, int, float */
bool jis_integer(struct jval v);            /* bool, int */
int64_t jint_of(struct jval v);             /* of a bool or int */
double  jdouble_of(struct jval v);          /* of a bool, int or float */
/* str(v) and repr(v). */
struct jval jstr_of(struct jrt *rt, struct jval v);
void jput_str(struct jrt *rt, struct jbuf *b, struct jval v);
void jput_repr(struct jrt *rt, struct jbuf *b, struct jval v);
void jput_float(struct jrt *rt, struct jbuf *b, double f);
/* len(v); raises where Python would. */
uint32_t jlength(struct jrt *rt, struct jval v);
bool jhas_length(struct jval v);
uint32_t jloop_length(struct jrt *rt, struct jloop *loop);   /* jinja_loop.c */
bool jis_iterable(struct jval v);
/* list(v) without copying a list: *out is n values, not to be written. */
void jiterate(struct jrt *rt, struct jval v, struct jlist *out);
/* Makes sure that an iterator has been filled. */
static inline void jiter_fill(struct jrt *rt, struct jiter *it)
{
    if (it->fill)
        it->fill(rt, it);
}
/* Raises the error of using an undefined value. */
NORETURN void jfail_undefined(struct jrt *rt, struct jval v);

/* Converts JSON; strings are views, so j must outlive the run. */
struct jval jv_from_json(struct jrt *rt, const json_t *j);

/* Numbers, independent of the locale: shortest text that reads back the same,
 * in repr's form; and the longest prefix that is a decimal float. */
size_t jnum_format(double f, char out[40]);
double jnum_parse(const char *z);           /* z: validated, NUL-terminated */

#endif
