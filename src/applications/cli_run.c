/* cli_run.c: `watt run`: one answer, or a chat. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "applications/model_args.h"
#include "applications/progress.h"
#include "applications/run.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/team.h"
#include "models/lora.h"

#define MAX_PROMPT_BYTES   ((size_t)64 << 20)
#define MAX_TEMPLATE_BYTES ((size_t)1 << 20)

#define AT(field) offsetof(struct run_options, field)

const struct cli_opt run_option_table[] = {
    { "system", 's', CLI_TEXT, AT(system), "TEXT", "system message", 0, 0 },
    { "file", 'f', CLI_FILE, AT(file), "FILE", "text to put after the prompt; - is standard input", 0, 0 },
    { "n", 'n', CLI_INT, AT(n), "N", "most tokens of an answer (default: until it ends or the context is full)", 0, 1e9 },
    { "temp", 0, CLI_REAL, AT(temp), "T", "temperature; 0 always takes the most probable token (default 0.8)", 0, 1000 },
    { "top-k", 0, CLI_INT, AT(top_k), "K", "keep the K best tokens; 0: all (default 40)", 0, 1e9 },
    { "top-p", 0, CLI_REAL, AT(top_p), "P", "keep the best tokens that sum up to P (default 0.95)", 0, 1 },
    { "min-p", 0, CLI_REAL, AT(min_p), "P", "keep tokens with P times the best one's probability (default 0.05)", 0, 1 },
    { "typical-p", 0, CLI_REAL, AT(typical_p), "P", "locally typical sampling; 1: off (default 1)", 0, 1 },
    { "repeat-penalty", 0, CLI_REAL, AT(repeat_penalty), "X", "repetition penalty; 1: off (default 1)", 0.001, 1000 },
    { "repeat-last-n", 0, CLI_INT, AT(repeat_last_n), "N", "tokens that penalties look back at; -1: all (default 64)", -1, 2147483647 },
    { "frequency-penalty", 0, CLI_REAL, AT(frequency_penalty), "X", "taken from a token's logit per occurrence (default 0)", -1000, 1000 },
    { "presence-penalty", 0, CLI_REAL, AT(presence_penalty), "X", "taken from a token's logit once it occurred (default 0)", -1000, 1000 },
    { "dry-multiplier", 0, CLI_REAL, AT(dry_multiplier), "X", "DRY penalty on repeated sequences; 0: off (default 0)", 0, 1000 },
    { "dry-base", 0, CLI_REAL, AT(dry_base), "X", "DRY's growth per token (default 1.75)", 0, 1000 },
    { "dry-allowed-length", 0, CLI_INT, AT(dry_allowed_length), "N", "repeats that DRY lets pass (default 2)", 0, 1e6 },
    { "dry-last-n", 0, CLI_INT, AT(dry_last_n), "N", "tokens that DRY looks back at; -1: all (default -1)", -1, 2147483647 },
    { "dry-breaker", 0, CLI_LIST, AT(dry_breakers), "TEXT", "a repeat ends here, may be given often (default: newline : \" *)", 0, 0 },
    { "xtc-probability", 0, CLI_REAL, AT(xtc_probability), "P", "how often XTC leaves out top choices (default 0)", 0, 1 },
    { "xtc-threshold", 0, CLI_REAL, AT(xtc_threshold), "P", "what counts as a top choice (default 0.1)", 0, 1 },
    { "dynatemp-range", 0, CLI_REAL, AT(dynatemp_range), "X", "temperature moves within temp ± X by entropy (default 0)", 0, 1000 },
    { "dynatemp-exponent", 0, CLI_REAL, AT(dynatemp_exponent), "X", "shape of that (default 1)", 0, 1000 },
    { "mirostat", 0, CLI_INT, AT(mirostat), "0|2", "mirostat version 2 in place of the cuts (default 0)", 0, 2 },
    { "mirostat-tau", 0, CLI_REAL, AT(mirostat_tau), "BITS", "its target surprise (default 5)", 0, 1000 },
    { "mirostat-eta", 0, CLI_REAL, AT(mirostat_eta), "X", "its learning rate (default 0.1)", 0, 1000 },
    { "samplers", 0, CLI_TEXT, AT(samplers), "LIST", "order of the stages: penalties;dry;top_k;typical_p;top_p;min_p;xtc;temperature", 0, 0 },
    { "logit-bias", 0, CLI_LIST, AT(logit_bias), "ID=X", "add X to a token's logit, may be given often; -inf bans it", 0, 0 },
    { "diffusion-steps", 0, CLI_INT, AT(diffusion_steps), "N", "diffusion models: steps per block (default: its length, one token a step)", 0, 65536 },
    { "diffusion-block", 0, CLI_INT, AT(diffusion_block), "N", "diffusion models: tokens of a block (default 32)", 0, 128 },
    { "diffusion-threshold", 0, CLI_REAL, AT(diffusion_threshold), "P", "diffusion models: fix every token of at least this probability at once; 0: off (default 0)", 0, 1 },
    { "diffusion-algorithm", 0, CLI_CHOICE, AT(diffusion_algorithm), DIFFUSION_ALGORITHMS, "diffusion models: which tokens are fixed first (default confidence)", 0, 0 },
    { "diffusion-cache", 0, CLI_CHOICE, AT(diffusion_cache), DIFFUSION_CACHES, "diffusion models: what is kept between steps: finished blocks, what is in front of the block, nothing (default block)", 0, 0 },
    { "stop", 0, CLI_LIST, AT(stop), "TEXT", "end the answer before this text, may be given often", 0, 0 },
    { "ignore-end", 0, CLI_FLAG, AT(ignore_end), NULL, "go on after the model's end token", 0, 0 },
    { "seed", 0, CLI_INT, AT(seed), "N", "same seed, same text (default: another one each time)", 0, 9.3e18 },
    { "raw", 0, CLI_FLAG, AT(raw), NULL, "complete the prompt without a chat template; prints the continuation and nothing else", 0, 0 },
    { "think", 0, CLI_CHOICE, AT(think), "auto|on|off", "ask the template for reasoning or against it (default auto)", 0, 0 },
    { "hide-reasoning", 0, CLI_FLAG, AT(hide_reasoning), NULL, "do not show what the model thinks before it answers", 0, 0 },
    { "template", 0, CLI_FILE, AT(template_file), "FILE", "chat template in place of the model's", 0, 0 },
    { "lora", 0, CLI_FILE, AT(lora), "FILE", "use this adapter (GGUF) with the model", 0, 0 },
    { "json", 0, CLI_FLAG, AT(json), NULL, "one JSON object a line: each token, then the sum with timings", 0, 0 },
    { "ctx", 'c', CLI_INT, AT(ctx), "N", "context in tokens (default: as trained, at most 4096)", 1, 4294967295.0 },
    MACHINE_OPTIONS(struct run_options, machine),
    { "kv", 0, CLI_CHOICE, AT(kv), KV_CHOICES, "element type of the key/value cache (default auto)", 0, 0 },
    { "exec", 0, CLI_CHOICE, AT(exec), EXEC_CHOICES, "executor: the fast one, or the slow and exact reference (default cpu)", 0, 0 },
    { "isa", 0, CLI_TEXT, AT(isa), "NAMES", "use no other kernels than these: ref, avx2, avx512, … joined by +", 0, 0 },
    { "no-history", 0, CLI_CLEAR, AT(history), NULL, "do not keep what is typed for the next time", 0, 0 },
    { "no-color", 0, CLI_CLEAR, AT(color), NULL, "plain text on terminals, too", 0, 0 },
    { "quiet", 'q', CLI_FLAG, AT(quiet), NULL, "no notes and no speed on standard error", 0, 0 },
    { "verbose", 'v', CLI_FLAG, AT(verbose), NULL, "more of both: the model, the seed, speed and joules after every answer", 0, 0 },
    METER_OPTIONS(struct run_options, meter),
    { 0 }
};

#define NOT_GIVEN (-2)

const struct run_options run_option_defaults = {
    .temp = NAN, .dynatemp_range = NAN, .dynatemp_exponent = NAN, .top_p = NAN, .min_p = NAN,
    .typical_p = NAN, .xtc_probability = NAN, .xtc_threshold = NAN, .repeat_penalty = NAN,
    .frequency_penalty = NAN, .presence_penalty = NAN, .dry_multiplier = NAN, .dry_base = NAN,
    .mirostat_tau = NAN, .mirostat_eta = NAN,
    .top_k = NOT_GIVEN, .repeat_last_n = NOT_GIVEN, .dry_allowed_length = NOT_GIVEN,
    .dry_last_n = NOT_GIVEN, .mirostat = NOT_GIVEN, .seed = NOT_GIVEN,
    .history = true, .color = true,
};

/* ---- options to settings ---- */

