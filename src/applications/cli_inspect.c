/* cli_inspect.c: `watt inspect`: what a model is, what it needs, and what this machine could do
 * with it. */
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "applications/explain.h"
#include "applications/model_args.h"
#include "applications/progress.h"
#include "applications/roofline.h"
#include "base/json.h"
#include "base/mem.h"
#include "chips/cpu/features.h"
#include "chips/cpu/peaks.h"
#include "models/session.h"
#include "models/tokenizer.h"

#define PROMPT_TOKENS 512u

struct inspect_opts {
    bool tensors, program, json, no_measure;
    int64_t ctx, seqs, threads;
    int kv, exec;
    const char *isa;
};

static const struct cli_opt options[] = {
    { "tensors", 0, CLI_FLAG, offsetof(struct inspect_opts, tensors), NULL,
      "list every tensor: name, type, shape, bytes", 0, 0 },
    { "program", 0, CLI_FLAG, offsetof(struct inspect_opts, program), NULL,
      "list every instruction of the forward pass", 0, 0 },
    { "json", 0, CLI_FLAG, offsetof(struct inspect_opts, json), NULL,
      "print one JSON object instead of text", 0, 0 },
    { "ctx", 'c', CLI_INT, offsetof(struct inspect_opts, ctx), "N",
      "positions to make room for (default: as trained, at most 4096)", 1, 67108864 },
    { "seqs", 0, CLI_INT, offsetof(struct inspect_opts, seqs), "N",
      "sequences to make room for (default 1)", 1, 4096 },
    { "threads", 't', CLI_INT, offsetof(struct inspect_opts, threads), "N",
      "threads (default: one per core)", 1, TEAM_MAX_THREADS },
    { "kv", 0, CLI_CHOICE, offsetof(struct inspect_opts, kv), KV_CHOICES,
      "type of the cache (default auto: f32 where most weights are F32, else f16)", 0, 0 },
    { "exec", 0, CLI_CHOICE, offsetof(struct inspect_opts, exec), EXEC_CHOICES,
      "executor to plan for (default cpu)", 0, 0 },
    { "isa", 0, CLI_TEXT, offsetof(struct inspect_opts, isa), "NAME",
      "no faster kernels than these: ref, avx2, avx512, … (default all)", 0, 0 },
    { "no-measure", 0, CLI_FLAG, offsetof(struct inspect_opts, no_measure), NULL,
      "do not measure this machine (half a second)", 0, 0 },
    { NULL, 0, CLI_FLAG, 0, NULL, NULL, 0, 0 },
};

/* What one step costs, and how fast this machine's limits allow it. */
struct roof {
    struct roofline line;
    double tok_s;               /* 0: the machine was not measured */
};

struct report {
    const struct inspect_opts *o;
    const struct model *m;
    struct session_memory mem;
    uint64_t process_bytes;     /* this process with the file's header and vocabulary read */
    struct session_opts so;
    uint32_t n_ctx;
    bool has_peaks;
    struct peaks peaks;
    unsigned n_threads;
    struct roof decode, deep, prefill;
    char (*layers)[EXPLAIN_TEXT_BYTES];     /* what each layer does */
};

/* ---- gathering ---- */

static int roof_of(const struct report *r, uint32_t n_rows, uint32_t n_past, struct roof *f,
                   struct err *e)
{
    const struct roofline_load load = { n_rows, 1, n_past, 1 };
    int rc = roofline_step(&f->line, r->m, &r->mem, r->has_peaks ? &r->peaks : NULL, &load, e);

    if (rc == 0 && r->has_peaks)
        f->tok_s = n_rows / f->line.limit_s;
    return rc;
}

static int measure(struct report *r, struct err *e)
{
    struct team *team = NULL;
    int rc;

    r->n_threads = r->so.n_threads ? r->so.n_threads : team_default_threads();
    if (r->o->no_measure)
        return 0;
    rc = team_open(&team, r->n_threads, e);
    if (rc == 0)
        rc = peaks_measure(&r->peaks, team, r->so.isa_mask ? r->so.isa_mask : CPU_ALL, e);
    team_close(team);
    r->has_peaks = rc == 0;
    return rc;
}

