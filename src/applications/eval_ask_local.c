/* eval_ask_local.c: questions to a model of this process, through models/service.h, which runs
 * many at once. Events come on the service's thread; each question's job collects its answers
 * there and is handed to the asking thread when its last event came. */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "applications/eval_ask_internal.h"
#include "base/json.h"
#include "base/mem.h"

struct answer {
    struct str text;
    uint32_t   n_tokens;
    bool       cut;
};

/* One question under way: one request, or for choices one per choice. */
struct job {
    struct local               *l;
    const struct eval_question *q;
    struct answer              *answers;    /* [n_samples] */
    double                     *nats;       /* [n_choices] */
    uint32_t                   *first;      /* [n_choices] index of the first token that is weighed */
    uint32_t                    n_open;     /* requests whose last event has not come; under mu */
    struct err                  e;          /* of the first that failed */
    struct job                 *next;       /* in the list of finished ones */
    struct weigh { struct job *j; uint32_t choice; } *weighs;
};

struct local {
    struct eval_asker        a;
    const struct text_model *m;
    struct service          *s;
    pthread_mutex_t          mu;
    pthread_cond_t           came;
    struct job              *finished;      /* under mu */
};

void eval_ask_defaults(struct eval_ask_opts *o)
{
    o->max_tokens = o->max_tokens ? o->max_tokens : 512;
    o->at_once = o->at_once ? o->at_once : 16;
}

static int nomem(struct err *e)
{
    return err_set(e, WATT_ENOMEM, "out of memory for answers");
}

/* ---- on the service's thread ---- */

static void ended(struct job *j, const struct service_event *ev)
{
    struct local *l = j->l;

    (void)pthread_mutex_lock(&l->mu);
    if (ev->finish == SERVICE_ERROR && j->e.code == 0)
        (void)err_set(&j->e, ev->error->code, "%s", ev->error->msg);
    if (ev->last && --j->n_open == 0) {
        j->next = l->finished;
        l->finished = j;
        (void)pthread_cond_signal(&l->came);
    }
    (void)pthread_mutex_unlock(&l->mu);
}

static void on_answer(void *ctx, const struct service_event *ev)
{
    struct job *j = ctx;
    struct answer *a = &j->answers[ev->choice];

    if (ev->kind == SERVICE_TOKEN || ev->kind == SERVICE_DONE)
        str_append(&a->text, ev->text.data, ev->text.len);
    if (ev->kind != SERVICE_DONE)
        return;
    a->n_tokens = ev->usage.n_answer;
    a->cut = ev->finish == SERVICE_LENGTH;
    ended(j, ev);
}

static void on_weighed(void *ctx, const struct service_event *ev)
{
    const struct weigh *w = ctx;

    if (ev->kind == SERVICE_PROMPT_TOKEN && ev->has_logprob && ev->index >= w->j->first[w->choice])
        w->j->nats[w->choice] -= (double)ev->logprob;
    if (ev->kind == SERVICE_DONE)
        ended(w->j, ev);
}

/* ---- asking ---- */

static int render(const struct local *l, const struct eval_item *it, const char *tail, struct tokens *ids, struct err *e)
{
    struct str text;
    json_t *vars;
    int rc;

    if (!it->messages) {
        str_init(&text, 0);
        str_puts(&text, it->prompt);
        str_puts(&text, tail);
        rc = str_ok(&text) ? tokenizer_encode(l->m->tok, NULL, text.data, text.len, TOKENIZE_ADD_SPECIAL, ids, e) : nomem(e);
        str_deinit(&text);
        return rc;
    }
    vars = json_pack("{s:O, s:b}", "messages", it->messages, "add_generation_prompt", 1);
    if (!vars || (it->tools && json_object_set(vars, "tools", (json_t *)it->tools) < 0)) {
        json_decref(vars);
        return nomem(e);
    }
    str_init(&text, 0);
    rc = text_model_render(l->m, vars, &text, e);
    str_puts(&text, tail);
    if (rc == 0)
        rc = str_ok(&text) ? text_model_encode_chat(l->m, text.data, text.len, ids, e) : nomem(e);
    str_deinit(&text);
    json_decref(vars);
    return rc;
}

