/* api_llama.c: llama-server's own API: completions with timings, tokens, the template, and what its
 * clients ask about the server. */
#include <string.h>

#include "applications/api_prompt.h"
#include "base/mem.h"
#include "watt.h"

#define MAX_TOKENS ((size_t)1 << 24)
#define MAX_EXTRA  4096u

/* ---- the answer ---- */

static double per_second(uint32_t n, uint64_t ns)
{
    return ns ? (double)n * 1e9 / (double)ns : 0;
}

static double ms_each(uint32_t n, uint64_t ns)
{
    return n ? (double)ns / 1e6 / n : 0;
}

json_t *api_timings(const struct api_run *r, uint32_t choice)
{
    const struct api_choice *x = &r->choices[choice];
    const uint32_t n = api_part_of(r, choice)->n_prompt - x->usage.n_cached, m = x->usage.n_answer;
    const uint64_t prefill = x->times.prefill, decode = x->times.decode;

    return json_pack("{s:i,s:i,s:f,s:f,s:f,s:i,s:f,s:f,s:f}", "cache_n", (int)x->usage.n_cached,
                     "prompt_n", (int)n, "prompt_ms", (double)prefill / 1e6, "prompt_per_token_ms",
                     ms_each(n, prefill), "prompt_per_second", per_second(n, prefill),
                     "predicted_n", (int)m, "predicted_ms", (double)decode / 1e6,
                     "predicted_per_token_ms", ms_each(m, decode), "predicted_per_second",
                     per_second(m, decode));
}

json_t *api_prompt_progress(const struct api_run *r, const struct service_event *ev)
{
    const uint32_t n = ev->n_done < ev->n_total ? ev->n_done : ev->n_total;

    return json_pack("{s:i,s:i,s:i,s:I}", "total", (int)ev->n_total, "cache", (int)ev->n_cached,
                     "processed", (int)n, "time_ms",
                     (json_int_t)(r->choices[0].times.prefill / 1000000));
}

static json_t *piece(struct api_run *r, uint32_t i, struct sv text, bool stop)
{
    struct api_choice *x = &r->choices[i];
    json_t *j = json_pack("{s:i,s:o,s:o,s:b,s:i,s:i}", "index", (int)i, "content", api_text(text),
                          "tokens", x->ids, "stop", stop, "id_slot", -1, "tokens_evaluated",
                          (int)api_part_of(r, i)->n_prompt);

    x->ids = json_array();
    if (x->logprobs && json_array_size(x->logprobs) > 0) {
        (void)json_object_set_new(j, "completion_probabilities", x->logprobs);
        x->logprobs = json_array();
    }
    if (r->timings_each && !stop)
        (void)json_object_set_new(j, "timings", api_timings(r, i));
    return j;
}

static json_t *last(struct api_run *r, uint32_t i, json_t *j)
{
    const struct api_choice *x = &r->choices[i];
    const struct api_part *p = api_part_of(r, i);
    const bool stopped = x->finish == SERVICE_STOP, word = stopped && x->stop_index >= 0;
    const char *why = word ? "word" : stopped ? "eos" : "limit";
    const char *stop = word ? json_string_value(json_array_get(r->stops, (size_t)x->stop_index))
                            : "";
    json_t *more = json_pack("{s:s,s:s,s:s,s:i,s:i,s:b,s:o,s:o}", "model", r->model, "stop_type",
                             why, "stopping_word", stop ? stop : "", "tokens_predicted",
                             (int)x->usage.n_answer, "tokens_cached", (int)x->usage.n_cached,
                             "truncated", 0, "prompt", api_str(&p->prompt), "timings",
                             api_timings(r, i));

    (void)json_object_update(j, more);
    api_energy_into(j, r->m->energy, &p->energy);
    json_decref(more);
    return j;
}

static void delta(struct api_run *r, uint32_t choice, struct sv reasoning, struct sv answer)
{
    (void)reasoning;
    api_event(r, piece(r, choice, answer, false));
}

/* return_progress */
static void progress(struct api_run *r, const struct service_event *ev)
{
    json_t *j = piece(r, 0, (struct sv){ "", 0 }, false);

    (void)json_object_set_new(j, "prompt_progress", api_prompt_progress(r, ev));
    api_event(r, j);
}