static void take_real(float *to, double v)
{
    if (!isnan(v))
        *to = (float)v;
}

static void take_u32(uint32_t *to, int64_t v)
{
    if (v != NOT_GIVEN)
        *to = (uint32_t)v;
}

static void take_i32(int32_t *to, int64_t v)
{
    if (v != NOT_GIVEN)
        *to = (int32_t)v;
}

/* "1234=-1.5" or "1234=-inf" */
static int parse_bias(const char *text, uint32_t n_vocab, struct logit_bias *out, struct err *e)
{
    char *end;
    const unsigned long long id = strtoull(text, &end, 10);
    double v = 0;

    if (end != text && text[0] >= '0' && text[0] <= '9' && (*end == '=' || *end == ':')) {
        const char *number = end + 1;

        v = strtod(number, &end);
        if (end == number)
            end = NULL;
    } else {
        end = NULL;
    }
    if (!end || *end || isnan(v) || v > 1e30)
        return err_set(e, WATT_EINVAL, "--logit-bias wants ID=X such as 29871=-inf, not '%s'", text);
    if (id >= n_vocab)
        return err_set(e, WATT_EINVAL, "--logit-bias: token %llu is not in the vocabulary of %u", id, n_vocab);
    *out = (struct logit_bias){ (uint32_t)id, (float)v };
    return 0;
}

