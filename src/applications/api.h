/* api.h: what the surfaces of the server share: a call, its errors, the options of a generation,
 * and the run of one.
 *
 * A surface is a file api_NAME.c with rows in the table of routes: it reads its own request into
 * struct api_options and a prompt, and frames what the run tells it through struct api_frame. */
#ifndef APPLICATIONS_API_H
#define APPLICATIONS_API_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "applications/api_energy.h"
#include "applications/api_grammar.h"
#include "applications/api_keys.h"
#include "applications/api_models.h"
#include "applications/think.h"
#include "base/err.h"
#include "base/json.h"
#include "base/metric.h"
#include "base/str.h"
#include "infrastructure/http.h"
#include "models/service.h"
#include "models/grammar/token_source.h"
#include "models/text_model.h"
#include "models/tool_parser.h"

#define API_MAX_STOPS   STOPS_MAX
#define API_MAX_BIAS    1024u
#define API_MAX_BAD     256u           /* bad words */
#define API_MAX_BAD_BYTES 256u          /* of one */
#define API_MAX_PROMPT_LOGPROBS 262144u /* of all prompts of a request */
#define API_MAX_CHOICES SERVICE_MAX_CHOICES     /* of a prompt */
#define API_MAX_PROMPTS 256u           /* of a request */
#define API_MAX_ANSWERS 1024u          /* of a request: choices of all prompts */
#define API_ID_BYTES    40u
#define API_NO_BUDGET   TOKEN_SOURCE_NO_BUDGET

struct api_model {              /* one that is loaded; immutable while it is */
    struct text_model   *tm;
    struct service      *svc;
    struct api_grammars *grammars;      /* its own lock */
    struct api_energy_model *energy;    /* whose joules; NULL: nobody asks */
    struct pair_style   *pairs;         /* how it reads a query and a document; NULL: it ranks none */
    struct model        *draft;         /* of the service; NULL: none */
    struct weights_pool *weights;       /* that the uses of its file share; the table's */
    char                 parts[320];    /* of its memory, as planned, for messages */
    const char          *name;          /* as clients call it */
    const char          *template_text; /* in place of the file's; NULL: the file's */
    bool                 reasoning_in_text;     /* what is reasoned is part of the answer */
    uint32_t             think_budget;  /* of requests that say none, or API_NO_BUDGET */
};

struct api_adapter {            /* clients name it as they do a model */
    const char *name, *model;           /* its own, and that of the model it belongs to */
    uint32_t    index;                  /* among the model's, from 1 */
};

struct api_server {             /* immutable while it serves, but for what says otherwise */
    struct api_models  *models;         /* its own lock */
    struct metrics     *metrics;
    struct api_energy  *energy;         /* its own locks; NULL: nobody asks */
    struct http_server *http;
    struct api_store   *responses;      /* kept for /v1/responses; its own lock */
    uint32_t            ping_ms;        /* silence after which a stream gets a comment; 0: never */
    const struct api_adapter *adapters; /* of all models */
    size_t              n_adapters;
    struct api_keys    *keys;           /* its own lock; empty: nobody is asked */
    const char         *cors;           /* allowed origin, NULL: none */
    int64_t             started;        /* seconds since 1970 */
    bool                access_log;
    struct store       *store;          /* whose models are served, and fetched into; NULL: none */
    const char         *hub;            /* that they come from; NULL: the usual one */
    atomic_uint         n_pulls;        /* that run */
    atomic_bool         loading;        /* the first model: only who looks around is answered */
    atomic_bool         draining;
    atomic_ulong        next_id;
};

struct api_call {
    struct api_server    *s;
    const struct api_route *route;
    const struct api_model *m;          /* whose request it is, held until the call ends; NULL: of none */
    uint32_t              adapter;      /* of the model, from 1; 0: none */
    float                 adapter_scale;        /* 0: as usual, 1 */
    const char           *adapter_name; /* of that */
    bool                  parked;       /* taken over: it goes on when the model is there */
    struct http_exchange *x;
    json_t               *body;         /* NULL without one */
    struct json_place     at;           /* of the body */
    char                  request_id[64];
    struct api_key       *key;          /* whose call it is; NULL without keys */
    struct str            continued;    /* what the assistant has said so far, for the answer to go on */
    bool                  continues;    /* there is such; the text may be empty */
    bool                  seated;       /* it counts among the key's running requests */
    void                 *user;         /* the surface's own; a run takes it over */
    void                (*drop_user)(void *user);
};

typedef void api_fn(struct api_call *c);

/* A route of the scopes infer and embed with a body needs the model that the body names: it is loaded
 * and in c->m before fn is called. Others need none. */
