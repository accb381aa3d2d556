/* api_embed.c: vectors of texts and scores of documents, in the shapes of OpenAI, Ollama, llama-server,
 * Jina, Cohere, TEI and vLLM.
 *
 * A request's texts go to the service one by one, a few at a time, so that texts of many requests
 * share steps; a vector is the same bits alone and in company. The answer is written when the last
 * one is there. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "applications/api.h"
#include "base/clock.h"
#include "base/mem.h"
#include "models/embed.h"
#include "models/embed_pair.h"

#define MAX_INPUTS 10000u
#define IN_FLIGHT  32u          /* texts of one request at the service */

struct work;

struct item {
    struct work  *w;
    struct tokens ids;
    uint32_t      second;       /* where the document of a pair begins; 0: no pair */
    uint64_t      ticket;
};

/* How the answer is framed. */
struct frame {
    bool ranks;                 /* query and documents, or two texts */
    bool truncates;             /* longer texts lose their end unless the request forbids it */
    void (*write)(const struct work *w, struct str *out);
};

struct work {
    struct api_server      *s;
    struct http_exchange   *x;
    const struct api_model *m;
    const struct frame     *frame;
    struct api_key         *key;
    struct api_energy_use   energy;
    char        owner[API_KEY_LABEL_BYTES];
    char        request_id[64];
    struct service_times    times;      /* of the last text */
    struct api_trail       *trail;
    json_t                 *body;       /* whose texts return_documents shows */
    char        id[API_ID_BYTES];
    uint64_t    account, start_ns;
    int32_t     priority;
    struct item *items;                 /* [n] */
    size_t      n;
    uint32_t    width, n_dims;
    float      *rows;                   /* [n][width] */
    bool        base64, raw, truncate, documents;
    size_t      top;
    uint64_t    n_tokens;
    pthread_mutex_t mu;
    size_t      next, in_flight;        /* under mu; whoever submits counts as one in flight */
    bool        failed, gone;           /* under mu */
    struct err  e;
    struct service_ticket refused;      /* of e, when the service refused */
    bool        was_refused;
};

static void work_close(struct work *w)
{
    for (size_t i = 0; i < w->n; i++)
        tokens_deinit(&w->items[i].ids);
    mem_free(w->items);
    mem_free(w->rows);
    json_decref(w->body);
    api_model_release(w->m);
    pthread_mutex_destroy(&w->mu);
    mem_free(w);
}

/* ---- writing ---- */

static void put_number(struct str *s, double v)
{
    str_printf(s, isfinite(v) ? "%.9g" : "null", v);    /* nine digits bring every f32 back */
}

static void put_vector(struct str *s, const float *v, uint32_t n)
{
    str_putc(s, '[');
    for (uint32_t i = 0; i < n; i++) {
        if (i)
            str_putc(s, ',');
        put_number(s, (double)v[i]);
    }
    str_putc(s, ']');
}

/* Little-endian floats, as the OpenAI API has it. */
static void put_base64(struct str *s, const float *v, uint32_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const size_t size = (size_t)n * 4;

    str_putc(s, '"');
    for (size_t i = 0; i < size; i += 3) {
        uint32_t triple = 0;
        const size_t have = size - i < 3 ? size - i : 3;

        for (size_t k = 0; k < 3; k++) {
            uint32_t word = 0;

            if (k < have)
                memcpy(&word, &v[(i + k) / 4], 4);
            triple = triple << 8 | (word >> (8 * ((i + k) % 4)) & 0xff);
        }
        for (size_t k = 0; k < 4; k++)
            str_putc(s, k <= have ? digits[triple >> (18 - 6 * k) & 63] : '=');
    }
    str_putc(s, '"');
}

static const float *row_of(const struct work *w, size_t i)
{
    return w->rows + i * w->width;
}

static void put_name(const struct work *w, struct str *s)
{
    json_put_str(s, sv_cstr(w->m->name));
}

static void write_openai(const struct work *w, struct str *s)
{
    str_puts(s, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < w->n; i++) {
        str_printf(s, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":", i ? "," : "", i);
        (w->base64 ? put_base64 : put_vector)(s, row_of(w, i), w->n_dims);
        str_putc(s, '}');
    }
    str_puts(s, "],\"model\":");
    put_name(w, s);
    str_printf(s, ",\"usage\":{\"prompt_tokens\":%llu,\"total_tokens\":%llu}}",
               (unsigned long long)w->n_tokens, (unsigned long long)w->n_tokens);
}

