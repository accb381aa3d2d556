/* text_model.c: opens the parts of a text model together; see text_model.h. */
#include "models/text_model.h"

#include <string.h>

#include "base/mem.h"
#include "models/template_vars.h"

#define TEMPLATE_KEY "tokenizer.chat_template"

/* A vocabulary is wanted but not needed: `watt logits` has files without. */
static int open_tokenizer(struct text_model *t, struct err *e)
{
    struct err why = { 0 };
    const int rc = tokenizer_open(&t->tok, model_gguf(t->model), &why);

    if (rc == WATT_ENOMEM)
        return err_set(e, rc, "%s", why.msg);
    if (rc < 0) {
        (void)snprintf(t->tok_why, sizeof t->tok_why, "%s", why.msg);
    } else if (tokenizer_type(t->tok) == TOKENIZER_NONE) {
        (void)snprintf(t->tok_why, sizeof t->tok_why, "%s: has no vocabulary",
                       gguf_path(model_gguf(t->model)));
        tokenizer_close(t->tok);
        t->tok = NULL;
    }
    return 0;
}

static int open_template(struct text_model *t, const struct text_model_opts *o, struct err *e)
{
    struct err why = { 0 };
    struct sv source;
    int rc;

    if (o->template_source)
        return template_open(&t->tmpl, o->template_source, strlen(o->template_source),
                             o->template_name ? o->template_name : "template", e);
    if (!gguf_find(model_gguf(t->model), TEMPLATE_KEY))
        return 0;
    rc = gguf_get_str(model_gguf(t->model), TEMPLATE_KEY, &source, &why);
    if (rc == 0)
        rc = template_open(&t->tmpl, source.data, source.len, TEMPLATE_KEY, &why);
    if (rc == WATT_ENOMEM)
        return err_set(e, rc, "%s", why.msg);
    if (rc < 0)
        (void)snprintf(t->tmpl_why, sizeof t->tmpl_why, "%s", why.msg);
    return 0;
}

static int learn_tools(struct text_model *t, struct err *e)
{
    int rc;

    if (!t->tmpl)
        return 0;
    rc = tool_format_open(&t->tools, t->tmpl, text_model_role_text(t, TOKEN_BOS),
                          text_model_role_text(t, TOKEN_EOS), e);
    return rc == 0 && t->tok ? tool_format_bind(t->tools, t->tok, e) : rc;
}

int text_model_open(struct text_model **out, const char *path, const struct text_model_opts *opts,
                    struct err *e)
{
    static const struct text_model_opts defaults;
    const struct text_model_opts *o = opts ? opts : &defaults;
    struct text_model *t = mem_calloc(1, sizeof *t);
    int rc;

    if (!t)
        return err_set(e, WATT_ENOMEM, "%s: out of memory", path);
    rc = model_open(&t->model, path, &o->model, e);
    if (rc < 0)
        goto fail;
    rc = open_tokenizer(t, e);
    if (rc < 0)
        goto fail;
    rc = open_template(t, o, e);
    if (rc < 0)
        goto fail;
    rc = learn_tools(t, e);
    if (rc == 0 && !o->no_session)
        rc = session_open(&t->session, t->model, &o->session, e);
    if (rc < 0)
        goto fail;
    *out = t;
    return 0;
fail:
    text_model_close(t);
    return rc;
}

void text_model_close(struct text_model *t)
{
    if (!t)
        return;
    session_close(t->session);
    tool_format_close(t->tools);
    template_close(t->tmpl);
    tokenizer_close(t->tok);
    model_close(t->model);
    mem_free(t);
}

struct sv text_model_role_text(const struct text_model *t, enum token_role role)
{
    const int32_t id = t->tok ? tokenizer_role(t->tok, role) : -1;

    return id >= 0 ? tokenizer_text(t->tok, id) : (struct sv){ NULL, 0 };
}

int text_model_render(const struct text_model *t, const json_t *vars, struct str *out, struct err *e)
{
    struct template_input in = { .vars = vars };

    if (!t->tmpl)
        return err_set(e, WATT_ENOTSUP, "%s: %s", gguf_path(model_gguf(t->model)),
                       t->tmpl_why[0] ? t->tmpl_why : "has no chat template");
    in.bos_token = text_model_role_text(t, TOKEN_BOS);
    in.eos_token = text_model_role_text(t, TOKEN_EOS);
    return template_render_chat(t->tmpl, &in, out, e);
}

int text_model_encode_chat(const struct text_model *t, const char *text, size_t len,
                           struct tokens *out, struct err *e)
{
    const struct sv bos = text_model_role_text(t, TOKEN_BOS);
    const struct sv whole = { text, len };

    if (!t->tok)
        return err_set(e, WATT_ENOTSUP, "%s", t->tok_why);
    if (tokenizer_add_bos(t->tok) && bos.len > 0 && !sv_starts(whole, bos)
        && !tokens_push(out, tokenizer_bos(t->tok)))
        return err_set(e, WATT_ENOMEM, "prompt: out of memory");
    return tokenizer_encode(t->tok, NULL, text, len, TOKENIZE_PARSE_SPECIAL, out, e);
}