struct api_route {
    const char *method, *path;          /* a path ending in '/' takes everything below */
    api_fn     *fn;
    enum api_scope scope;               /* of the key */
    bool        wants_body;             /* a JSON object */
    const char *summary;                /* for the OpenAPI document */
};
extern const struct api_route *const api_routes[];      /* tables, each NULL-ended; then NULL */
extern const struct api_route api_anthropic_routes[], api_embed_routes[], api_llama_routes[],
    api_manage_routes[], api_metrics_routes[], api_ollama_routes[], api_openai_routes[],
    api_openapi_routes[], api_ops_routes[], api_responses_routes[];

/* The body of an error; code and param may be NULL. */
typedef json_t *api_error_fn(int status, const char *type, const char *code, const char *param,
                             const char *message);
/* Whose shape errors have, by what the path begins with; the first that fits, else OpenAI's. */
struct api_shape {
    const char   *prefix;
    api_error_fn *error;
};
extern const struct api_shape api_shapes[];             /* ended by a NULL prefix */
api_error_fn api_anthropic_error, api_ollama_error;

/* The server's door. */
void api_request(void *server, struct http_exchange *x);
void api_refused(void *server, struct http_exchange *x, int status, const char *why);
void api_ended(void *server, const struct http_exchange *x, int status, uint64_t n_bytes,
               uint64_t ns);

/* ---- who comes in ---- */

struct api_trail {              /* of an exchange, for the access log; lives as long as that */
    char        request_id[64], key[API_KEY_NAME_BYTES];
    atomic_uint n_prompt, n_cached, n_answer;
};
bool api_trail_open(struct api_call *c);
struct api_trail *api_trail(const struct api_call *c);  /* NULL: no memory for one */
/* Finds c->key; false: has answered 401 or 403. */
bool api_may_enter(struct api_call *c, enum api_scope scope);
/* Counts the call against its key's limits, with their headers; false: has answered 429. */
bool api_take_seat(struct api_call *c);
/* The seat goes over to what runs on behind the route's function, which gives it back by
 * api_leave_seat, with the tokens it used; NULL: there is none (and nothing to give back). */
struct api_key *api_pass_seat(struct api_call *c);
void api_leave_seat(struct api_key *key, uint64_t n_tokens);
void api_leave(struct api_call *c);     /* the end of the call itself */

/* ---- answers ---- */

/* Takes the reference over. */
void api_json(struct api_call *c, int status, json_t *body);
/* An error in the shape of the path's API; code and param may be NULL. */
void api_error(struct api_call *c, int status, const char *type, const char *code,
               const char *param, const char *fmt, ...) PRINTF_LIKE(6, 7);
json_t *api_error_body(const struct http_exchange *x, int status, const char *type,
                       const char *code, const char *param, const char *message);
/* A failure of ours or of the request, by its code: 400, 404, 409, 500, 503. */
void api_fail(struct api_call *c, const char *param, const struct err *e);
/* The service refused: 400, 429 with Retry-After, 503. */
void api_refuse(struct api_call *c, const struct service_ticket *t, const struct err *e);
/* keep_alive of Ollama's requests, onto c->m. */
int  api_read_keep_alive(struct api_call *c, struct err *e) MUST_CHECK;
/* "chatcmpl-" and so on. */
void api_new_id(struct api_server *s, const char *prefix, char out[API_ID_BYTES]);
/* Has the call its model (struct api_route)? Else it has answered. */
bool api_model_is_ours(struct api_call *c);
/* The name of the model that the body names, whether it is loaded or not; NULL: has answered 404, or
 * 403 when the key may not use it. Lives as long as the server. */
const char *api_model_named(struct api_call *c, const char *given);
/* Of the call's model, from 1; NULL: it has none of that number, or the key may not use it. */
const char *api_adapter_name(const struct api_call *c, uint32_t index);
/* Puts the model that the body, else the query, names (none: the first) into c->m. False: it has
 * answered, or the call was parked until the model is loaded; its route's function then runs again. */
bool api_find_model(struct api_call *c);
/* For a call of a route that needs no model: the one named (NULL: the first) if it is loaded, as c->m.
 * False: it isn't. */
bool api_model_if_loaded(struct api_call *c, const char *name);
/* Why a model could not be had. */
void api_model_fail(struct api_call *c, const struct err *e);
/* api_loader.resume */
void api_resume(struct api_call *c, int rc, const struct err *e);

/* ---- options of a generation ---- */