static void write_llama(const struct work *w, struct str *s)
{
    str_putc(s, '[');
    for (size_t i = 0; i < w->n; i++) {
        str_printf(s, "%s{\"index\":%zu,\"embedding\":[", i ? "," : "", i);
        put_vector(s, row_of(w, i), w->n_dims);
        str_puts(s, "]}");
    }
    str_putc(s, ']');
}

static void write_ollama(const struct work *w, struct str *s)
{
    str_puts(s, "{\"model\":");
    put_name(w, s);
    str_puts(s, ",\"embeddings\":[");
    for (size_t i = 0; i < w->n; i++) {
        if (i)
            str_putc(s, ',');
        put_vector(s, row_of(w, i), w->n_dims);
    }
    str_printf(s, "],\"total_duration\":%llu,\"load_duration\":%llu,\"prompt_eval_count\":%llu}",
               (unsigned long long)(clock_mono_ns() - w->start_ns),
               (unsigned long long)api_model_load_ns(w->m), (unsigned long long)w->n_tokens);
}

static void write_ollama_one(const struct work *w, struct str *s)
{
    str_puts(s, "{\"embedding\":");
    put_vector(s, row_of(w, 0), w->n_dims);
    str_putc(s, '}');
}

/* A logit into 0..1, as most who ask for a relevance expect it, unless raw scores are wanted. */
static double score_of(const struct work *w, size_t i)
{
    const double logit = (double)row_of(w, i)[0];

    return w->raw ? logit : 1 / (1 + exp(-logit));
}

struct ranked { size_t index; double score; };

