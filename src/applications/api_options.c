/* api_options.c: the options of a generation under all the names that clients know. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "applications/api.h"
#include "base/clock.h"
#include "base/rng.h"

void api_options_init(struct api_options *o)
{
    memset(o, 0, sizeof *o);
    sampler_defaults(&o->sampling);
    o->sampling.temp = 1;           /* as the OpenAI API has it */
    o->sampling.top_p = 1;
    o->sampling.top_k = 0;
    o->sampling.min_p = 0;
    o->n = 1;
    o->think_budget = API_NO_BUDGET;
}

enum type { TYPE_U32, TYPE_I32, TYPE_FLOAT, TYPE_BOOL };

struct field {
    const char *names;              /* "a|b|c": aliases; the first that is given counts */
    enum type   type;
    size_t      offset;
    double      min, max;
};

#define AT(f) offsetof(struct api_options, f)
#define OF(f) offsetof(struct api_options, sampling.f)
static const struct field fields[] = {
    { "max_completion_tokens|max_tokens|max_output_tokens|n_predict|num_predict", TYPE_U32,
      AT(max_tokens), -2, 1e9 },
    { "min_tokens", TYPE_U32, AT(min_tokens), 0, 1e9 },
    { "n", TYPE_U32, AT(n), 1, API_MAX_CHOICES },
    { "temperature", TYPE_FLOAT, OF(temp), 0, 1000 },
    { "dynatemp_range", TYPE_FLOAT, OF(dynatemp_range), 0, 1000 },
    { "dynatemp_exponent", TYPE_FLOAT, OF(dynatemp_exponent), 0, 1000 },
    { "top_p", TYPE_FLOAT, OF(top_p), 0, 1 },
    { "top_k", TYPE_U32, OF(top_k), -1, 1e9 },
    { "min_p", TYPE_FLOAT, OF(min_p), 0, 1 },
    { "typical_p|typ_p", TYPE_FLOAT, OF(typical_p), 0, 1 },
    { "xtc_probability", TYPE_FLOAT, OF(xtc_probability), 0, 1 },
    { "xtc_threshold", TYPE_FLOAT, OF(xtc_threshold), 0, 1 },
    { "repetition_penalty|repeat_penalty", TYPE_FLOAT, OF(repeat_penalty), 0.001, 1000 },
    { "repeat_last_n|penalty_last_n", TYPE_I32, OF(penalty_last_n), -1, 1e9 },
    { "frequency_penalty", TYPE_FLOAT, OF(frequency_penalty), -1000, 1000 },
    { "presence_penalty", TYPE_FLOAT, OF(presence_penalty), -1000, 1000 },
    { "dry_multiplier", TYPE_FLOAT, OF(dry_multiplier), 0, 1000 },
    { "dry_base", TYPE_FLOAT, OF(dry_base), 0, 1000 },
    { "dry_allowed_length", TYPE_U32, OF(dry_allowed_length), 0, 1e6 },
    { "mirostat", TYPE_U32, OF(mirostat), 0, 2 },
    { "mirostat_tau", TYPE_FLOAT, OF(mirostat_tau), 0, 1000 },
    { "mirostat_eta", TYPE_FLOAT, OF(mirostat_eta), 0, 1000 },
    { "ignore_eos", TYPE_BOOL, AT(ignore_eos), 0, 0 },
    { "stream", TYPE_BOOL, AT(stream), 0, 0 },
    { "include_stop_str_in_output", TYPE_BOOL, AT(include_stop), 0, 0 },
    { "echo", TYPE_BOOL, AT(echo), 0, 0 },
    { "return_progress", TYPE_BOOL, AT(progress), 0, 0 },
    { "timings_per_token", TYPE_BOOL, AT(timings_each), 0, 0 },
    { "return_token_ids", TYPE_BOOL, AT(token_ids), 0, 0 },
};

static json_t *describe(const struct field *f)
{
    if (f->type == TYPE_BOOL)
        return json_pack("{s:s}", "type", "boolean");
    if (f->type == TYPE_FLOAT)
        return json_pack("{s:s,s:f,s:f}", "type", "number", "minimum", f->min, "maximum", f->max);
    return json_pack("{s:s,s:I,s:I}", "type", "integer", "minimum", (json_int_t)f->min, "maximum",
                     (json_int_t)f->max);
}