/* These models are used without a temperature unless one is asked for. */
static int diffusion_settings(const struct run *r, struct chat_settings *set, struct err *e)
{
    const struct run_options *o = &r->o;

    set->diffusion = (struct diffusion_opts){
        .block = (uint32_t)o->diffusion_block, .steps = (uint32_t)o->diffusion_steps,
        .threshold = (float)o->diffusion_threshold, .seed = r->seed,
        .algorithm = (enum diffusion_algorithm)o->diffusion_algorithm,
        .cache = (enum diffusion_cache)o->diffusion_cache,
    };
    if (diffusion_fits(r->model->model)) {
        if (isnan(o->temp))
            set->sampler.temp = 0;
        return 0;
    }
    if (o->diffusion_block || o->diffusion_steps || o->diffusion_threshold > 0 ||
        o->diffusion_algorithm || o->diffusion_cache)
        return err_set(e, WATT_EINVAL, "%s: %s is no diffusion language model: no --diffusion option "
                       "applies", r->path, model_facts(r->model->model)->arch);
    return 0;
}

int run_settings(struct run *r, struct chat_settings *set, struct err *e)
{
    const struct run_options *o = &r->o;
    struct sampler_options *s = &set->sampler;
    int rc;

    *set = (struct chat_settings){ .n_max = (uint32_t)o->n, .stops = o->stop.v, .n_stops = o->stop.n,
                                   .ignore_end = o->ignore_end, .think = (enum chat_think)o->think };
    sampler_defaults(s);
    take_real(&s->temp, o->temp);
    take_real(&s->dynatemp_range, o->dynatemp_range);
    take_real(&s->dynatemp_exponent, o->dynatemp_exponent);
    take_real(&s->top_p, o->top_p);
    take_real(&s->min_p, o->min_p);
    take_real(&s->typical_p, o->typical_p);
    take_real(&s->xtc_probability, o->xtc_probability);
    take_real(&s->xtc_threshold, o->xtc_threshold);
    take_real(&s->repeat_penalty, o->repeat_penalty);
    take_real(&s->frequency_penalty, o->frequency_penalty);
    take_real(&s->presence_penalty, o->presence_penalty);
    take_real(&s->dry_multiplier, o->dry_multiplier);
    take_real(&s->dry_base, o->dry_base);
    take_real(&s->mirostat_tau, o->mirostat_tau);
    take_real(&s->mirostat_eta, o->mirostat_eta);
    take_u32(&s->top_k, o->top_k);
    take_u32(&s->mirostat, o->mirostat);
    take_u32(&s->dry_allowed_length, o->dry_allowed_length);
    take_i32(&s->penalty_last_n, o->repeat_last_n);
    take_i32(&s->dry_last_n, o->dry_last_n);
    if (o->dry_breakers.n > 0) {
        s->dry_breakers = o->dry_breakers.v;
        s->n_dry_breakers = o->dry_breakers.n;
    }
    if (o->seed != NOT_GIVEN)
        r->seed = (uint64_t)o->seed;
    s->seed = r->seed;
    rc = diffusion_settings(r, set, e);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < o->logit_bias.n; i++) {
        rc = parse_bias(o->logit_bias.v[i], model_facts(r->model->model)->n_vocab, &r->bias[i], e);
        if (rc < 0)
            return rc;
    }
    s->bias = r->bias;
    s->n_bias = o->logit_bias.n;
    return o->samplers ? sampler_order_parse(s, o->samplers, e) : 0;
}