/* Best first, ties in the order they came. */
static int by_score(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static struct sv text_at(const json_t *list, size_t i)
{
    const json_t *v = json_array_get(list, i);

    if (json_is_object(v))
        v = json_object_get(v, "text");
    return (struct sv){ json_string_value(v) ? json_string_value(v) : "", json_string_length(v) };
}

static void write_ranked(const struct work *w, struct str *s, const struct ranked *r)
{
    const json_t *docs = json_object_get(w->body, "documents");
    const bool tei = docs == NULL;
    const size_t n = w->top && w->top < w->n ? w->top : w->n;

    if (tei)
        docs = json_object_get(w->body, "texts");
    if (!tei) {
        str_printf(s, "{\"id\":\"%s\",\"object\":\"list\",\"model\":", w->id);
        put_name(w, s);
        str_printf(s, ",\"usage\":{\"prompt_tokens\":%llu,\"total_tokens\":%llu},\"results\":",
                   (unsigned long long)w->n_tokens, (unsigned long long)w->n_tokens);
    }
    str_putc(s, '[');
    for (size_t i = 0; i < n; i++) {
        str_printf(s, "%s{\"index\":%zu,\"%s\":", i ? "," : "", r[i].index,
                   tei ? "score" : "relevance_score");
        put_number(s, r[i].score);
        if (w->documents) {
            str_puts(s, tei ? ",\"text\":" : ",\"document\":{\"text\":");
            json_put_str(s, text_at(docs, r[i].index));
            str_puts(s, tei ? "" : "}");
        }
        str_putc(s, '}');
    }
    str_puts(s, tei ? "]" : "]}");
}

static void write_rerank(const struct work *w, struct str *s)
{
    struct ranked *r = mem_array(w->n, sizeof *r);

    if (!r) {
        s->failed = true;
        return;
    }
    for (size_t i = 0; i < w->n; i++)
        r[i] = (struct ranked){ i, score_of(w, i) };
    qsort(r, w->n, sizeof *r, by_score);
    write_ranked(w, s, r);
    mem_free(r);
}

static void write_score(const struct work *w, struct str *s)
{
    str_printf(s, "{\"id\":\"%s\",\"object\":\"list\",\"model\":", w->id);
    put_name(w, s);
    str_puts(s, ",\"data\":[");
    for (size_t i = 0; i < w->n; i++) {
        str_printf(s, "%s{\"index\":%zu,\"object\":\"score\",\"score\":", i ? "," : "", i);
        put_number(s, score_of(w, i));
        str_putc(s, '}');
    }
    str_printf(s, "],\"usage\":{\"prompt_tokens\":%llu,\"total_tokens\":%llu}}",
               (unsigned long long)w->n_tokens, (unsigned long long)w->n_tokens);
}

static const struct frame openai_frame = { false, false, write_openai };
static const struct frame llama_frame = { false, false, write_llama };
static const struct frame ollama_frame = { false, true, write_ollama };
static const struct frame ollama_one_frame = { false, true, write_ollama_one };
static const struct frame rerank_frame = { true, true, write_rerank };
static const struct frame score_frame = { true, true, write_score };

/* ---- running ---- */

/* What it used, to whoever keeps account. */
static void account(struct work *w)
{
    const struct api_energy_report e = {
        .key = w->owner, .model = w->m->name, .request = w->request_id,
        .id = w->next > 0 ? w->items[0].ticket : 0,
        .usage = { .n_prompt = (uint32_t)w->n_tokens }, .n_prompt = (uint32_t)w->n_tokens,
        .times = w->times, .finish = w->failed ? SERVICE_ERROR : SERVICE_STOP,
    };
    char joules[32];

    api_energy_end(w->m->energy, &w->energy, &e);
    api_energy_text(&w->energy, joules);
    if (joules[0])
        http_add_header(w->x, "X-Energy-Joules", joules);
    if (joules[0])
        http_add_header(w->x, "X-Energy-Source", api_energy_source(w->m->energy));
}

static void finish(struct work *w)
{
    struct api_call c = { .s = w->s, .x = w->x };
    struct str out;

    (void)json_was_short();
    http_on_abort(w->x, NULL, NULL);
    account(w);
    if (w->was_refused) {
        api_refuse(&c, &w->refused, &w->e);
    } else if (w->failed) {
        api_fail(&c, "input", &w->e);
    } else {
        str_init(&out, 0);
        w->frame->write(w, &out);
        if (str_ok(&out))
            http_reply(w->x, 200, "application/json", out.data, out.len);
        else
            api_error(&c, 503, "server_error", "out_of_memory", NULL, "out of memory");
        str_deinit(&out);
    }
    if (w->trail)
        atomic_store(&w->trail->n_prompt, (unsigned)w->n_tokens);
    if (w->key)
        api_leave_seat(w->key, w->n_tokens);
    http_release(w->x);
    work_close(w);
}

static void on_event(void *ctx, const struct service_event *ev);

/* Under mu. */
static void submit_more(struct work *w)
{
    while (!w->failed && !w->gone && w->next < w->n && w->in_flight < IN_FLIGHT + 1) {
        struct item *i = &w->items[w->next];
        struct service_request q;
        struct service_ticket t = { 0 };

        service_request_init(&q);
        q.tokens = i->ids.ids;
        q.n_tokens = (uint32_t)i->ids.n;
        q.second_from = i->second;
        q.prompt_only = true;
        q.account = w->account;
        q.priority = w->priority;
        q.on_event = on_event;
        q.ctx = i;
        if (service_submit(w->m->svc, &q, &t, &w->e) < 0) {
            if (t.refusal == SERVICE_REFUSED_QUEUE && w->in_flight > 1)
                return;                 /* those under way bring the next */
            w->failed = w->was_refused = true;
            w->refused = t;
            return;
        }
        i->ticket = t.id;
        w->next++;
        w->in_flight++;
    }
}

/* Gives back one's part in it; the last one answers. */
static void leave(struct work *w)
{
    bool last;

    pthread_mutex_lock(&w->mu);
    w->in_flight--;
    submit_more(w);
    last = w->in_flight == 0;
    pthread_mutex_unlock(&w->mu);
    if (last)
        finish(w);
}

/* In double: the length of a long vector in f32 would cost a digit. */
static void take_row(struct work *w, size_t i, const float *row)
{
    float *to = w->rows + i * w->width;
    double sum = 0;

    memcpy(to, row, w->width * sizeof *to);
    if (w->frame->ranks || w->raw)
        return;
    for (uint32_t k = 0; k < w->n_dims; k++)
        sum += (double)to[k] * to[k];
    for (uint32_t k = 0; sum > 0 && k < w->n_dims; k++)
        to[k] = (float)(to[k] / sqrt(sum));
}

static void on_event(void *ctx, const struct service_event *ev)
{
    struct item *i = ctx;
    struct work *w = i->w;

    if (ev->kind == SERVICE_EMBEDDING)
        take_row(w, (size_t)(i - w->items), ev->row);
    if (ev->kind != SERVICE_DONE)
        return;
    w->times = ev->times;
    if (ev->finish == SERVICE_ERROR || ev->finish == SERVICE_CANCELLED) {
        pthread_mutex_lock(&w->mu);
        if (!w->failed && ev->error)
            w->e = *ev->error;
        else if (!w->failed)
            (void)err_set(&w->e, WATT_ECANCEL, "cancelled");
        w->failed = true;
        pthread_mutex_unlock(&w->mu);
    }
    leave(w);
}

/* The client is gone: nothing more of it is computed. */
static void on_abort(void *ctx)
{
    struct work *w = ctx;

    pthread_mutex_lock(&w->mu);
    w->gone = true;
    for (size_t i = 0; i < w->next; i++)
        service_cancel(w->m->svc, w->items[i].ticket, SERVICE_ALL);
    pthread_mutex_unlock(&w->mu);
}

/* Takes w over. */
static void start(struct api_call *c, struct work *w)
{
    http_hold(c->x);
    w->key = api_pass_seat(c);
    api_key_label(c->key, w->owner);
    api_energy_begin(w->m->energy, &w->energy);
    w->in_flight = 1;                   /* us, so that nobody answers before we are through */
    http_on_abort(c->x, on_abort, w);
    pthread_mutex_lock(&w->mu);
    submit_more(w);
    pthread_mutex_unlock(&w->mu);
    leave(w);
}

/* ---- the texts of a request ---- */

/* Cuts a text to the context; what ends it (sep, eos) stays at its end. */
static int fit(const struct work *w, struct tokens *ids, size_t index, struct err *e)
{
    const struct tokenizer *t = w->m->tm->tok;
    const uint32_t most = service_n_ctx(w->m->svc);
    int32_t last;

    if (ids->n == 0)
        return err_set(e, WATT_EINVAL, "request body: input: text %zu has no tokens", index);
    if (ids->n <= most)
        return 0;
    if (!w->truncate)
        return err_set(e, WATT_ELIMIT, "request body: input: text %zu has %zu tokens, the model reads "
                       "at most %u", index, ids->n, most);
    last = ids->ids[ids->n - 1];
    ids->n = most;
    if (last == tokenizer_role(t, TOKEN_SEP) || last == tokenizer_eos(t))
        ids->ids[most - 1] = last;
    return 0;
}

static int read_text(struct work *w, const struct json_place *at, struct item *i, struct err *e)
{
    struct sv s;
    int rc = json_read_str(at, &s, e);

    return rc < 0 ? rc : tokenizer_encode(w->m->tm->tok, NULL, s.data, s.len, TOKENIZE_ADD_SPECIAL,
                                          &i->ids, e);
}

static int read_ids(struct work *w, const struct json_place *at, struct item *i, struct err *e)
{
    size_t n;
    int rc = json_read_array(at, (size_t)1 << 20, &n, e);

    for (size_t k = 0; rc == 0 && k < n; k++) {
        const struct json_place p = json_item(at, k);
        uint64_t id = 0;

        rc = json_read_u64(&p, 0, tokenizer_n_vocab(w->m->tm->tok) - 1, &id, e);
        if (rc == 0 && !tokens_push(&i->ids, (int32_t)id))
            rc = err_set(e, WATT_ENOMEM, "input");
    }
    return rc;
}

static int open_items(struct work *w, size_t n, struct err *e)
{
    if (n == 0)
        return err_set(e, WATT_EINVAL, "request body: input: nothing to work on");
    w->items = mem_calloc(n, sizeof *w->items);
    w->rows = mem_array(n, (size_t)w->width * sizeof *w->rows);
    if (!w->items || !w->rows)
        return err_set(e, WATT_ENOMEM, "%zu texts", n);
    w->n = n;
    for (size_t i = 0; i < n; i++)
        w->items[i].w = w;
    return 0;
}

/* A text, token ids, or a list of either. */
static int read_input(struct work *w, const struct json_place *at, struct err *e)
{
    const bool list = json_is_array(at->value) && !json_is_number(json_array_get(at->value, 0));
    size_t n = 1;
    int rc = list ? json_read_array(at, MAX_INPUTS, &n, e) : 0;

    if (rc == 0)
        rc = open_items(w, n, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        struct json_place item = list ? json_item(at, i) : *at;

        rc = json_is_array(item.value) ? read_ids(w, &item, &w->items[i], e)
                                       : read_text(w, &item, &w->items[i], e);
        if (rc == 0)
            rc = fit(w, &w->items[i].ids, i, e);
    }
    return rc;
}

static int read_pair(struct work *w, size_t i, struct sv query, struct sv doc, struct err *e)
{
    const struct pair_request q = { .query = query, .max_tokens = service_n_ctx(w->m->svc),
                                    .truncate = w->truncate };
    size_t second = 0;
    int rc = pair_encode(w->m->pairs, w->m->tm->tok, NULL, &q, doc, &w->items[i].ids, &second, e);

    if (rc < 0)
        return err_prefix(e, "request body: documents: %zu", i);
    w->items[i].second = second < w->items[i].ids.n ? (uint32_t)second : 0;
    return 0;
}

/* A document is a string or an object with a text. */
static int read_document(const struct json_place *at, struct sv *s, struct err *e)
{
    struct json_place p = *at;
    int rc = 0;

    if (json_is_object(at->value))
        rc = json_need(at, "text", &p, e);
    return rc < 0 ? rc : json_read_str(&p, s, e);
}

static int read_rerank(struct work *w, const struct json_place *body, struct err *e)
{
    struct json_place query, docs;
    struct sv q, d;
    uint64_t top = 0;
    size_t n = 0;
    int rc = json_need(body, "query", &query, e);

    if (rc == 0)
        rc = json_read_str(&query, &q, e);
    if (rc == 0)
        rc = json_find(body, "documents", &docs, e);
    if (rc == 0 && !docs.value)
        rc = json_need(body, json_object_get(body->value, "texts") ? "texts" : "documents", &docs, e);
    if (rc == 0)
        rc = json_read_array(&docs, MAX_INPUTS, &n, e);
    if (rc == 0)
        rc = json_get_u64(body, "top_n", 0, 0, MAX_INPUTS, &top, e);
    if (rc == 0)
        rc = json_get_bool(body, "return_documents", false, &w->documents, e);
    if (rc == 0 && json_object_get(body->value, "texts"))
        rc = json_get_bool(body, "return_text", w->documents, &w->documents, e);
    if (rc == 0)
        rc = json_get_bool(body, "raw_scores", false, &w->raw, e);
    if (rc == 0)
        rc = open_items(w, n, e);
    w->top = (size_t)top;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place item = json_item(&docs, i);

        rc = read_document(&item, &d, e);
        if (rc == 0)
            rc = read_pair(w, i, q, d, e);
    }
    return rc;
}

