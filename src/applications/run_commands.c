/* run_commands.c: the commands inside a chat, one row each. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "applications/progress.h"
#include "applications/run.h"

struct command {
    const char *name, *arg, *help;
    void (*run)(struct run *r, const char *arg);
};

/* Answers to commands go to stdout, like the conversation they are part of. */
static void tell(const char *fmt, ...) PRINTF_LIKE(1, 2);

static void tell(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)vprintf(fmt, ap);
    va_end(ap);
    (void)putchar('\n');
}

static void forget_all(struct run *r, const char *arg)
{
    (void)arg;
    chat_clear(&r->chat);
    tell("The conversation is empty.");
}

static void leave(struct run *r, const char *arg)
{
    (void)arg;
    r->leave = true;
}

static void set_system(struct run *r, const char *arg)
{
    struct err e = { 0 };

    if (!*arg) {
        const char *now = chat_system(&r->chat);

        tell("%s", now ? now : "There is no system message. /system TEXT sets one, /system - removes it.");
        return;
    }
    if (chat_set_system(&r->chat, strcmp(arg, "-") == 0 ? "" : arg, &e) < 0)
        tell("%s", e.msg);
    else
        tell(strcmp(arg, "-") == 0 ? "The system message is removed." : "The system message is set.");
}

/* ---- settings ---- */

/* Of the table of options those that hold for the next answer. */
static bool changeable(const struct cli_opt *o)
{
    static const char *const fixed[] = { "ctx", "threads", "kv", "exec" };

    if (o->type != CLI_INT && o->type != CLI_REAL && o->type != CLI_CHOICE)
        return false;
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (strcmp(o->name, fixed[i]) == 0)
            return false;
    return true;
}

/* The value in use: the sampler's own where the person gave none. */
static void show_setting(const struct run *r, const struct cli_opt *o)
{
    const struct sampler_options *s = &r->chat.set.sampler;
    const struct { const char *name; double v; } used[] = {
        { "temp", (double)s->temp }, { "top-k", s->top_k }, { "top-p", (double)s->top_p },
        { "min-p", (double)s->min_p }, { "typical-p", (double)s->typical_p },
        { "xtc-probability", (double)s->xtc_probability }, { "xtc-threshold", (double)s->xtc_threshold },
        { "repeat-penalty", (double)s->repeat_penalty }, { "repeat-last-n", s->penalty_last_n },
        { "frequency-penalty", (double)s->frequency_penalty },
        { "presence-penalty", (double)s->presence_penalty },
        { "dry-multiplier", (double)s->dry_multiplier }, { "dry-base", (double)s->dry_base },
        { "dry-allowed-length", s->dry_allowed_length }, { "dry-last-n", s->dry_last_n },
        { "mirostat", s->mirostat }, { "mirostat-tau", (double)s->mirostat_tau },
        { "mirostat-eta", (double)s->mirostat_eta },
        { "dynatemp-range", (double)s->dynatemp_range },
        { "dynatemp-exponent", (double)s->dynatemp_exponent }, { "seed", (double)r->seed },
        { "n", (double)r->o.n },
    };

    for (size_t i = 0; i < sizeof used / sizeof *used; i++)
        if (strcmp(used[i].name, o->name) == 0) {
            if (strcmp(o->name, "seed") == 0)
                tell("  %-20s %llu", o->name, (unsigned long long)r->seed);
            else
                tell("  %-20s %g", o->name, used[i].v);
            return;
        }
    if (strcmp(o->name, "think") == 0)
        tell("  %-20s %s", o->name, r->o.think == 0 ? "auto" : r->o.think == 1 ? "on" : "off");
}

static void show_settings(const struct run *r)
{
    for (const struct cli_opt *o = run_option_table; o->name; o++)
        if (changeable(o))
            show_setting(r, o);
}

