/* sweep_service.c: a sweep's requests to the service in this process; see sweep_targets.h. */
#include "applications/energy_cost.h"
#include "applications/sweep_targets.h"

#include "base/mem.h"

struct target {
    struct service *svc;
    uint32_t n_vocab;
    int32_t *tokens;            /* [cap] of the request at hand */
    uint32_t cap;
    struct meter *meter;        /* told what is computed: an estimate needs it */
    struct energy_cost cost;
};

static void on_step(void *ctx, const struct service_share *shares, uint32_t n, uint64_t start_ns,
                    uint64_t end_ns)
{
    struct target *t = ctx;
    uint32_t rows = 0;
    double weights, all_ops = 0, all_bytes = 0;

    (void)start_ns;
    (void)end_ns;
    for (uint32_t i = 0; i < n; i++)
        rows += shares[i].n_prompt_rows + shares[i].n_answer_rows;
    weights = energy_cost_weights(&t->cost, rows);
    for (uint32_t i = 0; i < n; i++) {
        double ops, bytes;

        energy_cost_share(&t->cost, shares[i].n_prompt_rows + shares[i].n_answer_rows,
                          shares[i].n_past, rows, weights, &ops, &bytes);
        all_ops += ops;
        all_bytes += bytes;
    }
    meter_work(t->meter, all_ops, all_bytes);
}

static void on_event(void *ctx, const struct service_event *ev)
{
    struct sweep_slot *s = ctx;

    if (ev->kind == SERVICE_TOKEN)
        sweep_token(s);
    if (ev->kind == SERVICE_DONE)
        sweep_done(s, ev->usage.n_prompt, ev->usage.n_cached, ev->usage.n_answer, false,
                   ev->finish == SERVICE_ERROR ? ev->error->msg
                   : ev->finish == SERVICE_CANCELLED ? "cancelled" : NULL);
}

static int fill(struct target *t, const struct sweep_slot *s, struct err *e)
{
    const uint32_t n = sweep_n_prompt(s);

    if (n > t->cap) {
        int32_t *grown = mem_grow(t->tokens, n, sizeof *grown);

        if (!grown)
            return err_set(e, WATT_ENOMEM, "sweep: a prompt of %u tokens", n);
        t->tokens = grown;
        t->cap = n;
    }
    for (uint32_t i = 0; i < n; i++)
        t->tokens[i] = (int32_t)(sweep_prompt_token(s, i) % t->n_vocab);
    return 0;
}

static int start(void *ctx, struct sweep_slot *s, struct err *e)
{
    struct target *t = ctx;
    struct service_request r;
    struct service_ticket ticket;
    struct err why = { 0 };
    int rc = fill(t, s, e);

    if (rc < 0)
        return rc;
    service_request_init(&r);
    r.tokens = t->tokens;
    r.n_tokens = sweep_n_prompt(s);
    r.max_tokens = sweep_n_answer(s);
    r.ignore_end = true;
    r.sampling.temp = 0;
    r.on_event = on_event;
    r.ctx = s;
    if (service_submit(t->svc, &r, &ticket, &why) < 0)
        sweep_done(s, 0, 0, 0, ticket.refusal == SERVICE_REFUSED_QUEUE, why.msg);
    return 0;
}

static void stop(void *ctx)
{
    struct target *t = ctx;

    service_close(t->svc);      /* the last events come during this call */
    t->svc = NULL;
}

static void close_target(void *ctx)
{
    struct target *t = ctx;

    service_close(t->svc);
    mem_free(t->tokens);
    mem_free(t);
}

int sweep_service_open(struct sweep_target *out, const struct model *m,
                       const struct session_opts *so, uint32_t n_ctx, uint32_t max_seqs,
                       uint32_t max_rows, struct meter *meter, struct err *e)
{
    struct service_opts o = {
        .n_ctx = n_ctx, .max_seqs = max_seqs, .max_rows = max_rows,
        .max_queued = 2 * SWEEP_MAX_SLOTS, .max_wait_ns = UINT64_C(1) << 62, .session = *so,
    };
    struct target *t = mem_calloc(1, sizeof *t);
    int rc;

    if (!t)
        return err_set(e, WATT_ENOMEM, "sweep: target");
    t->n_vocab = model_facts(m)->n_vocab;
    t->meter = meter;
    if (meter) {
        energy_cost_init(&t->cost, m, NULL);
        o.on_step = on_step;
        o.on_step_ctx = t;
    }
    rc = service_open(&t->svc, m, NULL, &o, e);
    if (rc < 0) {
        mem_free(t);
        return rc;
    }
    *out = (struct sweep_target){ .name = "this process", .ctx = t, .start = start, .stop = stop,
                                  .close = close_target };
    return 0;
}
