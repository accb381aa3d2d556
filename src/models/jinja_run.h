/* jinja_run.h: what the interpreter's parts call of each other. Inside
 * models/template only. */
#ifndef MODELS_JINJA_RUN_H
#define MODELS_JINJA_RUN_H

#include "models/jinja_ast.h"

/* The variables of one function that is running (or that a macro remembers). */
struct jframe {
    struct jframe *outer;
    struct jval    slots[];
};

/* A macro: its definition and the frame it was made in. */
struct jmacro {
    const struct jmacro_def *def;
    struct jframe *outer;
};

/* The state behind a for loop, and the `loop` variable. */
struct jloop {
    struct jval    iterable;     /* what the loop was given */
    struct jlist   items;
    struct jval    range;        /* a range is not spread out: items.n of it */
    uint32_t       at;           /* next item to look at */
    int64_t        index0;
    bool           filtered, has_before, has_after, has_length;
    struct jval    before, current, after, last_changed;
    uint32_t       length;
    uint32_t       depth;        /* of recursion */
    const struct jnode *node;    /* N_FOR; recursive: loop() calls it */
    struct jframe *frame;        /* where the filter's names live */
    struct jframe *outer;        /* recursive: the frame of the loop function's definition */
};

/* ---- jinja_loop.c ---- */
struct jloop *jloop_open(struct jrt *rt, const struct jnode *n, struct jval iterable,
                         struct jframe *f);
bool jloop_next(struct jrt *rt, struct jloop *l);        /* sets l->current */
/* loop.NAME; absent: no such attribute. */
struct jval jloop_attr(struct jrt *rt, struct jloop *l, const struct jstr *name);
struct jval jloop_method(struct jrt *rt, struct jloop *l, unsigned id, const struct jargs *a);

/* ---- jinja_eval.c ---- */
struct jval jeval(struct jrt *rt, struct jframe *f, const struct jnode *n);
void jassign(struct jrt *rt, struct jframe *f, const struct jnode *target, struct jval v);
struct jval jgetattr(struct jrt *rt, struct jval obj, struct jstr *attr, uint16_t method);
struct jval jgetitem(struct jrt *rt, struct jval obj, struct jval key);
/* getattr() alone: attributes and methods, no items. Absent: there is none. */
struct jval jattribute(struct jrt *rt, struct jval obj, struct jstr *attr, uint16_t method);
struct jargs jeval_args(struct jrt *rt, struct jframe *f, const struct jcall_args *a,
                        bool with_caller, struct jval caller);
void jenter_scope(struct jrt *rt, struct jframe *f, const struct jscope *s);
struct jframe *jframe_new(struct jrt *rt, struct jframe *outer, uint32_t n_slots);

/* ---- jinja_operator.c ---- */
struct jval joperate(struct jrt *rt, enum jop op, struct jval a, struct jval b);
struct jval jconcat(struct jrt *rt, const struct jval *v, uint32_t n);
struct jval jslice(struct jrt *rt, struct jval obj, struct jval start, struct jval stop,
                   struct jval step);
struct jval jadd(struct jrt *rt, struct jval a, struct jval b);

/* ---- jinja_exec.c ---- */
enum jflow { F_NEXT, F_BREAK, F_CONTINUE };
enum jflow jexec(struct jrt *rt, struct jframe *f, const struct jnodes *body);
/* Runs a recursive loop's body on an iterable: what loop(…) calls. */
struct jval jrecurse(struct jrt *rt, const struct jnode *n, struct jframe *outer,
                     struct jval iterable, uint32_t depth);
void joutput(struct jrt *rt, const char *p, size_t n);

/* ---- jinja_call.c ---- */
struct jval jcall(struct jrt *rt, struct jval fn, const struct jargs *a);
struct jval jcall_macro(struct jrt *rt, const struct jmacro *m, const struct jargs *a);
enum jfunc { JF_RANGE, JF_DICT, JF_NAMESPACE, JF_CYCLER, JF_JOINER, JF_RAISE, JF_STRFTIME,
             JF_LIPSUM, JF_COUNT };
/* The value of a global name; absent: there is none. */
struct jval jglobal(const struct jstr *name);

/* Binds arguments to parameters named in `spec`, which reads like Python:
 * "a b=? c=?": `=?` is optional, "a b / c" makes those before the slash
 * positional only. out[i] is absent for what was not given. */
#define JBIND_MAX 8
void jbind(struct jrt *rt, const char *what, const char *spec, const struct jargs *a,
           struct jval out[JBIND_MAX]);

/* ---- filters, tests, methods ---- */
struct jfilter {
    const char *name;
    struct jval (*fn)(struct jrt *rt, struct jval in, const struct jval *p,
                      const struct jargs *all);
    const char *spec;            /* parameters after the input; NULL: fn reads `all` */
};
struct jtest {
    const char *name;
    bool (*fn)(struct jrt *rt, struct jval in, const struct jval *p);
    const char *spec;
};
const struct jfilter *jfilter_find(const struct jstr *name);
const struct jtest   *jtest_find(const struct jstr *name);
struct jval jfilter_call(struct jrt *rt, const struct jfilter *f, struct jval in,
                         const struct jargs *a);
bool jtest_call(struct jrt *rt, const struct jtest *t, struct jval in, const struct jargs *a);
extern const struct jfilter jfilters_text[], jfilters_sequence[];    /* end: name NULL */

/* Methods of str, list, tuple, dict, loops, cyclers: one number per name. */
#define JMETHOD_NONE 0xffffu
uint16_t jmethod_find(const struct jstr *name);
const char *jmethod_name(uint16_t id);
/* Does this type have it? JM_UNSAFE: it would change the object. */
enum jmethod_kind { JM_NO, JM_YES, JM_UNSAFE };
enum jmethod_kind jmethod_of(struct jval obj, uint16_t id);
struct jval jmethod_call(struct jrt *rt, struct jval self, uint16_t id, const struct jargs *a);
struct jval jstring_method(struct jrt *rt, struct jval self, const char *name,
                           const struct jargs *a);

/* The integer that a C caller needs of a value: what Python's __index__ gives. */
int64_t jneed_int(struct jrt *rt, struct jval v, const char *what);
struct jstr *jneed_str(struct jrt *rt, struct jval v, const char *what);

#endif