static void set(struct run *r, const char *arg)
{
    char name[64];
    const size_t n = strcspn(arg, " \t");
    const char *value = arg + n + strspn(arg + n, " \t");
    const struct run_options before = r->o;
    const struct chat_settings old = r->chat.set;
    struct err e = { 0 };
    int rc = 0;

    if (n == 0) {
        show_settings(r);
        return;
    }
    (void)snprintf(name, sizeof name, "%.*s", (int)(n < 63 ? n : 63), arg);
    for (char *p = name; *p; p++)
        *p = *p == '_' ? '-' : *p;
    for (const struct cli_opt *o = run_option_table; o->name; o++)
        if (strcmp(o->name, name) == 0) {
            if (!*value && changeable(o)) {
                show_setting(r, o);
                return;
            }
            if (!changeable(o))
                rc = err_set(&e, WATT_EINVAL, "%s can only be given on the command line", name);
        }
    if (rc == 0)
        rc = cli_set(run_option_table, name, value, &r->o, &e);
    if (rc == 0)
        rc = run_settings(r, &r->chat.set, &e);
    if (rc == 0)
        rc = chat_apply(&r->chat, &e);
    if (rc < 0) {
        r->o = before;
        r->chat.set = old;
        tell("%s", e.msg);
        return;
    }
    for (const struct cli_opt *o = run_option_table; o->name; o++)
        if (strcmp(o->name, name) == 0)
            show_setting(r, o);
}

static void think(struct run *r, const char *arg)
{
    char line[32];

    if (!*arg) {
        tell("Thinking: %s. /think on, off or auto changes it.",
             r->o.think == 0 ? "auto (as the template decides)" : r->o.think == 1 ? "on" : "off");
        return;
    }
    (void)snprintf(line, sizeof line, "think %.20s", arg);
    set(r, line);
}

static void raw(struct run *r, const char *arg)
{
    (void)arg;
    if (r->o.raw && !r->model->tmpl) {
        tell("This model has no chat template: texts are completed as they are.");
        return;
    }
    r->o.raw = !r->o.raw;
    tell(r->o.raw ? "Raw: every message is completed as it is, on its own. /raw again chats."
                  : "Chat: messages go through the model's template.");
}

/* ---- looking ---- */

static void show_model(const struct run *r)
{
    const struct model_facts *f = model_facts(r->model->model);
    struct session_memory mem;
    char size[32];

    session_memory(r->model->session, &mem);
    tell("  %-14s %s", "file", r->path);
    if (f->name[0])
        tell("  %-14s %s", "name", f->name);
    tell("  %-14s %s, %.4g B parameters, %s", "architecture", f->arch, (double)f->n_params * 1e-9, f->quant);
    tell("  %-14s %u layers, %u wide, vocabulary %u", "shape", f->n_layers, f->n_embd, f->n_vocab);
    tell("  %-14s %u of %u tokens in use (trained for %u)", "context", generator_len(r->chat.gen),
         session_n_ctx(r->model->session), f->n_ctx_train);
    tell("  %-14s %s", "memory", format_bytes(size, mem.total));
    tell("  %-14s %s", "runs on", session_exec_name(r->model->session));
}

static void show_messages(const struct run *r)
{
    size_t i;
    json_t *m;

    json_array_foreach(r->chat.messages, i, m)
        tell("[%s] %s", json_string_value(json_object_get(m, "role")),
             json_string_value(json_object_get(m, "content")));
    if (json_array_size(r->chat.messages) == 0)
        tell("The conversation is empty.");
}

static void show_template(const struct run *r)
{
    struct sv source;
    struct err e = { 0 };

    if (r->o.template_file)
        tell("The template is %s.", r->o.template_file);
    else if (gguf_get_str(model_gguf(r->model->model), "tokenizer.chat_template", &source, &e) == 0)
        tell("%.*s", (int)(source.len < 65536 ? source.len : 65536), source.data);
    else
        tell("This model has no chat template.");
}

static void show(struct run *r, const char *arg)
{
    if (!*arg || strcmp(arg, "model") == 0)
        show_model(r);
    else if (strcmp(arg, "settings") == 0)
        show_settings(r);
    else if (strcmp(arg, "messages") == 0)
        show_messages(r);
    else if (strcmp(arg, "template") == 0)
        show_template(r);
    else
        tell("/show model, settings, messages or template");
}

static void stats(struct run *r, const char *arg)
{
    char text[256];

    (void)arg;
    tell("last answer: %s", run_stats_text(text, &r->chat.last));
    tell("%u answers:   %s", r->chat.total.n_answers, run_stats_text(text, &r->chat.total));
    tell("from the cache: %llu tokens were not run again", (unsigned long long)r->chat.total.n_cached);
}

