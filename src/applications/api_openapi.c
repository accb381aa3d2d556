/* api_openapi.c: the OpenAPI document: the table of routes, with the bodies that they take.
 *
 * What a body may hold comes from the table below and, for generations, from the table of options
 * that requests are read by, so that the document says what the server does. */
#include <stdio.h>
#include <string.h>

#include "applications/api.h"
#include "watt.h"

/* Fields as NAME:TYPE with a '!' where one is needed. Types: s string, b boolean, i integer,
 * n number, o object, a array, t tokens, m messages, p a text or token ids, c a text or parts,
 * x anything. */
struct body {
    const char *path;
    enum { PLAIN, GENERATES, NESTED } kind;     /* NESTED: options under "options" */
    const char *fields;
};

#define CHAT_FIELDS "messages!:m tools:a tool_choice:x response_format:o reasoning_effort:s " \
    "chat_template_kwargs:o stream_options:o structured_outputs:o"
#define RESPONSE_FIELDS "input!:x instructions:s tools:a tool_choice:x text:o reasoning:o " \
    "previous_response_id:s store:b include:a truncation:s metadata:o"
#define EMBEDDING_FIELDS "input!:x encoding_format:s dimensions:i truncate:x truncate_prompt_tokens:i"
#define RERANK_FIELDS "query!:s documents:a texts:a top_n:i return_documents:b raw_scores:b truncate:x"
#define SCORE_FIELDS "text_1!:x text_2!:x raw_scores:b truncate:x"

static const struct body bodies[] = {
    { "/v1/chat/completions", GENERATES, CHAT_FIELDS },
    { "/chat/completions", GENERATES, CHAT_FIELDS },
    { "/v1/chat/completions/input_tokens", PLAIN, "messages!:m tools:a" },
    { "/v1/completions", GENERATES, "prompt!:p suffix:s stream_options:o structured_outputs:o" },
    { "/v1/responses", GENERATES, RESPONSE_FIELDS },
    { "/responses", GENERATES, RESPONSE_FIELDS },
    { "/v1/responses/input_tokens", PLAIN, "input!:x instructions:s tools:a" },
    { "/v1/messages", GENERATES, "max_tokens!:i messages!:m system:c tools:a tool_choice:o "
      "thinking:o output_config:o" },
    { "/v1/messages/count_tokens", PLAIN, "messages!:m system:c tools:a" },
    { "/api/chat", NESTED, "messages!:m stream:b format:x think:x tools:a keep_alive:x" },
    { "/api/generate", NESTED, "prompt!:s suffix:s system:s stream:b format:x think:x raw:b "
      "keep_alive:x" },
    { "/api/show", PLAIN, "model:s verbose:b" },
    { "/api/pull", PLAIN, "model:s stream:b" },
    { "/api/delete", PLAIN, "model:s" },
    { "/api/copy", PLAIN, "source!:s destination!:s" },
    { "/api/create", PLAIN, "from!:s stream:b" },
    { "/models/load", PLAIN, "" },
    { "/models/unload", PLAIN, "" },
    { "/v1/embeddings", PLAIN, EMBEDDING_FIELDS },
    { "/embeddings", PLAIN, EMBEDDING_FIELDS },
    { "/embedding", PLAIN, "content!:x embd_normalize:i truncate:b" },
    { "/api/embed", PLAIN, "input!:x dimensions:i truncate:b keep_alive:x" },
    { "/api/embeddings", PLAIN, "prompt!:s keep_alive:x" },
    { "/v1/rerank", PLAIN, RERANK_FIELDS },
    { "/v2/rerank", PLAIN, RERANK_FIELDS },
    { "/rerank", PLAIN, RERANK_FIELDS },
    { "/v1/reranking", PLAIN, RERANK_FIELDS },
    { "/reranking", PLAIN, RERANK_FIELDS },
    { "/v1/score", PLAIN, SCORE_FIELDS },
    { "/score", PLAIN, SCORE_FIELDS },
    { "/completion", GENERATES, "prompt!:p n_probs:i grammar:s json_schema:o cache_prompt:b" },
    { "/completions", GENERATES, "prompt!:p n_probs:i grammar:s json_schema:o cache_prompt:b" },
    { "/infill", GENERATES, "input_prefix!:s input_suffix!:s input_extra:a prompt:s" },
    { "/tokenize", PLAIN, "content:s prompt:s messages:m add_special:b with_pieces:b" },
    { "/v1/tokenize", PLAIN, "content:s prompt:s messages:m add_special:b with_pieces:b" },
    { "/detokenize", PLAIN, "tokens!:t" },
    { "/v1/detokenize", PLAIN, "tokens!:t" },
    { "/apply-template", PLAIN, "messages!:m" },
    { 0 }
};

static json_t *ref(const char *name)
{
    return json_sprintf("#/components/schemas/%s", name);
}

static json_t *type_of(char type)
{
    static const struct { char letter; const char *name; } simple[] = {
        { 's', "string" }, { 'b', "boolean" }, { 'i', "integer" }, { 'n', "number" },
        { 'o', "object" }, { 'a', "array" },
    };
    static const struct { char letter; const char *name; } named[] = {
        { 'm', "Messages" }, { 'p', "Prompt" }, { 'c', "Content" }, { 't', "Tokens" },
    };

    for (size_t i = 0; i < sizeof simple / sizeof *simple; i++)
        if (simple[i].letter == type)
            return json_pack("{s:s}", "type", simple[i].name);
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        if (named[i].letter == type)
            return json_pack("{s:o}", "$ref", ref(named[i].name));
    return json_object();
}