/* A full queue is waited for: others of ours are in it. */
static int submit(struct local *l, struct service_request *r, struct err *e)
{
    struct service_ticket ticket;
    int rc;

    while ((rc = service_submit(l->s, r, &ticket, e)) == WATT_EBUSY) {
        const struct timespec pause = { 0, 5000000 };

        if (l->a.o.poll && l->a.o.poll(l->a.o.ctx))
            return err_set(e, WATT_ECANCEL, "stopped");
        (void)nanosleep(&pause, NULL);
    }
    return rc;
}

static int submit_question(struct local *l, struct job *j, struct err *e)
{
    struct service_request r;
    struct tokens ids = { 0 };
    int rc = render(l, j->q->item, "", &ids, e);

    service_request_init(&r);
    r.tokens = ids.ids;
    r.n_tokens = (uint32_t)ids.n;
    r.max_tokens = l->a.o.max_tokens;
    r.clip_max = true;
    r.n_choices = j->q->n_samples;
    r.sampling.temp = j->q->temperature;
    r.sampling.seed = l->a.o.seed + j->q->index * EVAL_MAX_SAMPLES;
    if (j->q->temperature > 0) {    /* the model's own distribution */
        r.sampling.top_k = 0;
        r.sampling.top_p = 1;
        r.sampling.min_p = 0;
    }
    r.on_event = on_answer;
    r.ctx = j;
    j->n_open = 1;
    if (rc == 0)
        rc = submit(l, &r, e);
    tokens_deinit(&ids);
    return rc;
}

/* Tokens that both begin with: the rest of the longer one is what a choice adds. */
static uint32_t common(const struct tokens *a, const struct tokens *b)
{
    uint32_t n = 0;

    while (n < a->n && n < b->n && a->ids[n] == b->ids[n])
        n++;
    return n;
}

/* One request per choice; what they share is computed anew for each, since probabilities of a
 * prompt are not in the cache. j->n_open is counted up as they go in. */
static int submit_choices(struct local *l, struct job *j, struct err *e)
{
    const struct eval_item *it = j->q->item;
    const uint32_t n = (uint32_t)json_array_size(it->choices);
    struct tokens bare = { 0 };
    int rc = render(l, it, "", &bare, e);

    j->n_open = n;
    for (uint32_t i = 0; i < n; i++) {
        struct tokens ids = { 0 };
        struct service_request r;

        if (rc == 0)
            rc = render(l, it, json_string_value(json_array_get(it->choices, i)), &ids, e);
        j->first[i] = common(&bare, &ids);
        j->weighs[i] = (struct weigh){ j, i };
        service_request_init(&r);
        r.tokens = ids.ids;
        r.n_tokens = (uint32_t)ids.n;
        r.prompt_only = r.prompt_logprobs = true;
        r.on_event = on_weighed;
        r.ctx = &j->weighs[i];
        if (rc == 0)
            rc = submit(l, &r, e);
        if (rc < 0) {   /* this one and those behind it will not end */
            (void)pthread_mutex_lock(&l->mu);
            j->n_open--;
            (void)pthread_mutex_unlock(&l->mu);
        }
        tokens_deinit(&ids);
    }
    tokens_deinit(&bare);
    return rc;
}

static void job_free(struct job *j)
{
    for (uint32_t i = 0; j && j->answers && i < j->q->n_samples; i++)
        str_deinit(&j->answers[i].text);
    if (j) {
        mem_free(j->answers);
        mem_free(j->nats);
        mem_free(j->first);
        mem_free(j->weighs);
        mem_free(j);
    }
}

static struct job *job_make(struct local *l, const struct eval_question *q)
{
    const size_t n = q->item->kind == EVAL_CHOICE ? json_array_size(q->item->choices) : 0;
    struct job *j = mem_calloc(1, sizeof *j);

    if (!j)
        return NULL;
    j->l = l;
    j->q = q;
    j->answers = mem_calloc(q->n_samples, sizeof *j->answers);
    j->nats = mem_calloc(n + 1, sizeof *j->nats);
    j->first = mem_calloc(n + 1, sizeof *j->first);
    j->weighs = mem_calloc(n + 1, sizeof *j->weighs);
    if (!j->answers || !j->nats || !j->first || !j->weighs) {
        job_free(j);
        return NULL;
    }
    for (uint32_t i = 0; i < q->n_samples; i++)
        str_init(&j->answers[i].text, 0);
    return j;
}

