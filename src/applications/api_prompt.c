/* api_prompt.c: messages of the APIs into the variables of chat templates. */
#include "applications/api_prompt.h"

#include <string.h>

#include "base/mem.h"
#include "models/template.h"
#include "models/template_vars.h"

#define MAX_MESSAGES 100000u
#define MAX_TOOLS    100000u            /* grammars of them have a lower bound */
#define BILLING_MARK "x-anthropic-billing-header"

/* What a part says, and under which name. */
static int read_part(const struct json_place *part, const char **type, struct sv *s, struct err *e)
{
    static const char *const names[][2] = { { "text", "text" }, { "input_text", "text" },
        { "output_text", "text" }, { "refusal", "refusal" }, { "thinking", "thinking" } };
    struct json_place p;
    size_t i = 0;
    int rc = json_get_cstr(part, "type", "text", type, e);

    if (rc < 0)
        return rc;
    while (i < sizeof names / sizeof *names && strcmp(*type, names[i][0]) != 0)
        i++;
    if (i == sizeof names / sizeof *names)
        return json_refuse(part, e, WATT_ENOTSUP, "type '%.40s' is not supported: this model reads "
                           "text", *type);
    rc = json_need(part, names[i][1], &p, e);
    return rc < 0 ? rc : json_read_str(&p, s, e);
}

/* A list of parts becomes one text when all of them are text; what was thought stands apart. */
static int join_parts(const struct json_place *at, json_t **out, struct str *thought, struct err *e)
{
    struct str text;
    size_t n;
    int rc = json_read_array(at, MAX_MESSAGES, &n, e);

    str_init(&text, 0);
    for (size_t i = 0; i < n && rc == 0; i++) {
        const struct json_place part = json_item(at, i);
        const char *type;
        struct sv s = { NULL, 0 };
        struct str *to;

        rc = read_part(&part, &type, &s, e);
        if (rc < 0)
            break;
        to = strcmp(type, "thinking") == 0 ? thought : &text;
        if (to->len)
            str_putc(to, '\n');
        str_append(to, s.data, s.len);
    }
    if (rc == 0) {
        *out = str_ok(&text) && str_ok(thought) ? json_stringn(text.len ? text.data : "", text.len)
                                                : NULL;
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

/* A string, parts, or nothing: *content NULL. *thought: parts of it that were no answer, else NULL. */
static int read_content(const struct json_place *at, json_t **content, json_t **thought, struct err *e)
{
    struct json_place p;
    struct str s;
    int rc = json_find(at, "content", &p, e);

    *content = *thought = NULL;
    if (rc < 0 || !p.value)
        return rc;
    if (json_is_string(p.value)) {
        *content = json_incref((json_t *)(uintptr_t)p.value);
        return 0;
    }
    if (!json_is_array(p.value))
        return json_refuse(&p, e, WATT_EFORMAT, "expected a string or a list of parts");
    str_init(&s, 0);
    rc = join_parts(&p, content, &s, e);
    if (rc == 0 && s.len > 0 && !(*thought = json_stringn(s.data, s.len))) {
        json_decref(*content);
        rc = err_set(e, WATT_ENOMEM, "messages");
    }
    str_deinit(&s);
    return rc;
}

static int one_message(const struct json_place *at, json_t **out, struct err *e)
{
    struct json_place p;
    json_t *m, *content, *thought;
    const char *role;
    int rc = json_need(at, "role", &p, e);

    if (rc == 0)
        rc = json_read_cstr(&p, &role, e);
    if (rc == 0)
        rc = read_content(at, &content, &thought, e);
    if (rc < 0)
        return rc;
    m = json_deep_copy(at->value);
    if (!m) {
        json_decref(content);
        json_decref(thought);
        return err_set(e, WATT_ENOMEM, "messages");
    }
    if (thought && !json_object_get(m, "reasoning_content"))
        rc = json_object_set(m, "reasoning_content", thought);
    json_decref(thought);
    if (rc == 0 && strcmp(role, "developer") == 0) {
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

/* Documents to answer from, for templates that show them. */
static int add_documents(const struct api_call *c, json_t *vars, struct err *e)
{
    struct json_place p;
    size_t n = 0;
    int rc = json_find(&c->at, "documents", &p, e);

    if (rc == 0 && p.value)
        rc = json_read_array(&p, MAX_MESSAGES, &n, e);
    if (rc < 0 || n == 0)
        return rc;
    if (c->m->tm->tmpl && !template_mentions(c->m->tm->tmpl, "documents"))
        return json_refuse(&p, e, WATT_ENOTSUP, "this model's template knows no documents");
    return json_object_set(vars, "documents", (json_t *)(uintptr_t)p.value) < 0
               ? err_set(e, WATT_ENOMEM, "documents") : 0;
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
        rc = add_documents(c, vars, e);
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

int api_read_thinking(struct api_call *c, uint32_t *budget, struct err *e)
{
    struct json_place p, n;
    const char *type = "";
    uint64_t tokens;
    int rc = json_find(&c->at, "thinking", &p, e);

    if (rc < 0 || !p.value)
        return rc;
    if (json_is_boolean(p.value))
        type = json_is_true(p.value) ? "enabled" : "disabled";
    else
        rc = json_get_cstr(&p, "type", "", &type, e);
    if (rc < 0)
        return rc;
    if (strcmp(type, "enabled") != 0 && strcmp(type, "disabled") != 0 &&
        strcmp(type, "adaptive") != 0)
        return json_refuse(&p, e, WATT_EINVAL, "type '%.40s' is neither enabled, adaptive nor "
                           "disabled", type);
    if (strcmp(type, "adaptive") == 0)
        return 0;                       /* the template has its way */
    if (*type == 'e' && json_is_object(p.value)) {
        rc = json_find(&p, "budget_tokens", &n, e);
        if (rc == 0 && n.value)
            rc = json_read_u64(&n, 0, 1000000000, &tokens, e);
        if (rc == 0 && n.value)
            *budget = (uint32_t)tokens;
        if (rc < 0)
            return rc;
    }
    return json_object_set_new(c->body, "enable_thinking", json_boolean(*type == 'e')) < 0
               ? err_set(e, WATT_ENOMEM, "thinking") : 0;
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

/* llama-server's, of which the text alone is read. */
static int read_prompt_object(const struct json_place *p, struct sv *s, struct err *e)
{
    struct json_place at;
    size_t n = 0;
    int rc = json_find(p, "multimodal_data", &at, e);

    if (rc == 0 && at.value)
        rc = json_read_array(&at, MAX_MESSAGES, &n, e);
    if (rc == 0 && n > 0)
        rc = json_refuse(&at, e, WATT_ENOTSUP, "this model reads text");
    if (rc == 0)
        rc = json_need(p, "prompt_string", &at, e);
    return rc < 0 ? rc : json_read_str(&at, s, e);
}

/* A text or token ids. */
static int read_prompt(struct api_call *c, const struct json_place *p, struct str *text,
                       struct tokens *ids, struct err *e)
{
    bool special = true;
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
    rc = json_is_object(p->value) ? read_prompt_object(p, &s, e) : json_read_str(p, &s, e);
    if (rc == 0)
        rc = json_get_bool(&c->at, "add_special_tokens", true, &special, e);
    if (rc < 0)
        return rc;
    str_append(text, s.data, s.len);
    return tokenizer_encode(c->m->tm->tok, NULL, s.data, s.len,
                            (special ? TOKENIZE_ADD_SPECIAL : 0u) | TOKENIZE_PARSE_SPECIAL, ids, e);
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
