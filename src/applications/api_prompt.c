/* api_prompt.c: messages of the APIs into the variables of chat templates. */
#include "applications/api_prompt.h"

#include <string.h>

#include "base/mem.h"
#include "models/template_vars.h"

#define MAX_MESSAGES 100000u
#define MAX_TOOLS    100000u            /* grammars of them have a lower bound */
#define BILLING_MARK "x-anthropic-billing-header"

/* A list of parts becomes one text when all of them are text. */
static int join_parts(const struct json_place *at, json_t **out, struct err *e)
{
    struct str text;
    size_t n;
    int rc = json_read_array(at, MAX_MESSAGES, &n, e);

    str_init(&text, 0);
    for (size_t i = 0; i < n && rc == 0; i++) {
        const struct json_place part = json_item(at, i);
        struct json_place p;
        const char *type;
        struct sv s;

        rc = json_get_cstr(&part, "type", "text", &type, e);
        if (rc == 0 && strcmp(type, "text") != 0 && strcmp(type, "input_text") != 0 &&
            strcmp(type, "output_text") != 0)
            rc = json_refuse(&part, e, WATT_ENOTSUP, "type '%.40s' is not supported: this model "
                             "reads text", type);
        if (rc == 0)
            rc = json_need(&part, "text", &p, e);
        if (rc == 0)
            rc = json_read_str(&p, &s, e);
        if (rc == 0) {
            if (text.len && i > 0)
                str_putc(&text, '\n');
            str_append(&text, s.data, s.len);
        }
    }
    if (rc == 0) {
        *out = str_ok(&text) ? json_stringn(text.len ? text.data : "", text.len) : NULL;
        rc = *out ? 0 : err_set(e, WATT_ENOMEM, "messages");
    }
    str_deinit(&text);
    return rc;
}

/* Coding assistants put a line that differs in every request at the front of the system prompt;
 * no cache would ever hold. */
static json_t *without_mark(const json_t *content)
{
    const char *z = json_string_value(content);
    const size_t n = json_string_length(content);
    const char *line;

    if (!z || strncmp(z, BILLING_MARK, strlen(BILLING_MARK)) != 0)
        return json_incref((json_t *)(uintptr_t)content);
    line = memchr(z, '\n', n);
    return line ? json_stringn(line + 1, n - (size_t)(line + 1 - z)) : json_string("");
}

/* Arguments come as text; templates print objects. */
static int arguments_as_objects(json_t *message, struct err *e)
{
    json_t *calls = json_object_get(message, "tool_calls"), *call;
    size_t i;

    json_array_foreach(calls, i, call) {
        json_t *fn = json_object_get(call, "function");
        const json_t *args = json_object_get(fn, "arguments");
        json_t *object;

        if (!json_is_string(args))
            continue;
        object = json_loadb(json_string_value(args), json_string_length(args), 0, NULL);
        if (json_is_object(object)) {
            if (json_object_set_new(fn, "arguments", object) < 0)
                return err_set(e, WATT_ENOMEM, "messages");
        } else {
            json_decref(object);        /* as it is: the template may cope */
        }
    }
    return 0;
}