/* Resident bytes of this process; 0 where the system doesn't say. */
static uint64_t resident_bytes(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    char line[256], *second;
    unsigned long pages = 0;

    if (!f)
        return 0;
    if (fgets(line, sizeof line, f) && (second = strchr(line, ' ')))
        pages = strtoul(second, NULL, 10);
    (void)fclose(f);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* What a process takes that has the model open, before any weight is touched: code, libraries,
 * the file's header, the vocabulary. Measured on this process, which is such a one. */
static void measure_process(struct report *r)
{
    struct tokenizer *tok = NULL;
    struct err e;

    if (tokenizer_open(&tok, model_gguf(r->m), &e) < 0)
        tok = NULL;             /* a model of ids only */
    r->process_bytes = resident_bytes();
    tokenizer_close(tok);
}

static int gather(struct report *r, struct err *e)
{
    const uint32_t trained = model_facts(r->m)->n_ctx_train;
    int rc = session_opts_exec(&r->so, r->o->exec, r->o->isa, e);

    r->so.n_threads = (unsigned)r->o->threads;
    r->n_ctx = r->o->ctx ? (uint32_t)r->o->ctx : trained && trained < 4096 ? trained : 4096;
    r->so.n_ctx = r->n_ctx;
    r->so.n_seqs = (uint32_t)r->o->seqs;
    session_opts_kv(&r->so, r->o->kv);
    measure_process(r);
    if (rc == 0)
        rc = session_plan(r->m, &r->so, &r->mem, e);
    if (rc == 0)
        rc = measure(r, e);
    if (rc < 0)
        return rc;
    rc = roof_of(r, 1, 0, &r->decode, e);
    if (rc == 0)
        rc = roof_of(r, 1, r->n_ctx - 1, &r->deep, e);
    if (rc == 0)
        rc = roof_of(r, r->n_ctx < PROMPT_TOKENS ? r->n_ctx : PROMPT_TOKENS, 0, &r->prefill, e);
    return rc;
}

/* ---- layers by kind ---- */

/* Calls show for each run of equal layers. */
static void each_run(const struct report *r, void (*show)(uint32_t first, uint32_t last,
                                                          const char *text))
{
    const uint32_t n = model_facts(r->m)->n_layers;

    for (uint32_t first = 0, last; first < n; first = last + 1) {
        last = first;
        while (last + 1 < n && strcmp(r->layers[first], r->layers[last + 1]) == 0)
            last++;
        show(first, last, r->layers[first]);
    }
}

static int describe_layers(struct report *r, struct err *e)
{
    const uint32_t n = model_facts(r->m)->n_layers;

    r->layers = mem_array(n, sizeof *r->layers);
    if (!r->layers)
        return err_set(e, WATT_ENOMEM, "inspect: texts of %u layers", n);
    for (uint32_t i = 0; i < n; i++)
        explain_layer(r->m, i, r->layers[i], sizeof r->layers[i]);
    return 0;
}

/* ---- text ---- */

static void line_bytes(const char *label, uint64_t bytes, const char *note)
{
    char buf[32];

    (void)printf("  %-14s %10s%s%s\n", label, format_bytes(buf, bytes), note[0] ? "  " : "", note);
}

/* "0-4, 6-10, 12": the layers from `layer` on that do the same. */
static void same_layers(const struct report *r, uint32_t layer, char *out, size_t size)
{
    const uint32_t n = model_facts(r->m)->n_layers;
    size_t at = 0;

    for (uint32_t i = layer, from; i < n && at < size; i++) {
        from = i;
        while (i < n && strcmp(r->layers[layer], r->layers[i]) == 0)
            i++;
        if (i > from)
            at += (size_t)snprintf(out + at, size - at, i == from + 1 ? "%s%u" : "%s%u-%u",
                                   at ? ", " : "", from, i - 1);
    }
}

/* A line for each kind of layer, with the layers that are of it. */
static void print_layers(const struct report *r)
{
    const uint32_t n = model_facts(r->m)->n_layers;
    char text[EXPLAIN_TEXT_BYTES];

    explain_kinds(r->m, text, sizeof text);
    (void)printf("  layers         %u: %s\n", n, text);
    for (uint32_t layer = 0; layer < n; layer++) {
        uint32_t k = 0;

        while (strcmp(r->layers[k], r->layers[layer]) != 0)
            k++;
        if (k < layer)
            continue;
        same_layers(r, layer, text, sizeof text);
        (void)printf("    %-12s %s\n", text, r->layers[layer]);
    }
}

/* What a token and what a sequence leave behind. */
static void print_state(const struct report *r)
{
    struct explain_state s;
    char buf[32];

    explain_state(r->m, &s);
    if (s.kv_layers)
        (void)printf("  a token keeps  %" PRIu64 " bytes in %u layer%s", r->mem.kv_token,
                     s.kv_layers, s.kv_layers == 1 ? "" : "s");
    if (s.window_layers)
        (void)printf(", %u of them read no further back than %u", s.window_layers, s.max_window);
    (void)printf("%s", s.kv_layers ? "\n" : "");
    if (s.fixed_floats)
        (void)printf("  a stream keeps %s in %u layer%s, however long\n",
                     format_bytes(buf, s.fixed_floats * 4), s.fixed_layers,
                     s.fixed_layers == 1 ? "" : "s");
    if (!s.kv_layers && !s.fixed_floats)
        (void)printf("  a token keeps  nothing\n");
}

static void print_facts(const struct report *r, const char *path)
{
    const struct model_facts *f = model_facts(r->m);
    char buf[32], text[EXPLAIN_TEXT_BYTES];

    (void)printf("%s\n", path);
    if (f->name[0])
        (void)printf("  name           %s\n", f->name);
    (void)printf("  architecture   %s, %s\n", f->arch,
                 f->causal ? "left to right" : "both ways");
    (void)printf("  parameters     %.4g %s\n",
                 (double)f->n_params / (f->n_params >= 1000000000 ? 1e9 : 1e6),
                 f->n_params >= 1000000000 ? "billion" : "million");
    (void)printf("  types          %s, %s\n", f->quant, format_bytes(buf, f->tensor_bytes));
    (void)printf("  shape          rows of %u, vocabulary %u\n", f->n_embd, f->n_vocab);
    (void)printf("  context        %u as trained\n", f->n_ctx_train);
    explain_rope(r->m, text, sizeof text);
    if (text[0])
        (void)printf("  rope           %s\n", text);
    explain_experts(r->m, text, sizeof text);
    if (text[0])
        (void)printf("  experts        %s\n", text);
    print_layers(r);
    print_state(r);
}

static void print_memory(const struct report *r)
{
    char note[96];
    const struct session_memory *m = &r->mem;

    (void)printf("memory for %u sequence%s of %u positions\n", r->so.n_seqs ? r->so.n_seqs : 1,
                 r->so.n_seqs > 1 ? "s" : "", r->n_ctx);
    line_bytes("weights", m->weights, "prepared copies");
    line_bytes("mapped", m->mapped, "read from the file");
    (void)snprintf(note, sizeof note, "%" PRIu64 " bytes a position, touched as it fills",
                   m->kv_token);
    line_bytes("cache", m->kv, note);
    if (m->fixed)
        line_bytes("state", m->fixed, "fixed, all sequences");
    line_bytes("arena", m->arena, "values of one step");
    line_bytes("scratch", m->scratch, "");
    line_bytes("process", r->process_bytes, "code, vocabulary, the file's header");
    line_bytes("total", m->total + r->process_bytes, "");
}

static void print_roof(const char *label, const struct report *r, const struct roof *f)
{
    char bytes[32];

    (void)printf("  %-22s %8.3f Gop  %10s", label, f->line.ops / 1e9,
                 format_bytes(bytes, (uint64_t)(f->line.weight_bytes + f->line.kv_bytes)));
    if (r->has_peaks)
        (void)printf("  at most %8.4g tokens/s (%s)", f->tok_s,
                     f->line.read_s > f->line.ops_s ? "memory" : "arithmetic");
    (void)printf("\n");
}

static void print_roofs(const struct report *r)
{
    const uint32_t prompt = r->n_ctx < PROMPT_TOKENS ? r->n_ctx : PROMPT_TOKENS;
    char label[64], buf[32];

    if (r->has_peaks)
        (void)printf("this machine, %u thread%s: reads %s/s, %.4g GFLOP/s F32, %.4g GOP/s int8, "
                     "%.4g GFLOP/s BF16\n", r->n_threads, r->n_threads == 1 ? "" : "s",
                     format_bytes(buf, (uint64_t)r->peaks.read_bytes_s), r->peaks.f32_ops_s / 1e9,
                     r->peaks.int8_ops_s / 1e9, r->peaks.bf16_ops_s / 1e9);
    (void)printf("work of one step\n");
    print_roof("a token, empty", r, &r->decode);
    (void)snprintf(label, sizeof label, "a token at %u", r->n_ctx - 1);
    print_roof(label, r, &r->deep);
    (void)snprintf(label, sizeof label, "a prompt of %u", prompt);
    print_roof(label, r, &r->prefill);
}

static void print_tensors(const struct model *m)
{
    const struct gguf *g = model_gguf(m);

    (void)printf("tensors\n");
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);

        (void)printf("  %-40.*s %-8s [", (int)t->name.len, t->name.data, dtype_name(t->t.dtype));
        for (int d = 0; d < t->t.n_dims; d++)
            (void)printf("%s%" PRId64, d ? ", " : "", t->t.shape[d]);
        (void)printf("]  %" PRIu64 "\n", t->t.size_bytes);
    }
}

