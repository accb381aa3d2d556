/* eval_tasks.c: see eval_tasks.h. Every item is asked once greedily and, with --samples, as often
 * again at a temperature. */
#include "applications/eval_tasks.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "applications/eval_needle.h"
#include "applications/eval_tally.h"
#include "applications/progress.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

#define MAX_TEXT_BYTES ((size_t)1 << 30)
#define MAX_KEY_BYTES  4096u

struct work {
    const struct cli             *c;
    const struct eval_tasks_opts *o;
    struct machine_args           machine;
    struct text_model            *m;        /* NULL: behind an address */
    char                         *template_text, *key;
    struct eval_items             items;
    struct eval_tally            *tally;
    struct eval_asker            *asker;
    struct eval_question         *q;
    size_t                        n_q;
    struct file_new               answers;
    uint64_t                      n_done, n_all;
    struct progress               bar;
};

static int tick(void *ctx)
{
    (void)ctx;
    return cli_interrupted();
}

static int loading(void *bar, uint64_t done, uint64_t total)
{
    progress_update(bar, done, total);
    return cli_interrupted();
}

static void on_warning(void *ctx, const char *text)
{
    cli_note(((const struct work *)ctx)->c, "%s", text);
}

/* ---- opening ---- */

static int open_text_model(struct work *w, struct err *e)
{
    struct text_model_opts to = { .model = { .warn = on_warning, .ctx = w }, .no_session = true };
    size_t n;
    int rc = 0;

    if (w->o->template_file) {
        rc = file_read(w->o->template_file, TEMPLATE_SOURCE_MAX, &w->template_text, &n, e);
        to.template_source = w->template_text;
        to.template_name = w->o->template_file;
    }
    if (rc == 0)
        rc = text_model_open(&w->m, w->c->args[0], &to, e);
    if (rc == 0 && !w->m->tok)
        rc = err_set(e, WATT_ENOTSUP, "%s", w->m->tok_why);
    return rc;
}

/* A key is a secret: it comes from a file or the environment, never from the command line. */
static int read_key(struct work *w, struct err *e)
{
    const char *env = getenv("OPENAI_API_KEY");
    size_t n;
    int rc;

    if (!w->o->key_file) {
        w->key = env && env[0] ? mem_strdup(env) : NULL;
        return 0;
    }
    rc = file_read(w->o->key_file, MAX_KEY_BYTES, &w->key, &n, e);
    if (rc == 0)
        w->key[strcspn(w->key, "\r\n")] = '\0';
    return rc;
}

static int open_asker(struct work *w, struct err *e)
{
    const struct eval_ask_opts ao = { .max_tokens = (uint32_t)w->o->max_tokens, .at_once = (uint32_t)w->o->parallel,
                                      .seed = (uint64_t)w->o->seed, .poll = tick };
    struct service_opts so = { .n_ctx = (uint32_t)w->o->ctx, .max_seqs = (uint32_t)w->o->parallel };
    int rc;

    if (w->o->url)
        return eval_ask_url(&w->asker, w->o->url, w->c->args[0], w->key, &ao, e);
    rc = session_opts_exec(&so.session, w->o->exec, w->o->isa, e);
    if (rc == 0)
        rc = session_opts_machine(&so.session, &w->machine, e);
    if (rc < 0)
        return rc;
    session_opts_kv(&so.session, w->o->kv);
    so.session.progress = loading;
    so.session.ctx = &w->bar;
    progress_init(&w->bar, "preparing", "B");
    rc = eval_ask_local(&w->asker, w->m, &so, &ao, e);
    progress_finish(&w->bar);
    return rc;
}

/* ---- items ---- */

static int read_tasks(struct work *w, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; i < w->o->tasks.n && rc == 0; i++) {
        const size_t limit = w->o->limit ? w->items.n + (size_t)w->o->limit : 0;
        char *text = NULL;
        size_t n;

        rc = file_read(w->o->tasks.v[i], MAX_TEXT_BYTES, &text, &n, e);
        if (rc == 0)
            rc = eval_items_read(&w->items, w->o->tasks.v[i], text, n, limit, e);
        mem_free(text);
    }
    return rc;
}

static int read_needles(struct work *w, struct err *e)
{
    char *text = NULL;
    size_t n;
    int rc;

    if (w->o->needles.n == 0)
        return 0;
    rc = file_read(w->o->text, MAX_TEXT_BYTES, &text, &n, e);
    for (size_t i = 0; i < w->o->needles.n && rc == 0; i++) {
        char *end;
        const long length = strtol(w->o->needles.v[i], &end, 10);

        if (*end || length < 16 || length > 100000000)
            rc = err_set(e, WATT_EINVAL, "--needle %.40s: expected a number of tokens, 16 or more", w->o->needles.v[i]);
        else
            rc = eval_needle_add(&w->items, w->m ? w->m->tok : NULL, (struct sv){ text, n }, (uint32_t)length,
                                 (uint64_t)w->o->seed, e);
    }
    mem_free(text);
    return rc;
}