static int one_message(const struct json_place *at, json_t **out, struct err *e)
{
    struct json_place p;
    json_t *m, *content = NULL;
    const char *role;
    int rc = json_need(at, "role", &p, e);

    if (rc == 0)
        rc = json_read_cstr(&p, &role, e);
    if (rc == 0)
        rc = json_find(at, "content", &p, e);
    if (rc < 0)
        return rc;
    if (p.value && !json_is_string(p.value) && !json_is_array(p.value))
        return json_refuse(&p, e, WATT_EFORMAT, "expected a string or a list of parts");
    if (json_is_array(p.value))
        rc = join_parts(&p, &content, e);
    else if (p.value)
        content = json_incref((json_t *)(uintptr_t)p.value);
    if (rc < 0)
        return rc;
    m = json_deep_copy(at->value);
    if (!m) {
        json_decref(content);
        return err_set(e, WATT_ENOMEM, "messages");
    }
    if (strcmp(role, "developer") == 0) {
        role = "system";
        rc = json_object_set_new(m, "role", json_string(role));
    }
    if (rc == 0 && content && strcmp(role, "system") == 0) {
        json_t *plain = without_mark(content);

        json_decref(content);
        content = plain;
    }
    if (rc == 0 && content)
        rc = json_object_set(m, "content", content);
    else if (rc == 0 && !json_object_get(m, "tool_calls"))
        rc = json_object_set_new(m, "content", json_string(""));
    if (rc == 0 && json_object_get(m, "reasoning") && !json_object_get(m, "reasoning_content"))
        rc = json_object_set(m, "reasoning_content", json_object_get(m, "reasoning"));
    json_decref(content);
    rc = rc < 0 ? err_set(e, WATT_ENOMEM, "messages") : arguments_as_objects(m, e);
    if (rc < 0) {
        json_decref(m);
        return rc;
    }
    *out = m;
    return 0;
}

int api_messages(const struct json_place *at, json_t **out, struct err *e)
{
    json_t *list = json_array();
    size_t n;
    int rc = json_read_array(at, MAX_MESSAGES, &n, e);

    if (rc == 0 && n == 0)
        rc = json_refuse(at, e, WATT_EINVAL, "at least one message is needed");
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place item = json_item(at, i);
        json_t *m = NULL;

        rc = one_message(&item, &m, e);
        if (rc == 0 && json_array_append_new(list, m) < 0)
            rc = err_set(e, WATT_ENOMEM, "messages");
    }
    if (rc < 0) {
        json_decref(list);
        return rc;
    }
    *out = list;
    return 0;
}

/* Templates read names and parameters unasked. */
static int check_tools(const struct json_place *list, struct err *e)
{
    size_t n;
    int rc = json_read_array(list, MAX_TOOLS, &n, e);

    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place tool = json_item(list, i);
        struct json_place function, name, p;
        const char *type;
        struct sv s;

        rc = json_get_cstr(&tool, "type", "function", &type, e);
        if (rc == 0 && strcmp(type, "function") != 0)
            rc = json_refuse(&tool, e, WATT_ENOTSUP, "type '%.40s' is not supported: 'function' is", type);
        if (rc == 0)
            rc = json_need(&tool, "function", &function, e);
        if (rc == 0)
            rc = json_need(&function, "name", &name, e);
        if (rc == 0)
            rc = json_read_str(&name, &s, e);
        if (rc == 0 && s.len == 0)
            rc = json_refuse(&name, e, WATT_EFORMAT, "is empty");
        if (rc == 0)
            rc = json_find(&function, "parameters", &p, e);
        if (rc == 0 && p.value && !json_is_object(p.value) && !json_is_boolean(p.value))
            rc = json_refuse(&p, e, WATT_EFORMAT, "expected a schema");
    }
    return rc;
}