void api_options_describe(json_t *properties)
{
    static const struct { const char *name, *type; } more[] = { { "seed", "integer" },
        { "priority", "integer" }, { "cache_salt", "string" }, { "cache_prompt", "boolean" },
        { "logit_bias", "object" }, { "stop_token_ids", "array" }, { "diffusion_steps", "integer" },
        { "diffusion_threshold", "number" }, { "diffusion_algorithm", "string" } };
    static const char *const stops[] = { "stop", "stop_sequences" };

    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        for (const char *p = fields[i].names; *p;) {
            const size_t n = strcspn(p, "|");
            char name[48];

            (void)snprintf(name, sizeof name, "%.*s", (int)n, p);
            (void)json_object_set_new(properties, name, describe(&fields[i]));
            p += n + (p[n] == '|');
        }
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        (void)json_object_set_new(properties, more[i].name,
                                  json_pack("{s:s}", "type", more[i].type));
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++)
        (void)json_object_set_new(properties, stops[i], json_pack("{s:[{s:s},{s:s,s:{s:s},s:i}]}",
            "anyOf", "type", "string", "type", "array", "items", "type", "string", "maxItems",
            (int)API_MAX_STOPS));
}

/* Finds the first alias that is given; *p.value NULL when none is. */
static int find_alias(const struct json_place *at, const char *names, char key[48],
                      struct json_place *p, struct err *e)
{
    p->value = NULL;
    while (*names) {
        const size_t n = strcspn(names, "|");
        int rc;

        memcpy(key, names, n);
        key[n] = '\0';
        rc = json_find(at, key, p, e);
        if (rc < 0 || p->value)
            return rc;
        names += n + (names[n] == '|');
    }
    return 0;
}

static int read_field(const struct json_place *p, const struct field *f, void *to, struct err *e)
{
    double v;
    int rc;

    if (f->type == TYPE_BOOL)
        return json_read_bool(p, to, e);
    if (f->type == TYPE_FLOAT) {
        float x;

        rc = json_read_double(p, f->min, f->max, &v, e);
        x = (float)v;
        if (rc == 0)
            memcpy(to, &x, sizeof x);
        return rc;
    }
    {
        int64_t i = 0;
        uint32_t x;

        rc = json_read_i64(p, (int64_t)f->min, (int64_t)f->max, &i, e);
        x = i < 0 && f->type == TYPE_U32 ? 0 : (uint32_t)i;     /* -1: no bound */
        if (rc == 0)
            memcpy(to, &x, sizeof x);
        return rc;
    }
}

static int read_stops(const struct json_place *at, struct api_options *o, struct err *e)
{
    struct json_place p;
    size_t n;
    char key[48];
    int rc = find_alias(at, "stop|stop_sequences", key, &p, e);

    if (rc < 0 || !p.value)
        return rc;
    if (json_is_string(p.value)) {
        rc = json_read_cstr(&p, &o->stops[0], e);
        o->n_stops = rc == 0 && *o->stops[0];
        return rc;
    }
    rc = json_read_array(&p, API_MAX_STOPS, &n, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct json_place item = json_item(&p, i);

        rc = json_read_cstr(&item, &o->stops[o->n_stops], e);
        if (rc == 0 && *o->stops[o->n_stops])
            o->n_stops++;
    }
    return rc;
}

static int read_stop_ids(const struct json_place *at, struct api_options *o, struct err *e)
{
    struct json_place p;
    size_t n;
    int rc = json_find(at, "stop_token_ids", &p, e);

    if (rc < 0 || !p.value)
        return rc;
    rc = json_read_array(&p, API_MAX_STOPS, &n, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct json_place item = json_item(&p, i);
        uint64_t id;

        rc = json_read_u64(&item, 0, INT32_MAX, &id, e);
        if (rc == 0)
            o->stop_ids[o->n_stop_ids++] = (int32_t)id;
    }
    return rc;
}