/* ---- opening ---- */

static void on_warning(void *ctx, const char *text)
{
    const struct run *r = ctx;

    if (!r->o.quiet)
        cli_note(r->cli, "%s", text);
}

static int on_loading(void *progress, uint64_t done, uint64_t total)
{
    progress_update(progress, done, total);
    return cli_interrupted();
}

static int open_run(struct run *r, struct err *e)
{
    struct text_model_opts to = { .model = { .warn = on_warning, .ctx = r } };
    struct lora *adapter = NULL;
    struct progress loading;
    char *source = NULL;
    size_t size;
    int rc;

    to.session.n_ctx = (uint32_t)r->o.ctx;
    to.session.n_marks = SESSION_CHAT_MARKS;
    session_opts_kv(&to.session, r->o.kv);
    rc = session_opts_exec(&to.session, r->o.exec, r->o.isa, e);
    if (rc == 0)
        rc = session_opts_machine(&to.session, &r->o.machine, e);
    if (rc == 0 && (r->o.verbose || r->o.meter.source || r->o.meter.estimate))
        rc = meter_args_open(&r->meter, &r->o.meter, e);
    if (rc < 0)
        return rc;
    to.session.progress = on_loading;
    to.session.ctx = &loading;
    to.session.note = on_warning;
    to.session.note_ctx = r;
    if (r->o.template_file) {
        rc = file_read(r->o.template_file, MAX_TEMPLATE_BYTES, &source, &size, e);
        if (rc < 0)
            return rc;
        to.template_source = source;
        to.template_name = r->o.template_file;
    }
    if (r->o.lora) {
        rc = lora_open(&adapter, r->o.lora, 1, e);
        to.model.adapters = (const struct lora *const *)&adapter;
        to.model.n_adapters = 1;
    }
    progress_init(&loading, "loading", "B");
    if (rc == 0)
        rc = text_model_open(&r->model, r->path, &to, e);
    progress_finish(&loading);
    if (rc == 0 && adapter)
        rc = session_set_adapter(r->model->session, 0, 1, e);
    lora_close(adapter);
    mem_free(source);
    if (rc == 0 && r->meter)
        meter_count(r->meter, r->model->session);
    if (rc == 0 && !r->model->tok)
        rc = err_set(e, WATT_ENOTSUP, "%s; `watt logits` runs token ids", r->model->tok_why);
    return rc;
}

/* ---- answers ---- */

static bool interrupted(void *ctx)
{
    (void)ctx;
    return cli_interrupted();
}

struct answering {
    struct run_view *view;
    struct progress  prefill;
};

static void on_prompt(void *ctx, const char *text, size_t len)
{
    run_view_prompt(((struct answering *)ctx)->view, text, len);
}

static void on_prefill(void *ctx, uint32_t done, uint32_t total)
{
    struct answering *a = ctx;

    if (done < total)
        progress_update(&a->prefill, done, total);
    else
        progress_finish(&a->prefill);
}

