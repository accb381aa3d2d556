/* chat.c: conversations; see chat.h. */
#include "applications/chat.h"

#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

#define MAX_MESSAGES 100000

/* ---- life ---- */

int chat_apply(struct chat *c, struct err *e)
{
    struct sampler_spec spec = { .n_vocab = generator_width(c->gen),
                                 .n_ctx = session_n_ctx(c->model->session) };
    struct sampler *s;
    int rc;

    if (c->model->tok) {
        spec.piece = generate_piece;
        spec.piece_ctx = c->model->tok;
    }
    rc = sampler_open(&s, &spec, &c->set.sampler, e);
    if (rc == 0 && diffusion_fits(c->model->model)) {
        rc = generator_diffusion(c->gen, &c->set.diffusion, e);
        if (rc < 0)
            sampler_close(s);
    }
    if (rc < 0)
        return rc;
    sampler_close(c->sampler);
    c->sampler = s;
    return 0;
}

int chat_open(struct chat *c, struct text_model *model, const struct chat_settings *set,
              struct err *e)
{
    int rc;

    *c = (struct chat){ .model = model, .set = *set };
    c->messages = json_array();
    if (!c->messages)
        return err_set(e, WATT_ENOMEM, "chat: out of memory");
    rc = generator_open(&c->gen, model->session, 0, model->model, model->tok, e);
    if (rc == 0)
        rc = chat_apply(c, e);
    if (rc < 0)
        chat_close(c);
    return rc;
}

void chat_close(struct chat *c)
{
    sampler_close(c->sampler);
    generator_close(c->gen);
    json_decref(c->messages);
    tokens_deinit(&c->held);
    *c = (struct chat){ 0 };
}

/* ---- messages ---- */

static bool has_role(const json_t *message, const char *role)
{
    const char *r = json_string_value(json_object_get(message, "role"));

    return r && strcmp(r, role) == 0;
}

static bool has_system(const struct chat *c)
{
    return has_role(json_array_get(c->messages, 0), "system");
}

static json_t *new_message(const char *role, const char *text, struct err *e)
{
    json_t *content = json_string(text);
    json_t *m = content ? json_pack("{s:s, s:o}", "role", role, "content", content) : NULL;

    if (!m)
        (void)err_set(e, WATT_EINVAL, "the text is not valid UTF-8, or memory is short");
    return m;
}

int chat_set_system(struct chat *c, const char *text, struct err *e)
{
    json_t *m = NULL;

    if (*text) {
        m = new_message("system", text, e);
        if (!m)
            return WATT_EINVAL;
    }
    if (has_system(c))
        (void)json_array_remove(c->messages, 0);
    if (m && json_array_insert_new(c->messages, 0, m) != 0)
        return err_set(e, WATT_ENOMEM, "chat: out of memory");
    return 0;
}

const char *chat_system(const struct chat *c)
{
    return has_system(c) ? json_string_value(json_object_get(json_array_get(c->messages, 0), "content"))
                         : NULL;
}

int chat_add(struct chat *c, const char *role, const char *text, struct err *e)
{
    json_t *m = new_message(role, text, e);

    if (!m)
        return WATT_EINVAL;
    if (json_array_append_new(c->messages, m) != 0)
        return err_set(e, WATT_ENOMEM, "chat: out of memory");
    return 0;
}

int chat_add_answer(struct chat *c, const char *reasoning, const char *answer, struct err *e)
{
    const int rc = chat_add(c, "assistant", answer, e);
    json_t *m = json_array_get(c->messages, json_array_size(c->messages) - 1);

    if (rc == 0 && *reasoning && json_object_set_new(m, "reasoning_content", json_string(reasoning)) != 0)
        return err_set(e, WATT_ENOMEM, "chat: out of memory");
    return rc;
}

bool chat_drop_last(struct chat *c, const char *role)
{
    const size_t n = json_array_size(c->messages);

    return n > 0 && has_role(json_array_get(c->messages, n - 1), role)
           && json_array_remove(c->messages, n - 1) == 0;
}

size_t chat_length(const struct chat *c)
{
    return json_array_size(c->messages) - (has_system(c) ? 1 : 0);
}

void chat_clear(struct chat *c)
{
    while (chat_length(c) > 0)
        (void)json_array_remove(c->messages, json_array_size(c->messages) - 1);
}

/* ---- answers ---- */

struct answering {
    struct chat            *c;
    const struct chat_view *view;
    bool                    no_memory;
};

static int on_token(void *ctx, const struct generated *g)
{
    struct answering *a = ctx;

    if (g->id >= 0 && !tokens_push(&a->c->held, g->id))
        a->no_memory = true;
    if (a->no_memory)
        return 1;
    return a->view->on_token ? a->view->on_token(a->view->ctx, g) : 0;
}

