/* cli_embed.c: `watt embed`: texts to vectors, or documents in the order of their answer to a
 * query. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "applications/model_args.h"
#include "applications/progress.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "models/embed.h"

#define MAX_INPUT_BYTES ((size_t)1 << 30)

struct embed_opts {
    struct cli_list text;
    const char *rerank, *out, *isa;
    int64_t     dims, top, tokens, texts;
    struct machine_args machine;
    int         pooling, format, exec, kv;
    bool        normalize, no_normalize, whole, truncate, quiet;
};

enum { FORMAT_JSON, FORMAT_LINES, FORMAT_F32 };

#define OPT(field) offsetof(struct embed_opts, field)
static const struct cli_opt options[] = {
    { "text", 0, CLI_LIST, OPT(text), "TEXT", "a text, may be given often", 0, 0 },
    { "rerank", 0, CLI_TEXT, OPT(rerank), "QUERY", "score the texts as documents that answer this query", 0, 0 },
    { "top", 0, CLI_INT, OPT(top), "N", "with --rerank: the N best documents (default: all)", 0, 1e9 },
    { "pooling", 0, CLI_CHOICE, OPT(pooling), "auto|none|mean|cls|last|rank", "how tokens become one vector; none: a vector per token; rank: the outputs of the classification head (default auto: as the file says)", 0, 0 },
    { "normalize", 0, CLI_FLAG, OPT(normalize), NULL, "vectors of length 1 (the default); with --rerank: scores in 0..1 by the logistic function", 0, 0 },
    { "no-normalize", 0, CLI_FLAG, OPT(no_normalize), NULL, "vectors as the model gives them", 0, 0 },
    { "dimensions", 0, CLI_INT, OPT(dims), "N", "keep the first N numbers, for models trained for that", 1, 1e9 },
    { "format", 0, CLI_CHOICE, OPT(format), "json|jsonl|f32", "one JSON list, a JSON object per text, or raw little-endian numbers (default json)", 0, 0 },
    { "out", 'o', CLI_FILE, OPT(out), "FILE", "write there (default: standard output)", 0, 0 },
    { "whole", 0, CLI_FLAG, OPT(whole), NULL, "FILE is one text; else each line that is not empty is one", 0, 0 },
    { "truncate", 0, CLI_FLAG, OPT(truncate), NULL, "longer texts lose their end; else they are an error", 0, 0 },
    { "max-tokens", 0, CLI_INT, OPT(tokens), "N", "tokens of one text (default: as trained, at most 8192)", 1, 1 << 20 },
    { "batch", 'b', CLI_INT, OPT(texts), "N", "most texts of one step (default 16)", 1, 4096 },
    MACHINE_OPTIONS(struct embed_opts, machine),
    { "kv", 0, CLI_CHOICE, OPT(kv), KV_CHOICES, "type of keys and values (default auto: f32)", 0, 0 },
    { "exec", 0, CLI_CHOICE, OPT(exec), EXEC_CHOICES, "executor: fast kernels, or the reference in double precision (default cpu)", 0, 0 },
    { "isa", 0, CLI_TEXT, OPT(isa), "NAME", "no faster kernels than these: ref, avx2, avx512, … (default all)", 0, 0 },
    { "quiet", 'q', CLI_FLAG, OPT(quiet), NULL, "no notes on standard error", 0, 0 },
    { 0 }
};
#undef OPT

struct work {
    const struct cli *c;
    const struct embed_opts *o;
    char             *owned;        /* what was read */
    struct sv        *texts;        /* [n] */
    size_t            n, cap;
    struct embedder  *x;
    FILE             *f;
    uint64_t          n_tokens;
    struct progress   bar;
};

/* ---- texts ---- */

static int add_text(struct work *w, const char *data, size_t len, struct err *e)
{
    if (w->n == w->cap) {
        struct sv *bigger = mem_grow(w->texts, w->cap * 2 + 64, sizeof *bigger);

        if (!bigger)
            return err_set(e, WATT_ENOMEM, "%zu texts", w->n);
        w->texts = bigger;
        w->cap = w->cap * 2 + 64;
    }
    w->texts[w->n++] = (struct sv){ data, len };
    return 0;
}

static int add_lines(struct work *w, const char *data, size_t len, struct err *e)
{
    int rc = 0;

    while (rc == 0 && len > 0) {
        const char *nl = memchr(data, '\n', len);
        const size_t n = nl ? (size_t)(nl - data) : len;
        const size_t text = n > 0 && data[n - 1] == '\r' ? n - 1 : n;

        if (text > 0)
            rc = add_text(w, data, text, e);
        data += n + (nl != NULL);
        len -= n + (nl != NULL);
    }
    return rc;
}

static int read_texts(struct work *w, struct err *e)
{
    const char *path = w->c->n_args > 1 ? w->c->args[1] : w->o->text.n > 0 ? NULL : "-";
    size_t len;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < w->o->text.n; i++)
        rc = add_text(w, w->o->text.v[i], strlen(w->o->text.v[i]), e);
    if (rc < 0 || !path)
        return rc;
    rc = file_read(path, MAX_INPUT_BYTES, &w->owned, &len, e);
    if (rc < 0)
        return rc;
    rc = w->o->whole ? add_text(w, w->owned, len, e) : add_lines(w, w->owned, len, e);
    return rc == 0 && w->n == 0 ? err_set(e, WATT_EINVAL, "%s: no texts", path) : rc;
}

