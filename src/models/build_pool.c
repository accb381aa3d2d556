/* build_pool.c: what an embedding model makes of its last hidden state: a row per token, the
 * rows pooled, or the score of a classification head. cls and last are rows of the batch, which
 * the caller of the session names (SESSION_FIRST, SESSION_LAST). */
#include "models/build.h"

/* Numbers of the key are 0 none, 1 mean, 2 cls, 3 last, 4 rank; 0 counts as unset. */
static enum pooling from_key(struct build *b, const char *key, enum pooling unset)
{
    const uint32_t v = build_u32(b, key, 0);

    if (v == 0)
        return unset;
    if (v > 4) {
        prog_fail(b->p, WATT_ENOTSUP, "%s: key %s.%s is %u, expected 1 (mean), 2 (cls), 3 (last) "
                  "or 4 (rank)", gguf_path(b->g), b->arch, key, v);
        return unset;
    }
    return (enum pooling)(POOLING_NONE + v);
}

static val linear_where_present(struct build *b, val x, const char *name, const char *weight)
{
    return build_has(b, weight) ? build_linear(b, x, name, 0) : x;
}

static val take_rows(struct build *b, val x, enum pooling pooling)
{
    return pooling == POOLING_MEAN ? prog_pool(b->p, x) : prog_rows(b->p, x);
}

static enum act head_act(struct build *b)
{
    return b->head_gelu ? ACT_GELU_ERF : ACT_TANH;
}

/* cls, its activation and norm, then cls.output: as many of these as the file has. Two outputs
 * of a causal model are the logits of yes and no. */
static val head(struct build *b, val x)
{
    const bool dense = build_has(b, "cls.weight"), output = build_has(b, "cls.output.weight");

    if (!dense && !output) {
        prog_fail(b->p, WATT_ENOTSUP, "%s: has no classification head (tensor cls.weight or "
                  "cls.output.weight), which rank pooling reads", gguf_path(b->g));
        return 0;
    }
    if (dense)
        x = prog_unary(b->p, build_linear(b, x, "cls", 0),
                       (struct act_args){ .act = head_act(b) });
    if (dense && build_has(b, "cls.norm.weight"))
        x = build_norm(b, x, "cls.norm");
    if (output)
        x = build_linear(b, x, "cls.output", 0);
    return b->causal && prog_width(b->p, x) == 2 ? prog_softmax(b->p, x, 0) : x;
}

/* Tensors of other uses of the same file are no surprise. */
static void mark_heads(struct build *b)
{
    static const char *const names[] = { "cls.weight", "cls.bias", "cls.norm.weight",
                                         "cls.output.weight", "cls.output.bias", "dense_2.weight",
                                         "dense_2.bias", "dense_3.weight", "dense_3.bias" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        build_known(b, names[i]);
}

val build_embedding(struct build *b, val x)
{
    enum pooling pooling = b->pooling;

    mark_heads(b);
    if (!b->embed)
        pooling = POOLING_NONE;
    if (pooling == POOLING_FILE)
        pooling = from_key(b, "pooling_type", b->causal ? POOLING_LAST : POOLING_MEAN);
    b->pooling = pooling;
    if (pooling == POOLING_RANK) {
        b->pooling = from_key(b, "classifier.pooling_type",
                              b->head_mean ? POOLING_MEAN : b->causal ? POOLING_LAST : POOLING_CLS);
        b->ranks = true;
        return head(b, take_rows(b, x, b->pooling));
    }
    x = take_rows(b, x, pooling);
    if (b->embed && pooling != POOLING_NONE) {      /* projections of sentence encoders */
        x = linear_where_present(b, x, "dense_2", "dense_2.weight");
        x = linear_where_present(b, x, "dense_3", "dense_3.weight");
    }
    return x;
}
