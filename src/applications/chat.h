/* chat.h: a conversation with a text model: its messages, what of them the model
 * has in its cache, and the next answer.
 *
 * Each turn renders the whole conversation with the model's template; what the
 * cache holds already is not run again. One owner thread. */
#ifndef APPLICATIONS_CHAT_H
#define APPLICATIONS_CHAT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "models/generate.h"
#include "models/sampler.h"
#include "models/text_model.h"

#define CHAT_MAX_FILE_BYTES ((size_t)64 << 20)

enum chat_think { CHAT_THINK_AUTO, CHAT_THINK_ON, CHAT_THINK_OFF };

struct chat_settings {
    struct sampler_options sampler;     /* its pointers must outlive the chat */
    uint32_t n_max;                     /* tokens of an answer; 0: until the context is full */
    const char *const *stops;
    size_t   n_stops;
    bool     ignore_end;
    enum chat_think think;              /* enable_thinking of the template; AUTO: not set */
    struct diffusion_opts diffusion;    /* read for diffusion language models alone */
};

/* Where an answer goes while it is made. All may be NULL. */
struct chat_view {
    /* The prompt as rendered, before it is run. */
    void (*on_prompt)(void *ctx, const char *text, size_t len);
    /* A step; not 0 ends the answer. */
    int  (*on_token)(void *ctx, const struct generated *g);
    void (*on_prefill)(void *ctx, uint32_t done, uint32_t total);
    bool (*cancelled)(void *ctx);
    void  *ctx;
};

struct chat_stats {
    uint32_t n_answers;
    uint64_t n_prompt, n_cached, n_generated;   /* tokens; cached ones were not run again */
    uint64_t prefill_ns, decode_ns;
    uint64_t n_decode;          /* tokens that decode_ns counts: all but each answer's first */
    uint64_t first_token_ns;    /* of the last answer */
    uint64_t n_steps;           /* of diffusion language models */
};

struct chat {
    struct text_model   *model;         /* borrowed */
    struct chat_settings set;           /* after a change call chat_apply */
    struct generator    *gen;
    struct sampler      *sampler;
    json_t              *messages;      /* array of {"role", "content", "reasoning_content"?} */
    struct tokens        held;          /* what the generator holds */
    struct chat_stats    total, last;
};

int  chat_open(struct chat *c, struct text_model *model, const struct chat_settings *set,
               struct err *e) MUST_CHECK;
void chat_close(struct chat *c);        /* a zeroed one is fine */
/* Makes a new sampler from c->set; on failure the old one stays. */
int  chat_apply(struct chat *c, struct err *e) MUST_CHECK;

/* text "" takes the system message away. */
int  chat_set_system(struct chat *c, const char *text, struct err *e) MUST_CHECK;
const char *chat_system(const struct chat *c);      /* NULL: none */
/* Appends a message; WATT_EINVAL when it isn't valid UTF-8. */
int  chat_add(struct chat *c, const char *role, const char *text, struct err *e) MUST_CHECK;
/* Adds the answer that chat_answer made, split by the caller. reasoning may be "". */
int  chat_add_answer(struct chat *c, const char *reasoning, const char *answer,
                     struct err *e) MUST_CHECK;
/* Takes the last message away if it has this role; false when it has not. */
bool chat_drop_last(struct chat *c, const char *role);
/* Forgets all but the system message. */
void chat_clear(struct chat *c);
/* Messages without the system message. */
size_t chat_length(const struct chat *c);

/* Runs the conversation and generates; adds no message. */
int  chat_answer(struct chat *c, const struct chat_view *view, struct generate_result *result,
                 struct err *e) MUST_CHECK;
/* Completes a text without a template, from an empty context. */
int  chat_complete(struct chat *c, const char *text, size_t len, const struct chat_view *view,
                   struct generate_result *result, struct err *e) MUST_CHECK;

/* A JSON object {"messages": […]}. Loading checks every message and leaves the
 * conversation as it was on failure. */
int  chat_save(const struct chat *c, const char *path, struct err *e) MUST_CHECK;
int  chat_load(struct chat *c, const char *path, struct err *e) MUST_CHECK;

#endif
