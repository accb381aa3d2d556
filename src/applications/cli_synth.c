/* cli_synth.c: watt synth, which writes models of seeded random weights. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "applications/cli.h"
#include "applications/progress.h"
#include "base/clock.h"
#include "models/hf_config.h"
#include "models/synth.h"

struct options {
    const char *type, *arch;
    int64_t     seed, layers, vocab, ctx, threads;
    bool        pure, list, list_types;
};

static const struct options defaults = { .type = "Q4_0", .seed = 1 };

static const struct cli_opt table[] = {
    { "type", 't', CLI_TEXT, offsetof(struct options, type), "TYPE",
      "element type or mix, such as Q4_K_M (default Q4_0)", 0, 0 },
    { "pure", 0, CLI_FLAG, offsetof(struct options, pure), NULL,
      "every matrix in the base type, none with more bits", 0, 0 },
    { "seed", 0, CLI_INT, offsetof(struct options, seed), "N",
      "the same seed gives the same bytes (default 1)", 0, 9007199254740992.0 },
    { "layers", 0, CLI_INT, offsetof(struct options, layers), "N",
      "number of layers instead of the shape's", 1, SHAPE_MAX_LAYERS },
    { "vocab", 0, CLI_INT, offsetof(struct options, vocab), "N",
      "size of the vocabulary instead of the shape's", 1, SHAPE_MAX_VOCAB },
    { "ctx", 0, CLI_INT, offsetof(struct options, ctx), "N",
      "context length instead of the shape's", 1, SHAPE_MAX_CONTEXT },
    { "arch", 0, CLI_TEXT, offsetof(struct options, arch), "NAME",
      "GGUF architecture instead of the shape's, such as qwen3", 0, 0 },
    { "threads", 'j', CLI_INT, offsetof(struct options, threads), "N",
      "threads (default: all processors)", 1, 512 },
    { "list", 'l', CLI_FLAG, offsetof(struct options, list), NULL,
      "print the known shapes and end", 0, 0 },
    { "list-types", 0, CLI_FLAG, offsetof(struct options, list_types), NULL,
      "print the known types and mixes and end", 0, 0 },
    { 0 }
};

static const char *experts_text(char buf[32], const struct shape *s)
{
    if (s->n_experts)
        (void)snprintf(buf, 32, "%" PRIu32 "/%" PRIu32, s->n_experts_used, s->n_experts);
    else
        (void)snprintf(buf, 32, "-");
    return buf;
}

static const char *params_text(char buf[32], const struct shape *s)
{
    const double n = (double)shape_params(s);

    if (n < 1e9)
        (void)snprintf(buf, 32, n < 1e8 ? "%.1fM" : "%.0fM", n / 1e6);
    else
        (void)snprintf(buf, 32, "%.2fB", n / 1e9);
    return buf;
}

static int list_shapes(void)
{
    (void)printf("%-14s %-9s %7s %6s %6s %7s %7s %8s %8s\n", "shape", "arch", "params", "layers",
                 "width", "ffn", "heads", "experts", "vocab");
    for (size_t i = 0; i < shape_n_builtin(); i++) {
        const struct shape *s = shape_builtin(i);
        char experts[32], heads[32], size[32];

        (void)snprintf(heads, sizeof heads, "%" PRIu32 "/%" PRIu32, s->n_heads, s->n_kv_heads);
        (void)printf("%-14s %-9s %7s %6" PRIu32 " %6" PRIu32 " %7" PRIu32 " %7s %8s %8" PRIu32 "\n",
                     s->name, s->arch, params_text(size, s), s->n_layers, s->n_embd, s->n_ff, heads,
                     experts_text(experts, s), s->n_vocab);
    }
    return CLI_OK;
}

static int list_types(void)
{
    for (int i = 0; i < QUANT_MIX_COUNT; i++)
        (void)printf("%s\n", quant_mix_info((enum quant_mix)i)->name);
    return CLI_OK;
}

/* By name from the table, else from a config.json or its folder. */
static int find_shape(const char *name, struct shape *out, struct err *e)
{
    const struct shape *known = shape_find(name);
    struct stat st;

    if (known) {
        *out = *known;
        return 0;
    }
    if (stat(name, &st) != 0 && !strchr(name, '/') && !strchr(name, '.')) {
        const char *names[64] = { NULL };
        const char *near;

        for (size_t i = 0; i < shape_n_builtin() && i < 63; i++)
            names[i] = shape_builtin(i)->name;
        near = cli_nearest(name, names);
        return err_set(e, WATT_ENOENT, "no shape is called '%s'%s%s%s; `watt synth --list` prints all",
                       name, near ? ", did you mean '" : "", near ? near : "", near ? "'" : "");
    }
    return hf_config_read(out, name, e);
}

