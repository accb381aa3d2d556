/* api_options.c: the options of a generation under all the names that clients know. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "applications/api.h"
#include "base/clock.h"
#include "base/mem.h"
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
    { "dry_penalty_last_n|dry_last_n", TYPE_I32, OF(dry_last_n), -1, 1e9 },
    { "min_keep", TYPE_U32, OF(min_keep), 0, 1e9 },
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
    { "return_tokens_as_token_ids", TYPE_BOOL, AT(tokens_as_ids), 0, 0 },
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
        { "include_reasoning", "boolean" }, { "separate_reasoning", "boolean" },
        { "prompt_logprobs", "integer" },
        { "stop_token_ids", "array" }, { "allowed_token_ids", "array" },
        { "diffusion_steps", "integer" },
        { "diffusion_threshold", "number" }, { "diffusion_algorithm", "string" } };
    static const char *const stops[] = { "stop", "stop_sequences" };
    json_t *words = json_pack("{s:s,s:{s:s,s:i,s:i},s:i}", "type", "array", "items", "type", "string",
                              "minLength", 1, "maxLength", (int)API_MAX_BAD_BYTES, "maxItems",
                              (int)API_MAX_BAD);

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
    (void)json_object_set_new(properties, "bad_words", words);
    (void)json_object_set_new(properties, "logit_bias", json_pack("{s:[{s:s},{s:s}]}", "anyOf", "type",
                                                                  "object", "type", "array"));
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

/* A text or a list of them; empty ones are left out. */
static int read_texts(const struct json_place *p, const char **to, size_t max, size_t *n, struct err *e)
{
    const bool list = !json_is_string(p->value);
    size_t n_items = 1;
    int rc = list ? json_read_array(p, max, &n_items, e) : 0;

    for (size_t i = 0; rc == 0 && i < n_items; i++) {
        const struct json_place item = list ? json_item(p, i) : *p;

        rc = json_read_cstr(&item, &to[*n], e);
        *n += rc == 0 && *to[*n];
    }
    return rc;
}

static int read_stops(const struct json_place *at, struct api_options *o, struct err *e)
{
    struct json_place p;
    char key[48];
    int rc = find_alias(at, "stop|stop_sequences", key, &p, e);

    return rc == 0 && p.value ? read_texts(&p, o->stops, API_MAX_STOPS, &o->n_stops, e) : rc;
}

static int read_more(const struct json_place *at, struct api_options *o, struct err *e)
{
    struct json_place p;
    int64_t v = 0;
    bool cache = true, skip = true;
    int rc = json_find(at, "seed", &p, e);

    o->sampling.seed = rng_mix(clock_mono_ns());
    o->sampling.min_keep = o->sampling.min_keep > 0 ? o->sampling.min_keep : 1;
    if (rc == 0 && p.value)
        rc = json_read_i64(&p, INT64_MIN, INT64_MAX, &v, e);
    if (rc == 0 && p.value && v >= 0)
        o->sampling.seed = (uint64_t)v;
    if (rc == 0)
        rc = json_find(at, "stream_options", &p, e);
    if (rc == 0 && p.value)
        rc = json_get_bool(&p, "include_usage", false, &o->include_usage, e);
    if (rc == 0 && p.value)             /* vLLM's */
        rc = json_get_bool(&p, "continuous_usage_stats", false, &o->usage_each, e);
    o->usage_each &= o->include_usage;
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
        rc = json_get_bool(at, "skip_special_tokens", true, &skip, e);
    o->special = !skip;
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
    bool shown = true, apart = true;
    int rc = json_get_bool(at, "include_reasoning", true, &shown, e);   /* vLLM's */

    if (rc == 0)
        rc = json_get_bool(at, "separate_reasoning", !m->reasoning_in_text, &apart, e); /* SGLang's */
    if (rc == 0)
        rc = json_find(at, "reasoning_format", &p, e);
    o->no_reasoning = !shown;
    o->reasoning_in_text = !apart;
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

/* vLLM's: those of the prompt, with so many alternatives. Streams have none of them there either. */
static int read_prompt_logprobs(const struct json_place *at, struct api_options *o, struct err *e)
{
    struct json_place p;
    uint64_t n = 0;
    int rc = json_find(at, "prompt_logprobs", &p, e);

    if (rc < 0 || !p.value)
        return rc;
    rc = json_read_u64(&p, 0, SERVICE_MAX_LOGPROBS, &n, e);
    if (rc == 0 && n > 0 && o->stream)
        return json_refuse(&p, e, WATT_ENOTSUP, "can't be had of a stream");
    o->prompt_logprobs = rc == 0 && !o->stream;
    o->n_prompt_top = (uint32_t)n;
    return rc;
}

/* Adds a stage of the sampler; those that are known elsewhere, and switched off there by default, are
 * left out. */
static void add_stage(struct str *names, struct sv name)
{
    static const char *const absent[] = { "top_n_sigma", "top_a", "tfs_z", "infill", "adaptive_p" };

    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++)
        if (sv_eq_cstr(name, absent[i]))
            return;
    if (names->len > 0)
        str_putc(names, ';');
    str_append(names, name.data, name.len);
}

