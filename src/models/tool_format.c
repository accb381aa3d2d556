/* tool_format.c: formats as objects: made, bound to a vocabulary, described; see tool_format.h.
 * How they are learned is in tool_detect.c. */
#include "models/tool_format.h"

#include <string.h>

#include "base/mem.h"
#include "models/tool_detect.h"
#include "models/tool_literal.h"

/* Every string of a format, for what treats them alike. */
#define EACH_STRING(X)                                                                        \
    X(section_open) X(section_close) X(call_close) X(sep) X(call_open) X(name_key) X(args_key)  \
    X(id_key) X(wrap_key) X(param_open) X(key_end) X(value_end) X(key_end_other) X(quote)       \
    X(channel_open) X(message_open) X(channel_end) X(channel_next) X(think_channel)             \
    X(text_channel) X(think_open) X(think_close)

void tool_format_close(struct tool_format *f)
{
    if (!f)
        return;
#define FREE(s) mem_free(f->s);
    EACH_STRING(FREE)
#undef FREE
    for (size_t i = 0; i < f->n_head; i++)
        mem_free(f->head[i].text);
    mem_free(f->markers);
    mem_free(f);
}

bool tool_set(char **field, struct sv text)
{
    char *copy = mem_strndup(text.len ? text.data : "", text.len);

    if (!copy)
        return false;
    mem_free(*field);
    *field = copy;
    return true;
}

int tool_format_open(struct tool_format **out, const struct template *t, struct sv bos,
                     struct sv eos, struct err *e)
{
    struct tool_format *f = mem_calloc(1, sizeof *f);
    bool ok = f != NULL;

#define EMPTY(s) ok = ok && tool_set(&f->s, (struct sv){ "", 0 });
    EACH_STRING(EMPTY)
#undef EMPTY
    ok = ok && tool_detect(f, t, bos, eos);
    if (!ok) {
        tool_format_close(f);
        return err_set(e, WATT_ENOMEM, "template: no memory to learn its format of calls");
    }
    *out = f;
    return 0;
}

/* ---- the vocabulary ---- */

static bool within(const char *s, struct sv part)
{
    return part.len > 0 && s && memmem(s, strlen(s), part.data, part.len) != NULL;
}

static bool is_marker(const struct tool_format *f, struct sv text)
{
    bool found = false;

    if (text.len < 2)
        return false;
#define LOOK(s) found = found || within(f->s, text);
    EACH_STRING(LOOK)
#undef LOOK
    for (size_t i = 0; i < f->n_head; i++)
        found = found || within(f->head[i].text, text);
    return found;
}

/* Cuts what begins with a token that ends answers: it never comes as text. */
static void cut_at_end(char *s, const struct tokenizer *t)
{
    const uint32_t n = tokenizer_n_vocab(t);

    for (uint32_t id = 0; id < n && *s; id++) {
        struct sv text;
        char *at;

        if (!tokenizer_is_eog(t, (int32_t)id))
            continue;
        text = tokenizer_text(t, (int32_t)id);
        at = text.len ? memmem(s, strlen(s), text.data, text.len) : NULL;
        if (at)
            *at = '\0';
    }
}

/* Calls that templates leave to whoever writes the messages, by the tokens made for them. */
static bool python_by_vocabulary(struct tool_format *f, const struct tokenizer *t)
{
    static const struct { const char *open, *close; } pairs[] = {
        { "<|tool_call_start|>", "<|tool_call_end|>" },
        { "<|python_start|>", "<|python_end|>" },
    };

    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        struct str open, close;
        bool ok;

        if (tokenizer_find(t, sv_cstr(pairs[i].open)) < 0 ||
            tokenizer_find(t, sv_cstr(pairs[i].close)) < 0)
            continue;
        str_init(&open, 0);
        str_init(&close, 0);
        str_printf(&open, "%s[", pairs[i].open);
        str_printf(&close, "]%s", pairs[i].close);
        f->shape = TOOL_NAMED;
        f->args = TOOL_ARGS_PYTHON;
        f->parallel = true;
        f->n_head = 1;
        f->head[0].kind = TOOL_NAME;
        ok = str_ok(&open) && str_ok(&close) && tool_set(&f->section_open, sv_of(&open)) &&
             tool_set(&f->section_close, sv_of(&close)) && tool_set(&f->sep, SV(", "));
        str_deinit(&open);
        str_deinit(&close);
        return ok;
    }
    return true;
}

/* Reasoning that templates say nothing of. */
static bool think_by_vocabulary(struct tool_format *f, const struct tokenizer *t)
{
    static const struct { const char *open, *close; } pairs[] = {
        { "<think>", "</think>" }, { "[THINK]", "[/THINK]" },
        { "<|START_THINKING|>", "<|END_THINKING|>" }, { "<seed:think>", "</seed:think>" },
    };

    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (!*f->think_close && f->shape != TOOL_CHANNELS &&
            tokenizer_find(t, sv_cstr(pairs[i].open)) >= 0 &&
            tokenizer_find(t, sv_cstr(pairs[i].close)) >= 0)
            return tool_set(&f->think_open, sv_cstr(pairs[i].open)) &&
                   tool_set(&f->think_close, sv_cstr(pairs[i].close));
    return true;
}