static void choice_done(struct api_run *r, uint32_t choice)
{
    api_event(r, last(r, choice, piece(r, choice, (struct sv){ "", 0 }, true)));
}

static void stream_done(struct api_run *r)
{
    (void)r;                            /* the last event was the last word */
}

/* Of several prompts a list. */
static json_t *whole(struct api_run *r)
{
    json_t *list = json_array();

    for (uint32_t i = 0; i < r->n && r->n > 1; i++)
        (void)json_array_append_new(list, last(r, i, piece(r, i, sv_of(&r->choices[i].answer), true)));
    if (r->n > 1)
        return list;
    json_decref(list);
    return last(r, 0, piece(r, 0, sv_of(&r->choices[0].answer), true));
}

static const struct api_frame frame = {
    .ids = true, .delta = delta, .progress = progress, .progress_if_asked = true,
    .choice_done = choice_done, .stream_done = stream_done, .whole = whole,
    .logprob = api_openai_logprob, .stream_type = "text/event-stream",
};

/* ---- completions ---- */

/* n_probs is their name of top_logprobs. */
static int read_probs(struct api_call *c, struct api_options *o, struct err *e)
{
    uint64_t n = 0;
    const int rc = json_get_u64(&c->at, "n_probs", 0, 0, SERVICE_MAX_LOGPROBS, &n, e);

    if (rc == 0 && n > 0) {
        o->logprobs = true;
        o->n_top = (uint32_t)n;
    }
    return rc;
}

/* Other files' snippets go in front of the prefix. */
static int read_extra(struct api_call *c, struct str *text, struct err *e)
{
    struct json_place at, p;
    struct sv s;
    size_t n = 0;
    int rc = json_find(&c->at, "input_extra", &at, e);

    if (rc == 0 && at.value)
        rc = json_read_array(&at, MAX_EXTRA, &n, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place item = json_item(&at, i);

        rc = json_need(&item, "text", &p, e);
        if (rc == 0)
            rc = json_read_str(&p, &s, e);
        if (rc == 0) {
            str_append(text, s.data, s.len);
            str_putc(text, '\n');
        }
    }
    return rc;
}

static int infill_prompt(struct api_call *c, struct str *text, struct tokens *ids, struct err *e)
{
    struct json_place prefix, suffix, prompt;
    struct sv s, after = { "", 0 };
    int rc = read_extra(c, text, e);

    if (rc == 0)
        rc = json_need(&c->at, "input_prefix", &prefix, e);
    if (rc == 0)
        rc = json_read_str(&prefix, &s, e);
    if (rc == 0)
        rc = json_need(&c->at, "input_suffix", &suffix, e);
    if (rc == 0)
        rc = json_read_str(&suffix, &after, e);
    if (rc < 0)
        return rc;
    str_append(text, s.data, s.len);
    rc = api_middle_prompt(c, sv_of(text), after, ids, e);
    if (rc == 0)
        rc = json_find(&c->at, "prompt", &prompt, e);
    if (rc == 0 && prompt.value)        /* what the middle begins with */
        rc = json_read_str(&prompt, &s, e);
    if (rc == 0 && prompt.value)
        rc = tokenizer_encode(c->m->tm->tok, NULL, s.data, s.len, 0, ids, e);
    return rc;
}

static void complete(struct api_call *c, bool infills)
{
    struct api_ask *a = api_ask_open(c);
    struct err e = { 0 };
    int rc;

    if (!a)
        return;
    sampler_defaults(&a->o.sampling);   /* are theirs */
    a->o.continues = true;
    if (!api_read_options(c, &a->o))
        goto done;
    a->o.n = 1;
    rc = read_probs(c, &a->o, &e);
    if (rc == 0)
        rc = infills ? infill_prompt(c, &a->text, &a->ids, &e)
                     : api_text_prompts(c, "prompt", "suffix", a, &e);
    if (rc < 0)
        api_fail(c, NULL, &e);
    else
        api_generate(c, a, &frame, "");
done:
    api_ask_close(a);
}

static void completion(struct api_call *c)
{
    complete(c, false);
}

static void infill(struct api_call *c)
{
    complete(c, true);
}

/* ---- tokens and the template ---- */