struct api_options {
    struct sampler_options sampling;
    uint32_t max_tokens, min_tokens, n;
    const char *stops[API_MAX_STOPS];
    size_t   n_stops;
    int32_t  stop_ids[API_MAX_STOPS];
    size_t   n_stop_ids;
    struct logit_bias bias[API_MAX_BIAS];
    bool     stream, include_usage, include_stop, ignore_eos, special, logprobs, echo, no_cache;
    bool     continues;                 /* the answer goes on the prompt's text */
    bool     progress, timings_each;    /* llama-server's return_progress, timings_per_token */
    bool     token_ids, usage_each;     /* vLLM's return_token_ids, continuous_usage_stats */
    bool     tokens_as_ids;             /* and return_tokens_as_token_ids */
    bool     prompt_logprobs;           /* vLLM's, with */
    uint32_t n_prompt_top;              /* so many alternatives */
    bool     prompt_only;               /* no answer was asked for: "max_tokens": 0 */
    const char *breakers[SAMPLER_MAX_BREAKERS];     /* of sampling */
    uint64_t *allowed;                  /* a bit per token that may come; NULL: all may */
    struct tokens bad_ids;              /* bad words, end to end, and where each ends: */
    uint32_t bad_ends[2 * API_MAX_BAD];
    size_t   n_bad;
    uint32_t n_top;
    int32_t  priority;
    struct sv salt;
    enum service_speculate speculate;
    uint32_t think_budget;              /* most tokens of reasoning, or API_NO_BUDGET */
    bool     reasoning_in_text;         /* reasoning is part of the answer */
    bool     no_reasoning;              /* it is not told */
};

/* Reads the fields that all surfaces have in common, under any of their names. On a failure it
 * has answered. `defaults` are the surface's. */
bool api_read_options(struct api_call *c, struct api_options *o);
void api_options_init(struct api_options *o);
/* Of those the ones that name tokens (api_tokens.c). */
int  api_read_tokens(struct api_call *c, struct api_options *o, struct err *e) MUST_CHECK;
/* JSON schemas of the fields, under all their names, into an object of properties. */
void api_options_describe(json_t *properties);

/* Into q what diffusion_* fields say. False: has answered 400, since the model does not write by
 * diffusion or since it does and can't honour another field. */
bool api_read_diffusion(struct api_call *c, const struct api_options *o, struct service_request *q);

/* ---- a run ---- */

struct api_run;

struct api_toolcall {           /* that the model made */
    char       *id, *name;
    struct str  args;           /* JSON; as far as it was written */
    bool        complete;       /* args is a whole object */
};

struct api_part {               /* one prompt of a run, with its choices */
    struct api_run *run;
    uint32_t     first, n_prompt;       /* its first choice; tokens */
    json_t      *ids;                   /* its tokens, for who wants them back; NULL */
    json_t      *logprobs;              /* of its tokens, as vLLM tells them; NULL: nobody asks */
    uint64_t     began_ns;              /* its turn, where progress is told; else 0 */
    struct str   prompt;                /* as text: echo, and whether it opens reasoning */
    atomic_ulong ticket;                /* of the service; 0 until accepted */
    struct api_energy_use energy;
};

struct api_choice {
    struct api_run *run;
    struct tool_parser *parser;         /* of the answer's calls, NULL: they are not taken out */
    struct api_toolcall *calls;         /* [n_calls] */
    uint32_t     n_calls, cap_calls;
    struct think think;
    struct reasoning track;             /* its tokens */
    struct str   reasoning, answer;     /* whole, also when streamed; without calls */
    struct str   unparsed;              /* of the answer, for the parser */
    json_t      *logprobs;              /* list of the surface's entries, NULL: none wanted */
    enum service_finish finish;
    int32_t      stop_index;            /* of the run's stop strings, or -1 */
    json_t      *ids;                   /* of the tokens so far, when the frame wants them */
    bool         done, begun;
    uint32_t     block, n_blocks, n_shown;      /* the surface's own */
    uint32_t     n_reasoning;           /* tokens */
    struct service_usage usage;         /* whole once done; with timings_each from the first token on */
    struct service_times times;
};

struct api_frame {
    bool split;                         /* tell reasoning from the answer */
    bool ids;                           /* collect the ids of tokens */
    /* A piece of a streamed choice; either may be empty. */
    void (*delta)(struct api_run *r, uint32_t choice, struct sv reasoning, struct sv answer);
    /* Calls of a streamed choice, in turn: its name, pieces of its arguments, its end. NULL: the
     * surface waits for the end. */
    void (*call_begin)(struct api_run *r, uint32_t choice, uint32_t call);
    void (*call_piece)(struct api_run *r, uint32_t choice, uint32_t call, struct sv json);
    void (*call_end)(struct api_run *r, uint32_t choice, uint32_t call);
    const char *call_id;                /* what ids of calls begin with */
    void (*choice_done)(struct api_run *r, uint32_t choice);    /* streamed */
    void (*stream_done)(struct api_run *r);                     /* the stream's last words */
    void (*stream_failed)(struct api_run *r);   /* in their place; NULL: an error of the path's API */
    json_t *(*whole)(struct api_run *r);                        /* the answer, not streamed */
    json_t *(*logprob)(struct api_run *r, const struct service_event *ev);
    bool prompt_logprobs;               /* it tells those of the prompt */
    /* Streamed, when the prompt's turn comes and after each of its steps; NULL: nobody asks. */
    void (*progress)(struct api_run *r, const struct service_event *ev);
    bool progress_if_asked;             /* only with return_progress */
    const char *stream_type;
    bool typed;                         /* every event is named by its "type" */
};