/* text_1 is one text or as many as text_2 has. */
static int read_score(struct work *w, const struct json_place *body, struct err *e)
{
    struct json_place one, two;
    size_t n1 = 1, n2 = 1;
    int rc = json_need(body, "text_1", &one, e);

    if (rc == 0)
        rc = json_need(body, "text_2", &two, e);
    if (rc == 0 && json_is_array(one.value))
        rc = json_read_array(&one, MAX_INPUTS, &n1, e);
    if (rc == 0 && json_is_array(two.value))
        rc = json_read_array(&two, MAX_INPUTS, &n2, e);
    if (rc == 0 && n1 != 1 && n1 != n2)
        rc = json_refuse(&one, e, WATT_EINVAL, "%zu texts and %zu: one, or as many", n1, n2);
    if (rc == 0)
        rc = json_get_bool(body, "raw_scores", false, &w->raw, e);
    if (rc == 0)
        rc = open_items(w, n2, e);
    for (size_t i = 0; rc == 0 && i < n2; i++) {
        const struct json_place a = json_is_array(one.value) ? json_item(&one, n1 == 1 ? 0 : i) : one;
        const struct json_place b = json_is_array(two.value) ? json_item(&two, i) : two;
        struct sv s, t;

        rc = json_read_str(&a, &s, e);
        if (rc == 0)
            rc = json_read_str(&b, &t, e);
        if (rc == 0)
            rc = read_pair(w, i, s, t, e);
    }
    return rc;
}

