/* api_tokens.c: which tokens an answer may have and which end it, as a request says. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "applications/api.h"
#include "base/mem.h"
#include "models/bad_words.h"

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

static int add_bias(const struct json_place *at, int32_t id, float bias, struct api_options *o,
                    struct err *e)
{
    if (o->sampling.n_bias == API_MAX_BIAS)
        return json_refuse(at, e, WATT_ELIMIT, "over %u entries", API_MAX_BIAS);
    o->bias[o->sampling.n_bias++] = (struct logit_bias){ (uint32_t)id, bias };
    return 0;
}

/* A number, or false for what must not come. */
static bool bias_of(const json_t *v, float *bias)
{
    const double x = json_is_false(v) ? -100 : json_is_number(v) ? json_number_value(v) : NAN;

    *bias = x <= -100 ? -INFINITY : (float)x;
    return fabs(x) <= 1e6;
}

/* llama-server's list of pairs: an id or a text, all of whose tokens are meant, and a bias. */
static int read_pairs(const struct json_place *p, const struct tokenizer *t, struct api_options *o,
                      struct err *e)
{
    struct tokens ids = { 0 };
    size_t n;
    int rc = json_read_array(p, API_MAX_BIAS, &n, e);

    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place pair = json_item(p, i);
        const json_t *of = json_array_get(pair.value, 0);
        float bias = 0;

        ids.n = 0;
        if (json_array_size(pair.value) != 2 || !bias_of(json_array_get(pair.value, 1), &bias))
            rc = json_refuse(&pair, e, WATT_EFORMAT, "expected a token or a text, and its bias or false");
        else if (json_is_integer(of) && json_integer_value(of) >= 0 &&
                 json_integer_value(of) < tokenizer_n_vocab(t))
            rc = add_bias(p, (int32_t)json_integer_value(of), bias, o, e);
        else if (!json_is_string(of))
            rc = json_refuse(&pair, e, WATT_EINVAL, "is of no token of 0..%u", tokenizer_n_vocab(t) - 1);
        else
            rc = tokenizer_encode(t, NULL, json_string_value(of), json_string_length(of), 0, &ids, e);
        for (size_t k = 0; rc == 0 && k < ids.n; k++)
            rc = add_bias(p, ids.ids[k], bias, o, e);
    }
    tokens_deinit(&ids);
    return rc;
}

/* An object of id: bias, or that. */
static int read_bias(const struct json_place *at, const struct tokenizer *t, struct api_options *o,
                     struct err *e)
{
    struct json_place p;
    const char *key;
    json_t *v;
    int rc = json_find(at, "logit_bias", &p, e);

