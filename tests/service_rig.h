/* service_rig.h: requests to a service and what came of them. Include after cmocka.h. */
#ifndef TESTS_SERVICE_RIG_H
#define TESTS_SERVICE_RIG_H

#include <pthread.h>
#include <string.h>

#include "base/mem.h"
#include "models/service.h"

enum { MAX_ANSWER = 96, MAX_CHOICES_HERE = 8 };

/* What came of one request. */
struct got {
    pthread_mutex_t mu;
    pthread_cond_t  cond;
    bool     over;
    int32_t  ids[MAX_CHOICES_HERE][MAX_ANSWER];
    float    logprob[MAX_CHOICES_HERE][MAX_ANSWER];
    uint32_t n[MAX_CHOICES_HERE];
    char     text[4096];
    size_t   len;
    enum service_finish finish[MAX_CHOICES_HERE];
    struct service_usage usage[MAX_CHOICES_HERE];
    uint32_t n_prompt_events, cancel_after;
    struct service *svc;
    struct err error;
    int32_t  stop_index;
};

static inline void on_event(void *ctx, const struct service_event *ev)
{
    struct got *g = ctx;

    if (ev->kind == SERVICE_PROMPT_TOKEN)
        g->n_prompt_events++;
    if (ev->kind == SERVICE_TOKEN) {
        assert_true(g->n[ev->choice] < MAX_ANSWER);
        g->logprob[ev->choice][g->n[ev->choice]] = ev->logprob;
        g->ids[ev->choice][g->n[ev->choice]++] = ev->id;
        if (g->cancel_after && g->n[ev->choice] == g->cancel_after)
            service_cancel(g->svc, ev->request, SERVICE_ALL);
    }
    if (ev->text.len > 0 && ev->choice == 0 && g->len + ev->text.len < sizeof g->text) {
        memcpy(g->text + g->len, ev->text.data, ev->text.len);
        g->len += ev->text.len;
        g->text[g->len] = '\0';
    }
    if (ev->kind != SERVICE_DONE)
        return;
    g->finish[ev->choice] = ev->finish;
    g->usage[ev->choice] = ev->usage;
    g->stop_index = ev->stop_index;
    if (ev->error)
        g->error = *ev->error;
    if (ev->last) {
        (void)pthread_mutex_lock(&g->mu);
        g->over = true;
        (void)pthread_cond_signal(&g->cond);
        (void)pthread_mutex_unlock(&g->mu);
    }
}

static inline void got_init(struct got *g)
{
    memset(g, 0, sizeof *g);
    (void)pthread_mutex_init(&g->mu, NULL);
    (void)pthread_cond_init(&g->cond, NULL);
}

static inline void got_wait(struct got *g)
{
    (void)pthread_mutex_lock(&g->mu);
    while (!g->over)
        (void)pthread_cond_wait(&g->cond, &g->mu);
    (void)pthread_mutex_unlock(&g->mu);
}

static inline uint64_t submit(struct service *s, struct service_request *r, struct got *g)
{
    struct service_ticket t;
    struct err e = { 0 };

    got_init(g);
    g->svc = s;
    r->on_event = on_event;
    r->ctx = g;
    if (service_submit(s, r, &t, &e) < 0)
        fail_msg("%s", e.msg);
    return t.id;
}

static inline struct service *open_service(const struct model *m, const struct tokenizer *tok,
                                    struct service_opts o)
{
    struct service *s = NULL;
    struct err e = { 0 };

    if (o.session.n_threads == 0)
        o.session.n_threads = 1;
    if (service_open(&s, m, tok, &o, &e) < 0)
        fail_msg("%s", e.msg);
    return s;
}

#endif