/* llama-server's letters for the stages, "edkypmxt"; false: the text is none of them. */
static bool add_letters(struct str *names, const char *text)
{
    static const char letters[] = "edkypmxtsia";
    static const char *const stages[] = { "penalties", "dry", "top_k", "typical_p", "top_p", "min_p",
                                          "xtc", "temperature", "top_n_sigma", "infill", "adaptive_p" };

    if (text[strspn(text, letters)] || strcmp(text, "temp") == 0)
        return false;
    for (; *text; text++)
        add_stage(names, sv_cstr(stages[strchr(letters, *text) - letters]));
    return true;
}

/* The order of the sampler's stages: names in a list, or in one text, or letters. */
static int read_samplers(const struct json_place *at, struct api_options *o, struct err *e)
{
    struct json_place p;
    const char *text = "";
    struct str names;
    size_t n = 0;
    int rc = json_find(at, "samplers", &p, e);

    if (rc < 0 || !p.value || (json_is_array(p.value) && json_array_size(p.value) == 0))
        return rc;
    str_init(&names, 1024);
    rc = json_is_string(p.value) ? json_read_cstr(&p, &text, e) : json_read_array(&p, 64, &n, e);
    if (rc == 0 && !add_letters(&names, text))
        for (size_t k; *text; text += k + (text[k] != '\0')) {
            k = strcspn(text, ";,");
            add_stage(&names, (struct sv){ text, k });
        }
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place item = json_item(&p, i);

        rc = json_read_cstr(&item, &text, e);
        if (rc == 0)
            add_stage(&names, sv_cstr(text));
    }
    if (rc == 0 && !str_ok(&names))
        rc = json_refuse(&p, e, WATT_EINVAL, "is too long");
    if (rc == 0) {
        struct err why = { 0 };

        rc = sampler_order_parse(&o->sampling, str_cstr(&names), &why);
        if (rc < 0)
            rc = json_refuse(&p, e, rc, "%s", why.msg);
    }
    str_deinit(&names);
    return rc;
}

static int read_breakers(const struct json_place *at, struct api_options *o, struct err *e)
{
    struct json_place p;
    int rc = json_find(at, "dry_sequence_breakers", &p, e);

    if (rc < 0 || !p.value)
        return rc;
    o->sampling.dry_breakers = o->breakers;
    o->sampling.n_dry_breakers = 0;
    return read_texts(&p, o->breakers, SAMPLER_MAX_BREAKERS, &o->sampling.n_dry_breakers, e);
}

/* llama-server's list of adapters with their scales, by the place that /lora-adapters gives: one at
 * most, in place of the one that the model's name chose. */