static void on_prefill(void *ctx, uint32_t done, uint32_t total)
{
    const struct answering *a = ctx;

    if (a->view->on_prefill)
        a->view->on_prefill(a->view->ctx, done, total);
}

static bool on_cancelled(void *ctx)
{
    const struct answering *a = ctx;

    return a->view->cancelled && a->view->cancelled(a->view->ctx);
}

static void forget(struct chat *c)
{
    generator_reset(c->gen);
    c->held.n = 0;
}

/* Keeps what the cache and the prompt have in common, but leaves one token to
 * run: its logits are needed. */
static size_t reuse(struct chat *c, const struct tokens *prompt)
{
    size_t n = 0;
    struct err e;

    while (n < c->held.n && n + 1 < prompt->n && c->held.ids[n] == prompt->ids[n])
        n++;
    n = generator_reach(c->gen, (uint32_t)n);
    if (generator_truncate(c->gen, (uint32_t)n, &e) < 0) {
        forget(c);      /* a state that can't go back is made anew */
        return 0;
    }
    c->held.n = n;
    return n;
}

static void count(struct chat *c, const struct generate_result *r, size_t n_cached)
{
    struct chat_stats *const both[] = { &c->last, &c->total };

    c->last = (struct chat_stats){ 0 };
    for (int i = 0; i < 2; i++) {
        both[i]->n_answers++;
        both[i]->n_prompt += r->n_prompt;
        both[i]->n_cached += n_cached;
        both[i]->n_generated += r->n_generated;
        both[i]->prefill_ns += r->prefill_ns;
        both[i]->decode_ns += r->decode_ns;
        both[i]->n_decode += r->n_generated > 0 ? r->n_generated - 1 : 0;
        both[i]->first_token_ns = r->first_token_ns;
        both[i]->n_steps += r->n_steps;
    }
}

static int run(struct chat *c, const struct tokens *prompt, bool continues,
               const struct chat_view *view, struct generate_result *result, struct err *e)
{
    static const struct chat_view blind;
    struct answering a = { .c = c, .view = view ? view : &blind };
    const struct generate_opts o = {
        .n_max = c->set.n_max, .stops = c->set.stops, .n_stops = c->set.n_stops,
        .ignore_end = c->set.ignore_end, .continues = continues, .on_token = on_token,
        .cancelled = on_cancelled, .on_prefill = on_prefill, .ctx = &a,
    };
    struct generate_result res;
    size_t cached;
    int rc;

    if (prompt->n == 0)
        return err_set(e, WATT_EINVAL, "the prompt has no tokens");
    if (prompt->n > session_n_ctx(c->model->session))
        return err_set(e, WATT_ELIMIT, "context full: the conversation has %zu tokens, the context holds %u",
                       prompt->n, session_n_ctx(c->model->session));
    cached = reuse(c, prompt);
    sampler_forget(c->sampler);
    for (size_t i = 0; i < cached; i++)
        sampler_accept(c->sampler, (uint32_t)prompt->ids[i]);
    if (!tokens_reserve(&c->held, prompt->n - cached))
        return err_set(e, WATT_ENOMEM, "chat: out of memory");
    for (size_t i = cached; i < prompt->n; i++)
        (void)tokens_push(&c->held, prompt->ids[i]);    /* room was made */
    rc = generator_run(c->gen, c->sampler, prompt->ids + cached, prompt->n - cached, &o, &res, e);
    if (rc == 0 && a.no_memory)
        rc = err_set(e, WATT_ENOMEM, "chat: out of memory");
    if (rc < 0) {
        forget(c);
        return rc;
    }
    /* stopped early: less was run than was asked */
    if (generator_len(c->gen) < c->held.n)
        c->held.n = generator_len(c->gen);
    count(c, &res, cached);
    if (result)
        *result = res;
    return 0;
}

static json_t *template_vars(const struct chat *c)
{
    json_t *vars = json_pack("{s:O, s:b}", "messages", c->messages, "add_generation_prompt", 1);

    if (vars && c->set.think != CHAT_THINK_AUTO
        && json_object_set_new(vars, "enable_thinking", json_boolean(c->set.think == CHAT_THINK_ON)) != 0) {
        json_decref(vars);
        return NULL;
    }
    return vars;
}

int chat_answer(struct chat *c, const struct chat_view *view, struct generate_result *result,
                struct err *e)
{
    json_t *vars = template_vars(c);
    struct tokens prompt = { 0 };
    struct str text;
    int rc;