/* An object of id: bias, or llama-server's list of pairs. */
static int read_bias(const struct json_place *at, const struct tokenizer *t, struct api_options *o,
                     struct err *e)
{
    struct json_place p;
    const char *key;
    json_t *v;
    int rc = json_find(at, "logit_bias", &p, e);

    if (rc < 0 || !p.value)
        return rc;
    if (!json_is_object(p.value))
        return json_refuse(&p, e, WATT_EFORMAT, "expected an object of token ids");
    json_object_foreach((json_t *)(uintptr_t)p.value, key, v) {
        char *end;
        const unsigned long id = strtoul(key, &end, 10);

        if (*key < '0' || *key > '9' || *end || id >= tokenizer_n_vocab(t))
            return json_refuse(&p, e, WATT_EINVAL, "'%.40s' is no token id", key);
        if (!json_is_number(v) || !(fabs(json_number_value(v)) <= 1e6))
            return json_refuse(&p, e, WATT_EINVAL, "the bias of token %s must be a number", key);
        if (o->sampling.n_bias == API_MAX_BIAS)
            return json_refuse(&p, e, WATT_ELIMIT, "over %u entries", API_MAX_BIAS);
        o->bias[o->sampling.n_bias++] = (struct logit_bias){
            (uint32_t)id, json_number_value(v) <= -100 ? -INFINITY : (float)json_number_value(v) };
    }
    o->sampling.bias = o->bias;
    return 0;
}

static int read_more(const struct json_place *at, struct api_options *o, struct err *e)
{
    struct json_place p;
    int64_t v = 0;
    bool cache = true;
    int rc = json_find(at, "seed", &p, e);

    o->sampling.seed = rng_mix(clock_mono_ns());
    if (rc == 0 && p.value)
        rc = json_read_i64(&p, INT64_MIN, INT64_MAX, &v, e);
    if (rc == 0 && p.value && v >= 0)
        o->sampling.seed = (uint64_t)v;
    if (rc == 0)
        rc = json_find(at, "stream_options", &p, e);
    if (rc == 0 && p.value)
        rc = json_get_bool(&p, "include_usage", false, &o->include_usage, e);
    if (rc == 0)
        rc = json_find(at, "priority", &p, e);
    if (rc == 0 && p.value) {
        rc = json_read_i64(&p, -1000000, 1000000, &v, e);
        o->priority = (int32_t)-v;              /* vLLM: low first; the service: high first */
    }
    if (rc == 0)
        rc = json_find(at, "cache_salt", &p, e);
    if (rc == 0 && p.value) {
        rc = json_read_str(&p, &o->salt, e);
        if (rc == 0 && o->salt.len > SERVICE_MAX_SALT)
            rc = json_refuse(&p, e, WATT_ELIMIT, "over %u bytes", SERVICE_MAX_SALT);
    }
    if (rc == 0)
        rc = json_get_bool(at, "cache_prompt", true, &cache, e);
    if (rc == 0)
        rc = json_find(at, "speculative.n_max", &p, e);
    if (rc == 0 && p.value) {
        rc = json_read_i64(&p, 0, 1000, &v, e);
        o->speculate = v == 0 ? SERVICE_SPEC_OFF : SERVICE_SPEC_AUTO;
    }
    o->no_cache = !cache;
    return rc;
}

/* reasoning_format: does what is reasoned come apart from the answer? */
static int read_format(const struct json_place *at, const struct api_model *m,
                       struct api_options *o, struct err *e)
{
    struct json_place p;
    const char *how = "";
    int rc = json_find(at, "reasoning_format", &p, e);

    o->reasoning_in_text = m->reasoning_in_text;
    if (rc < 0 || !p.value)
        return rc;
    rc = json_read_cstr(&p, &how, e);
    if (rc == 0 && strcmp(how, "none") != 0 && strcmp(how, "auto") != 0 &&
        strcmp(how, "deepseek") != 0)
        rc = json_refuse(&p, e, WATT_EINVAL, "'%.40s' is none of auto, deepseek and none", how);
    o->reasoning_in_text = strcmp(how, "none") == 0;
    return rc;
}