/* ---- the conversation ---- */

static void save(struct run *r, const char *arg)
{
    struct err e = { 0 };

    if (!*arg)
        tell("/save FILE");
    else if (chat_save(&r->chat, arg, &e) < 0)
        tell("%s", e.msg);
    else
        tell("%zu messages saved to %s.", json_array_size(r->chat.messages), arg);
}

static void load(struct run *r, const char *arg)
{
    struct err e = { 0 };

    if (!*arg)
        tell("/load FILE");
    else if (chat_load(&r->chat, arg, &e) < 0)
        tell("%s", e.msg);
    else
        tell("%zu messages loaded from %s.", json_array_size(r->chat.messages), arg);
}

static void undo(struct run *r, const char *arg)
{
    (void)arg;
    const bool answer = chat_drop_last(&r->chat, "assistant");
    const bool question = chat_drop_last(&r->chat, "user");

    tell(answer || question ? "The last message and its answer are removed." : "There is nothing to undo.");
}

static void retry(struct run *r, const char *arg)
{
    (void)arg;
    if (chat_length(&r->chat) == 0) {
        tell("There is nothing to answer.");
        return;
    }
    (void)chat_drop_last(&r->chat, "assistant");
    (void)run_answer(r, NULL, 0);
}

static void help(struct run *r, const char *arg);

static const struct command commands[] = {
    { "help", "", "this list", help },
    { "exit", "", "leave (also /quit, /bye, Ctrl-D, Ctrl-C twice)", leave },
    { "clear", "", "forget the conversation, keep the system message (also /new)", forget_all },
    { "system", "TEXT", "set the system message; - removes it; nothing shows it", set_system },
    { "set", "NAME VALUE", "change a setting for the next answer; alone: list them", set },
    { "show", "WHAT", "model, settings, messages or template", show },
    { "save", "FILE", "write the conversation as JSON", save },
    { "load", "FILE", "read one back", load },
    { "undo", "", "take back the last message and its answer", undo },
    { "retry", "", "answer the last message again", retry },
    { "raw", "", "complete texts without the chat template, or chat again", raw },
    { "think", "on|off|auto", "ask the template for reasoning or against it", think },
    { "stats", "", "tokens and speed so far", stats },
    /* other names */
    { "quit", NULL, NULL, leave },
    { "bye", NULL, NULL, leave },
    { "new", NULL, NULL, forget_all },
    { "?", NULL, NULL, help },
};
#define N_COMMANDS (sizeof commands / sizeof *commands)

static void help(struct run *r, const char *arg)
{
    (void)r;
    (void)arg;
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (commands[i].help) {
            char left[40];

            (void)snprintf(left, sizeof left, "/%s %s", commands[i].name, commands[i].arg);
            tell("  %-18s %s", left, commands[i].help);
        }
    tell("A line that ends with \\ goes on; a message may stand between lines of \"\"\".\n"
         "Ctrl-C stops an answer.");
}

const char *const *run_command_words(void)
{
    static const char *const words[] = {
        "/help", "/exit", "/clear", "/system", "/set", "/show", "/save", "/load", "/undo", "/retry",
        "/raw", "/think", "/stats", "/quit", "/bye", "/new", NULL
    };

    return words;
}

void run_command(struct run *r, const char *line)
{
    const char *const *words = run_command_words();
    const char *name = line + 1;
    const size_t len = strcspn(name, " \t\n");
    const char *arg = name + len + strspn(name + len, " \t\n");
    char clean[4096], slashed[64];
    const char *guess;
    size_t n;

    if (strlen(arg) >= sizeof clean) {
        tell("That is too long for a command.");
        return;
    }
    n = strlen(arg);
    memcpy(clean, arg, n + 1);
    while (n > 0 && isspace((unsigned char)clean[n - 1]))
        clean[--n] = '\0';
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strlen(commands[i].name) == len && strncmp(commands[i].name, name, len) == 0) {
            commands[i].run(r, clean);
            return;
        }
    (void)snprintf(slashed, sizeof slashed, "/%.*s", (int)(len < 40 ? len : 40), name);
    guess = cli_nearest(slashed, words);
    tell(guess ? "There is no command %s; did you mean %s?" : "There is no command %s; /help lists them.",
         slashed, guess);
}