    if (!vars)
        return err_set(e, WATT_ENOMEM, "chat: out of memory");
    str_init(&text, 0);
    rc = text_model_render(c->model, vars, &text, e);
    json_decref(vars);
    if (rc == 0)
        rc = text_model_encode_chat(c->model, str_cstr(&text), text.len, &prompt, e);
    if (rc == 0) {
        if (view && view->on_prompt)
            view->on_prompt(view->ctx, str_cstr(&text), text.len);
        rc = run(c, &prompt, false, view, result, e);
    }
    tokens_deinit(&prompt);
    str_deinit(&text);
    return rc;
}

int chat_complete(struct chat *c, const char *text, size_t len, const struct chat_view *view,
                  struct generate_result *result, struct err *e)
{
    struct tokens prompt = { 0 };
    int rc;

    if (!c->model->tok)
        return err_set(e, WATT_ENOTSUP, "%s", c->model->tok_why);
    rc = tokenizer_encode(c->model->tok, NULL, text, len,
                          TOKENIZE_ADD_SPECIAL | TOKENIZE_PARSE_SPECIAL, &prompt, e);
    /* ADD_SPECIAL may end the text, which is the opposite of going on with it */
    if (rc == 0 && tokenizer_add_eos(c->model->tok) && prompt.n > 1
        && prompt.ids[prompt.n - 1] == tokenizer_eos(c->model->tok))
        prompt.n--;
    /* nothing at all: begin where the model begins */
    if (rc == 0 && prompt.n == 0 && tokenizer_bos(c->model->tok) >= 0
        && !tokens_push(&prompt, tokenizer_bos(c->model->tok)))
        rc = err_set(e, WATT_ENOMEM, "chat: out of memory");
    if (rc == 0) {
        if (view && view->on_prompt)
            view->on_prompt(view->ctx, "", 0);
        rc = run(c, &prompt, len > 0, view, result, e);
    }
    tokens_deinit(&prompt);
    return rc;
}

/* ---- files ---- */

static int append(const char *bytes, size_t n, void *text)
{
    str_append(text, bytes, n);
    return str_ok(text) ? 0 : -1;
}

int chat_save(const struct chat *c, const char *path, struct err *e)
{
    json_t *root = json_pack("{s:O}", "messages", c->messages);
    struct str text;
    int rc = 0;

    str_init(&text, 0);
    if (!root || json_dump_callback(root, append, &text, JSON_INDENT(1) | JSON_PRESERVE_ORDER) != 0)
        rc = err_set(e, WATT_ENOMEM, "%s: out of memory", path);
    json_decref(root);
    str_putc(&text, '\n');
    if (rc == 0)
        rc = file_write(path, str_cstr(&text), text.len, e);
    str_deinit(&text);
    return rc;
}

static int read_message(const struct json_place *at, json_t *list, struct err *e)
{
    const char *role, *content, *reasoning;
    struct json_place p;
    json_t *m;
    int rc = json_need(at, "role", &p, e);

    if (rc == 0)
        rc = json_read_cstr(&p, &role, e);
    if (rc == 0)
        rc = json_need(at, "content", &p, e);
    if (rc == 0)
        rc = json_read_cstr(&p, &content, e);
    if (rc == 0)
        rc = json_get_cstr(at, "reasoning_content", NULL, &reasoning, e);
    if (rc < 0)
        return rc;
    m = new_message(role, content, e);
    if (!m)
        return WATT_EINVAL;
    if ((reasoning && json_object_set_new(m, "reasoning_content", json_string(reasoning)) != 0)
        || json_array_append(list, m) != 0)
        rc = err_set(e, WATT_ENOMEM, "chat: out of memory");
    json_decref(m);
    return rc;
}

int chat_load(struct chat *c, const char *path, struct err *e)
{
    struct json_place root, messages;
    json_t *document = NULL, *list = json_array();
    char *data = NULL;
    size_t size = 0, n = 0;
    int rc = list ? file_read(path, CHAT_MAX_FILE_BYTES, &data, &size, e)
                  : err_set(e, WATT_ENOMEM, "%s: out of memory", path);

    if (rc == 0)
        rc = json_parse(&document, path, data, size, NULL, e);
    if (rc == 0) {
        root = json_root(document, path);
        rc = json_need(&root, "messages", &messages, e);
    }
    if (rc == 0)
        rc = json_read_array(&messages, MAX_MESSAGES, &n, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place item = json_item(&messages, i);

        rc = read_message(&item, list, e);
    }
    if (rc == 0) {
        json_decref(c->messages);
        c->messages = list;
        list = NULL;
    }
    json_decref(list);
    json_close(document);
    mem_free(data);
    return rc;
}
