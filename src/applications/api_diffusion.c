/* api_diffusion.c: what requests to models that write by diffusion may ask for, and what such a model
 * can't do: a known field that can't be honoured is refused by its name. */
#include <string.h>

#include "applications/api.h"

static int read_algorithm(const struct json_place *p, int *algorithm, struct err *e)
{
    static const char *const names[] = { "confidence", "entropy", "margin", "random" };
    const char *text = "";
    const int rc = json_read_cstr(p, &text, e);

    for (int i = 0; rc == 0 && i < (int)(sizeof names / sizeof *names); i++)
        if (strcmp(text, names[i]) == 0) {
            *algorithm = i;
            return 0;
        }
    return rc < 0 ? rc : json_refuse(p, e, WATT_EINVAL, "'%.40s' is none of " DIFFUSION_ALGORITHMS,
                                     text);
}

static int read_fields(const struct json_place *at, const struct diffusion_opts *has,
                       struct service_request *q, struct err *e)
{
    static const char *const names[] = { "diffusion_steps", "diffusion_threshold",
                                         "diffusion_algorithm" };
    struct json_place p[3];
    uint64_t steps = 0;
    double threshold = 0;
    int rc = 0;

    for (int i = 0; rc == 0 && i < 3; i++) {
        rc = json_find(at, names[i], &p[i], e);
        if (rc == 0 && p[i].value && !has)
            rc = json_refuse(&p[i], e, WATT_ENOTSUP, "this model does not write by diffusion");
    }
    if (rc == 0 && p[0].value)
        rc = json_read_u64(&p[0], 1, has->block, &steps, e);
    if (rc == 0 && p[1].value)
        rc = json_read_double(&p[1], 0, 1, &threshold, e);
    if (rc == 0 && p[2].value)
        rc = read_algorithm(&p[2], &q->diffusion_algorithm, e);
    q->diffusion_steps = (uint32_t)steps;
    q->diffusion_threshold = (float)threshold;
    return rc;
}

/* Is a field there that asks for something? */
static bool asks(const json_t *body, const char *name)
{
    const json_t *v = json_object_get(body, name);

    return v && !json_is_null(v) && !json_is_false(v) &&
           !(json_is_string(v) && json_string_length(v) == 0) &&
           !(json_is_number(v) && json_number_value(v) == 0) &&
           !(json_is_object(v) && json_object_size(v) == 0);
}

/* The first of these that the request asks for; NULL: none. */
static const char *first_asked(const json_t *body, const char *const *names)
{
    for (; *names; names++)
        if (asks(body, *names))
            return *names;
    return NULL;
}

static bool demands_calls(const json_t *body)
{
    const json_t *v = json_object_get(body, "tool_choice");
    const char *type = json_is_object(v) ? json_string_value(json_object_get(v, "type"))
                                         : json_string_value(v);

    return type && strcmp(type, "auto") != 0 && strcmp(type, "none") != 0;
}

static bool plain_format(const json_t *v)
{
    const char *type = json_string_value(json_object_get(v, "type"));

    return type && strcmp(type, "text") == 0;
}

/* What is of one token after the other, by the name that the request has for it. */
static const char *not_in_blocks(const struct api_call *c, const struct api_options *o)
{
    static const char *const grammars[] = { "structured_outputs", "guided_json", "guided_regex",
        "guided_choice", "guided_grammar", "json_schema", "grammar", "format", NULL };
    static const char *const probs[] = { "logprobs", "top_logprobs", "n_probs", "include", NULL };
    static const char *const budgets[] = { "thinking_token_budget", "thinking_budget_tokens",
        "reasoning_budget_tokens", "reasoning_budget", "thinking_budget", "max_thinking_tokens",
        "thinking", NULL };
    const char *name = first_asked(c->body, grammars);

    if (name)
        return name;
    if (asks(c->body, "response_format") && !plain_format(json_object_get(c->body, "response_format")))
        return "response_format";
    if (o->logprobs)
        return (name = first_asked(c->body, probs)) ? name : "logprobs";
    if (o->think_budget != API_NO_BUDGET && o->think_budget != c->m->think_budget)
        return (name = first_asked(c->body, budgets)) ? name : "thinking_token_budget";
    if (demands_calls(c->body))
        return "tool_choice";
    if (json_is_false(json_object_get(c->body, "parallel_tool_calls")) &&
        json_array_size(json_object_get(c->body, "tools")) > 0)
        return "parallel_tool_calls";
    if (asks(c->body, "speculative.n_max"))
        return "speculative.n_max";
    if (o->prompt_logprobs)
        return "prompt_logprobs";
    if (o->n_bad > 0)
        return "bad_words";
    return o->sampling.mirostat ? "mirostat" : NULL;
}

bool api_read_diffusion(struct api_call *c, const struct api_options *o, struct service_request *q)
{
    const struct diffusion_opts *has = service_diffusion(c->m->svc);
    const char *name = has ? not_in_blocks(c, o) : NULL;
    struct err e = { 0 };

    if (name) {
        api_error(c, 400, "invalid_request_error", NULL, name, "%s: can't be had of %s, which writes "
                  "by diffusion, a block of tokens at a time", name, c->m->name);
        return false;
    }
    if (read_fields(&c->at, has, q, &e) < 0) {
        api_fail(c, NULL, &e);
        return false;
    }
    return true;
}
