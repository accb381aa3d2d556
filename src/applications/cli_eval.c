/* cli_eval.c: `watt eval`: how well a model predicts a text: perplexity, nats and bits per token,
 * character and byte, with the spread between blocks of the text. Questions with checkable answers
 * (--tasks, --needle) are eval_tasks.c's. */
#include <inttypes.h>
#include <math.h>
#include <stddef.h>

#include "applications/eval_ask.h"
#include "applications/eval_tasks.h"
#include "applications/model_args.h"
#include "applications/progress.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "models/perplexity.h"
#include "models/tokenizer.h"

#define MAX_TEXT_BYTES ((size_t)4 << 30)
#define MAX_CTX        (1u << 24)
#define LOGITS_BYTES   ((uint64_t)64 << 20)     /* of one step, so that rows stay few */
#define Z_95           1.959963985              /* of a normal distribution */

struct eval_opts {
    const char *text, *isa;
    int64_t ctx, stride, limit;
    struct machine_args machine;
    struct eval_tasks_opts tasks;
    int exec, kv;
    bool json;
};

static const struct eval_opts defaults = {
    .tasks = { .temperature = 0.8, .max_tokens = 512, .parallel = 16 },
};

static const struct cli_opt options[] = {
    { "text", 'f', CLI_FILE, offsetof(struct eval_opts, text), "FILE",
      "the text to predict; - is standard input", 0, 0 },
    { "ctx", 'c', CLI_INT, offsetof(struct eval_opts, ctx), "N",
      "tokens of one window (default: as trained, at most 2048; the whole text for models whose state "
      "does not grow)", 2, MAX_CTX },
    { "stride", 's', CLI_INT, offsetof(struct eval_opts, stride), "N",
      "tokens from one window's start to the next (default: half a window)", 1, MAX_CTX },
    { "limit", 'l', CLI_INT, offsetof(struct eval_opts, limit), "N",
      "only the text's first N tokens, or the first N items of each file (default: all)", 1, 4e9 },
    { "json", 0, CLI_FLAG, offsetof(struct eval_opts, json), NULL, "one JSON object", 0, 0 },
    { "tasks", 'q', CLI_LIST, offsetof(struct eval_opts, tasks.tasks), "FILE",
      "ask the questions of this JSONL file and check the answers; again for more files", 0, 0 },
    { "needle", 0, CLI_LIST, offsetof(struct eval_opts, tasks.needles), "N",
      "hide sentences in N tokens of --text and ask for them; again for more lengths", 0, 0 },
    { "samples", 0, CLI_INT, offsetof(struct eval_opts, tasks.samples), "N",
      "beside the greedy answer draw N more, and take their majority (default 0)", 0, EVAL_MAX_SAMPLES },
    { "temperature", 0, CLI_REAL, offsetof(struct eval_opts, tasks.temperature), "T",
      "of those samples (default 0.8)", 0.01, 10 },
    { "seed", 0, CLI_INT, offsetof(struct eval_opts, tasks.seed), "N",
      "of samples and needles (default 0)", 0, 1e15 },
    { "max-tokens", 0, CLI_INT, offsetof(struct eval_opts, tasks.max_tokens), "N",
      "of one answer (default 512)", 1, 1 << 20 },
    { "parallel", 0, CLI_INT, offsetof(struct eval_opts, tasks.parallel), "N",
      "questions under way at once (default 16)", 1, EVAL_MAX_AT_ONCE },
    { "url", 0, CLI_TEXT, offsetof(struct eval_opts, tasks.url), "URL",
      "ask a server that speaks OpenAI's API, such as http://127.0.0.1:8080/v1; MODEL is its name there", 0, 0 },
    { "key-file", 0, CLI_FILE, offsetof(struct eval_opts, tasks.key_file), "FILE",
      "that server's key (default: $OPENAI_API_KEY)", 0, 0 },
    { "answers", 0, CLI_FILE, offsetof(struct eval_opts, tasks.answers), "FILE",
      "write every answer and its verdict there, as JSONL", 0, 0 },
    { "template", 0, CLI_FILE, offsetof(struct eval_opts, tasks.template_file), "FILE",
      "chat template in place of the model's", 0, 0 },
    { "csv", 0, CLI_FLAG, offsetof(struct eval_opts, tasks.csv), NULL, "results of tasks as CSV", 0, 0 },
    MACHINE_OPTIONS(struct eval_opts, machine),
    { "exec", 0, CLI_CHOICE, offsetof(struct eval_opts, exec), EXEC_CHOICES,
      "executor: fast kernels, or the reference in double precision (default cpu)", 0, 0 },
    { "isa", 0, CLI_TEXT, offsetof(struct eval_opts, isa), "NAME",
      "no faster kernels than these: ref, avx2, avx512, … (default all)", 0, 0 },
    { "kv", 0, CLI_CHOICE, offsetof(struct eval_opts, kv), KV_CHOICES,
      "type of the cache (default auto: f32 where most weights are F32, else f16)", 0, 0 },
    { NULL, 0, CLI_FLAG, 0, NULL, NULL, 0, 0 },
};