/* ---- opening ---- */

static void on_warning(void *ctx, const char *text)
{
    const struct work *w = ctx;

    if (!w->o->quiet)
        cli_note(w->c, "%s", text);
}

static int on_loading(void *bar, uint64_t done, uint64_t total)
{
    progress_update(bar, done, total);
    return cli_interrupted();
}

static int open_embedder(struct work *w, struct err *e)
{
    const struct embed_opts *o = w->o;
    struct embedder_opts eo = {
        .pooling = o->rerank ? POOLING_RANK : (enum pooling)o->pooling, .raw = o->no_normalize,
        .truncate = o->truncate, .max_tokens = (uint32_t)o->tokens, .n_texts = (uint32_t)o->texts,
        .n_dims = (uint32_t)o->dims, .model = { .warn = on_warning, .ctx = w },
    };
    struct machine_args machine = o->machine;   /* read by the session, so it lives as long */
    int rc = session_opts_exec(&eo.session, o->exec, o->isa, e);

    if (rc == 0)
        rc = session_opts_machine(&eo.session, &machine, e);
    if (rc < 0)
        return rc;
    session_opts_kv(&eo.session, o->kv);
    eo.session.progress = on_loading;
    eo.session.ctx = &w->bar;
    progress_init(&w->bar, "loading", "B");
    rc = embedder_open(&w->x, w->c->args[0], &eo, e);
    progress_finish(&w->bar);
    return rc;
}

/* ---- writing ---- */

static void put_string(FILE *f, struct sv s)
{
    struct str text;

    str_init(&text, 0);
    json_put_str(&text, s);
    (void)fwrite(str_cstr(&text), 1, text.len, f);
    str_deinit(&text);
}

/* Nine digits bring every f32 back. */
static void put_vector(FILE *f, const float *v, uint32_t n)
{
    (void)fputc('[', f);
    for (uint32_t i = 0; i < n; i++)
        (void)fprintf(f, i ? ",%.9g" : "%.9g", (double)v[i]);
    (void)fputc(']', f);
}

static void put_embedding(FILE *f, const struct embedded *r, uint32_t width, bool each_token)
{
    if (!each_token) {
        put_vector(f, r->rows, width);
        return;
    }
    (void)fputc('[', f);
    for (uint32_t i = 0; i < r->n_rows; i++) {
        if (i)
            (void)fputc(',', f);
        put_vector(f, r->rows + (size_t)i * width, width);
    }
    (void)fputc(']', f);
}

static int on_embedded(void *ctx, const struct embedded *r)
{
    struct work *w = ctx;
    const uint32_t width = embedder_width(w->x);
    const bool each_token = embedder_pooling(w->x) == POOLING_NONE;

    w->n_tokens += r->n_tokens;
    progress_update(&w->bar, r->index + 1, w->n);
    switch (w->o->format) {
    case FORMAT_JSON:
        (void)fprintf(w->f, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":",
                      r->index ? ",\n" : "", r->index);
        put_embedding(w->f, r, width, each_token);
        (void)fputc('}', w->f);
        break;
    case FORMAT_LINES:
        (void)fprintf(w->f, "{\"index\":%zu,\"tokens\":%" PRIu32 ",\"embedding\":", r->index,
                      r->n_tokens);
        put_embedding(w->f, r, width, each_token);
        (void)fputs("}\n", w->f);
        break;
    case FORMAT_F32:
        (void)fwrite(r->rows, sizeof(float), (size_t)r->n_rows * width, w->f);
        break;
    }
    return ferror(w->f) || cli_interrupted();
}

static struct sv model_name(const struct work *w)
{
    const struct model_facts *f = model_facts(embedder_model(w->x));

    return sv_cstr(f->name[0] ? f->name : w->c->args[0]);
}

static void put_usage(struct work *w)
{
    (void)fprintf(w->f, "],\n\"model\":");
    put_string(w->f, model_name(w));
    (void)fprintf(w->f, ",\"usage\":{\"prompt_tokens\":%" PRIu64 ",\"total_tokens\":%" PRIu64 "}}\n",
                  w->n_tokens, w->n_tokens);
}

static int embed(struct work *w, struct err *e)
{
    struct embed_input *in = mem_calloc(w->n, sizeof *in);
    int rc;

    if (!in)
        return err_set(e, WATT_ENOMEM, "%zu texts", w->n);
    for (size_t i = 0; i < w->n; i++)
        in[i].text = w->texts[i];
    if (w->o->format == FORMAT_JSON)
        (void)fputs("{\"object\":\"list\",\"data\":[\n", w->f);
    rc = embedder_run(w->x, in, w->n, on_embedded, w, e);
    if (rc == 0 && w->o->format == FORMAT_JSON)
        put_usage(w);
    mem_free(in);
    return rc;
}

/* ---- ranking ---- */