static int read_lora(struct api_call *c, struct err *e)
{
    struct json_place p, at;
    size_t n;
    uint32_t chosen = 0;
    double chosen_scale = 1;
    int rc = json_find(&c->at, "lora", &p, e);

    if (rc < 0 || !p.value)
        return rc;
    rc = json_read_array(&p, 1024, &n, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place item = json_item(&p, i);
        uint64_t id = 0;
        double scale = 1;

        rc = json_get_u64(&item, "id", 0, 0, UINT32_MAX - 1, &id, e);
        if (rc == 0)
            rc = json_find(&item, "scale", &at, e);
        if (rc == 0 && at.value)
            rc = json_read_double(&at, -SERVICE_MAX_SCALE, SERVICE_MAX_SCALE, &scale, e);
        if (rc < 0 || fabs(scale) < 1e-9)
            continue;
        if (!api_adapter_name(c, (uint32_t)id + 1))
            rc = json_refuse(&item, e, WATT_EINVAL, "this model has no adapter %u", (unsigned)id);
        else if (chosen)
            rc = json_refuse(&item, e, WATT_ENOTSUP, "one adapter is what a request may have");
        else
            chosen = (uint32_t)id + 1;
        chosen_scale = scale;
    }
    if (rc == 0 && n > 0 && !chosen && !api_key_may_use(c->key, c->m->name))
        rc = json_refuse(&p, e, WATT_EINVAL, "this key may use the model with an adapter only");
    if (rc == 0 && n > 0) {
        c->adapter = chosen;
        c->adapter_scale = (float)chosen_scale;
        c->adapter_name = chosen ? api_adapter_name(c, chosen) : NULL;
    }
    return rc;
}

/* Fields that clients know and that would change the answer: better no answer than another one. Those
 * with a neutral value say nothing by it. */
static int refuse_unsupported(const struct json_place *at, struct err *e)
{
    static const struct { const char *name; double neutral; } refused[] = {
        { "audio", 0 }, { "chat_template", 0 }, { "best_of", 1 }, { "function_call", 0 },
        { "functions", 0 }, { "image_data", 0 }, { "length_penalty", 1 }, { "modalities", 0 },
        { "post_sampling_probs", 0 }, { "prediction", 0 }, { "t_max_predict_ms", 0 },
        { "top_n_sigma", 0 }, { "truncate_prompt_tokens", -1 },
        { "use_beam_search", 0 }, { "web_search_options", 0 } };
    int rc = 0;

    for (size_t i = 0; i < sizeof refused / sizeof *refused && rc == 0; i++) {
        const double neutral = refused[i].neutral;
        struct json_place p;

        rc = json_find(at, refused[i].name, &p, e);
        if (rc < 0 || !p.value || json_is_false(p.value) ||
            (json_is_array(p.value) && json_array_size(p.value) == 0) ||
            (json_is_object(p.value) && json_object_size(p.value) == 0) ||
            (json_is_number(p.value) && fabs(json_number_value(p.value) - neutral) < 1e-9) ||
            (json_is_string(p.value) && strcmp(json_string_value(p.value), "none") == 0))
            continue;
        if (strcmp(refused[i].name, "modalities") == 0 && json_array_size(p.value) == 1 &&
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
        rc = api_read_tokens(c, o, &e);
    if (rc == 0)
        rc = read_logprobs(&c->at, o, &e);
    if (rc == 0)
        rc = read_prompt_logprobs(&c->at, o, &e);
    if (rc == 0)
        rc = read_format(&c->at, c->m, o, &e);
    o->think_budget = c->m->think_budget;
    if (rc == 0)
        rc = read_budget(&c->at, o, &e);
    if (rc == 0)
        rc = read_more(&c->at, o, &e);
    if (rc == 0)
        rc = read_samplers(&c->at, o, &e);
    if (rc == 0)
        rc = read_breakers(&c->at, o, &e);
    if (rc == 0)
        rc = read_lora(c, &e);
    if (rc == 0)
        rc = refuse_unsupported(&c->at, &e);
    if (rc < 0)
        api_fail(c, key[0] ? key : NULL, &e);
    return rc == 0;
}
