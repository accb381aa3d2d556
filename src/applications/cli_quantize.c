/* cli_quantize.c: `watt quantize`: a model file written again with its weights in a
 * smaller type; models/quantise does the work. */
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "applications/cli.h"
#include "applications/progress.h"
#include "base/clock.h"
#include "models/model.h"
#include "models/quantise.h"

struct options {
    const char *imatrix, *output_type, *embedding_type;
    int64_t     threads;
    bool        pure, allow_requantise, dry_run;
};

static const struct cli_opt option_table[] = {
    { "imatrix", 'i', CLI_FILE, offsetof(struct options, imatrix), "FILE",
      "importance matrix: weights each error by how much its input matters", 0, 0 },
    { "threads", 't', CLI_INT, offsetof(struct options, threads), "N",
      "threads (default: every processor)", 1, TEAM_MAX_THREADS },
    { "pure", 0, CLI_FLAG, offsetof(struct options, pure), NULL,
      "the same type for every matrix, no mix", 0, 0 },
    { "output-type", 0, CLI_TEXT, offsetof(struct options, output_type), "T",
      "element type of output.weight (default: the mix decides)", 0, 0 },
    { "token-embedding-type", 0, CLI_TEXT, offsetof(struct options, embedding_type), "T",
      "element type of token_embd.weight (default: the mix decides)", 0, 0 },
    { "allow-requantize", 0, CLI_FLAG, offsetof(struct options, allow_requantise), NULL,
      "accept a source that is quantised already, at a loss of quality", 0, 0 },
    { "dry-run", 'n', CLI_FLAG, offsetof(struct options, dry_run), NULL,
      "list every tensor with its new type and the new size, and write nothing", 0, 0 },
    { NULL, 0, CLI_FLAG, 0, NULL, NULL, 0, 0 }
};

static int set_type(const struct cli *c, const char *option, const char *text, bool *has,
                    enum dtype *type)
{
    if (!text)
        return CLI_OK;
    if (!dtype_parse(text, type) || !dtype_info((uint32_t)*type)->quant)
        return cli_usage(c, "--%s: no type \"%s\" to quantise to", option, text);
    *has = true;
    return CLI_OK;
}

static bool source_is_quantised(const struct gguf *g)
{
    for (size_t i = 0; i < gguf_n_tensors(g); i++)
        if (dtype_info((uint32_t)gguf_tensor_at(g, i)->t.dtype)->quantised)
            return true;
    return false;
}

static double bits_per_weight(uint64_t bytes, uint64_t n_elems)
{
    return n_elems ? 8.0 * (double)bytes / (double)n_elems : 0;
}

static void print_tensors(const struct quantise_plan *p)
{
    for (size_t i = 0; i < quantise_plan_n_tensors(p); i++) {
        const struct quantise_tensor *t = quantise_plan_tensor(p, i);
        char size[32], shape[96] = "";
        int at = 0;

        for (int d = 0; d < t->source->t.n_dims; d++)
            at += snprintf(shape + at, sizeof shape - (size_t)at, d ? " x %" PRId64 : "%" PRId64,
                           t->source->t.shape[d]);
        (void)printf("%-40.*s %-22s %-8s %-8s %12s%s%s\n", (int)t->source->name.len,
                     t->source->name.data, shape, dtype_name((uint32_t)t->source->t.dtype),
                     dtype_name((uint32_t)t->type), format_bytes(size, t->size_bytes),
                     t->importance ? "  weighted" : "", t->substituted ? "  substituted" : "");
    }
}

static void print_notes(const struct cli *c, const struct quantise_summary *s, const char *type)
{
    if (s->n_substituted)
        cli_note(c, "%" PRIu32 " tensors have rows that are no whole blocks of %s: they get the "
                 "nearest type that fits", s->n_substituted, type);
    if (s->n_requantised)
        cli_note(c, "%" PRIu32 " tensors were quantised before: their errors add up",
                 s->n_requantised);
    if (s->n_unweighted)
        cli_note(c, "the importance matrix says nothing of %" PRIu32 " of the tensors",
                 s->n_unweighted);
}

static void print_summary(const char *path, const char *type, const struct quantise_summary *s)
{
    char before[32], after[32];

    (void)printf("%s: %s, %s, %.2f bits per weight; was %s, %.2f\n", path, type,
                 format_bytes(after, s->bytes), bits_per_weight(s->bytes, s->n_elems),
                 format_bytes(before, s->source_bytes),
                 bits_per_weight(s->source_bytes, s->n_elems));
}

static bool interrupted(void *arg)
{
    (void)arg;
    return cli_interrupted();
}