struct ranked { size_t index; float score; };

/* Best first, ties in the order they came. */
static int by_score(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static void put_ranked(struct work *w, const struct ranked *r, size_t n)
{
    const bool list = w->o->format == FORMAT_JSON;

    if (list)
        (void)fputs("{\"object\":\"list\",\"results\":[\n", w->f);
    for (size_t i = 0; i < n; i++) {
        (void)fprintf(w->f, "%s{\"index\":%zu,\"relevance_score\":%.9g,\"document\":{\"text\":",
                      list && i ? ",\n" : "", r[i].index, (double)r[i].score);
        put_string(w->f, w->texts[r[i].index]);
        (void)fputs(list ? "}}" : "}}\n", w->f);
    }
    if (list)
        put_usage(w);
}

static int rerank(struct work *w, struct err *e)
{
    float *scores = mem_array(w->n, sizeof *scores);
    struct ranked *r = mem_array(w->n, sizeof *r);
    const size_t top = w->o->top > 0 && (size_t)w->o->top < w->n ? (size_t)w->o->top : w->n;
    int rc = scores && r ? 0 : err_set(e, WATT_ENOMEM, "%zu documents", w->n);

    if (rc == 0)
        rc = embedder_rank(w->x, sv_cstr(w->o->rerank), w->texts, w->n, scores, &w->n_tokens, e);
    for (size_t i = 0; rc == 0 && i < w->n; i++) {
        if (w->o->normalize)
            scores[i] = (float)(1 / (1 + exp(-(double)scores[i])));
        r[i] = (struct ranked){ i, scores[i] };
    }
    if (rc == 0 && w->o->format == FORMAT_F32) {
        (void)fwrite(scores, sizeof *scores, w->n, w->f);
    } else if (rc == 0) {
        qsort(r, w->n, sizeof *r, by_score);
        put_ranked(w, r, top);
    }
    mem_free(scores);
    mem_free(r);
    return rc;
}

/* ---- the verb ---- */

static int write_all(struct work *w, struct err *e)
{
    struct file_new f = { 0 };
    int rc = w->o->out ? file_new_open(&f, w->o->out, e) : 0;

    if (rc < 0)
        return rc;
    w->f = w->o->out ? f.f : stdout;
    progress_init(&w->bar, "embedding", "texts");
    rc = w->o->rerank ? rerank(w, e) : embed(w, e);
    progress_finish(&w->bar);
    if (rc == 0)
        rc = w->o->out ? file_new_commit(&f, e) : 0;
    else
        file_new_abort(&f);
    return rc;
}

static int run(const struct cli *c, const void *options_struct)
{
    struct work w = { .c = c, .o = options_struct };
    struct err e = { 0 };
    int rc;

    if (w.o->normalize && w.o->no_normalize)
        return cli_usage(c, "--normalize and --no-normalize exclude each other");
    if (w.o->rerank && w.o->pooling != POOLING_FILE && w.o->pooling != POOLING_RANK)
        return cli_usage(c, "--rerank reads the classification head: --pooling %s is for "
                            "embeddings", pooling_name((enum pooling)w.o->pooling));
    if (w.o->format == FORMAT_F32 && !w.o->out && isatty(STDOUT_FILENO))
        return cli_usage(c, "raw numbers are no text: give --out FILE or a pipe");
    if (c->n_args < 2 && w.o->text.n == 0 && isatty(STDIN_FILENO))
        return cli_usage(c, "no text: give --text, a file, or a pipe");
    cli_catch_interrupt();
    rc = read_texts(&w, &e);
    if (rc == 0)
        rc = open_embedder(&w, &e);
    if (rc == 0)
        rc = write_all(&w, &e);
    embedder_close(w.x);
    mem_free(w.texts);
    mem_free(w.owned);
    return rc < 0 ? cli_fail(c, &e) : CLI_OK;
}

const struct cli_verb verb_embed = {
    .name = "embed",
    .summary = "texts to vectors, or documents ranked for a query",
    .usage = "MODEL [FILE|-]",
    .about =
        "Embeds each line of FILE or standard input, or each --text, and prints the list that "
        "OpenAI's embeddings interface gives. Encoders and decoders both work: how the rows of a "
        "text's tokens become one vector stands in the file, or is chosen by --pooling.\n"
        "\n"
        "With --rerank the texts are documents; a model with a classification head (a "
        "cross-encoder) reads each together with the query, and they are printed best first. "
        "Scores are the head's own (mostly logits) unless --normalize is given.\n"
        "\n"
        "Raw output (--format f32) is one row of numbers per text in the order of the texts, or "
        "per token with --pooling none; with --rerank one score per document. A text longer than "
        "the model takes is an error unless --truncate is given.",
    .examples = "watt embed minilm.gguf --text 'A sentence' --text 'Another'\n"
                "watt embed minilm.gguf --format jsonl lines.txt >vectors.jsonl\n"
                "watt embed reranker.gguf --rerank 'What is a panda?' --top 3 passages.txt",
    .options = options,
    .options_size = sizeof(struct embed_opts),
    .min_args = 1,
    .max_args = 2,
    .run = run,
};
