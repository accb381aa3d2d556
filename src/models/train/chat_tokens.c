/* chat_tokens.c: conversations to tokens and marks; see chat_tokens.h. */
#include "models/train/chat_tokens.h"

#include <string.h>

#include "base/mem.h"
#include "models/template_vars.h"

#define MAX_MESSAGES 4096u

static int no_memory(struct err *e)
{
    return err_set(e, WATT_ENOMEM, "out of memory for tokens");
}

static int mark_up_to(struct chat_tokens *c, bool learn, struct err *e)
{
    while (str_ok(&c->marks) && c->marks.len < c->ids.n)
        str_putc(&c->marks, learn ? 1 : 0);
    return str_ok(&c->marks) ? 0 : no_memory(e);
}

static int push(struct chat_tokens *c, int32_t id, bool learn, struct err *e)
{
    if (!tokens_push(&c->ids, id))
        return no_memory(e);
    return mark_up_to(c, learn, e);
}

static int encode(struct chat_tokens *c, struct sv text, unsigned flags, bool learn, struct err *e)
{
    const int rc = tokenizer_encode(c->tok, c->scratch, text.data, text.len, flags, &c->ids, e);

    return rc < 0 ? rc : mark_up_to(c, learn, e);
}

/* The token that ends a text: eos, or what ends a turn where there is no eos. */
static int32_t end_token(const struct tokenizer *t)
{
    const int32_t eos = tokenizer_eos(t);

    return eos >= 0 ? eos : tokenizer_role(t, TOKEN_EOT);
}

int chat_tokens_text(struct chat_tokens *c, struct sv text, bool begins, bool ends, struct err *e)
{
    const int32_t end = end_token(c->tok);
    int rc = 0;

    if (begins && tokenizer_add_bos(c->tok) && tokenizer_bos(c->tok) >= 0)
        rc = push(c, tokenizer_bos(c->tok), true, e);
    if (rc == 0 && text.len > 0)
        rc = encode(c, text, begins ? 0 : TOKENIZE_NO_PREFIX, true, e);
    if (rc == 0 && ends && end >= 0)
        rc = push(c, end, true, e);
    return rc;
}

/* ---- conversations ---- */

struct talk {
    struct chat_tokens      *c;
    const struct json_place *record;
    json_t                  *vars;      /* the record's members, messages replaced */
    struct json_place        messages;
    size_t                   n;
};

/* The first n messages into t->vars. */
static int set_messages(struct talk *t, size_t n, bool ask, struct err *e)
{
    json_t *list = json_array();
    int bad = !list;

    for (size_t i = 0; !bad && i < n; i++)
        bad = json_array_append(list, json_array_get(t->messages.value, i));
    if (bad || json_object_set(t->vars, "messages", list) != 0 ||
        json_object_set_new(t->vars, "add_generation_prompt", ask ? json_true() : json_false()) != 0)
        bad = 1;
    json_decref(list);
    return bad ? no_memory(e) : 0;
}

static int render(struct talk *t, size_t n, bool ask, struct str *out, struct err *e)
{
    const struct tokenizer *tok = t->c->tok;
    struct template_input in = { .vars = t->vars };
    int rc = set_messages(t, n, ask, e);

    if (rc < 0)
        return rc;
    if (tokenizer_bos(tok) >= 0)
        in.bos_token = tokenizer_text(tok, tokenizer_bos(tok));
    if (tokenizer_eos(tok) >= 0)
        in.eos_token = tokenizer_text(tok, tokenizer_eos(tok));
    str_reset(out);
    rc = template_render_chat(t->c->tmpl, &in, out, e);
    return rc < 0 ? err_prefix(e, "%s", t->record->key ? t->record->key : "record") : 0;
}

static bool wants_learning(const struct json_place *message)
{
    struct json_place role, learn;
    struct sv name;
    struct err e;
    bool yes = true;

    if (json_need(message, "role", &role, &e) < 0 || json_read_str(&role, &name, &e) < 0 ||
        !sv_eq_cstr(name, "assistant"))
        return false;
    if (json_find(message, "learn", &learn, &e) == 0 && learn.value &&
        json_read_bool(&learn, &yes, &e) < 0)
        return true;
    return yes;
}

/* Tokens of whole[*at .. to) behind those there are. */
static int add_part(struct talk *t, const struct str *whole, size_t *at, size_t to, bool learn,
                    struct err *e)
{
    struct chat_tokens *c = t->c;
    const struct sv part = { whole->data + *at, to - *at };
    const size_t first = c->ids.n;
    int rc = 0;