static int run_plan(const struct cli *c, const struct quantise_plan *p, const char *path,
                    const char *type, unsigned n_threads)
{
    const struct quantise_summary s = quantise_plan_summary(p);
    struct progress progress;
    const struct quantise_watch watch = { progress_callback, interrupted, &progress };
    struct quantise_loss loss;
    struct team *team;
    struct err e;
    const uint64_t start = clock_mono_ns();
    int rc = team_open(&team, n_threads, &e);

    if (rc < 0)
        return cli_fail(c, &e);
    cli_catch_interrupt();
    progress_init(&progress, "quantising", "B");
    rc = quantise_run(p, path, team, &watch, &loss, &e);
    progress_finish(&progress);
    team_close(team);
    if (rc < 0)
        return cli_fail(c, &e);
    print_notes(c, &s, type);
    print_summary(path, type, &s);
    if (s.n_changed) {
        char took[32];
        const double seconds = (double)(clock_mono_ns() - start) / 1e9;

        (void)printf("relative error %.3g %% (root mean square)", 100 * loss.error);
        if (s.n_weighted)
            (void)printf(", %.3g %% weighted by importance", 100 * loss.weighted);
        (void)printf("; %s, %.0f MB/s\n", format_seconds(took, seconds),
                     (double)s.source_bytes / 1e6 / (seconds > 0 ? seconds : 1));
    }
    return CLI_OK;
}

static int with_source(const struct cli *c, const struct gguf *g, struct quantise_options *q,
                       const struct options *o, const char *path)
{
    const char *type = quant_mix_info(q->mix)->name;
    struct imatrix *importance = NULL;
    struct quantise_plan *p = NULL;
    struct err e;
    int rc = o->imatrix ? imatrix_open(&importance, o->imatrix, &e) : 0;
    int code;

    q->importance = importance;
    if (rc == 0)
        rc = quantise_plan_open(&p, g, q, &e);
    if (rc < 0) {
        code = cli_fail(c, &e);
        if (rc == WATT_EINVAL && !o->allow_requantise && source_is_quantised(g))
            cli_note(c, "--allow-requantize does it all the same");
    } else if (o->dry_run) {
        const struct quantise_summary s = quantise_plan_summary(p);

        print_tensors(p);
        print_notes(c, &s, type);
        print_summary(path, type, &s);
        code = CLI_OK;
    } else {
        code = run_plan(c, p, path, type,
                        o->threads ? (unsigned)o->threads : team_default_threads());
    }
    quantise_plan_close(p);
    imatrix_close(importance);
    return code;
}

static int quantize(const struct cli *c, const void *options)
{
    const struct options *o = options;
    const char *type = c->args[c->n_args - 1];
    struct quantise_options q = { .pure = o->pure, .allow_requantise = o->allow_requantise };
    struct gguf *g;
    struct err e;
    int code;

    if (c->n_args == 2 && !o->dry_run)
        return cli_usage(c, "IN, OUT and TYPE are needed; only --dry-run does without OUT");
    if (!quant_mix_parse(type, &q.mix))
        return cli_usage(c, "no type or mix \"%s\"", type);
    code = set_type(c, "output-type", o->output_type, &q.has_output_type, &q.output_type);
    if (code == CLI_OK)
        code = set_type(c, "token-embedding-type", o->embedding_type, &q.has_embedding_type,
                        &q.embedding_type);
    if (code != CLI_OK)
        return code;
    if (model_file_open(&g, c->args[0], NULL, false, &e) < 0)
        return cli_fail(c, &e);
    code = with_source(c, g, &q, o, c->n_args == 3 ? c->args[1] : c->args[0]);
    gguf_close(g);
    return code;
}

extern const struct cli_verb verb_quantize;
const struct cli_verb verb_quantize = {
    .name = "quantize",
    .summary = "write a model in a smaller element type",
    .usage = "IN OUT.gguf TYPE",
    .about =
        "Types, from big to small, with bits per weight of a large model:\n"
        "  F32 32     F16 BF16 16   Q8_0 8.5     Q6_K 6.6\n"
        "  Q5_K_M 5.7 Q5_K_S 5.5    Q5_1 6.0     Q5_0 5.5\n"
        "  Q4_K_M 4.9 Q4_K_S 4.6    Q4_1 5.0     Q4_0 4.6    IQ4_NL 4.6  IQ4_XS 4.3\n"
        "  MXFP4 4.3  NVFP4 4.5     MXFP4_MOE (experts MXFP4, the rest Q8_0)\n"
        "  Q3_K_L 4.3 Q3_K_M 4.0    Q3_K_S 3.6   Q2_K 3.2    Q2_K_S 2.9\n"
        "  TQ2_0 2.1  TQ1_0 1.7     (for models trained with ternary weights)\n"
        "Names with K and a letter are mixes: sensitive matrices get more bits. Q4_K_M is a good "
        "first choice. Vectors and norms stay as they are.\n"
        "\n"
        "OUT.gguf appears when it is complete; Ctrl-C leaves nothing behind.",
    .examples = "watt quantize model-f16.gguf model-q4.gguf Q4_K_M\n"
                "watt quantize model.gguf small.gguf IQ4_XS --imatrix model.imatrix.gguf\n"
                "watt quantize model.gguf Q4_K_M --dry-run",
    .options = option_table,
    .options_size = sizeof(struct options),
    .min_args = 2,
    .max_args = 3,
    .run = quantize,
};