struct work {
    const struct eval_opts *o;
    struct machine_args machine;
    struct model     *m;
    struct tokenizer *tok;
    struct session   *s;
    char             *text;
    size_t            n_bytes, n_chars, n_unknown;  /* scored; unknown: bytes that no token has */
    struct tokens     ids;
    struct perplexity_opts p;
    struct perplexity result;
    double            seconds;
    struct progress   bar;
};

static int prepare(void *ctx, uint64_t done, uint64_t total)
{
    progress_update(ctx, done, total);
    return cli_interrupted();
}

static size_t characters(const char *s, size_t n)
{
    size_t count = 0;

    for (size_t i = 0; i < n; count++) {
        uint32_t cp;

        i += utf8_decode(s + i, n - i, &cp, NULL);
    }
    return count;
}

/* Text of the first ids, n of them. */
static size_t bytes_of(const struct work *w, size_t n)
{
    size_t bytes = 0;

    for (size_t i = 0; i < n; i++)
        bytes += tokenizer_piece(w->tok, w->ids.ids[i]).len;
    return bytes;
}

static int read_text(struct work *w, struct err *e)
{
    int rc = file_read(w->o->text, MAX_TEXT_BYTES, &w->text, &w->n_bytes, e);

    if (rc == 0)
        rc = tokenizer_open(&w->tok, model_gguf(w->m), e);
    if (rc == 0)
        rc = tokenizer_encode(w->tok, NULL, w->text, w->n_bytes, 0, &w->ids, e);
    if (rc < 0)
        return rc;
    if (w->o->limit && (size_t)w->o->limit < w->ids.n) {
        const size_t kept = bytes_of(w, (size_t)w->o->limit);

        w->ids.n = (size_t)w->o->limit;
        w->n_bytes = kept < w->n_bytes ? kept : w->n_bytes;
    }
    if (w->ids.n < 2)
        return err_set(e, WATT_EINVAL, "%s: %zu tokens, at least 2 are needed", w->o->text, w->ids.n);
    w->p.bos = tokenizer_add_bos(w->tok) ? tokenizer_bos(w->tok) : -1;
    return 0;
}

/* No page and no slot grows with the text. */
static bool state_is_constant(const struct model *m)
{
    const struct program *p = model_program(m);

    for (sid s = 1; s <= prog_n_states(p); s++)
        if (prog_state_at(p, s)->kind == STATE_KV)
            return false;
    return prog_n_states(p) > 0;
}

static void choose_windows(struct work *w)
{
    const struct model_facts *f = model_facts(w->m);
    const size_t all = w->ids.n + (w->p.bos >= 0 ? 1 : 0);
    uint32_t ctx = (uint32_t)w->o->ctx;

    if (ctx == 0 && state_is_constant(w->m))
        ctx = all < MAX_CTX ? (uint32_t)all : MAX_CTX;
    else if (ctx == 0)
        ctx = f->n_ctx_train && f->n_ctx_train < 2048 ? f->n_ctx_train : 2048;
    if (ctx > all)
        ctx = (uint32_t)all;
    w->p.ctx = ctx < 2 ? 2 : ctx;
    w->p.stride = w->o->stride ? (uint32_t)w->o->stride : (w->p.ctx + 1) / 2;
    if (w->p.stride > w->p.ctx || w->p.ctx == all)
        w->p.stride = w->p.ctx;
}

static int open_session(struct work *w, struct err *e)
{
    struct session_opts so = { .progress = prepare, .ctx = &w->bar, .n_ctx = w->p.ctx };
    const uint64_t rows = LOGITS_BYTES / ((uint64_t)model_facts(w->m)->n_out * sizeof(float));
    int rc = session_opts_exec(&so, w->o->exec, w->o->isa, e);

    if (rc == 0)
        rc = session_opts_machine(&so, &w->machine, e);
    if (rc < 0)
        return rc;
    session_opts_kv(&so, w->o->kv);
    so.max_rows = so.max_out = rows < 16 ? 16 : rows > 512 ? 512 : (uint32_t)rows;
    if (so.max_rows > w->p.ctx)
        so.max_rows = so.max_out = w->p.ctx;
    progress_init(&w->bar, "preparing", "B");
    rc = session_open(&w->s, w->m, &so, e);
    progress_finish(&w->bar);
    return rc;
}

