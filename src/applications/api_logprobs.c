/* api_logprobs.c: log probabilities of tokens, in the shapes that clients of the OpenAI API and of vLLM
 * expect. */
#include <stdio.h>

#include "applications/api.h"

/* JSON has no infinities. */
static double bounded(float logprob)
{
    return logprob < -9999 ? -9999 : logprob;
}

/* Half of a character is U+FFFD. */
static json_t *text_of(struct sv piece)
{
    json_t *text = json_stringn(piece.len ? piece.data : "", piece.len);

    return text ? text : json_string("\xEF\xBF\xBD");
}

static json_t *token_entry(const struct api_run *r, int32_t id, float logprob)
{
    const struct sv piece = tokenizer_piece(r->m->tm->tok, id);
    json_t *bytes = json_array();
    json_t *text = r->tokens_as_ids ? json_sprintf("token_id:%d", (int)id) : text_of(piece);

    for (size_t i = 0; i < piece.len; i++)
        json_array_append_new(bytes, json_integer((unsigned char)piece.data[i]));
    return json_pack("{s:o,s:i,s:f,s:o}", "token", text, "id", (int)id, "logprob",
                     bounded(logprob), "bytes", bytes);
}

json_t *api_openai_logprob(struct api_run *r, const struct service_event *ev)
{
    json_t *entry = token_entry(r, ev->id, ev->logprob), *top = json_array();

    for (size_t i = 0; i < ev->n_top; i++)
        json_array_append_new(top, token_entry(r, (int32_t)ev->top[i].id, ev->top[i].logprob));
    json_object_set_new(entry, "top_logprobs", top);
    if (!ev->has_logprob) {             /* the first token of a prompt */
        (void)json_object_set_new(entry, "logprob", json_null());
        (void)json_object_set_new(entry, "top_logprobs", json_null());
    }
    return entry;
}

/* Characters of a token's bytes; a piece of one counts as one. */
static uint32_t n_characters(const json_t *bytes)
{
    const json_t *byte;
    uint32_t n = 0;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)bytes, i, byte)
        n += i == 0 || (json_integer_value(byte) & 0xC0) != 0x80;
    return n;
}

json_t *api_text_logprobs(const json_t *entries, uint32_t *offset)
{
    json_t *tokens = json_array(), *values = json_array(), *tops = json_array(), *entry;
    json_t *offsets = json_array();
    size_t i;

    json_array_foreach(entries, i, entry) {
        const json_t *list = json_object_get(entry, "top_logprobs");
        json_t *top = json_object(), *t;
        size_t k;

        json_array_append(tokens, json_object_get(entry, "token"));
        json_array_append_new(offsets, json_integer(*offset));
        *offset += n_characters(json_object_get(entry, "bytes"));
        json_array_append(values, json_object_get(entry, "logprob"));
        json_array_foreach(list, k, t)
            json_object_set(top, json_string_value(json_object_get(t, "token")),
                            json_object_get(t, "logprob"));
        if (json_is_null(list)) {
            json_decref(top);
            top = json_null();
        }
        json_array_append_new(tops, top);
    }
    return json_pack("{s:o,s:o,s:o,s:o}", "tokens", tokens, "token_logprobs", values, "top_logprobs",
                     tops, "text_offset", offsets);
}

/* ---- of the prompt, as vLLM has them ---- */

static void put_ranked(const struct api_run *r, json_t *to, uint32_t id, float logprob, uint32_t rank)
{
    char key[16];

    (void)snprintf(key, sizeof key, "%u", id);
    if (!json_object_get(to, key))
        (void)json_object_set_new(to, key, json_pack("{s:f,s:i,s:o}", "logprob", bounded(logprob), "rank",
            (int)rank, "decoded_token", text_of(tokenizer_piece(r->m->tm->tok, (int32_t)id))));
}

json_t *api_prompt_logprob(struct api_run *r, const struct service_event *ev)
{
    json_t *entry;

    if (!ev->has_logprob)
        return json_null();
    entry = json_object();
    put_ranked(r, entry, (uint32_t)ev->id, ev->logprob, ev->rank);
    for (size_t i = 0; i < ev->n_top; i++)
        put_ranked(r, entry, ev->top[i].id, ev->top[i].logprob, (uint32_t)i + 1);
    return entry;
}