static int make_questions(struct work *w, struct err *e)
{
    w->q = mem_calloc(2 * w->items.n + 1, sizeof *w->q);
    if (!w->q)
        return err_set(e, WATT_ENOMEM, "out of memory for %zu questions", w->items.n);
    for (size_t i = 0; i < w->items.n; i++) {
        w->q[w->n_q++] = (struct eval_question){ &w->items.v[i], i, 1, 0 };
        w->n_all++;
        if (w->o->samples > 0 && w->items.v[i].kind != EVAL_CHOICE) {
            w->q[w->n_q++] = (struct eval_question){ &w->items.v[i], i, (uint32_t)w->o->samples,
                                                     (float)w->o->temperature };
            w->n_all += (uint64_t)w->o->samples;
        }
    }
    return eval_tally_open(&w->tally, &w->items, (uint32_t)w->o->samples, e);
}

/* ---- results ---- */

static int write_answer(struct work *w, const struct eval_result *r, bool right, struct err *e)
{
    struct str s;
    int rc;

    str_init(&s, 0);
    str_printf(&s, "{\"item\": %zu, \"task\": ", r->question->index);
    json_put_str(&s, sv_cstr(r->question->item->task));
    str_printf(&s, ", \"temperature\": %g, \"sample\": %" PRIu32 ", \"right\": %s, \"text\": ",
               (double)r->question->temperature, r->sample, right ? "true" : "false");
    json_put_str(&s, r->answer.text);
    str_puts(&s, "}\n");
    rc = str_ok(&s) ? file_new_write(&w->answers, s.data, s.len, e) : err_set(e, WATT_ENOMEM, "out of memory");
    str_deinit(&s);
    return rc;
}

static int on_result(void *ctx, const struct eval_result *r, struct err *e)
{
    struct work *w = ctx;
    struct eval_verdict v;

    progress_update(&w->bar, ++w->n_done, w->n_all);
    if (r->nats) {
        eval_tally_choice(w->tally, r->question->index, r->nats);
        return 0;
    }
    eval_judge(r->question->item, &r->answer, &v);
    eval_tally_answer(w->tally, r->question->index, r->question->temperature <= 0, r->sample, &v, r->n_tokens, r->cut);
    return w->o->answers ? write_answer(w, r, v.right, e) : 0;
}

static int run_all(struct work *w, struct err *e)
{
    int rc = w->o->url ? read_key(w, e) : open_text_model(w, e);

    if (rc == 0)
        rc = read_tasks(w, e);
    if (rc == 0)
        rc = read_needles(w, e);
    if (rc == 0 && w->items.n == 0)
        rc = err_set(e, WATT_EINVAL, "%s: no items", w->o->tasks.n ? w->o->tasks.v[0] : "--needle");
    if (rc == 0)
        rc = make_questions(w, e);
    if (rc == 0 && w->o->answers)
        rc = file_new_open(&w->answers, w->o->answers, e);
    if (rc == 0)
        rc = open_asker(w, e);
    if (rc < 0)
        return rc;
    progress_init(&w->bar, "asking", "answers");
    rc = eval_ask_all(w->asker, w->q, w->n_q, on_result, w, e);
    progress_finish(&w->bar);
    return rc == 0 && w->o->answers ? file_new_commit(&w->answers, e) : rc;
}

int eval_tasks(const struct cli *c, const struct eval_tasks_opts *o)
{
    struct work w = { .c = c, .o = o, .machine = *o->machine };
    const uint64_t begin = clock_mono_ns();
    struct err e = { 0 };
    int rc;

    cli_catch_interrupt();
    rc = run_all(&w, &e);
    if (rc == 0) {
        const struct eval_tally_head h = { c->args[0], o->url, (uint32_t)o->samples, o->temperature, (uint64_t)o->seed,
                                           (double)(clock_mono_ns() - begin) * 1e-9 };

        eval_tally_print(w.tally, &h, o->json ? EVAL_JSON : o->csv ? EVAL_CSV : EVAL_TABLE);
    }
    file_new_abort(&w.answers);
    eval_ask_close(w.asker);
    eval_tally_close(w.tally);
    text_model_close(w.m);
    eval_items_deinit(&w.items);
    mem_free(w.q);
    mem_free(w.key);
    mem_free(w.template_text);
    return rc < 0 ? cli_fail(c, &e) : CLI_OK;
}
