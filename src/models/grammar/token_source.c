/* token_source.c: struct token_mask over a matcher. Finding a mask for the first time allocates,
 * within the bound of mask.h. */
#include "models/grammar/token_source.h"

#include "base/mem.h"
#include "models/grammar/matcher.h"

struct source {
    struct token_mask base;
    struct matcher   *m;
    int32_t           free_until;
    bool              begun;
};

static int fill(struct token_mask *t, uint64_t *bits, struct err *e)
{
    struct source *s = (struct source *)t;
    int rc;

    if (!s->begun)
        return TOKEN_MASK_ANY;
    rc = matcher_mask(s->m, bits, e);
    return rc < 0 ? rc : TOKEN_MASK_SOME;
}

static int accept(struct token_mask *t, int32_t id, struct err *e)
{
    struct source *s = (struct source *)t;

    if (!s->begun) {
        s->begun = id == s->free_until;
        return 0;
    }
    return matcher_accept(s->m, id, e);
}

static bool complete(const struct token_mask *t)
{
    const struct source *s = (const struct source *)t;

    return s->begun && matcher_must_end(s->m);
}

static void close_source(struct token_mask *t)
{
    struct source *s = (struct source *)t;

    matcher_close(s->m);
    mem_free(s);
}

static int clone_source(struct token_mask **out, const struct token_mask *t, struct err *e);

static const struct token_mask_ops ops = { fill, accept, complete, clone_source, close_source };

static int clone_source(struct token_mask **out, const struct token_mask *t, struct err *e)
{
    const struct source *from = (const struct source *)t;
    struct source *s = mem_calloc(1, sizeof *s);
    int rc;

    if (!s)
        return err_set(e, WATT_ENOMEM, "grammar: matcher");
    *s = *from;
    s->m = NULL;
    rc = matcher_clone(&s->m, from->m, e);
    if (rc < 0) {
        close_source(&s->base);
        return rc;
    }
    *out = &s->base;
    return 0;
}

int token_source_open(struct token_mask **out, struct grammar_masks *masks, int32_t free_until,
                      struct err *e)
{
    struct source *s = mem_calloc(1, sizeof *s);
    int rc;

    if (!s)
        return err_set(e, WATT_ENOMEM, "grammar: matcher");
    s->base.ops = &ops;
    s->free_until = free_until;
    s->begun = free_until < 0;
    rc = matcher_open(&s->m, masks, e);
    if (rc < 0) {
        close_source(&s->base);
        return rc;
    }
    *out = &s->base;
    return 0;
}