    if (*at == 0 && tokenizer_add_bos(c->tok) && tokenizer_bos(c->tok) >= 0 &&
        !sv_starts(part, tokenizer_text(c->tok, tokenizer_bos(c->tok))))
        rc = push(c, tokenizer_bos(c->tok), false, e);
    if (rc == 0 && part.len > 0)
        rc = encode(c, part, TOKENIZE_PARSE_SPECIAL | (*at ? TOKENIZE_NO_PREFIX : 0), learn, e);
    if (rc < 0)
        return rc;
    *at = to;
    if (!learn)
        return 0;
    /* what comes behind the token that ends the turn is never generated */
    for (size_t i = c->ids.n; i > first; i--) {
        if (tokenizer_is_eog(c->tok, c->ids.ids[i - 1])) {
            memset(c->marks.data + i, 0, c->ids.n - i);
            break;
        }
    }
    return 0;
}

static bool begins_with(const struct str *whole, const struct str *with)
{
    return with->len <= whole->len && memcmp(whole->data, with->data, with->len) == 0;
}

static int add_turns(struct talk *t, struct str *whole, struct str *asked, struct str *answered,
                     struct err *e)
{
    size_t at = 0;
    int rc = render(t, t->n, false, whole, e);

    for (size_t i = 0; rc == 0 && i < t->n; i++) {
        const struct json_place message = json_item(&t->messages, i);

        if (!wants_learning(&message))
            continue;
        rc = render(t, i, true, asked, e);
        if (rc == 0)
            rc = render(t, i + 1, false, answered, e);
        if (rc < 0)
            break;
        if (asked->len == 0 || answered->len == 0 || asked->len < at ||
            !begins_with(answered, asked) || !begins_with(whole, answered)) {
            t->c->n_hidden++;
            continue;
        }
        rc = add_part(t, whole, &at, asked->len, false, e);
        if (rc == 0)
            rc = add_part(t, whole, &at, answered->len, true, e);
    }
    return rc == 0 && at < whole->len ? add_part(t, whole, &at, whole->len, false, e) : rc;
}

static int add_talk(struct chat_tokens *c, const struct json_place *record,
                    const struct json_place *messages, struct err *e)
{
    struct talk t = { .c = c, .record = record, .messages = *messages };
    struct str whole, asked, answered;
    int rc;

    if (!c->tmpl)
        return json_refuse(messages, e, WATT_ENOTSUP, "the model has no chat template");
    rc = json_read_array(messages, MAX_MESSAGES, &t.n, e);
    if (rc < 0)
        return rc;
    str_init(&whole, 0);
    str_init(&asked, 0);
    str_init(&answered, 0);
    t.vars = json_copy((json_t *)(uintptr_t)record->value);     /* jansson's has no const */
    rc = t.vars ? add_turns(&t, &whole, &asked, &answered, e) : no_memory(e);
    json_decref(t.vars);
    str_deinit(&whole);
    str_deinit(&asked);
    str_deinit(&answered);
    return rc;
}

/* ---- records ---- */

static int add_completion(struct chat_tokens *c, const struct json_place *prompt,
                          const struct json_place *record, struct err *e)
{
    const int32_t end = end_token(c->tok);
    struct json_place completion;
    struct sv before, after;
    int rc = json_read_str(prompt, &before, e);

    if (rc == 0)
        rc = json_need(record, "completion", &completion, e);
    if (rc == 0)
        rc = json_read_str(&completion, &after, e);
    if (rc == 0 && tokenizer_add_bos(c->tok) && tokenizer_bos(c->tok) >= 0)
        rc = push(c, tokenizer_bos(c->tok), false, e);
    if (rc == 0 && before.len > 0)
        rc = encode(c, before, 0, false, e);
    if (rc == 0 && after.len > 0)
        rc = encode(c, after, before.len ? TOKENIZE_NO_PREFIX : 0, true, e);
    if (rc == 0 && end >= 0)
        rc = push(c, end, true, e);
    return rc;
}

int chat_tokens_add(struct chat_tokens *c, const struct json_place *record, struct err *e)
{
    struct json_place at;
    struct sv text;
    int rc = json_find(record, "messages", &at, e);

    if (rc == 0 && at.value)
        return add_talk(c, record, &at, e);
    if (rc == 0)
        rc = json_find(record, "prompt", &at, e);
    if (rc == 0 && at.value)
        return add_completion(c, &at, record, e);
    if (rc == 0)
        rc = json_find(record, "text", &at, e);
    if (rc < 0)
        return rc;
    if (!at.value)
        return json_refuse(record, e, WATT_EFORMAT,
                           "has none of \"messages\", \"prompt\" and \"text\"");
    rc = json_read_str(&at, &text, e);
    return rc < 0 ? rc : chat_tokens_text(c, text, true, true, e);
}
