/* token_source.c: struct token_mask over a matcher and a budget. Finding a mask for the first time
 * allocates, within the bound of mask.h. */
#include "models/grammar/token_source.h"

#include <string.h>

#include "base/mem.h"
#include "models/grammar/matcher.h"

#define MAX_CLOSE 32u       /* tokens of a closing tag */

struct source {
    struct token_mask base;
    struct matcher   *m;                /* NULL: no grammar */
    bool              m_lost;           /* BEFORE: what came can only be the opening tag */
    const struct tokenizer *tok;        /* NULL: no reasoning */
    struct reasoning  at;
    uint32_t          budget;
    int32_t           close[MAX_CLOSE];
    uint32_t          n_close, n_forced;
    size_t            n_words;
};

static bool over_budget(const struct source *s)
{
    return s->tok && s->at.state == REASONING_INSIDE && s->n_close > 0 &&
           s->at.n_tokens >= s->budget;
}

static void set(uint64_t *bits, int32_t id)
{
    bits[id / 64] |= (uint64_t)1 << id % 64;
}

/* Tokens that go on with the opening tag: those on the tag's way through the vocabulary's tree. */
static void allow_opening(const struct source *s, const struct token_trie *t, uint64_t *bits)
{
    const char *rest = s->at.open + s->at.n_matched;
    uint32_t i = 0, end = t->n_nodes;

    while (*rest && i < end) {
        const struct trie_node *node = &t->nodes[i];

        if (node->byte != (unsigned char)*rest) {
            i = node->skip;
            continue;
        }
        for (uint32_t k = node->first; k < node[1].first; k++)
            set(bits, t->order[k]);
        end = node->skip;
        rest++;
        i++;
    }
}

/* Everything but the end. */
static int all_but_end(const struct source *s, uint64_t *bits)
{
    const uint32_t n_vocab = tokenizer_n_vocab(s->tok);

    memset(bits, 0xff, s->n_words * sizeof *bits);
    if (n_vocab % 64)
        bits[n_vocab / 64] = ((uint64_t)1 << n_vocab % 64) - 1;
    for (uint32_t id = 0; id < n_vocab; id++)
        if (tokenizer_is_eog(s->tok, (int32_t)id))
            bits[id / 64] &= ~((uint64_t)1 << id % 64);
    return TOKEN_MASK_SOME;
}

static int fill(struct token_mask *t, uint64_t *bits, struct err *e)
{
    struct source *s = (struct source *)t;
    int rc;

    if (over_budget(s) || s->n_forced > 0) {
        memset(bits, 0, s->n_words * sizeof *bits);
        set(bits, s->close[s->n_forced]);
        return TOKEN_MASK_SOME;
    }
    if (s->tok && s->at.state == REASONING_INSIDE)
        return s->m ? all_but_end(s, bits) : TOKEN_MASK_ANY;
    if (!s->m)
        return TOKEN_MASK_ANY;
    if (s->m_lost) {
        memset(bits, 0, s->n_words * sizeof *bits);
        rc = 0;
    } else {
        rc = matcher_mask(s->m, bits, e);
    }
    if (rc < 0)
        return rc;
    if (s->tok && s->at.state == REASONING_BEFORE)
        allow_opening(s, matcher_trie(s->m), bits);
    return TOKEN_MASK_SOME;
}

static int before(struct source *s, int32_t id, struct err *e)
{
    int rc;

    reasoning_push(&s->at, tokenizer_piece(s->tok, id));
    if (!s->m)
        return 0;
    if (s->at.state != REASONING_BEFORE && s->at.state != REASONING_AFTER) {
        matcher_reset(s->m);
        s->m_lost = false;
        return 0;
    }
    if (s->m_lost)
        return s->at.state == REASONING_BEFORE ? 0 : err_set(e, WATT_EINVAL, "grammar: token %d is "
                                                             "not allowed here", id);
    if (s->at.state == REASONING_BEFORE && !matcher_allows(s->m, id)) {
        s->m_lost = true;
        return 0;
    }
    rc = matcher_accept(s->m, id, e);
    return rc;
}

static int accept(struct token_mask *t, int32_t id, struct err *e)
{
    struct source *s = (struct source *)t;

    if (s->tok && s->at.state == REASONING_BEFORE)
        return before(s, id, e);
    if (s->tok && s->at.state == REASONING_INSIDE) {
        const bool forced = over_budget(s) || s->n_forced > 0;
        const uint32_t n = s->at.n_tokens;

        reasoning_push(&s->at, tokenizer_piece(s->tok, id));
        if (forced) {
            s->at.n_tokens = n;         /* the tag is no reasoning */
            s->n_forced++;
            if (s->n_forced == s->n_close || s->at.state == REASONING_AFTER) {
                s->at.state = REASONING_AFTER;
                s->n_forced = 0;
            }
        }
        if (s->m && s->at.state == REASONING_AFTER && s->at.stray)
            return err_set(e, WATT_EINVAL, "grammar: token %d ends the reasoning and goes on", id);
        return 0;
    }
    return s->m ? matcher_accept(s->m, id, e) : 0;
}

static bool complete(const struct token_mask *t)
{
    const struct source *s = (const struct source *)t;

    return s->m && !s->m_lost && !(s->tok && s->at.state == REASONING_INSIDE) &&
           matcher_must_end(s->m);
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
    int rc = 0;

    if (!s)
        return err_set(e, WATT_ENOMEM, "grammar: matcher");
    *s = *from;
    s->m = NULL;
    if (from->m)
        rc = matcher_clone(&s->m, from->m, e);
    if (rc < 0) {
        close_source(&s->base);
        return rc;
    }
    *out = &s->base;
    return 0;
}

/* The closing tag as tokens; a tag that needs too many is not forced. */
static int spell_close(struct source *s, struct err *e)
{
    struct tokens ids = { 0 };
    int rc = tokenizer_encode(s->tok, NULL, s->at.close, strlen(s->at.close),
                              TOKENIZE_PARSE_SPECIAL | TOKENIZE_NO_BOS | TOKENIZE_NO_PREFIX, &ids,
                              e);

    if (rc == 0 && ids.n <= MAX_CLOSE)
        for (size_t i = 0; i < ids.n; i++)
            s->close[s->n_close++] = ids.ids[i];
    tokens_deinit(&ids);
    return rc;
}

int token_source_open(struct token_mask **out, struct grammar_masks *masks,
                      const struct token_thinking *thinking, struct err *e)
{
    struct source *s = mem_calloc(1, sizeof *s);
    int rc = 0;

    if (!s)
        return err_set(e, WATT_ENOMEM, "grammar: matcher");
    s->base.ops = &ops;
    if (masks) {
        rc = matcher_open(&s->m, masks, e);
        s->n_words = grammar_masks_trie(masks)->n_words;
    }
    if (rc == 0 && thinking && thinking->at.state != REASONING_AFTER) {
        s->tok = thinking->tok;
        s->at = thinking->at;
        s->budget = thinking->budget;
        s->n_words = ((size_t)tokenizer_n_vocab(s->tok) + 63) / 64;
        if (s->budget != TOKEN_SOURCE_NO_BUDGET)
            rc = spell_close(s, e);
    }
    if (rc < 0) {
        close_source(&s->base);
        return rc;
    }
    *out = &s->base;
    return 0;
}