/* ---- options ---- */

/* Cohere's and NIM's words for which end goes; ours is the one behind. */
static int read_side(const struct json_place *p, bool *truncate, struct err *e)
{
    const char *side = "";
    const int rc = json_read_cstr(p, &side, e);

    if (rc < 0)
        return rc;
    *truncate = strcasecmp(side, "END") == 0 || strcasecmp(side, "RIGHT") == 0;
    if (*truncate || strcasecmp(side, "NONE") == 0)
        return 0;
    if (strcasecmp(side, "START") == 0 || strcasecmp(side, "LEFT") == 0)
        return json_refuse(p, e, WATT_ENOTSUP, "only the end of a text can be cut, not its start");
    return json_refuse(p, e, WATT_EINVAL, "'%.40s' is none of true, false, \"END\" and \"NONE\"", side);
}

/* Ollama cuts unless told not to; TEI and llama-server say it by "truncate", vLLM by a number of
 * tokens, of which only -1, the model's own, is taken. */
static int read_truncate(struct work *w, const struct json_place *body, struct err *e)
{
    struct json_place p;
    int64_t n = -1;
    int rc = json_find(body, "truncate_prompt_tokens", &p, e);

    w->truncate = w->frame->truncates;
    if (rc == 0 && p.value) {
        rc = json_read_i64(&p, -1, -1, &n, e);
        w->truncate = true;
    }
    if (rc == 0)
        rc = json_find(body, "truncate", &p, e);
    if (rc == 0 && p.value)
        rc = json_is_string(p.value) ? read_side(&p, &w->truncate, e)
                                     : json_read_bool(&p, &w->truncate, e);
    if (rc == 0)
        rc = json_find(body, "truncation_direction", &p, e);        /* TEI's */
    return rc == 0 && p.value && w->truncate ? read_side(&p, &w->truncate, e) : rc;
}