static int on_token(void *ctx, const struct generated *g)
{
    return run_view_token(((struct answering *)ctx)->view, g);
}

/* Why an answer ended where a person may wonder. */
static void explain_end(const struct run *r, const struct generate_result *res)
{
    if (res->reason == GENERATE_CONTEXT && !r->o.json)
        cli_note(r->cli, "the context of %u tokens is full and the answer stops here; --ctx N gives more%s",
                 session_n_ctx(r->model->session), r->o.raw ? "" : ", /clear begins anew");
}

int run_answer(struct run *r, const char *raw_text, size_t raw_len)
{
    struct answering a = { .view = &r->view };
    const struct chat_view view = { .on_prompt = on_prompt, .on_token = on_token,
                                    .on_prefill = on_prefill, .cancelled = interrupted, .ctx = &a };
    struct generate_result res = { 0 };
    struct err e = { 0 };
    struct meter_reading from = { 0 }, to = { 0 };
    char text[256], used[200], energy[512];
    int rc;

    if (r->meter)
        meter_read(r->meter, &from);
    progress_init(&a.prefill, "reading", "tokens");
    r->view.split = !raw_text;
    rc = raw_text ? chat_complete(&r->chat, raw_text, raw_len, &view, &res, &e)
                  : chat_answer(&r->chat, &view, &res, &e);
    if (r->meter)
        meter_read(r->meter, &to);
    progress_finish(&a.prefill);
    if (rc < 0) {
        run_view_end(&r->view, true);
        return cli_fail(r->cli, &e);
    }
    run_view_end(&r->view, !raw_text || isatty(STDOUT_FILENO));
    /* stopped before it began: there is no answer */
    if (!raw_text && (res.n_generated > 0 || res.reason != GENERATE_CANCELLED))
        rc = chat_add_answer(&r->chat, str_cstr(&r->view.reasoning), str_cstr(&r->view.answer), &e);
    if (r->view.failed)
        return CLI_FAILURE;     /* main() says what is wrong with standard output */
    if (rc < 0)
        return cli_fail(r->cli, &e);
    if (r->o.json)
        run_view_done(&r->view, r->path, r->seed, &res, &r->chat.last,
                      r->meter ? meter_used_json(energy, r->meter, &from, &to) : NULL);
    explain_end(r, &res);
    if (r->meter)
        (void)meter_used_text(used, r->meter, &from, &to, res.n_generated);
    if (r->o.verbose)
        cli_note(r->cli, "%s; %s; ended by: %s; seed %llu", run_stats_text(text, &r->chat.last), used,
                 generate_reason_name(res.reason), (unsigned long long)r->seed);
    else if (r->meter && !r->o.quiet && !r->o.json)
        cli_note(r->cli, "%s", used);
    return res.reason == GENERATE_CANCELLED && cli_interrupted() ? CLI_INTERRUPTED : CLI_OK;
}

/* ---- one answer ---- */

static int answer_once(struct run *r, const struct str *prompt)
{
    struct err e = { 0 };

    if (r->o.raw)
        return run_answer(r, str_cstr(prompt), prompt->len);
    if (prompt->len == 0)
        return cli_usage(r->cli, "the prompt is empty");
    if (memchr(prompt->data, 0, prompt->len))
        return cli_failf(r->cli, "the prompt has a zero byte");
    if (chat_add(&r->chat, "user", str_cstr(prompt), &e) < 0)
        return cli_fail(r->cli, &e);
    return run_answer(r, NULL, 0);
}

/* ---- a chat ---- */

/* $XDG_STATE_HOME/watt/history, its directory made; NULL when there is no home. */
static char *history_path(void)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    struct str s;
    char *path;

    if ((!state || !*state) && (!home || !*home))
        return NULL;
    str_init(&s, 4096);
    if (state && *state)
        str_puts(&s, state);
    else
        str_printf(&s, "%s/.local/state", home);
    str_puts(&s, "/watt");
    path = str_take(&s, NULL);
    str_deinit(&s);
    for (char *p = path ? strchr(path + 1, '/') : NULL; p; p = strchr(p + 1, '/')) {
        *p = '\0';
        (void)mkdir(path, 0700);
        *p = '/';
    }
    if (!path)
        return NULL;
    (void)mkdir(path, 0700);
    str_init(&s, 4096);
    str_printf(&s, "%s/history", path);
    mem_free(path);
    path = str_take(&s, NULL);
    str_deinit(&s);
    return path;
}