struct api_run {
    struct api_server    *s;
    const struct api_model *m;
    const char *model;                  /* as answers name it: the model, or its adapter */
    struct http_exchange *x;
    const struct api_frame *frame;
    char        id[API_ID_BYTES];
    char        request_id[64];
    int64_t     created;
    bool        stream, include_usage, logprobs, failed, reasoning_in_text, no_reasoning;
    bool        progress, timings_each, usage_each, token_ids, tokens_as_ids;
    bool        begun;                  /* the stream */
    uint32_t    n, n_each, n_parts;     /* choices of all prompts, and of each; prompts */
    uint32_t    n_top, n_prompt_top, n_prompt;  /* n_prompt: tokens of all prompts */
    json_t     *stops;                  /* list of strings */
    bool        echo;
    atomic_uint refs;
    atomic_bool over;
    atomic_uint n_open;                 /* prompts that are not over */
    atomic_bool refused;                /* the service took some of the prompts only; why: */
    struct service_ticket refusal;
    struct err  refusal_error;
    struct err  error;                  /* the first failure of a choice */
    struct api_energy_use energy;       /* of all prompts, whole once all choices are over */
    char        owner[API_KEY_LABEL_BYTES];     /* the key, as the ledger has it */
    struct api_key *key;                /* whose seat it has, or NULL */
    struct api_trail *trail;            /* the exchange's, or NULL */
    void       *user;                   /* the surface's own, taken over from the call */
    void      (*drop_user)(void *user);
    struct api_part   *parts;           /* [n_parts] */
    struct api_choice *choices;         /* [n], those of a prompt side by side */
};
/* The prompt that a choice answers. */
const struct api_part *api_part_of(const struct api_run *r, uint32_t choice);

struct api_text_ids {           /* a prompt */
    struct tokens ids;
    struct str    text;                 /* the same as text */
};

struct api_ask {                /* what a request wants: filled by its surface */
    struct api_options o;
    struct tokens      ids;             /* the prompt */
    struct str         text;            /* the same as text */
    struct api_text_ids *more;          /* [n_more], prompts behind the first */
    size_t             n_more;
};
/* NULL: the call has no model, or there is no memory; has answered. */
struct api_ask *api_ask_open(struct api_call *c);
void api_ask_close(struct api_ask *a);
/* Runs it. Answers, now or later, whatever happens. */
void api_generate(struct api_call *c, const struct api_ask *a, const struct api_frame *frame,
                  const char *id_prefix);
/* Takes calls out of the answers of a run that was asked with tools (api_calls.c). */
int  api_calls_open(struct api_run *r, struct api_choice *x, const json_t *tools, struct err *e)
    MUST_CHECK;
void api_calls_deinit(struct api_choice *x);
/* No memory for a piece of the answer: the run fails, lest the piece be missed by nobody. */
void api_run_short(struct api_run *r);
/* Did the answer end with calls, to be answered by results? */
bool api_has_calls(const struct api_choice *x);
/* The arguments as an object; {} for a call that is not complete. */
json_t *api_call_arguments(const struct api_toolcall *call);
/* Writes one event of a stream: "data: " and JSON, or a line of JSON when the stream's type is no
 * text/event-stream; takes the reference. */
void api_event(struct api_run *r, json_t *j);
struct service_usage api_usage(const struct api_run *r);        /* of all choices */
json_t *api_openai_usage(const struct api_run *r);
/* llama-server's: speeds of a choice; how much of a prompt is in. */
json_t *api_timings(const struct api_run *r, uint32_t choice);
json_t *api_prompt_progress(const struct api_run *r, const struct service_event *ev);
/* {"token", "id", "logprob", "bytes", "top_logprobs"}. */
json_t *api_openai_logprob(struct api_run *r, const struct service_event *ev);
/* Such entries in the shape of completions: parallel lists. *offset: characters in front of the first
 * token, then of the next. */
/* {"ID": {"logprob", "rank", "decoded_token"}, ...} of a token of a prompt and the most probable ones in
 * its place; null for the first. */
json_t *api_prompt_logprob(struct api_run *r, const struct service_event *ev);
json_t *api_text_logprobs(const json_t *entries, uint32_t *offset);
json_t *api_text(struct sv s);          /* bytes that are no UTF-8 become U+FFFD */
json_t *api_str(const struct str *s);   /* the same; NULL, and json_short, of one that isn't whole */

#endif