static int read_dims(struct work *w, const struct json_place *body, struct err *e)
{
    uint64_t n = 0;
    const int rc = json_get_u64(body, "dimensions", 0, 1, w->width, &n, e);

    w->n_dims = n ? (uint32_t)n : w->width;
    return rc;
}

static int read_format(struct work *w, const struct json_place *body, struct err *e)
{
    struct json_place p;
    const char *v;
    int64_t norm = 2;
    int rc = json_get_cstr(body, "encoding_format", "float", &v, e);

    if (rc == 0 && strcmp(v, "base64") == 0)
        w->base64 = true;
    else if (rc == 0 && strcmp(v, "float") != 0)
        rc = err_set(e, WATT_EINVAL, "request body: encoding_format: '%.40s' is neither float nor "
                     "base64", v);
    if (rc == 0)
        rc = json_find(body, "embd_normalize", &p, e);
    if (rc == 0 && p.value)
        rc = json_read_i64(&p, -1, 2, &norm, e);
    if (rc == 0 && norm != 2 && norm != -1)
        rc = json_refuse(&p, e, WATT_ENOTSUP, "2 (of length 1) and -1 (as they are) are supported");
    w->raw = norm == -1;
    return rc;
}

/* ---- the surfaces ---- */

static struct work *work_open(struct api_call *c, const struct frame *frame)
{
    struct work *w = mem_calloc(1, sizeof *w);

    if (!w)
        return NULL;
    pthread_mutex_init(&w->mu, NULL);
    w->s = c->s;
    w->x = c->x;
    w->m = c->m;
    api_model_hold(w->m);
    w->frame = frame;
    w->trail = api_trail(c);
    memcpy(w->request_id, c->request_id, sizeof w->request_id);
    w->body = json_incref(c->body);
    w->account = api_key_account(c->key);
    w->priority = api_key_priority(c->key, 0);
    w->start_ns = clock_mono_ns();
    w->width = model_facts(c->m->tm->model)->n_out;
    w->n_dims = w->width;
    api_new_id(c->s, frame->ranks ? "rerank-" : "embd-", w->id);
    return w;
}