static void greet(const struct run *r)
{
    const struct model_facts *f = model_facts(r->model->model);

    if (r->o.quiet)
        return;
    (void)printf("%s · %s · %u tokens of context · /help for help\n", f->name[0] ? f->name : r->path,
                 f->arch, session_n_ctx(r->model->session));
}

static bool only_blanks(const struct str *s)
{
    for (size_t i = 0; i < s->len; i++)
        if (!strchr(" \t\r\n", s->data[i]))
            return false;
    return true;
}

/* One message of a person: a command or something to answer. */
static int take_message(struct run *r, const struct str *line)
{
    struct err e = { 0 };
    int code;

    if (only_blanks(line))
        return CLI_OK;
    if (line->data[0] == '/') {
        run_command(r, line->data);
        return cli_flush(r->cli);
    }
    if (r->o.raw)
        return run_answer(r, line->data, line->len);
    if (memchr(line->data, 0, line->len) || chat_add(&r->chat, "user", line->data, &e) < 0)
        return cli_failf(r->cli, "that is not valid UTF-8 text");
    code = run_answer(r, NULL, 0);
    (void)chat_drop_last(&r->chat, "user");     /* still last: there is no answer, it may be asked again */
    return code;
}

static int chat_loop(struct run *r, struct run_input *in)
{
    bool asked_to_leave = false;
    struct str line;
    int code = CLI_OK;

    str_init(&line, RUN_INPUT_MAX_BYTES + 1);
    while (!r->leave) {
        cli_clear_interrupt();
        switch (run_input_read(in, ">>> ", &line)) {
        case RUN_INPUT_END:
            (void)putchar('\n');
            r->leave = true;
            break;
        case RUN_INPUT_INTERRUPTED:
            if (asked_to_leave || cli_terminated()) {
                code = CLI_INTERRUPTED;
                r->leave = true;
            } else {
                (void)puts("(Ctrl-C again, Ctrl-D or /exit leaves)");
            }
            asked_to_leave = true;
            break;
        case RUN_INPUT_FAILED:
            (void)cli_failf(r->cli, "that message is too long, or memory is short");
            break;
        case RUN_INPUT_MESSAGE:
            asked_to_leave = false;
            (void)take_message(r, &line);
            break;
        }
        if (cli_flush(r->cli) != CLI_OK) {
            code = CLI_FAILURE;
            r->leave = true;
        } else if (cli_terminated()) {
            code = CLI_INTERRUPTED;
            r->leave = true;
        }
    }
    str_deinit(&line);
    cli_clear_interrupt();
    return code;
}

static int chat(struct run *r)
{
    char *path = r->o.history ? history_path() : NULL;
    struct run_input *in = NULL;
    struct err e = { 0 };
    int code;

    if (run_input_open(&in, path, run_command_words(), &e) < 0) {
        code = cli_fail(r->cli, &e);
    } else {
        greet(r);
        code = chat_loop(r, in);
    }
    run_input_close(in);
    mem_free(path);
    return code;
}

/* ---- the verb ---- */

/* The prompt from the command line, --file and standard input; *given: there is one. */
static int gather_prompt(const struct run *r, struct str *prompt, bool *given, struct err *e)
{
    const char *file = r->o.file;
    char *data = NULL;
    size_t size = 0;
    int rc;

    *given = r->cli->n_args > 1 || file || r->o.raw;
    if (r->cli->n_args > 1)
        str_puts(prompt, r->cli->args[1]);
    if (!file && r->cli->n_args <= 1 && !isatty(STDIN_FILENO)) {
        file = "-";
        *given = true;
    }
    if (!file)
        return 0;
    rc = file_read(file, MAX_PROMPT_BYTES, &data, &size, e);
    if (rc < 0)
        return rc;
    if (prompt->len > 0)
        str_putc(prompt, '\n');
    /* a message's last newline is the file's, a text to complete is kept as it is */
    if (!r->o.raw && size > 0 && data[size - 1] == '\n')
        size--;
    str_append(prompt, data, size);
    mem_free(data);
    return str_ok(prompt) ? 0 : err_set(e, WATT_ELIMIT, "the prompt is too long");
}

