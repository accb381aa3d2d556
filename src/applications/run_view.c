/* run_view.c: answers on their way to the reader; see run_view.h. */
#include "applications/run_view.h"

#include <string.h>

#include "applications/progress.h"
#include "base/clock.h"
#include "base/json.h"

void run_view_init(struct run_view *v, FILE *out)
{
    *v = (struct run_view){ .out = out, .split = true };
    think_init(&v->think);
    str_init(&v->reasoning, 0);
    str_init(&v->answer, 0);
    str_init(&v->now_reasoning, 0);
    str_init(&v->now_answer, 0);
}

void run_view_deinit(struct run_view *v)
{
    think_deinit(&v->think);
    str_deinit(&v->reasoning);
    str_deinit(&v->answer);
    str_deinit(&v->now_reasoning);
    str_deinit(&v->now_answer);
}

void run_view_prompt(void *ctx, const char *text, size_t len)
{
    struct run_view *v = ctx;

    str_reset(&v->reasoning);
    str_reset(&v->answer);
    v->last = VIEW_NOTHING;
    v->at_line_start = true;
    think_begin(&v->think, text, len);
}

/* ---- text ---- */

static void show(struct run_view *v, const struct str *s)
{
    if (s->len == 0)
        return;
    if (fwrite(s->data, 1, s->len, v->out) != s->len)
        v->failed = true;
    v->at_line_start = s->data[s->len - 1] == '\n';
}

static void show_text(struct run_view *v)
{
    if (v->now_reasoning.len > 0 && !v->hide_reasoning) {
        if (v->color && v->last != VIEW_REASONING)
            (void)fputs("\033[2m", v->out);
        show(v, &v->now_reasoning);
        v->last = VIEW_REASONING;
    }
    if (v->now_answer.len > 0) {
        if (v->last == VIEW_REASONING)
            (void)fputs(v->color ? "\033[0m\n\n" : "\n\n", v->out);
        show(v, &v->now_answer);
        v->last = VIEW_ANSWER;
    }
}

/* ---- JSON ---- */

static void json_text(struct str *line, const char *key, const struct str *text)
{
    str_printf(line, ", \"%s\": ", key);
    json_put_str(line, (struct sv){ str_cstr(text), text->len });
}

static void put_line(struct run_view *v, struct str *line)
{
    str_putc(line, '\n');
    if (!str_ok(line) || fwrite(line->data, 1, line->len, v->out) != line->len)
        v->failed = true;
    str_deinit(line);
}

static void show_json(struct run_view *v, int32_t id)
{
    struct str line;

    str_init(&line, 0);
    str_puts(&line, "{\"type\": \"token\"");
    if (id >= 0)
        str_printf(&line, ", \"id\": %d", id);
    if (v->now_reasoning.len > 0)
        json_text(&line, "reasoning", &v->now_reasoning);
    json_text(&line, "text", &v->now_answer);
    str_putc(&line, '}');
    put_line(v, &line);
}

/* ---- steps ---- */

static void flush_step(struct run_view *v, int32_t id)
{
    str_append(&v->reasoning, str_cstr(&v->now_reasoning), v->now_reasoning.len);
    str_append(&v->answer, str_cstr(&v->now_answer), v->now_answer.len);
    if (v->json)
        show_json(v, id);
    else
        show_text(v);
    if (fflush(v->out) != 0 || !str_ok(&v->reasoning) || !str_ok(&v->answer)
        || !str_ok(&v->now_answer) || !str_ok(&v->now_reasoning) || !str_ok(&v->think.held))
        v->failed = true;
}

int run_view_token(void *ctx, const struct generated *g)
{
    struct run_view *v = ctx;

    str_reset(&v->now_reasoning);
    str_reset(&v->now_answer);
    if (v->split)
        think_push(&v->think, g->text.data, g->text.len, &v->now_reasoning, &v->now_answer);
    else
        str_append(&v->now_answer, g->text.data, g->text.len);
    if (v->json || v->now_reasoning.len > 0 || v->now_answer.len > 0)
        flush_step(v, g->id);
    return v->failed;
}

void run_view_end(struct run_view *v, bool new_line)
{
    str_reset(&v->now_reasoning);
    str_reset(&v->now_answer);
    if (v->split)
        think_finish(&v->think, &v->now_reasoning, &v->now_answer);
    if (v->now_reasoning.len > 0 || v->now_answer.len > 0)
        flush_step(v, -1);
    if (!v->json && v->last == VIEW_REASONING && v->color)
        (void)fputs("\033[0m", v->out);
    if (!v->json && new_line && !v->at_line_start)
        (void)fputc('\n', v->out);
    if (fflush(v->out) != 0)
        v->failed = true;
}

/* ---- sums ---- */

static double rate(uint64_t n, uint64_t ns)
{
    return ns > 0 ? (double)n / clock_seconds(ns) : 0;
}

const char *run_stats_text(char buf[256], const struct chat_stats *s)
{
    char first[32];

    if (s->n_generated == 0)
        (void)snprintf(buf, 256, "prefill %llu tokens, %.1f tokens/s; no token generated",
                       (unsigned long long)s->n_prompt, rate(s->n_prompt, s->prefill_ns));
    else
        (void)snprintf(buf, 256, "prefill %llu tokens, %.1f tokens/s; decode %llu tokens, %.1f tokens/s; "
                       "first token after %s",
                       (unsigned long long)s->n_prompt, rate(s->n_prompt, s->prefill_ns),
                       (unsigned long long)s->n_generated, rate(s->n_decode, s->decode_ns),
                       format_seconds(first, clock_seconds(s->first_token_ns)));
    if (s->n_steps > 0)
        (void)snprintf(buf + strlen(buf), 256 - strlen(buf), "; %llu steps, %.2f tokens each",
                       (unsigned long long)s->n_steps,
                       (double)s->n_generated / (double)s->n_steps);
    return buf;
}

void run_view_done(struct run_view *v, const char *model, uint64_t seed,
                   const struct generate_result *r, const struct chat_stats *s,
                   const char *energy)
{
    struct str line;

    str_init(&line, 0);
    str_puts(&line, "{\"type\": \"done\", \"model\": ");
    json_put_str(&line, sv_cstr(model));
    str_printf(&line, ", \"reason\": \"%s\", \"seed\": %llu", generate_reason_name(r->reason),
               (unsigned long long)seed);
    if (v->reasoning.len > 0)
        json_text(&line, "reasoning", &v->reasoning);
    json_text(&line, "text", &v->answer);
    str_printf(&line, ", \"timings\": {\"cache_n\": %llu, \"prompt_n\": %u, \"prompt_ms\": %.3f, "
               "\"prompt_per_second\": %.3f, \"predicted_n\": %u, \"predicted_ms\": %.3f, "
               "\"predicted_per_second\": %.3f, \"first_token_ms\": %.3f",
               (unsigned long long)s->n_cached, r->n_prompt, (double)r->prefill_ns * 1e-6,
               rate(r->n_prompt, r->prefill_ns), r->n_generated, (double)r->decode_ns * 1e-6,
               rate(s->n_decode, r->decode_ns), (double)r->first_token_ns * 1e-6);
    if (r->n_steps > 0)
        str_printf(&line, ", \"steps\": %u", r->n_steps);
    str_puts(&line, "}");
    if (energy)
        str_printf(&line, ", \"energy\": %s", energy);
    str_puts(&line, "}");
    put_line(v, &line);
    (void)fflush(v->out);
}