/* A finished job, or NULL after a while. */
static struct job *wait_job(struct local *l)
{
    struct timespec until;
    struct job *j;

    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 100000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    (void)pthread_mutex_lock(&l->mu);
    if (!l->finished)
        (void)pthread_cond_timedwait(&l->came, &l->mu, &until);
    j = l->finished;
    if (j)
        l->finished = j->next;
    (void)pthread_mutex_unlock(&l->mu);
    return j;
}

static int hand_over(const struct job *j, eval_result_fn *fn, void *ctx, struct err *e)
{
    const bool weighed = j->q->item->kind == EVAL_CHOICE;
    int rc = 0;

    if (j->e.code < 0)
        return err_set(e, j->e.code, "%s", j->e.msg);
    for (uint32_t i = 0; i < (weighed ? 1 : j->q->n_samples) && rc == 0; i++) {
        const struct answer *a = &j->answers[i];
        const struct eval_result r = { .question = j->q, .sample = i, .answer = { .text = sv_of(&a->text) },
                                       .nats = weighed ? j->nats : NULL, .n_tokens = a->n_tokens, .cut = a->cut };

        rc = str_ok(&a->text) ? fn(ctx, &r, e) : nomem(e);
    }
    return rc;
}

/* *j is NULL when nothing of it will end any more. */
static int start(struct local *l, const struct eval_question *q, struct job **out, struct err *e)
{
    struct job *j = job_make(l, q);
    bool over;
    int rc;

    *out = j;
    if (!j)
        return nomem(e);
    rc = q->item->kind == EVAL_CHOICE ? submit_choices(l, j, e) : submit_question(l, j, e);
    if (rc == 0)
        return 0;
    (void)pthread_mutex_lock(&l->mu);
    over = q->item->kind != EVAL_CHOICE || j->n_open == 0;
    (void)pthread_mutex_unlock(&l->mu);
    if (over) {
        job_free(j);
        *out = NULL;
    }
    return rc;
}

static int ask(struct eval_asker *a, const struct eval_question *q, size_t n, eval_result_fn *fn, void *ctx,
               struct err *e)
{
    struct local *l = (struct local *)a;
    size_t next = 0, open = 0;
    int rc = 0;

    while (open > 0 || (rc == 0 && next < n)) {
        struct job *j;

        while (rc == 0 && next < n && open < a->o.at_once) {
            rc = start(l, &q[next++], &j, e);
            open += j != NULL;
        }
        if (rc == 0 && a->o.poll && a->o.poll(a->o.ctx))
            rc = err_set(e, WATT_ECANCEL, "stopped");
        if (rc < 0 && l->s) {       /* last events of all that is under way come during this call */
            service_close(l->s);
            l->s = NULL;
        }
        j = open > 0 ? wait_job(l) : NULL;
        if (!j)
            continue;
        open--;
        if (rc == 0)
            rc = hand_over(j, fn, ctx, e);
        job_free(j);
    }
    return rc;
}

/* ---- life ---- */

static void close_local(struct eval_asker *a)
{
    struct local *l = (struct local *)a;

    service_close(l->s);
    (void)pthread_cond_destroy(&l->came);
    (void)pthread_mutex_destroy(&l->mu);
    mem_free(l);
}

int eval_ask_local(struct eval_asker **out, const struct text_model *m, const struct service_opts *so,
                   const struct eval_ask_opts *o, struct err *e)
{
    struct local *l;
    int rc;

    if (!m->tok)
        return err_set(e, WATT_ENOTSUP, "%s", m->tok_why);
    l = mem_calloc(1, sizeof *l);
    if (!l)
        return nomem(e);
    l->a = (struct eval_asker){ .o = *o, .ask = ask, .close = close_local };
    l->m = m;
    eval_ask_defaults(&l->a.o);
    (void)pthread_mutex_init(&l->mu, NULL);
    (void)pthread_cond_init(&l->came, NULL);
    rc = service_open(&l->s, m->model, m->tok, so, e);
    if (rc < 0) {
        close_local(&l->a);
        return rc;
    }
    *out = &l->a;
    return 0;
}

void eval_ask_close(struct eval_asker *a)
{
    if (a)
        a->close(a);
}

int eval_ask_all(struct eval_asker *a, const struct eval_question *q, size_t n, eval_result_fn *fn, void *ctx,
                 struct err *e)
{
    for (size_t i = 0; i < n; i++)
        CHECK(q[i].n_samples >= 1 && q[i].n_samples <= EVAL_MAX_SAMPLES);
    return a->ask(a, q, n, fn, ctx, e);
}
