/* synth_plan.c: a shape's model without its weights; see synth_plan() in synth.h. */
#include "models/synth_internal.h"

#include "base/mem.h"

struct plan {
    const struct shape      *shape;
    const struct synth_opts *opts;
    struct gguf_make        *make;
};

static int add_tensor(void *ctx, const struct shape_tensor *st)
{
    const struct plan *p = ctx;
    struct tensor t = { .dtype = synth_type(p->shape, p->opts, st), .n_dims = (uint8_t)st->n_dims };
    uint64_t row_bytes, rows = 1;

    for (int i = 0; i < st->n_dims; i++) {
        t.shape[i] = st->shape[i];
        rows *= i < st->n_dims - 1 ? (uint64_t)st->shape[i] : 1;
    }
    CHECK(dtype_row_bytes((uint32_t)t.dtype, (uint64_t)st->shape[st->n_dims - 1], &row_bytes));
    t.size_bytes = row_bytes * rows;
    gguf_make_tensor(p->make, sv_cstr(st->name), &t, 0, 0);
    return 0;
}

static void nothing(void *owner)
{
    (void)owner;
}

int synth_plan(struct model **out, const struct shape *s, const struct synth_opts *o, struct err *e)
{
    struct plan p = { .shape = s, .opts = o };
    struct gguf *g;
    int rc = shape_check(s, e);

    if (rc == 0)
        rc = gguf_make_open(&p.make, s->name[0] ? s->name : "shape", e);
    if (rc < 0)
        return rc;
    rc = synth_keys(&(struct synth_sink){ .make = p.make }, s, o, e);
    if (rc == 0)
        rc = shape_each_tensor(s, add_tensor, &p);
    if (rc < 0) {
        gguf_make_close(p.make);
        return rc;
    }
    rc = gguf_make_finish(&g, p.make, nothing, NULL, e);
    return rc == 0 ? model_open_gguf(out, g, NULL, e) : rc;
}