/* The most tokens of reasoning; negative: no bound. */
static int read_budget(const struct json_place *at, struct api_options *o, struct err *e)
{
    struct json_place p;
    char key[48];
    int64_t n = -1;
    int rc = find_alias(at, "thinking_token_budget|thinking_budget_tokens|reasoning_budget_tokens|"
                        "reasoning_budget|thinking_budget|max_thinking_tokens", key, &p, e);

    if (rc == 0 && p.value)
        rc = json_read_i64(&p, -1, 1000000000, &n, e);
    if (rc == 0 && p.value)
        o->think_budget = n < 0 ? API_NO_BUDGET : (uint32_t)n;
    return rc;
}

static int read_logprobs(const struct json_place *at, struct api_options *o, struct err *e)
{
    struct json_place p, top;
    uint64_t n = 0;
    int rc = json_find(at, "logprobs", &p, e);

    if (rc == 0)
        rc = json_find(at, "top_logprobs", &top, e);
    if (rc < 0)
        return rc;
    if (p.value && json_is_number(p.value)) {   /* completions: how many */
        rc = json_read_u64(&p, 0, SERVICE_MAX_LOGPROBS, &n, e);
        o->logprobs = true;
    } else if (p.value) {
        rc = json_read_bool(&p, &o->logprobs, e);
    }
    if (rc == 0 && top.value) {
        rc = json_read_u64(&top, 0, SERVICE_MAX_LOGPROBS, &n, e);
        if (rc == 0 && n > 0 && !o->logprobs)
            rc = json_refuse(&top, e, WATT_EINVAL, "needs logprobs to be true");
    }
    o->n_top = (uint32_t)n;
    return rc;
}

/* Fields that clients know and that would change the answer: better no answer than another one. */
static int refuse_unsupported(const struct json_place *at, struct err *e)
{
    static const char *const names[] = { "allowed_token_ids", "audio", "bad_words",
        "continue_final_message", "dry_sequence_breakers", "function_call", "functions", "lora",
        "modalities", "prediction", "prompt_logprobs", "samplers", "use_beam_search" };
    int rc = 0;

    for (size_t i = 0; i < sizeof names / sizeof *names && rc == 0; i++) {
        struct json_place p;

        rc = json_find(at, names[i], &p, e);
        if (rc < 0 || !p.value || json_is_false(p.value) ||
            (json_is_array(p.value) && json_array_size(p.value) == 0) ||
            (json_is_object(p.value) && json_object_size(p.value) == 0))
            continue;
        if (strcmp(names[i], "modalities") == 0 && json_array_size(p.value) == 1 &&
            json_is_string(json_array_get(p.value, 0)) &&
            strcmp(json_string_value(json_array_get(p.value, 0)), "text") == 0)
            continue;
        rc = json_refuse(&p, e, WATT_ENOTSUP, "is not supported");
    }
    return rc;
}

bool api_read_options(struct api_call *c, struct api_options *o)
{
    struct err e = { 0 };
    char key[48] = "";
    int rc = 0;

    for (size_t i = 0; i < sizeof fields / sizeof *fields && rc == 0; i++) {
        struct json_place p;

        rc = find_alias(&c->at, fields[i].names, key, &p, &e);
        if (rc == 0 && p.value)
            rc = read_field(&p, &fields[i], (char *)o + fields[i].offset, &e);
        if (fields[i].offset == AT(max_tokens) && p.value)
            o->prompt_only = json_is_number(p.value) && json_number_value(p.value) == 0;
    }
    if (rc == 0) {
        key[0] = '\0';
        rc = read_stops(&c->at, o, &e);
    }
    if (rc == 0)
        rc = read_stop_ids(&c->at, o, &e);
    if (rc == 0)
        rc = read_bias(&c->at, c->m->tm->tok, o, &e);
    if (rc == 0)
        rc = read_logprobs(&c->at, o, &e);
    if (rc == 0)
        rc = read_format(&c->at, c->m, o, &e);
    o->think_budget = c->m->think_budget;
    if (rc == 0)
        rc = read_budget(&c->at, o, &e);
    if (rc == 0)
        rc = read_more(&c->at, o, &e);
    if (rc == 0)
        rc = refuse_unsupported(&c->at, &e);
    if (rc < 0)
        api_fail(c, key[0] ? key : NULL, &e);
    return rc == 0;
}