/* What else the template may look at. */
static int add_variables(const struct api_call *c, json_t *vars, struct err *e)
{
    struct json_place p;
    const char *key;
    json_t *v;
    bool add = true;
    int rc = json_get_bool(&c->at, "add_generation_prompt", true, &add, e);

    if (rc == 0 && json_object_set_new(vars, "add_generation_prompt", json_boolean(add)) < 0)
        rc = err_set(e, WATT_ENOMEM, "template variables");
    if (rc == 0)
        rc = json_find(&c->at, "tools", &p, e);
    if (rc == 0 && p.value)
        rc = check_tools(&p, e);
    if (rc == 0 && p.value && json_array_size(p.value) > 0) {
        if (c->m->tm->tmpl && !template_takes_tools(c->m->tm->tmpl))
            return json_refuse(&p, e, WATT_ENOTSUP, "this model's template knows no tools");
        rc = json_object_set(vars, "tools", (json_t *)(uintptr_t)p.value);
    }
    if (rc == 0)
        rc = json_find(&c->at, "reasoning_effort", &p, e);
    if (rc == 0 && p.value) {
        const char *effort;

        rc = json_read_cstr(&p, &effort, e);
        if (rc == 0)
            rc = json_object_set(vars, "reasoning_effort", (json_t *)(uintptr_t)p.value);
        if (rc == 0 && strcmp(effort, "none") == 0)
            rc = json_object_set_new(vars, "enable_thinking", json_false());
    }
    if (rc == 0)
        rc = json_find(&c->at, "enable_thinking", &p, e);
    if (rc == 0 && p.value)
        rc = json_object_set(vars, "enable_thinking", (json_t *)(uintptr_t)p.value);
    if (rc == 0)
        rc = json_find(&c->at, "chat_template_kwargs", &p, e);
    if (rc == 0 && p.value && !json_is_object(p.value))
        return json_refuse(&p, e, WATT_EFORMAT, "expected an object");
    if (rc == 0 && p.value)
        json_object_foreach((json_t *)(uintptr_t)p.value, key, v) {
            if (rc == 0)
                rc = json_object_set(vars, key, v);
        }
    v = json_object_get(vars, "enable_thinking");
    if (rc == 0 && v && c->m->tm->tools && *c->m->tm->tools->think_variable &&
        !json_object_get(vars, c->m->tm->tools->think_variable))
        rc = json_object_set(vars, c->m->tm->tools->think_variable, v);
    return rc;
}

/* Calls in messages as the model's template takes them: arguments as text, content of null. */
static int suit_template(const struct tool_format *f, const json_t *vars, struct err *e)
{
    json_t *messages = json_object_get(vars, "messages"), *m, *call;
    size_t i, k;
    int rc = 0;

    if (!f || (!f->string_arguments && !f->null_content))
        return 0;
    json_array_foreach(messages, i, m) {
        const json_t *content = json_object_get(m, "content");
        json_t *calls = json_object_get(m, "tool_calls");

        if (f->null_content && json_array_size(calls) > 0 && json_is_string(content) &&
            json_string_length(content) == 0)
            rc |= json_object_set_new(m, "content", json_null());
        json_array_foreach(calls, k, call) {
            json_t *fn = json_object_get(call, "function"), *args = json_object_get(fn, "arguments");
            json_t *as_text;
            size_t n;
            char *text;

            if (!f->string_arguments || !json_is_object(args))
                continue;
            n = json_dumpb(args, NULL, 0, 0);
            text = mem_alloc(n ? n : 1);
            as_text = text ? json_stringn(text, json_dumpb(args, text, n, 0)) : NULL;
            mem_free(text);
            rc |= as_text ? json_object_set_new(fn, "arguments", as_text) : -1;
        }
    }
    return rc < 0 ? err_set(e, WATT_ENOMEM, "messages") : 0;
}

/* Stands behind the last message while the template renders it: whatever comes from there on closes
 * the message, and is left out. */
static const char mark[] = "\xEE\x80\x80" "goes on" "\xEE\x80\x80";

/* continue_final_message: the last message with a mark at its end, in place of it; *kept: its text. */
static int mark_last(struct api_call *c, json_t *vars, json_t **kept, struct err *e)
{
    json_t *messages = json_object_get(vars, "messages");
    json_t *m = json_array_get(messages, json_array_size(messages) - 1);
    json_t *content = json_object_get(m, "content");
    const char *role = json_string_value(json_object_get(m, "role"));
    struct str *s = &c->continued;
    json_t *text;

    if (!role || strcmp(role, "assistant") != 0 || !json_is_string(content) ||
        json_array_size(json_object_get(m, "tool_calls")) > 0)
        return err_set(e, WATT_EINVAL, "request body: continue_final_message: the last message must "
                       "be a text of the assistant");
    c->continues = true;
    str_deinit(s);
    str_init(s, 0);
    str_append(s, json_string_value(content), json_string_length(content));
    str_puts(s, mark);
    text = str_ok(s) ? json_stringn(s->data, s->len) : NULL;
    *kept = json_incref(content);
    if (json_object_set_new(m, "content", text) < 0 ||
        json_object_set_new(vars, "add_generation_prompt", json_false()) < 0)
        return err_set(e, WATT_ENOMEM, "messages");
    s->len -= sizeof mark - 1;
    return 0;
}

