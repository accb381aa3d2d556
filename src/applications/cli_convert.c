/* cli_convert.c: `watt convert`: a Hugging Face folder written as one GGUF file, in the types it
 * has or in another. */
#include <inttypes.h>
#include <stdio.h>

#include "applications/cli.h"
#include "applications/progress.h"
#include "base/clock.h"
#include "models/model.h"
#include "models/quantise.h"

struct options {
    const char *type;
    int64_t     threads;
};

static const struct cli_opt option_table[] = {
    { "type", 0, CLI_TEXT, offsetof(struct options, type), "TYPE",
      "element type or mix of the matrices, as `watt quantize` takes it (default: as they are)", 0,
      0 },
    { "threads", 't', CLI_INT, offsetof(struct options, threads), "N",
      "threads (default: every processor)", 1, TEAM_MAX_THREADS },
    { NULL, 0, CLI_FLAG, 0, NULL, NULL, 0, 0 }
};

static bool interrupted(void *arg)
{
    (void)arg;
    return cli_interrupted();
}

static void note(void *c, const char *text)
{
    cli_note(c, "%s", text);
}

static int write_file(const struct cli *c, const struct quantise_plan *p, unsigned n_threads,
                      uint64_t start)
{
    const struct quantise_summary s = quantise_plan_summary(p);
    struct progress progress;
    const struct quantise_watch watch = { progress_callback, interrupted, &progress };
    char size[32], took[32];
    struct team *team;
    struct err e;
    int rc = team_open(&team, n_threads, &e);

    if (rc < 0)
        return cli_fail(c, &e);
    cli_catch_interrupt();
    progress_init(&progress, "writing", "B");
    rc = quantise_run(p, c->args[1], team, &watch, NULL, &e);
    progress_finish(&progress);
    team_close(team);
    if (rc < 0)
        return cli_fail(c, &e);
    (void)printf("%s: %" PRIu32 " tensors, %s, %.2f bits per weight; %s\n", c->args[1],
                 s.n_tensors, format_bytes(size, s.bytes),
                 s.n_elems ? 8.0 * (double)s.bytes / (double)s.n_elems : 0.0,
                 format_seconds(took, (double)(clock_mono_ns() - start) / 1e9));
    return CLI_OK;
}

static int convert(const struct cli *c, const void *options)
{
    const struct options *o = options;
    const struct model_opts opts = { .warn = note, .ctx = (void *)(uintptr_t)c };
    struct quantise_options q = { .keep = !o->type, .keep_quantised = true };
    const uint64_t start = clock_mono_ns();
    struct quantise_plan *p = NULL;
    struct gguf *g;
    struct err e;
    int code;

    if (o->type && !quant_mix_parse(o->type, &q.mix))
        return cli_usage(c, "--type: no type or mix \"%s\"", o->type);
    if (model_file_open(&g, c->args[0], &opts, false, &e) < 0)
        return cli_fail(c, &e);
    code = quantise_plan_open(&p, g, &q, &e) < 0
               ? cli_fail(c, &e)
               : write_file(c, p, o->threads ? (unsigned)o->threads : team_default_threads(),
                            start);
    quantise_plan_close(p);
    gguf_close(g);
    return code;
}

extern const struct cli_verb verb_convert;
const struct cli_verb verb_convert = {
    .name = "convert",
    .summary = "write a Hugging Face folder as a GGUF file",
    .usage = "DIR OUT.gguf",
    .about =
        "DIR holds config.json, model.safetensors or its shards, and tokenizer.json or "
        "tokenizer.model. Matrices keep their type unless --type names another; vectors and norms "
        "become F32. FP8 becomes BF16, GPTQ and AWQ become Q4_0 or Q4_1, MXFP4 stays: what is "
        "quantised is not quantised again. Chat template and special tokens go along.\n"
        "\n"
        "The other verbs take DIR as it is, without a conversion. OUT.gguf appears when it is "
        "complete; Ctrl-C leaves nothing behind.",
    .examples = "watt convert Qwen3-0.6B qwen3-0.6b.gguf\n"
                "watt convert Llama-3.2-1B llama-1b-q4.gguf --type Q4_K_M",
    .options = option_table,
    .options_size = sizeof(struct options),
    .min_args = 2,
    .max_args = 2,
    .run = convert,
};