/* ---- JSON ---- */

static void json_text(const char *s)
{
    json_print_str(stdout, sv_cstr(s));
}

static void json_layer(uint32_t first, uint32_t last, const char *text)
{
    (void)printf("%s{\"first\":%u,\"last\":%u,\"kind\":", first ? "," : "", first, last);
    json_text(text);
    (void)putchar('}');
}

static void json_roof(const char *label, const struct report *r, const struct roof *f,
                      const char *end)
{
    (void)printf("\"%s\":{\"ops\":%.0f,\"weight_bytes\":%.0f,\"kv_bytes\":%.0f", label, f->line.ops,
                 f->line.weight_bytes, f->line.kv_bytes);
    if (r->has_peaks)
        (void)printf(",\"max_tok_s\":%.6g", f->tok_s);
    (void)printf("}%s", end);
}

static void json_tensors(const struct model *m)
{
    const struct gguf *g = model_gguf(m);

    (void)printf(",\"tensors\":[");
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        char name[GGUF_MAX_NAME_BYTES + 1];

        (void)snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.data);
        (void)printf("%s{\"name\":", i ? "," : "");
        json_text(name);
        (void)printf(",\"type\":\"%s\",\"shape\":[", dtype_name(t->t.dtype));
        for (int d = 0; d < t->t.n_dims; d++)
            (void)printf("%s%" PRId64, d ? "," : "", t->t.shape[d]);
        (void)printf("],\"bytes\":%" PRIu64 "}", t->t.size_bytes);
    }
    (void)putchar(']');
}