static json_t *token_pieces(const struct tokenizer *t, const struct tokens *ids)
{
    json_t *list = json_array();

    for (size_t i = 0; i < ids->n; i++) {
        const struct sv s = tokenizer_piece(t, ids->ids[i]);
        json_t *text = json_stringn(s.len ? s.data : "", s.len);

        if (!text) {                    /* half of a character: its bytes */
            text = json_array();
            for (size_t k = 0; k < s.len; k++)
                (void)json_array_append_new(text, json_integer((unsigned char)s.data[k]));
        }
        (void)json_array_append_new(list, json_pack("{s:i,s:o}", "id", (int)ids->ids[i], "piece",
                                                    text));
    }
    return list;
}

/* vLLM's request: "prompt" or "messages". */
static int tokenize_prompt(struct api_call *c, bool add, struct tokens *ids, struct err *e)
{
    json_t *messages = NULL;
    struct json_place p;
    struct str text;
    struct sv s;
    int rc = json_find(&c->at, "messages", &p, e);

    if (rc == 0 && p.value) {
        str_init(&text, 0);
        rc = api_messages(&p, &messages, e);
        if (rc == 0)
            rc = api_prompt(c, json_pack("{s:o}", "messages", messages), &text, ids, e);
        str_deinit(&text);
        return rc;
    }
    if (rc == 0)
        rc = json_need(&c->at, "prompt", &p, e);
    if (rc == 0)
        rc = json_read_str(&p, &s, e);
    return rc == 0 ? tokenizer_encode(c->m->tm->tok, NULL, s.data, s.len,
                                      (add ? TOKENIZE_ADD_SPECIAL : 0u) | TOKENIZE_PARSE_SPECIAL,
                                      ids, e) : rc;
}

/* llama-server's: "content". */
static int tokenize_content(struct api_call *c, const struct json_place *content,
                            struct tokens *ids, struct err *e)
{
    bool add = false, parse = true;
    struct sv s = { "", 0 };
    int rc = json_read_str(content, &s, e);

    if (rc == 0)
        rc = json_get_bool(&c->at, "add_special", false, &add, e);
    if (rc == 0)
        rc = json_get_bool(&c->at, "parse_special", true, &parse, e);
    return rc == 0 ? tokenizer_encode(c->m->tm->tok, NULL, s.data, s.len,
                                      (add ? TOKENIZE_ADD_SPECIAL : 0u) |
                                          (parse ? TOKENIZE_PARSE_SPECIAL : 0u), ids, e) : rc;
}

static json_t *token_list(const struct tokens *ids)
{
    json_t *list = json_array();

    for (size_t i = 0; i < ids->n; i++)
        (void)json_array_append_new(list, json_integer(ids->ids[i]));
    return list;
}

static json_t *token_strings(const struct tokenizer *t, const struct tokens *ids)
{
    json_t *list = json_array();

    for (size_t i = 0; i < ids->n; i++) {
        json_t *text = api_text(tokenizer_piece(t, ids->ids[i]));

        (void)json_array_append_new(list, text ? text : json_string("\xEF\xBF\xBD"));
    }
    return list;
}

static void tokenize(struct api_call *c)
{
    const struct tokenizer *t = c->m->tm->tok;
    struct tokens ids = { 0 };
    struct json_place content;
    bool add = true, pieces = false, strings = false;
    struct err e = { 0 };
    json_t *j;
    int rc = json_get_bool(&c->at, "add_special_tokens", true, &add, &e);

    if (rc == 0)
        rc = json_get_bool(&c->at, "with_pieces", false, &pieces, &e);
    if (rc == 0)
        rc = json_get_bool(&c->at, "return_token_strs", false, &strings, &e);
    if (rc == 0)
        rc = json_find(&c->at, "content", &content, &e);
    if (rc == 0)
        rc = content.value ? tokenize_content(c, &content, &ids, &e)
                           : tokenize_prompt(c, add, &ids, &e);
    if (rc < 0) {
        api_fail(c, NULL, &e);
    } else {
        j = json_pack("{s:o,s:I,s:i}", "tokens", pieces ? token_pieces(t, &ids) : token_list(&ids),
                      "count", (json_int_t)ids.n, "max_model_len", (int)service_n_ctx(c->m->svc));
        if (strings)
            (void)json_object_set_new(j, "token_strs", token_strings(t, &ids));
        api_json(c, 200, j);
    }
    tokens_deinit(&ids);
}