/* Fields of `text` into properties and the list of those that are needed. */
static void add_fields(const char *text, json_t *properties, json_t *required)
{
    while (*text) {
        const size_t n = strcspn(text, ":");
        const bool needed = n > 0 && text[n - 1] == '!';
        char name[48];

        (void)snprintf(name, sizeof name, "%.*s", (int)(n - needed), text);
        (void)json_object_set_new(properties, name, type_of(text[n + 1]));
        if (needed)
            (void)json_array_append_new(required, json_string(name));
        text += n + 2;
        text += *text == ' ';
    }
}

static json_t *schema_of(const struct body *b)
{
    json_t *properties = json_object(), *required = json_array();

    if (b->kind == GENERATES)
        api_options_describe(properties);
    if (b->kind == NESTED) {
        json_t *options = json_object();

        api_options_describe(options);
        (void)json_object_set_new(options, "num_ctx", json_pack("{s:s}", "type", "integer"));
        (void)json_object_set_new(properties, "options",
                                  json_pack("{s:s,s:o}", "type", "object", "properties", options));
    }
    (void)json_object_set_new(properties, "model", json_pack("{s:s}", "type", "string"));
    add_fields(b->fields, properties, required);
    return json_pack("{s:s,s:o,s:o}", "type", "object", "properties", properties, "required",
                     required);
}

static json_t *body_of(const char *path)
{
    const struct body *b = bodies;

    while (b->path && strcmp(b->path, path) != 0)
        b++;
    return json_pack("{s:b,s:{s:{s:o}}}", "required", 1, "content", "application/json", "schema",
                     b->path ? schema_of(b) : json_pack("{s:s}", "type", "object"));
}

/* What others say of an error differs by the path; that there is one under "error" does not. */
static json_t *components(void)
{
    json_t *content = json_pack("{s:[{s:s},{s:s,s:{s:s}},{s:s}]}", "anyOf", "type", "string", "type",
                                "array", "items", "type", "object", "type", "null");
    json_t *message = json_pack("{s:s,s:[s],s:{s:{s:s},s:O}}", "type", "object", "required", "role",
                                "properties", "role", "type", "string", "content", content);

    return json_pack("{s:{s:{s:s,s:[s]},s:{s:s,s:o,s:i},s:{s:[{s:s},{s:o}]},s:o,"
                     "s:{s:s,s:{s:s,s:i}}},s:{s:{s:s,s:s}}}",
        "schemas",
        "Error", "type", "object", "required", "error",
        "Messages", "type", "array", "items", message, "minItems", 1,
        "Prompt", "anyOf", "type", "string", "$ref", ref("Tokens"),
        "Content", content,
        "Tokens", "type", "array", "items", "type", "integer", "minimum", 0,
        "securitySchemes", "key", "type", "http", "scheme", "bearer");
}

static json_t *responses(const struct api_route *r)
{
    json_t *ok = json_pack("{s:s}", "description", r->summary);
    json_t *bad = json_pack("{s:s,s:{s:{s:{s:o}}}}", "description", "An error, in the shape of the "
                            "path's API", "content", "application/json", "schema", "$ref",
                            ref("Error"));

    return json_pack("{s:o,s:o}", "200", ok, "default", bad);
}

static json_t *operation(const struct api_route *r, bool below)
{
    json_t *op = json_pack("{s:s,s:o}", "summary", r->summary, "responses", responses(r));

    if (below)
        (void)json_object_set_new(op, "parameters", json_pack("[{s:s,s:s,s:b,s:{s:s}}]", "name",
            "name", "in", "path", "required", 1, "schema", "type", "string"));
    if (r->wants_body)
        (void)json_object_set_new(op, "requestBody", body_of(r->path));
    if (r->scope != API_OPEN) {
        (void)json_object_set_new(op, "security", json_pack("[{s:[]},{}]", "key"));
        (void)json_object_set_new(op, "x-scope", json_string(api_scope_name(r->scope)));
    }
    return op;
}

static void openapi(struct api_call *c)
{
    json_t *paths = json_object();

    for (size_t t = 0; api_routes[t]; t++)
        for (const struct api_route *r = api_routes[t]; r->path; r++) {
            const size_t n = strlen(r->path);
            const bool below = n > 1 && r->path[n - 1] == '/';
            char path[256], method[16] = "";
            json_t *item;

            (void)snprintf(path, sizeof path, "%s%s", r->path, below ? "{name}" : "");
            for (size_t i = 0; i + 1 < sizeof method && r->method[i]; i++)
                method[i] = (char)(r->method[i] | 32);
            item = json_object_get(paths, path);
            if (!item) {
                (void)json_object_set_new(paths, path, json_object());
                item = json_object_get(paths, path);
            }
            (void)json_object_set_new(item, method, operation(r, below));
        }
    api_json(c, 200, json_pack("{s:s,s:{s:s,s:s},s:o,s:o}", "openapi", "3.1.0", "info", "title",
                               "Watt", "version", watt_version(), "paths", paths, "components",
                               components()));
}

const struct api_route api_openapi_routes[] = {
    { "GET", "/openapi.json", openapi, API_OPEN, false, "This document" },
    { 0 }
};