static int unmark_last(json_t *vars, json_t *kept, struct err *e)
{
    json_t *messages = json_object_get(vars, "messages");
    json_t *m = json_array_get(messages, json_array_size(messages) - 1);

    return json_object_set_new(m, "content", kept) < 0 ? err_set(e, WATT_ENOMEM, "messages") : 0;
}

/* Cuts the rendered text at the mark. */
static int cut_at_mark(struct str *text, struct err *e)
{
    const size_t n = sizeof mark - 1;

    for (size_t i = text->len; i-- > 0;)
        if (text->len - i >= n && memcmp(text->data + i, mark, n) == 0) {
            text->len = i;
            text->data[i] = '\0';
            return 0;
        }
    return err_set(e, WATT_ENOTSUP, "request body: continue_final_message: this model's template does "
                   "not show the last message");
}

int api_prompt(struct api_call *c, json_t *vars, struct str *text, struct tokens *ids,
               struct err *e)
{
    int rc = vars ? add_variables(c, vars, e) : err_set(e, WATT_ENOMEM, "template variables");
    json_t *kept = NULL;
    bool goes_on = false;

    if (rc == 0)
        rc = json_get_bool(&c->at, "continue_final_message", false, &goes_on, e);
    if (rc == 0 && goes_on)
        rc = mark_last(c, vars, &kept, e);
    if (rc == 0)
        rc = suit_template(c->m->tm->tools, vars, e);
    if (rc == 0)
        rc = text_model_render(c->m->tm, vars, text, e);
    if (rc == 0 && goes_on)
        rc = cut_at_mark(text, e);
    if (rc == 0 && goes_on)
        rc = unmark_last(vars, json_incref(kept), e);
    if (rc == 0)
        rc = text_model_encode_chat(c->m->tm, str_cstr(text), text->len, ids, e);
    json_decref(kept);
    json_decref(vars);
    return rc;
}

/* ---- plain texts ---- */

/* A text or token ids. */
static int read_prompt(struct api_call *c, const struct json_place *p, struct str *text,
                       struct tokens *ids, struct err *e)
{
    struct sv s;
    size_t n;
    int rc;

    if (json_is_array(p->value) && json_is_number(json_array_get(p->value, 0))) {
        rc = json_read_array(p, (size_t)1 << 24, &n, e);
        for (size_t i = 0; rc == 0 && i < n; i++) {
            const struct json_place item = json_item(p, i);
            uint64_t id;

            rc = json_read_u64(&item, 0, tokenizer_n_vocab(c->m->tm->tok) - 1, &id, e);
            if (rc == 0 && !tokens_push(ids, (int32_t)id))
                rc = err_set(e, WATT_ENOMEM, "prompt");
        }
        return rc == 0 ? tokenizer_decode(c->m->tm->tok, ids->ids, ids->n, 0, text, e) : rc;
    }
    rc = json_read_str(p, &s, e);
    if (rc < 0)
        return rc;
    str_append(text, s.data, s.len);
    return tokenizer_encode(c->m->tm->tok, NULL, s.data, s.len,
                            TOKENIZE_ADD_SPECIAL | TOKENIZE_PARSE_SPECIAL, ids, e);
}

int api_middle_prompt(struct api_call *c, struct sv prefix, struct sv suffix, struct tokens *ids,
                      struct err *e)
{
    static const enum token_role roles[] = { TOKEN_FIM_PRE, TOKEN_FIM_SUF, TOKEN_FIM_MID };
    const struct tokenizer *t = c->m->tm->tok;
    int rc;