static void detokenize(struct api_call *c)
{
    const struct tokenizer *t = c->m->tm->tok;
    struct json_place p;
    struct detok d;
    struct str text;
    struct err e = { 0 };
    size_t n = 0;
    int rc = json_need(&c->at, "tokens", &p, &e);

    str_init(&text, 0);
    detok_init(&d, t, DETOKENIZE_SPECIAL);
    if (rc == 0)
        rc = json_read_array(&p, MAX_TOKENS, &n, &e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place item = json_item(&p, i);
        uint64_t id = 0;

        rc = json_read_u64(&item, 0, tokenizer_n_vocab(t) - 1, &id, &e);
        if (rc == 0)
            detok_push(&d, (int32_t)id, &text);
    }
    detok_finish(&d, &text);
    if (rc < 0)
        api_fail(c, NULL, &e);
    else
        api_json(c, 200, json_pack("{s:o,s:o}", "content", api_str(&text), "prompt",
                                   api_str(&text)));
    str_deinit(&text);
}

static json_t *template_text(const struct api_model *m)
{
    struct sv text = { "", 0 };
    struct err e = { 0 };

    if (m->template_text)
        text = sv_cstr(m->template_text);
    else if (gguf_get_str(model_gguf(m->tm->model), "tokenizer.chat_template", &text, &e) < 0)
        text = (struct sv){ "", 0 };
    return api_text(text);
}

/* vLLM's: what clients that count tokens themselves want to know. */
static void tokenizer_info(struct api_call *c)
{
    const struct text_model *tm;

    if (!c->m && !api_find_model(c))
        return;
    tm = c->m->tm;
    api_json(c, 200, json_pack("{s:s,s:o,s:o,s:o,s:i}", "tokenizer_class", "watt", "bos_token",
                               api_text(text_model_role_text(tm, TOKEN_BOS)), "eos_token",
                               api_text(text_model_role_text(tm, TOKEN_EOS)), "chat_template",
                               template_text(c->m), "model_max_length",
                               (int)service_n_ctx(c->m->svc)));
}

static void apply_template(struct api_call *c)
{
    struct tokens ids = { 0 };
    struct json_place at;
    struct str text;
    struct err e = { 0 };
    json_t *list = NULL;
    int rc = json_need(&c->at, "messages", &at, &e);

    str_init(&text, 0);
    if (rc == 0)
        rc = api_messages(&at, &list, &e);
    if (rc == 0)
        rc = api_prompt(c, json_pack("{s:o}", "messages", list), &text, &ids, &e);
    if (rc < 0)
        api_fail(c, "messages", &e);
    else
        api_json(c, 200, json_pack("{s:o}", "prompt", api_str(&text)));
    str_deinit(&text);
    tokens_deinit(&ids);
}

/* ---- the server ---- */

/* Those of the model that is named; they are applied by name or by a request's `lora`, so none is
 * in force by itself. */
static void lora_adapters(struct api_call *c)
{
    const char *name = api_model_named(c, http_query(c->x, "model"));
    json_t *list;

    if (!name)
        return;
    list = json_array();
    for (size_t i = 0; i < c->s->n_adapters; i++) {
        const struct api_adapter *a = &c->s->adapters[i];

        if (strcmp(a->model, name) == 0)
            (void)json_array_append_new(list, json_pack("{s:i,s:s,s:f}", "id", (int)a->index - 1,
                                                        "path", a->name, "scale", 0.0));
    }
    api_json(c, 200, list);
}