static int start(const struct cli *c, struct work *w, struct err *e)
{
    int rc = open_model(c, &w->m, c->args[0], (uint32_t)w->o->ctx, e);

    if (rc < 0)
        return rc;
    if (!model_facts(w->m)->causal || model_facts(w->m)->n_out != model_facts(w->m)->n_vocab)
        return err_set(e, WATT_ENOTSUP, "%s: does not predict the next token", c->args[0]);
    rc = read_text(w, e);
    if (rc < 0)
        return rc;
    choose_windows(w);
    return open_session(w, e);
}

static int measure(struct work *w, struct err *e)
{
    const uint64_t begin = clock_mono_ns();
    size_t skipped;
    int rc;

    progress_init(&w->bar, "evaluating", "tokens");
    w->p.progress = prepare;
    w->p.progress_ctx = &w->bar;
    rc = perplexity_measure(&w->result, w->s, w->ids.ids, w->ids.n, &w->p, e);
    progress_finish(&w->bar);
    if (rc < 0)
        return rc;
    w->seconds = (double)(clock_mono_ns() - begin) * 1e-9;
    skipped = bytes_of(w, (size_t)w->result.first);
    skipped = skipped < w->n_bytes ? skipped : w->n_bytes;
    w->n_unknown = bytes_of(w, w->ids.n) < w->n_bytes ? w->n_bytes - bytes_of(w, w->ids.n) : 0;
    w->n_chars = characters(w->text + skipped, w->n_bytes - skipped);
    w->n_bytes -= skipped;
    return 0;
}

/* ---- output ---- */

static void print_row(const char *what, double nats, double spread)
{
    (void)printf("  per %-10s %9.4f nats  %9.4f bits", what, nats, nats / log(2));
    if (spread >= 0)
        (void)printf("   +- %.4f nats", spread);
    (void)printf("\n");
}

static void print_text(const struct work *w)
{
    const struct perplexity *r = &w->result;
    const double spread = r->stderr_mean >= 0 ? Z_95 * r->stderr_mean : -1;
    const double per_char = (double)r->n_scored / (double)w->n_chars;
    const double per_byte = (double)r->n_scored / (double)w->n_bytes;

    (void)printf("%s: %" PRIu64 " tokens, %zu characters, %zu bytes scored\n", w->o->text,
                 r->n_scored, w->n_chars, w->n_bytes);
    (void)printf("%u window%s of %u tokens every %u; %.1f s, %.0f tokens/s\n", r->n_windows,
                 r->n_windows > 1 ? "s" : "", w->p.ctx, w->p.stride, w->seconds,
                 (double)r->n_run / w->seconds);
    if (w->n_unknown > 0)
        (void)printf("%zu bytes of the text have no token and were left out\n", w->n_unknown);
    (void)printf("\n  perplexity     %9.4f", exp(r->mean));
    if (spread >= 0)
        (void)printf("  (95 %%: %.4f to %.4f, from blocks of %u tokens)", exp(r->mean - spread),
                     exp(r->mean + spread), PERPLEXITY_BLOCK);
    (void)printf("\n");
    print_row("token", r->mean, spread);
    print_row("character", r->mean * per_char, spread >= 0 ? spread * per_char : -1);
    print_row("byte", r->mean * per_byte, spread >= 0 ? spread * per_byte : -1);
}

