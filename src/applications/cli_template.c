/* cli_template.c: `watt template`: the prompt that a chat template makes of a
 * conversation, byte for byte. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "applications/cli.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "models/hf/hf.h"
#include "models/model.h"
#include "models/template.h"

struct template_opts {
    const char *vars, *now, *out;
    bool        fallback, source;
};

static const struct cli_opt options[] = {
#define OPT(field) offsetof(struct template_opts, field)
    { "vars", 'v', CLI_FILE, OPT(vars), "FILE",
      "the variables, one JSON object: messages, tools, add_generation_prompt, …; - is stdin",
      0, 0 },
    { "now", 0, CLI_TEXT, OPT(now), "ISO-TIME",
      "what the clock shows, as 2026-07-26T12:00 (default: the local time)", 0, 0 },
    { "out", 'o', CLI_FILE, OPT(out), "FILE", "where the text goes (default: standard output)",
      0, 0 },
    { "fallback", 0, CLI_FLAG, OPT(fallback), NULL,
      "use ChatML where the model carries no template", 0, 0 },
    { "source", 0, CLI_FLAG, OPT(source), NULL, "print the template itself", 0, 0 },
#undef OPT
    { 0 }
};

/* What is rendered, and who owns its parts. */
struct job {
    char        *text;           /* of a template file */
    struct gguf *model;
    json_t      *vars;
    struct sv    source;
    struct template_input in;
    struct template *t;
    struct str   out;
};

static bool is_model(const char *path)
{
    char magic[4] = { 0 };
    FILE *f = strcmp(path, "-") == 0 ? NULL : fopen(path, "rb");
    const bool yes = f && fread(magic, 1, sizeof magic, f) == sizeof magic &&
                     memcmp(magic, "GGUF", sizeof magic) == 0;

    if (f)
        (void)fclose(f);
    return yes;
}

/* The text of a token that a key names by id; nothing when the file lacks it. */
static struct sv token_text(const struct gguf *g, const char *key)
{
    const struct gguf_kv *tokens = gguf_find(g, "tokenizer.ggml.tokens");
    struct sv text = { NULL, 0 };
    struct err ignored;
    uint32_t id;

    if (!tokens || gguf_get_u32(g, key, &id, &ignored) < 0 || id >= tokens->n ||
        !gguf_elem_str(g, tokens, id, &text))
        return (struct sv){ NULL, 0 };
    return text;
}

static int open_model_source(struct job *j, const char *path, bool fallback, struct err *e)
{
    int rc = model_file_open(&j->model, path, NULL, true, e);

    if (rc < 0)
        return rc;
    j->in.bos_token = token_text(j->model, "tokenizer.ggml.bos_token_id");
    j->in.eos_token = token_text(j->model, "tokenizer.ggml.eos_token_id");
    if (gguf_find(j->model, "tokenizer.chat_template"))
        return gguf_get_str(j->model, "tokenizer.chat_template", &j->source, e);
    if (!fallback)
        return err_set(e, WATT_ENOENT, "%s: the model carries no chat template "
                       "(--fallback uses ChatML)", path);
    j->source = sv_cstr(template_default());
    return 0;
}

static int open_source(struct job *j, const char *path, bool fallback, struct err *e)
{
    size_t n;
    int rc;

    if (hf_is_folder(path) || is_model(path))
        return open_model_source(j, path, fallback, e);
    rc = file_read(path, TEMPLATE_SOURCE_MAX, &j->text, &n, e);
    if (rc == 0)
        j->source = (struct sv){ j->text, n };
    return rc;
}

static int read_vars(struct job *j, const char *path, struct err *e)
{
    size_t n;
    char *text;
    int rc = file_read(path, JSON_MAX_BYTES_DEFAULT, &text, &n, e);

    if (rc < 0)
        return rc;
    rc = json_parse(&j->vars, path, text, n, NULL, e);
    mem_free(text);
    if (rc == 0 && !json_is_object(j->vars))
        rc = err_set(e, WATT_EFORMAT, "%s: expected one JSON object, the variables", path);
    j->in.vars = j->vars;
    return rc;
}

/* The local time that the clock shows; a zone after it changes nothing. */
static int read_now(struct job *j, const char *iso, struct err *e)
{
    struct tm tm = { 0 }, back;
    int n = 0, used = 0;
    char sep = 'T';

    n = sscanf(iso, "%4d-%2d-%2d%n%c%2d:%2d%n:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &used,
               &sep, &tm.tm_hour, &tm.tm_min, &used, &tm.tm_sec, &used);
    if (iso[used] == 'Z')
        used++;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    back = tm;
    j->in.now_s = (int64_t)timegm(&back);
    j->in.has_now = true;
    if ((n != 3 && n < 6) || (sep != 'T' && sep != ' ') || iso[used] != '\0' ||
        back.tm_mon != tm.tm_mon || back.tm_mday != tm.tm_mday || back.tm_hour != tm.tm_hour ||
        back.tm_min != tm.tm_min || tm.tm_sec > 59 || tm.tm_year < 1 - 1900)
        return err_set(e, WATT_EINVAL, "--now %s: expected a time as 2026-07-26T12:00", iso);
    return 0;
}

static int write_out(const struct str *s, const char *path, struct err *e)
{
    if (path)
        return file_write(path, str_cstr(s), s->len, e);
    (void)fwrite(str_cstr(s), 1, s->len, stdout);   /* main() reports a failed write */
    return 0;
}

static int work(struct job *j, const char *path, const struct template_opts *o, struct err *e)
{
    int rc = open_source(j, path, o->fallback, e);

    if (rc == 0 && o->vars)
        rc = read_vars(j, o->vars, e);
    if (rc == 0 && o->now)
        rc = read_now(j, o->now, e);
    if (rc == 0 && o->source)
        str_append(&j->out, j->source.data, j->source.len);
    else if (rc == 0)
        rc = template_open(&j->t, j->source.data, j->source.len, path, e);
    if (rc == 0 && j->t)
        rc = template_render(j->t, &j->in, &j->out, e);
    if (rc == 0 && !str_ok(&j->out))
        rc = err_set(e, WATT_ENOMEM, "no memory for the text");
    return rc < 0 ? rc : write_out(&j->out, o->out, e);
}

static int run(const struct cli *c, const void *options_struct)
{
    struct job j = { .in = { .has_now = false } };
    struct err e = { 0 };
    int rc;

    str_init(&j.out, 0);
    rc = work(&j, c->args[0], options_struct, &e);
    str_deinit(&j.out);
    template_close(j.t);
    json_close(j.vars);
    gguf_close(j.model);
    mem_free(j.text);
    return rc < 0 ? cli_fail(c, &e) : CLI_OK;
}

const struct cli_verb verb_template = {
    .name = "template",
    .summary = "render a chat template",
    .usage = "FILE|MODEL --vars FILE",
    .about = "Prints the prompt that a Jinja chat template makes of the variables, with nothing "
             "added. The template is a text file, or that of a GGUF model, whose bos_token and "
             "eos_token are then set too unless the variables have them.\n\n"
             "Where the template fails or calls raise_exception(), its line and the reason are "
             "printed and nothing is written.",
    .examples = "watt template model.gguf --vars chat.json\n"
                "watt template chat.jinja --vars chat.json --now 2026-07-26T12:00 -o prompt.txt\n"
                "watt template model.gguf --source",
    .options = options,
    .options_size = sizeof(struct template_opts),
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