/* Embeddings say how alike two texts are, not how well one answers the other: no score is made of
 * them. */
static bool suits(struct api_call *c, const struct frame *frame)
{
    const bool ranks = c->m->pairs != NULL;

    if (ranks == frame->ranks)
        return true;
    api_error(c, 400, "invalid_request_error", "model_not_supported", "model",
              ranks ? "%s scores documents and gives no embeddings; see /v1/rerank"
                    : "%s gives embeddings: it has no head that scores a document, and the cosine of two "
                      "embeddings is no such score", c->m->name);
    return false;
}

static void run(struct api_call *c, const struct frame *frame, const char *key)
{
    struct work *w;
    struct json_place input;
    struct err e = { 0 };
    int rc;

    if (!api_model_is_ours(c) || !suits(c, frame))
        return;
    w = work_open(c, frame);
    if (!w) {
        api_error(c, 503, "server_error", "out_of_memory", NULL, "out of memory");
        return;
    }
    rc = read_truncate(w, &c->at, &e);
    if (rc == 0 && frame->ranks) {
        rc = (frame == &score_frame ? read_score : read_rerank)(w, &c->at, &e);
    } else if (rc == 0) {
        rc = read_dims(w, &c->at, &e);
        if (rc == 0)
            rc = read_format(w, &c->at, &e);
        if (rc == 0)
            rc = json_need(&c->at, key, &input, &e);
        if (rc == 0)
            rc = read_input(w, &input, &e);
    }
    if (rc < 0) {
        api_fail(c, key, &e);
        work_close(w);
        return;
    }
    for (size_t i = 0; i < w->n; i++)
        w->n_tokens += w->items[i].ids.n;
    start(c, w);
}

static void embeddings(struct api_call *c)
{
    run(c, &openai_frame, "input");
}

static void llama_embedding(struct api_call *c)
{
    run(c, &llama_frame, json_object_get(c->body, "content") ? "content" : "input");
}

/* Of Ollama: as its conversations have it. */
static bool kept(struct api_call *c)
{
    struct err e = { 0 };

    if (!c->m || api_read_keep_alive(c, &e) == 0)
        return true;
    api_fail(c, "keep_alive", &e);
    return false;
}

static void ollama_embed(struct api_call *c)
{
    if (kept(c))
        run(c, &ollama_frame, "input");
}

static void ollama_embeddings(struct api_call *c)
{
    if (!kept(c))
        return;
    if (json_is_array(json_object_get(c->body, "prompt")))
        api_error(c, 400, "invalid_request_error", NULL, "prompt", "prompt must be a string");
    else
        run(c, &ollama_one_frame, "prompt");
}

static void rerank(struct api_call *c)
{
    run(c, &rerank_frame, "documents");
}

static void score(struct api_call *c)
{
    run(c, &score_frame, "text_2");
}

const struct api_route api_embed_routes[] = {
    { "POST", "/v1/embeddings", embeddings, API_EMBED, true, "Vectors of texts" },
    { "POST", "/embeddings", embeddings, API_EMBED, true, "The same" },
    { "POST", "/embedding", llama_embedding, API_EMBED, true, "Vectors of texts, llama-server's API" },
    { "POST", "/api/embed", ollama_embed, API_EMBED, true, "Vectors of texts, Ollama's API" },
    { "POST", "/api/embeddings", ollama_embeddings, API_EMBED, true, "The vector of a text, Ollama's "
      "older API" },
    { "POST", "/v1/rerank", rerank, API_EMBED, true, "Documents in the order in which they answer a query" },
    { "POST", "/v2/rerank", rerank, API_EMBED, true, "The same" },
    { "POST", "/rerank", rerank, API_EMBED, true, "The same" },
    { "POST", "/v1/reranking", rerank, API_EMBED, true, "The same" },
    { "POST", "/reranking", rerank, API_EMBED, true, "The same" },
    { "POST", "/v1/score", score, API_EMBED, true, "How well one text answers another" },
    { "POST", "/score", score, API_EMBED, true, "The same" },
    { 0 }
};
