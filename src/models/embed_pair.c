/* embed_pair.c: see embed_pair.h. */
#include "models/embed_pair.h"

#include <string.h>

#define TEMPLATE_KEY "tokenizer.chat_template.rerank"

/* ---- style ---- */

static const char *find_in(struct sv text, const char *word)
{
    return text.len ? memmem(text.data, text.len, word, strlen(word)) : NULL;
}

static int read_template(struct pair_style *s, const struct model *m, struct err *e)
{
    static const char query[] = "{query}", document[] = "{document}";
    struct sv text;
    const char *q, *d, *end;
    int rc;

    if (!gguf_find(model_gguf(m), TEMPLATE_KEY))
        return 0;
    rc = gguf_get_str(model_gguf(m), TEMPLATE_KEY, &text, e);
    if (rc < 0)
        return rc;
    q = find_in(text, query);
    d = find_in(text, document);
    if (!q || !d || d < q)
        return err_set(e, WATT_EFORMAT, "%s: key %s has no %s followed by %s",
                       gguf_path(model_gguf(m)), TEMPLATE_KEY, query, document);
    end = text.data + text.len;
    s->before = (struct sv){ text.data, (size_t)(q - text.data) };
    q += sizeof query - 1;
    s->between = (struct sv){ q, (size_t)(d - q) };
    d += sizeof document - 1;
    s->after = (struct sv){ d, (size_t)(end - d) };
    return 0;
}

/* Rows of the table of token types; 0: the model has none. */
static int64_t n_types(const struct program *p)
{
    for (uint32_t i = 0; i < prog_n_instr(p); i++) {
        const struct instr *in = prog_instr(p, i);

        if (in->op == OP_EMBED && in->a.embed.by == EMBED_TYPE)
            return prog_weight_at(p, in->w[0])->t.shape[0];
    }
    return 0;
}

int pair_style_read(struct pair_style *s, const struct model *m, const struct tokenizer *tok,
                    struct err *e)
{
    const bool wordpiece = tokenizer_type(tok) == TOKENIZER_WPM;
    const int32_t sep = tokenizer_role(tok, TOKEN_SEP);

    *s = (struct pair_style){ .bos = tokenizer_add_bos(tok) ? tokenizer_bos(tok) : -1,
                              .middle = { -1, -1 }, .eos = -1 };
    if (wordpiece)
        s->eos = sep;
    else if (tokenizer_add_eos(tok))
        s->eos = tokenizer_eos(tok);
    s->middle[0] = s->eos;
    /* the </s> of RoBERTa and XLM-RoBERTa ends the query and begins the document */
    if (!wordpiece && !model_facts(m)->causal && s->eos >= 0 &&
        sv_eq_cstr(tokenizer_text(tok, s->eos), "</s>"))
        s->middle[1] = s->eos;
    s->segments = wordpiece && n_types(model_program(m)) > 1;
    return read_template(s, m, e);
}

/* ---- pairs ---- */

static int push(struct tokens *out, int32_t id, struct err *e)
{
    if (id < 0 || tokens_push(out, id))
        return 0;
    return err_set(e, WATT_ENOMEM, "a pair of query and document: out of memory");
}

struct writer {
    const struct tokenizer *tok;
    struct tokenizer_scratch *scratch;
    struct tokens *out;
};

/* Text from outside never makes control tokens, the template's does. */
static int text(const struct writer *w, struct sv s, unsigned flags, struct err *e)
{
    return s.len == 0 ? 0 : tokenizer_encode(w->tok, w->scratch, s.data, s.len, flags, w->out, e);
}

static int head(const struct writer *w, const struct pair_style *s, struct sv query, struct err *e)
{
    int rc = push(w->out, s->bos, e);

    if (s->before.data) {
        if (rc == 0)
            rc = text(w, s->before, TOKENIZE_PARSE_SPECIAL, e);
        if (rc == 0)
            rc = text(w, query, TOKENIZE_NO_PREFIX, e);
        return rc < 0 ? rc : text(w, s->between, TOKENIZE_PARSE_SPECIAL | TOKENIZE_NO_PREFIX, e);
    }
    if (rc == 0)
        rc = text(w, query, 0, e);
    if (rc == 0)
        rc = push(w->out, s->middle[0], e);
    return rc < 0 ? rc : push(w->out, s->middle[1], e);
}

static int tail(const struct writer *w, const struct pair_style *s, struct err *e)
{
    if (s->before.data)
        return text(w, s->after, TOKENIZE_PARSE_SPECIAL | TOKENIZE_NO_PREFIX, e);
    return push(w->out, s->eos, e);
}

/* Takes as many of the document's tokens, [from, to), as the whole is too long. */
static int fit(const struct pair_request *q, struct tokens *out, size_t first, size_t from,
               size_t to, struct err *e)
{
    const size_t n = out->n - first, over = n > q->max_tokens ? n - q->max_tokens : 0;

    if (over == 0)
        return 0;
    if (!q->truncate || over >= to - from)
        return err_set(e, WATT_ELIMIT, "query and document have %zu tokens (the query %zu), at "
                       "most %u", n, from - first, q->max_tokens);
    memmove(out->ids + to - over, out->ids + to, (out->n - to) * sizeof *out->ids);
    out->n -= over;
    return 0;
}

int pair_encode(const struct pair_style *s, const struct tokenizer *tok,
                struct tokenizer_scratch *scratch, const struct pair_request *q, struct sv doc,
                struct tokens *out, size_t *second, struct err *e)
{
    const struct writer w = { tok, scratch, out };
    const size_t first = out->n;
    size_t from = first, to = first;
    int rc = head(&w, s, q->query, e);

    if (rc == 0) {
        from = out->n;
        rc = text(&w, doc, s->before.data ? TOKENIZE_NO_PREFIX : 0, e);
        to = out->n;
    }
    if (rc == 0)
        rc = tail(&w, s, e);
    if (rc == 0 && out->n == first)
        rc = err_set(e, WATT_EINVAL, "query and document have no tokens");
    if (rc == 0)
        rc = fit(q, out, first, from, to, e);
    if (rc < 0)
        out->n = first;
    else
        *second = s->segments ? from : out->n;
    return rc;
}