static void print_json(const struct cli *c, const struct work *w)
{
    const struct perplexity *r = &w->result;
    const double per_char = r->nats / (double)w->n_chars, per_byte = r->nats / (double)w->n_bytes;
    struct str s;

    str_init(&s, 0);
    str_puts(&s, "{\"model\": ");
    json_put_str(&s, sv_cstr(c->args[0]));
    str_puts(&s, ", \"text\": ");
    json_put_str(&s, sv_cstr(w->o->text));
    (void)printf("%s, \"arch\": \"%s\", \"type\": \"%s\", \"tokens\": %" PRIu64
                 ", \"characters\": %zu, \"bytes\": %zu, \"bytes_without_token\": %zu, "
                 "\"context\": %u, \"stride\": %u, \"windows\": %u, ", str_cstr(&s),
                 model_facts(w->m)->arch, model_facts(w->m)->quant, r->n_scored, w->n_chars,
                 w->n_bytes, w->n_unknown, w->p.ctx, w->p.stride, r->n_windows);
    str_deinit(&s);
    (void)printf("\"perplexity\": %.6f, \"nats_per_token\": %.6f, \"bits_per_token\": %.6f, "
                 "\"nats_per_character\": %.6f, \"bits_per_character\": %.6f, "
                 "\"nats_per_byte\": %.6f, \"bits_per_byte\": %.6f, ", exp(r->mean), r->mean,
                 r->mean / log(2), per_char, per_char / log(2), per_byte, per_byte / log(2));
    if (r->stderr_mean >= 0)
        (void)printf("\"nats_per_token_95\": [%.6f, %.6f], \"perplexity_95\": [%.6f, %.6f], ",
                     r->mean - Z_95 * r->stderr_mean, r->mean + Z_95 * r->stderr_mean,
                     exp(r->mean - Z_95 * r->stderr_mean), exp(r->mean + Z_95 * r->stderr_mean));
    else
        (void)printf("\"nats_per_token_95\": null, \"perplexity_95\": null, ");
    (void)printf("\"seconds\": %.3f, \"tokens_per_s\": %.1f}\n", w->seconds,
                 (double)r->n_run / w->seconds);
}

static int ask(const struct cli *c, const struct eval_opts *o)
{
    struct eval_tasks_opts t = o->tasks;

    if (t.needles.n > 0 && !o->text)
        return cli_usage(c, "--needle needs --text, the hay");
    if (t.needles.n == 0 && o->text)
        return cli_usage(c, "--tasks and --text exclude each other");
    if (t.key_file && !t.url)
        return cli_usage(c, "--key-file is for a server: --url");
    if (o->json && t.csv)
        return cli_usage(c, "--json and --csv exclude each other");
    t.text = o->text;
    t.isa = o->isa;
    t.machine = &o->machine;
    t.limit = o->limit;
    t.ctx = o->ctx;
    t.exec = o->exec;
    t.kv = o->kv;
    t.json = o->json;
    return eval_tasks(c, &t);
}

static int run(const struct cli *c, const void *options_struct)
{
    struct work w = { .o = options_struct };
    struct err e = { 0 };
    int rc;

    if (w.o->tasks.tasks.n > 0 || w.o->tasks.needles.n > 0)
        return ask(c, w.o);
    if (!w.o->text || w.o->tasks.url)
        return cli_usage(c, w.o->text ? "--url is for --tasks and --needle" : "--text, --tasks or --needle is needed");
    w.machine = w.o->machine;
    cli_catch_interrupt();
    rc = start(c, &w, &e);
    if (rc == 0)
        rc = measure(&w, &e);
    if (rc == 0 && w.o->json)
        print_json(c, &w);
    else if (rc == 0)
        print_text(&w);
    session_close(w.s);
    tokenizer_close(w.tok);
    model_close(w.m);
    tokens_deinit(&w.ids);
    mem_free(w.text);
    return rc < 0 ? cli_fail(c, &e) : CLI_OK;
}

const struct cli_verb verb_eval = {
    .name = "eval",
    .summary = "measure how well a model predicts a text, or answers questions",
    .usage = "MODEL --text FILE | MODEL --tasks FILE",
    .about = "Perplexity, and nats and bits per token, character and byte.\n\n"
             "The text is cut into windows of --ctx tokens that start every --stride tokens, each "
             "run from an empty state; a token counts once, in the first window that has it with a "
             "token in front. Windows begin with the beginning-of-text token where the vocabulary "
             "asks for one. The 95 % interval comes from the spread between blocks of 256 "
             "tokens.\n\n"
             "Figures per token depend on the vocabulary; to compare models, look at characters or "
             "bytes.\n\n"
             "With --tasks every line of a JSONL file is a question whose answer can be checked: a number "
             "(GSM8K's files as they are), texts and citations, an abstention, a tool call, or one of several "
             "choices, weighed by their likelihood. Shares have 95 % intervals.",
    .examples = "watt eval model.gguf --text wiki.test.raw\n"
                "watt eval model.gguf --text book.txt --ctx 4096 --stride 4096 --json\n"
                "watt eval charrnn-folder --text plays.txt\n"
                "watt eval model.gguf --tasks gsm8k-test.jsonl --samples 16 --json\n"
                "watt eval model.gguf --needle 1024 --needle 4096 --text book.txt\n"
                "watt eval NAME --url http://127.0.0.1:8080/v1 --tasks questions.jsonl",
    .options = options,
    .defaults = &defaults,
    .options_size = sizeof(struct eval_opts),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