static void props(struct api_call *c)
{
    const char *given = http_query(c->x, "model"), *name = api_model_named(c, given);
    const struct api_model *m;
    struct service_stats st;

    if (!name)
        return;
    if (!api_model_if_loaded(c, name)) {
        api_json(c, 200, json_pack("{s:{},s:i,s:s,s:s,s:s,s:{s:b,s:b},s:b,s:s}",
            "default_generation_settings", "total_slots", 0, "model_alias", name, "model_path", name,
            "chat_template", "", "modalities", "vision", 0, "audio", 0, "is_sleeping", 1,
            "build_info", watt_version()));
        return;
    }
    m = c->m;
    service_stats(m->svc, &st);
    api_json(c, 200, json_pack("{s:{s:i},s:i,s:s,s:s,s:o,s:o,s:o,s:{s:b,s:b},s:b,s:s}",
        "default_generation_settings", "n_ctx", (int)service_n_ctx(m->svc),
        "total_slots", (int)st.max_seqs, "model_alias", m->name, "model_path", m->name,
        "chat_template", template_text(m),
        "bos_token", api_text(text_model_role_text(m->tm, TOKEN_BOS)),
        "eos_token", api_text(text_model_role_text(m->tm, TOKEN_EOS)),
        "modalities", "vision", 0, "audio", 0, "is_sleeping", 0, "build_info", watt_version()));
}

static json_t *slot(const struct api_model *m, uint32_t i, const struct service_slot *x)
{
    json_t *j = json_pack("{s:i,s:i,s:b,s:b}", "id", (int)i, "n_ctx", (int)service_n_ctx(m->svc),
                          "speculative", 0, "is_processing", x != NULL);

    if (x) {
        const uint32_t left = x->max_tokens > x->n_answer ? x->max_tokens - x->n_answer : 0;
        json_t *more = json_pack("{s:I,s:i,s:i,s:[{s:b,s:i,s:i}]}", "id_task",
                                 (json_int_t)x->request, "n_prompt_tokens", (int)x->n_prompt,
                                 "n_prompt_tokens_processed",
                                 (int)(x->n_done < x->n_prompt ? x->n_done : x->n_prompt),
                                 "next_token", "has_next_token", 1, "n_remain", (int)left,
                                 "n_decoded", (int)x->n_answer);

        (void)json_object_update(j, more);
        json_decref(more);
    }
    return j;
}

static void slots(struct api_call *c)
{
    const char *fail = http_query(c->x, "fail_on_no_slot");
    struct service_stats st;
    struct service_slot *list;
    uint32_t n, running = 0;
    const char *name = api_model_named(c, http_query(c->x, "model"));
    json_t *out;

    if (!name)
        return;
    if (!api_model_if_loaded(c, name)) {
        api_json(c, 200, json_array());
        return;
    }
    service_stats(c->m->svc, &st);
    list = mem_array(st.max_seqs, sizeof *list);
    if (!list) {
        api_error(c, 503, "server_error", "out_of_memory", NULL, "out of memory");
        return;
    }
    n = service_list(c->m->svc, list, st.max_seqs);
    while (running < n && running < st.max_seqs && list[running].running)
        running++;
    if (fail && strcmp(fail, "0") != 0 && running == st.max_seqs) {
        api_error(c, 503, "unavailable_error", NULL, NULL, "no slot available");
    } else {
        out = json_array();
        for (uint32_t i = 0; i < st.max_seqs; i++)
            (void)json_array_append_new(out, slot(c->m, i, i < running ? &list[i] : NULL));
        api_json(c, 200, out);
    }
    mem_free(list);
}

const struct api_route api_llama_routes[] = {
    { "POST", "/completion", completion, API_INFER, true, "The continuation of a text, llama-server's API" },
    { "POST", "/completions", completion, API_INFER, true, "The same" },
    { "POST", "/infill", infill, API_INFER, true, "The middle of two texts" },
    { "POST", "/tokenize", tokenize, API_INFER, true, "Text to tokens" },
    { "POST", "/v1/tokenize", tokenize, API_INFER, true, "The same" },
    { "GET", "/tokenizer_info", tokenizer_info, API_INFER, false, "Special tokens and chat template" },
    { "POST", "/detokenize", detokenize, API_INFER, true, "Tokens to text" },
    { "POST", "/v1/detokenize", detokenize, API_INFER, true, "The same" },
    { "POST", "/apply-template", apply_template, API_INFER, true, "The prompt of a conversation" },
    { "GET", "/props", props, API_INFER, false, "What the server is set to" },
    { "GET", "/lora-adapters", lora_adapters, API_INFER, false, "Adapters of a model" },
    { "GET", "/slots", slots, API_METRICS, false, "Answers that run" },
    { 0 }
};