static void print_json(const struct report *r)
{
    const struct model_facts *f = model_facts(r->m);
    const struct session_memory *m = &r->mem;
    struct explain_state s;

    (void)printf("{\"architecture\":");
    json_text(f->arch);
    (void)printf(",\"name\":");
    json_text(f->name);
    (void)printf(",\"types\":");
    json_text(f->quant);
    (void)printf(",\"parameters\":%" PRIu64 ",\"tensor_bytes\":%" PRIu64 ",\"layers\":%u,"
                 "\"embedding\":%u,\"vocabulary\":%u,\"context_trained\":%u,\"heads\":%u,"
                 "\"kv_heads\":%u,\"head_dim\":%u,\"experts\":%u,\"experts_used\":%u,"
                 "\"causal\":%s,\"rope_base\":%.9g,\"layer_kinds\":[", f->n_params, f->tensor_bytes,
                 f->n_layers, f->n_embd, f->n_vocab, f->n_ctx_train, f->n_heads, f->n_kv_heads,
                 f->k_dim, f->n_experts, f->n_experts_used, f->causal ? "true" : "false",
                 (double)f->rope_base);
    each_run(r, json_layer);
    explain_state(r->m, &s);
    (void)printf("],\"parameters_active\":%" PRIu64 ",\"state\":{\"token_bytes\":%" PRIu64
                 ",\"token_layers\":%u,\"window_layers\":%u,\"window\":%u,\"stream_bytes\":%"
                 PRIu64 ",\"stream_layers\":%u},", explain_active_params(r->m), r->mem.kv_token,
                 s.kv_layers, s.window_layers, s.max_window, s.fixed_floats * 4, s.fixed_layers);
    (void)printf("\"memory\":{\"context\":%u,\"weights\":%" PRIu64 ",\"mapped\":%" PRIu64
                 ",\"kv\":%" PRIu64 ",\"kv_token\":%" PRIu64 ",\"fixed\":%" PRIu64 ",\"arena\":%"
                 PRIu64 ",\"scratch\":%" PRIu64 ",\"process\":%" PRIu64 ",\"total\":%" PRIu64
                 "},", r->n_ctx, m->weights, m->mapped, m->kv, m->kv_token, m->fixed, m->arena,
                 m->scratch, r->process_bytes, m->total + r->process_bytes);
    if (r->has_peaks)
        (void)printf("\"machine\":{\"threads\":%u,\"read_bytes_s\":%.6g,\"f32_ops_s\":%.6g,"
                     "\"int8_ops_s\":%.6g,\"bf16_ops_s\":%.6g},", r->n_threads,
                     r->peaks.read_bytes_s, r->peaks.f32_ops_s, r->peaks.int8_ops_s,
                     r->peaks.bf16_ops_s);
    (void)printf("\"steps\":{");
    json_roof("token", r, &r->decode, ",");
    json_roof("token_deep", r, &r->deep, ",");
    json_roof("prompt", r, &r->prefill, "}");
    if (r->o->tensors)
        json_tensors(r->m);
    (void)printf("}\n");
}