    if (rc < 0 || !p.value)
        return rc;
    o->sampling.bias = o->bias;
    if (json_is_array(p.value))
        return read_pairs(&p, t, o, e);
    if (!json_is_object(p.value))
        return json_refuse(&p, e, WATT_EFORMAT, "expected an object of token ids, or a list of pairs");
    json_object_foreach((json_t *)(uintptr_t)p.value, key, v) {
        char *end;
        const unsigned long id = strtoul(key, &end, 10);
        float bias;

        if (*key < '0' || *key > '9' || *end || id >= tokenizer_n_vocab(t))
            return json_refuse(&p, e, WATT_EINVAL, "'%.40s' is no token id", key);
        if (!bias_of(v, &bias))
            return json_refuse(&p, e, WATT_EINVAL, "the bias of token %s must be a number", key);
        rc = add_bias(&p, (int32_t)id, bias, o, e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* The only tokens that may come, as bits. */
static int read_allowed(const struct json_place *at, const struct api_model *m,
                        struct api_options *o, struct err *e)
{
    const uint32_t n_vocab = tokenizer_n_vocab(m->tm->tok);
    const uint32_t n_out = model_facts(service_model(m->svc))->n_out;
    struct json_place p;
    size_t n;
    int rc = json_find(at, "allowed_token_ids", &p, e);

    if (rc < 0 || !p.value)
        return rc;
    rc = json_read_array(&p, n_vocab, &n, e);
    if (rc == 0 && n == 0)
        rc = json_refuse(&p, e, WATT_EINVAL, "no token may come");
    if (rc < 0)
        return rc;
    o->allowed = mem_calloc(((size_t)(n_vocab > n_out ? n_vocab : n_out) + 63) / 64,
                            sizeof *o->allowed);
    if (!o->allowed)
        return err_set(e, WATT_ENOMEM, "allowed_token_ids");
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place item = json_item(&p, i);
        uint64_t id = 0;

        rc = json_read_u64(&item, 0, n_vocab - 1, &id, e);
        if (rc == 0)
            o->allowed[id / 64] |= UINT64_C(1) << id % 64;
    }
    return rc;
}

/* One way to spell a bad word. */
static int add_bad(const struct json_place *item, const struct tokenizer *t,
                   struct tokenizer_scratch *scratch, struct sv text, struct api_options *o,
                   struct err *e)
{
    const size_t n = o->bad_ids.n;
    const int rc = tokenizer_encode(t, scratch, text.data, text.len, TOKENIZE_NO_PREFIX, &o->bad_ids, e);

    if (rc < 0)
        return rc;
    if (o->bad_ids.n == n)
        return json_refuse(item, e, WATT_EINVAL, "this vocabulary has no tokens for it");
    o->bad_ends[o->n_bad++] = (uint32_t)o->bad_ids.n;
    return 0;
}

/* A word, and the word with a space in front: they begin with different tokens. */
static int read_bad_word(const struct json_place *item, const struct tokenizer *t,
                         struct tokenizer_scratch *scratch, struct api_options *o, struct err *e)
{
    char spaced[API_MAX_BAD_BYTES + 1] = " ";
    struct sv word = { NULL, 0 };
    size_t n_spaces = 0;
    int rc = json_read_str(item, &word, e);

    if (rc < 0)
        return rc;
    if (word.len == 0 || word.len > API_MAX_BAD_BYTES)
        return json_refuse(item, e, WATT_EINVAL, "has %zu bytes, wanted 1 to %u", word.len,
                           API_MAX_BAD_BYTES);
    while (n_spaces < word.len && word.data[n_spaces] == ' ')
        n_spaces++;
    if (n_spaces == word.len)           /* nothing but spaces: only itself */
        return add_bad(item, t, scratch, word, o, e);
    word = (struct sv){ word.data + n_spaces, word.len - n_spaces };
    memcpy(spaced + 1, word.data, word.len);
    rc = add_bad(item, t, scratch, word, o, e);
    return rc < 0 ? rc : add_bad(item, t, scratch, (struct sv){ spaced, word.len + 1 }, o, e);
}

/* vLLM's. */
static int read_bad_words(const struct json_place *at, const struct tokenizer *t,
                          struct api_options *o, struct err *e)
{
    struct tokenizer_scratch *scratch = NULL;
    struct json_place p;
    size_t n = 0;
    int rc = json_find(at, "bad_words", &p, e);

    if (rc < 0 || !p.value)
        return rc;
    rc = json_read_array(&p, API_MAX_BAD, &n, e);
    if (rc == 0 && n > 0)
        rc = tokenizer_scratch_open(&scratch, t, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place item = json_item(&p, i);

        rc = read_bad_word(&item, t, scratch, o, e);
    }
    tokenizer_scratch_close(scratch);
    if (rc == 0 && o->bad_ids.n > BAD_WORDS_MAX_TOKENS)
        rc = json_refuse(&p, e, WATT_ELIMIT, "%zu tokens together, at most %u", o->bad_ids.n,
                         BAD_WORDS_MAX_TOKENS);
    return rc;
}

int api_read_tokens(struct api_call *c, struct api_options *o, struct err *e)
{
    int rc = read_stop_ids(&c->at, o, e);

    if (rc == 0)
        rc = read_bias(&c->at, c->m->tm->tok, o, e);
    if (rc == 0)
        rc = read_allowed(&c->at, c->m, o, e);
    if (rc == 0)
        rc = read_bad_words(&c->at, c->m->tm->tok, o, e);
    return rc;
}