    for (size_t i = 0; i < 3; i++)
        if (tokenizer_role(t, roles[i]) < 0)
            return err_set(e, WATT_ENOTSUP, "this model has no tokens to fill in a middle");
    if (!tokens_push(ids, tokenizer_role(t, TOKEN_FIM_PRE)))
        return err_set(e, WATT_ENOMEM, "prompt");
    rc = tokenizer_encode(t, NULL, prefix.len ? prefix.data : "", prefix.len, 0, ids, e);
    if (rc == 0 && !tokens_push(ids, tokenizer_role(t, TOKEN_FIM_SUF)))
        rc = err_set(e, WATT_ENOMEM, "prompt");
    if (rc == 0)
        rc = tokenizer_encode(t, NULL, suffix.len ? suffix.data : "", suffix.len, 0, ids, e);
    if (rc == 0 && !tokens_push(ids, tokenizer_role(t, TOKEN_FIM_MID)))
        rc = err_set(e, WATT_ENOMEM, "prompt");
    return rc;
}

static int add_suffix(struct api_call *c, const char *key, const struct str *prefix,
                      struct tokens *ids, struct err *e)
{
    struct json_place p;
    struct sv s;
    int rc = json_find(&c->at, key, &p, e);

    if (rc < 0 || !p.value)
        return rc;
    rc = json_read_str(&p, &s, e);
    if (rc < 0 || s.len == 0)
        return rc;
    ids->n = 0;
    rc = api_middle_prompt(c, sv_of(prefix), s, ids, e);
    return rc == WATT_ENOTSUP ? json_refuse(&p, e, rc, "this model has no tokens to fill in a middle")
                              : rc;
}

static int one_prompt(struct api_call *c, const struct json_place *at, const char *suffix,
                      struct str *text, struct tokens *ids, struct err *e)
{
    int rc = read_prompt(c, at, text, ids, e);

    if (rc == 0)
        rc = add_suffix(c, suffix, text, ids, e);
    return rc == 0 && ids->n == 0 ? json_refuse(at, e, WATT_EINVAL, "the prompt is empty") : rc;
}

/* Are there several: a list, but not of token ids? */
static bool is_list(const struct json_place *p)
{
    return json_is_array(p->value) && !json_is_number(json_array_get(p->value, 0));
}

int api_text_prompt(struct api_call *c, const char *prefix, const char *suffix, struct str *text,
                    struct tokens *ids, struct err *e)
{
    struct json_place p, item;
    int rc = json_need(&c->at, prefix, &p, e);

    if (rc < 0 || !is_list(&p))
        return rc < 0 ? rc : one_prompt(c, &p, suffix, text, ids, e);
    if (json_array_size(p.value) != 1)
        return json_refuse(&p, e, WATT_ENOTSUP, "expected one prompt, found %zu",
                           json_array_size(p.value));
    item = json_item(&p, 0);
    return one_prompt(c, &item, suffix, text, ids, e);
}

int api_text_prompts(struct api_call *c, const char *prefix, const char *suffix, struct api_ask *a,
                     struct err *e)
{
    struct json_place p, item;
    size_t n = 0;
    int rc = json_need(&c->at, prefix, &p, e);

    if (rc < 0 || !is_list(&p))
        return rc < 0 ? rc : one_prompt(c, &p, suffix, &a->text, &a->ids, e);
    rc = json_read_array(&p, API_MAX_PROMPTS, &n, e);
    if (rc == 0 && n == 0)
        rc = json_refuse(&p, e, WATT_EINVAL, "at least one prompt is needed");
    if (rc < 0)
        return rc;
    item = json_item(&p, 0);
    rc = one_prompt(c, &item, suffix, &a->text, &a->ids, e);
    a->more = rc == 0 && n > 1 ? mem_calloc(n - 1, sizeof *a->more) : NULL;
    if (rc == 0 && n > 1 && !a->more)
        rc = err_set(e, WATT_ENOMEM, "prompt");
    for (size_t i = 1; rc == 0 && i < n; i++) {
        struct api_text_ids *x = &a->more[a->n_more++];

        str_init(&x->text, 0);
        item = json_item(&p, i);
        rc = one_prompt(c, &item, suffix, &x->text, &x->ids, e);
    }
    return rc;
}