/* ---- the verb ---- */

static int run(const struct cli *c, const void *options_struct)
{
    struct report r = { .o = options_struct };
    struct model *m = NULL;
    struct err e = { 0 };
    int rc = open_model(c, &m, c->args[0], (uint32_t)r.o->ctx, &e);

    r.m = m;
    if (rc == 0)
        rc = gather(&r, &e);
    if (rc == 0)
        rc = describe_layers(&r, &e);
    if (rc == 0 && r.o->json) {
        print_json(&r);
    } else if (rc == 0) {
        print_facts(&r, c->args[0]);
        print_memory(&r);
        print_roofs(&r);
        if (r.o->tensors)
            print_tensors(m);
        if (r.o->program) {
            (void)printf("program\n");
            prog_print(model_program(m), stdout);
        }
    }
    mem_free(r.layers);
    model_close(m);
    return rc < 0 ? cli_fail(c, &e) : CLI_OK;
}

const struct cli_verb verb_inspect = {
    .name = "inspect",
    .summary = "show what a model is, what it needs and how fast it could be",
    .usage = "MODEL",
    .about = "Prints the model's facts, the memory that running it takes, the operations and bytes "
             "of a step, and the speed that this machine's measured limits allow.",
    .examples = "watt inspect model.gguf\n"
                "watt inspect model.gguf --ctx 32768 --kv q8_0\n"
                "watt inspect model.gguf --tensors --program",
    .options = options,
    .options_size = sizeof(struct inspect_opts),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