static bool add_marker(struct tool_format *f, int32_t id)
{
    int32_t *p;

    for (size_t i = 0; i < f->n_markers; i++)
        if (f->markers[i] == id)
            return true;
    p = mem_grow(f->markers, f->n_markers + 1, sizeof *p);
    if (!p)
        return false;
    f->markers = p;
    f->markers[f->n_markers++] = id;
    return true;
}

/* Control tokens that are part of the format's strings; of reasoning, or of all. */
static bool collect(struct tool_format *f, const struct tokenizer *t, bool think)
{
    const uint32_t n = tokenizer_n_vocab(t);

    for (uint32_t id = 0; id < n; id++) {
        const struct sv text = tokenizer_text(t, (int32_t)id);

        if (tokenizer_kind(t, (int32_t)id) != TOKEN_CONTROL || tokenizer_is_eog(t, (int32_t)id))
            continue;
        if (text.len >= 2 && (think ? within(f->think_open, text) || within(f->think_close, text)
                                    : is_marker(f, text)) && !add_marker(f, (int32_t)id))
            return false;
    }
    return true;
}

int tool_format_bind(struct tool_format *f, const struct tokenizer *t, struct err *e)
{
    if (f->shape == TOOL_NONE && !python_by_vocabulary(f, t))
        return err_set(e, WATT_ENOMEM, "template: no memory for its format of calls");
    cut_at_end(f->call_close, t);
    cut_at_end(f->section_close, t);
    if (!think_by_vocabulary(f, t))
        return err_set(e, WATT_ENOMEM, "template: no memory for its format of reasoning");
    if (!collect(f, t, true))
        return err_set(e, WATT_ENOMEM, "template: no memory for its markers");
    f->n_think_markers = f->n_markers;
    if (!collect(f, t, false))
        return err_set(e, WATT_ENOMEM, "template: no memory for its markers");
    return 0;
}

/* ---- for people ---- */

static void put_visible(struct str *out, const char *s)
{
    for (; *s; s++)
        if (*s == '\n')
            str_puts(out, "\\n");
        else
            str_putc(out, *s);
}

void tool_format_opening(const struct tool_format *f, struct str *out)
{
    str_puts(out, f->section_open);
    if (f->shape == TOOL_ENVELOPE)
        str_puts(out, f->call_open);
    else if (f->n_head > 0 && f->head[0].kind == TOOL_LITERAL)
        str_puts(out, f->head[0].text);
}

static void describe_envelope(const struct tool_format *f, struct str *out)
{
    put_visible(out, f->section_open);
    put_visible(out, f->call_open);
    str_printf(out, "%s", f->array ? "[" : "");
    if (f->name_is_key)
        str_puts(out, "{NAME: ARGUMENTS}");
    else
        str_printf(out, "{%s%s\"%s\": NAME, \"%s\": ARGUMENTS%s%s}", f->wrap_key,
                   *f->wrap_key ? ": " : "", f->name_key, f->args_key, *f->id_key ? ", " : "",
                   f->id_key);
    str_printf(out, "%s", f->array ? ", …]" : "");
}

static void describe_named(const struct tool_format *f, struct str *out)
{
    static const char *const holes[] = { "", "NAME", "ID", "COUNT" };

    put_visible(out, f->section_open);
    for (size_t i = 0; i < f->n_head; i++)
        put_visible(out, f->head[i].kind == TOOL_LITERAL ? f->head[i].text
                                                         : holes[f->head[i].kind]);
    switch (f->args) {
    case TOOL_ARGS_JSON:
        str_puts(out, "{JSON}");
        break;
    case TOOL_ARGS_TAGGED:
        put_visible(out, f->param_open);
        str_puts(out, "KEY");
        put_visible(out, f->key_end);
        str_puts(out, "VALUE");
        put_visible(out, f->value_end);
        str_puts(out, "…");
        break;
    case TOOL_ARGS_PYTHON:
        str_puts(out, "(KEY=VALUE, …)");
        break;
    case TOOL_ARGS_LOOSE:
        str_puts(out, "{KEY:VALUE, …}");
        break;
    }
}

void tool_format_describe(const struct tool_format *f, struct str *out)
{
    if (f->shape == TOOL_NONE)
        str_puts(out, "no calls");
    else if (f->shape == TOOL_ENVELOPE)
        describe_envelope(f, out);
    else
        describe_named(f, out);
    put_visible(out, f->call_close);
    put_visible(out, f->section_close);
    if (f->shape != TOOL_NONE && !f->parallel)
        str_puts(out, " (one call)");
    if (*f->think_close) {
        str_puts(out, "; reasoning ");
        put_visible(out, f->think_open);
        str_puts(out, "…");
        put_visible(out, f->think_close);
    }
}