static void tell_model(const struct run *r)
{
    if (!r->model->tmpl && !r->o.raw && !r->o.quiet)
        cli_note(r->cli, "%s: %s; texts are completed as they are", r->path,
                 r->model->tmpl_why[0] ? r->model->tmpl_why : "has no chat template");
    if (r->o.verbose) {
        const struct model_facts *f = model_facts(r->model->model);

        cli_note(r->cli, "%s, %s, %u layers, context %u, %s, seed %llu", f->arch, f->quant, f->n_layers,
                 session_n_ctx(r->model->session), session_exec_name(r->model->session),
                 (unsigned long long)r->seed);
    }
}

static int run_opened(struct run *r, const struct str *prompt, bool given)
{
    struct chat_settings set;
    struct err e = { 0 };
    char text[256];
    int code;

    if (run_settings(r, &set, &e) < 0)
        return cli_fail(r->cli, &e);
    tell_model(r);
    if (!r->model->tmpl)
        r->o.raw = true;
    if (chat_open(&r->chat, r->model, &set, &e) < 0)
        return cli_fail(r->cli, &e);
    if (r->o.system && chat_set_system(&r->chat, r->o.system, &e) < 0)
        return cli_fail(r->cli, &e);
    code = given ? answer_once(r, prompt) : chat(r);
    if (!r->o.quiet && r->chat.total.n_answers > 0 && !(given && r->o.verbose)) {
        (void)fflush(stdout);
        (void)fprintf(stderr, "%s\n", run_stats_text(text, &r->chat.total));
    }
    return code;
}

static int run_run(const struct cli *c, const void *options)
{
    struct run r = { .cli = c, .o = *(const struct run_options *)options, .path = c->args[0] };
    struct str prompt;
    struct err e = { 0 };
    bool given = false;
    int code;

    if (r.o.mirostat == 1)
        return cli_usage(c, "--mirostat wants 0 or 2");
    if (!r.o.color)
        cli_no_color();
    r.seed = rng_mix((uint64_t)clock_wall_ns() ^ (uint64_t)getpid()) >> 12;
    str_init(&prompt, MAX_PROMPT_BYTES + 65536);
    run_view_init(&r.view, stdout);
    r.view.json = r.o.json;
    r.view.hide_reasoning = r.o.hide_reasoning;
    r.view.color = cli_color(stdout);
    if (gather_prompt(&r, &prompt, &given, &e) < 0) {
        code = cli_fail(c, &e);
    } else if (!given && r.o.json) {
        code = cli_usage(c, "--json answers one prompt: give it, or --file, or pipe it in");
    } else {
        cli_catch_interrupt();
        code = open_run(&r, &e) < 0 ? cli_fail(c, &e) : run_opened(&r, &prompt, given);
    }
    chat_close(&r.chat);
    text_model_close(r.model);
    meter_close(r.meter);
    run_view_deinit(&r.view);
    str_deinit(&prompt);
    return code;
}

const struct cli_verb verb_run = {
    .name = "run",
    .summary = "chat with a model, or complete a text",
    .usage = "MODEL [PROMPT]",
    .about = "Answers PROMPT, or what is piped in, and ends; without either it chats. MODEL is a GGUF "
             "file or a Hugging Face folder. At the end the speed of prefill and decode and the time to the first token go to "
             "standard error.",
    .examples = "watt run model.gguf\n"
                "watt run model.gguf 'Why is the sky blue?' --temp 0\n"
                "git diff | watt run model.gguf --system 'Write a commit message.'\n"
                "watt run model.gguf 'Summarise:' --file report.txt\n"
                "watt run model.gguf --raw 'Once upon a time' --n 200 --seed 7\n"
                "watt run model.gguf 'hello' --json | jq -r 'select(.type==\"done\").text'",
    .options = run_option_table,
    .defaults = &run_option_defaults,
    .options_size = sizeof(struct run_options),
    .min_args = 1, .max_args = 2,
    .run = run_run,
};