static int change_shape(struct shape *s, const struct options *o, struct err *e)
{
    if (o->layers)
        s->n_layers = (uint32_t)o->layers;
    if (o->vocab)
        s->n_vocab = (uint32_t)o->vocab;
    if (o->ctx)
        s->n_ctx = (uint32_t)o->ctx;
    return o->arch ? shape_set_arch(s, o->arch, e) : 0;
}

static bool progressed(void *progress, uint64_t done, uint64_t total)
{
    progress_update(progress, done, total);
    return !cli_interrupted();
}

static int write_model(const struct cli *c, const struct shape *s, struct synth_opts *so)
{
    const char *path = c->args[1];
    struct progress progress;
    char bytes_text[32], seconds_text[32], params[32];
    uint64_t bytes, start;
    struct err e;
    int rc;

    cli_catch_interrupt();
    progress_init(&progress, "writing", "B");
    so->progress = progressed;
    so->ctx = &progress;
    start = clock_mono_ns();
    rc = synth_write(path, s, so, &e);
    progress_finish(&progress);
    if (rc == 0)
        rc = synth_size(s, so, &bytes, &e);
    if (rc < 0)
        return cli_fail(c, &e);
    (void)printf("%s: %s, %s, %s parameters, %s of weights, seed %" PRIu64 ", in %s\n", path,
                 s->name, quant_mix_info(so->mix)->name, params_text(params, s),
                 format_bytes(bytes_text, bytes), so->seed,
                 format_seconds(seconds_text, (double)(clock_mono_ns() - start) / 1e9));
    return CLI_OK;
}

static int run(const struct cli *c, const void *options)
{
    const struct options *o = options;
    struct synth_opts so = { .pure = o->pure, .seed = (uint64_t)o->seed,
                             .n_threads = (unsigned)o->threads };
    struct shape s;
    struct err e;

    if (o->list)
        return list_shapes();
    if (o->list_types)
        return list_types();
    if (c->n_args != 2)
        return cli_usage(c, "needs a shape and the file to write");
    if (!quant_mix_parse(o->type, &so.mix))
        return cli_usage(c, "'%s' is no known type; `watt synth --list-types` prints all", o->type);
    if (find_shape(c->args[0], &s, &e) < 0 || change_shape(&s, o, &e) < 0)
        return cli_fail(c, &e);
    return write_model(c, &s, &so);
}

const struct cli_verb verb_synth = {
    .name = "synth",
    .summary = "write a model of seeded random weights in any shape",
    .usage = "SHAPE|config.json OUT.gguf",
    .about = "The shape is a well-known name (--list), or a Hugging Face config.json or the "
             "folder that holds it. The file carries a synthetic vocabulary, so every verb works "
             "on it; the text it makes means nothing. Quantised blocks are drawn directly: an 8B "
             "model needs a few MiB of memory.",
    .examples = "watt synth llama-3.2-1b 1b.gguf --type Q4_K_M\n"
                "watt synth moe-7b moe.gguf --type Q4_0 --layers 4\n"
                "watt synth ./config.json mine.gguf --type BF16 --seed 7",
    .options = table,
    .defaults = &defaults,
    .options_size = sizeof defaults,
    .min_args = 0, .max_args = 2,
    .run = run,
};
