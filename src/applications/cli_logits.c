/* cli_logits.c: `watt logits`: every position's logits of a list of token ids, as raw numbers:
 * to compare engines, executors and settings. */
#include <math.h>
#include <stddef.h>

#include "applications/model_args.h"
#include "applications/progress.h"
#include "base/file.h"
#include "base/mem.h"
#include "models/session.h"

struct logits_opts {
    const char *ids, *out, *isa;
    int64_t chunk, ctx;
    struct machine_args machine;
    int exec, kv;
};

static const struct cli_opt options[] = {
    { "ids", 'i', CLI_FILE, offsetof(struct logits_opts, ids), "IDS|FILE",
      "token ids separated by commas or spaces, or a file of them", 0, 0 },
    { "out", 'o', CLI_FILE, offsetof(struct logits_opts, out), "FILE", "where the logits go", 0, 0 },
    { "chunk", 'c', CLI_INT, offsetof(struct logits_opts, chunk), "N",
      "tokens of one step (default 512); the logits do not depend on it", 1, 65536 },
    MACHINE_OPTIONS(struct logits_opts, machine),
    { "exec", 0, CLI_CHOICE, offsetof(struct logits_opts, exec), EXEC_CHOICES,
      "executor: fast kernels, or the reference in double precision (default cpu)", 0, 0 },
    { "isa", 0, CLI_TEXT, offsetof(struct logits_opts, isa), "NAME",
      "no faster kernels than these: ref, avx2, avx512, … (default all)", 0, 0 },
    { "kv", 0, CLI_CHOICE, offsetof(struct logits_opts, kv), KV_CHOICES,
      "type of the cache (default auto: f32 where most weights are F32, else f16)", 0, 0 },
    { "ctx", 0, CLI_INT, offsetof(struct logits_opts, ctx), "N",
      "context to prepare for; chooses between LongRoPE's factors (default: as trained)",
      1, 67108864 },
    { NULL, 0, CLI_FLAG, 0, NULL, NULL, 0, 0 },
};

struct work {
    const struct logits_opts *o;
    struct model   *m;
    struct session *s;
    int32_t        *ids;
    uint32_t        n;
    float          *rows;
    struct progress bar;
};

static int prepare(void *ctx, uint64_t done, uint64_t total)
{
    progress_update(ctx, done, total);
    return cli_interrupted();
}

static int start(const struct cli *c, struct work *w, struct err *e)
{
    struct session_opts so = { .progress = prepare, .ctx = &w->bar,
                               .note = machine_note, .note_ctx = (void *)(uintptr_t)c };
    struct machine_args machine = w->o->machine;
    uint32_t chunk = (uint32_t)w->o->chunk;
    int rc = read_ids(w->o->ids, &w->ids, &w->n, e);

    if (rc == 0)
        rc = session_opts_exec(&so, w->o->exec, w->o->isa, e);
    if (rc == 0)
        rc = session_opts_machine(&so, &machine, e);
    if (rc == 0)
        rc = open_model(c, &w->m, c->args[0], (uint32_t)w->o->ctx, e);
    if (rc < 0)
        return rc;
    if (chunk > w->n || !model_facts(w->m)->causal)
        chunk = w->n;
    session_opts_kv(&so, w->o->kv);
    so.n_ctx = w->n;
    so.max_rows = so.max_out = chunk;
    progress_init(&w->bar, "preparing", "B");
    rc = session_open(&w->s, w->m, &so, e);
    progress_finish(&w->bar);
    if (rc < 0)
        return rc;
    w->rows = mem_array(chunk, session_width(w->s) * sizeof *w->rows);
    return w->rows ? 0 : err_set(e, WATT_ENOMEM, "logits of %u rows", chunk);
}

static int write_header(const struct work *w, struct file_new *f, struct err *e)
{
    const uint32_t head[2] = { w->n, session_width(w->s) };
    const int rc = file_new_write(f, head, sizeof head, e);

    return rc < 0 ? rc : file_new_write(f, w->ids, w->n * sizeof *w->ids, e);
}

/* One step's rows at a time go to the file. */
static int evaluate(struct work *w, struct file_new *f, struct err *e)
{
    const uint32_t chunk = session_max_rows(w->s);
    int rc = write_header(w, f, e);

    progress_init(&w->bar, "evaluating", "tokens");
    for (uint32_t at = 0; rc == 0 && at < w->n; at += chunk) {
        const struct session_input in = {
            .tokens = w->ids + at, .n_tokens = chunk < w->n - at ? chunk : w->n - at,
            .want = SESSION_ALL,
        };

        progress_update(&w->bar, at, w->n);
        if (cli_interrupted())
            rc = err_set(e, WATT_ECANCEL, "interrupted");
        if (rc == 0)
            rc = session_eval(w->s, &in, 1, w->rows, e);
        if (rc == 0)
            rc = file_new_write(f, w->rows, (size_t)in.n_tokens * session_width(w->s) *
                                            sizeof *w->rows, e);
    }
    progress_finish(&w->bar);
    return rc;
}

static int run(const struct cli *c, const void *options_struct)
{
    struct work w = { .o = options_struct };
    struct file_new f = { 0 };
    struct err e = { 0 };
    int rc;

    if (!w.o->ids)
        return cli_usage(c, "--ids is needed");
    cli_catch_interrupt();
    rc = start(c, &w, &e);
    if (rc == 0 && !w.o->out)
        rc = err_set(&e, WATT_EINVAL, "--out is needed: the logits are not text");
    if (rc == 0)
        rc = file_new_open(&f, w.o->out, &e);
    if (rc == 0)
        rc = evaluate(&w, &f, &e);
    if (rc == 0)
        rc = file_new_commit(&f, &e);
    else
        file_new_abort(&f);
    session_close(w.s);
    model_close(w.m);
    mem_free(w.ids);
    mem_free(w.rows);
    return rc < 0 ? cli_fail(c, &e) : CLI_OK;
}

static const struct logits_opts defaults = { .chunk = 512 };

const struct cli_verb verb_logits = {
    .name = "logits",
    .summary = "write the logits of a list of token ids",
    .usage = "MODEL --ids IDS|FILE --out FILE",
    .about = "Runs the ids through the model and writes, little-endian: u32 n_tokens, u32 n_vocab, "
             "i32 tokens[n_tokens], f32 logits[n_tokens][n_vocab].\n\n"
             "The bits depend on neither --chunk nor --threads.",
    .examples = "watt logits model.gguf --ids 1,2,3 -o out.logits\n"
                "watt logits model.gguf --ids ids.txt --exec ref --kv f32 -o ref.logits",
    .options = options,
    .defaults = &defaults,
    .options_size = sizeof(struct logits_opts),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
