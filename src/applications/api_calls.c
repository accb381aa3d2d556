/* api_calls.c: calls of tools in answers: taken out of the text, kept, and told to the surface. */
#include <stdio.h>
#include <string.h>

#include "applications/api.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"

static uint32_t index_of(const struct api_choice *x)
{
    return (uint32_t)(x - x->run->choices);
}

static bool streams(const struct api_choice *x)
{
    return x->run->stream && !x->run->failed;
}

static void content(void *ctx, struct sv text)
{
    struct api_choice *x = ctx;

    str_append(&x->answer, text.data, text.len);
    if (streams(x))
        x->run->frame->delta(x->run, index_of(x), (struct sv){ "", 0 }, text);
}

static void reasoning(void *ctx, struct sv text)
{
    struct api_choice *x = ctx;

    if (x->run->reasoning_in_text) {
        content(ctx, text);
        return;
    }
    str_append(&x->reasoning, text.data, text.len);
    if (streams(x))
        x->run->frame->delta(x->run, index_of(x), text, (struct sv){ "", 0 });
}

/* The model's own id where it wrote one, else one as its template takes it. */
static char *id_of(struct api_choice *x, struct sv given)
{
    static const char letters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const struct tool_format *f = x->run->m->tm->tools;
    const char *prefix = f->short_ids ? "" : x->run->frame->call_id ? x->run->frame->call_id : "call_";
    char id[API_ID_BYTES];
    uint64_t v = rng_mix(clock_mono_ns() ^ atomic_fetch_add(&x->run->s->next_id, 1) << 40);
    size_t n = strlen(prefix), end = n + (f->short_ids ? 9 : 24);

    if (given.len > 0)
        return mem_strndup(given.data, given.len);
    memcpy(id, prefix, n);
    for (; n < end; n++, v = rng_mix(v))
        id[n] = letters[v % (sizeof letters - 1)];
    return mem_strndup(id, n);
}

static void begin(void *ctx, uint32_t call, struct sv name, struct sv id)
{
    struct api_choice *x = ctx;
    struct api_toolcall *c;

    if (x->n_calls == x->cap_calls) {
        const uint32_t cap = x->cap_calls ? x->cap_calls * 2 : 4;

        c = mem_grow(x->calls, cap, sizeof *c);
        if (!c) {
            api_run_short(x->run);
            return;
        }
        x->calls = c;
        x->cap_calls = cap;
    }
    if (call != x->n_calls)             /* one before it found no memory */
        return;
    c = &x->calls[x->n_calls];
    *c = (struct api_toolcall){ .id = id_of(x, id), .name = mem_strndup(name.data, name.len) };
    str_init(&c->args, 0);
    x->n_calls++;
    if (!c->id || !c->name)
        api_run_short(x->run);
    else if (streams(x) && x->run->frame->call_begin)
        x->run->frame->call_begin(x->run, index_of(x), call);
}

static void arguments(void *ctx, uint32_t call, struct sv json)
{
    struct api_choice *x = ctx;

    if (call >= x->n_calls)
        return;
    str_append(&x->calls[call].args, json.data, json.len);
    if (!str_ok(&x->calls[call].args))
        api_run_short(x->run);
    else if (streams(x) && x->run->frame->call_piece)
        x->run->frame->call_piece(x->run, index_of(x), call, json);
}

static void end(void *ctx, uint32_t call, bool complete)
{
    struct api_choice *x = ctx;

    if (call >= x->n_calls)
        return;
    x->calls[call].complete = complete;
    if (streams(x) && x->run->frame->call_end)
        x->run->frame->call_end(x->run, index_of(x), call);
}

static const struct tool_sink sink = {
    .content = content, .reasoning = reasoning, .begin = begin, .arguments = arguments, .end = end,
};

int api_calls_open(struct api_run *r, struct api_choice *x, const json_t *tools, struct err *e)
{
    return tool_parser_open(&x->parser, r->m->tm->tools, tools, &sink, x, e);
}

void api_calls_deinit(struct api_choice *x)
{
    tool_parser_close(x->parser);
    for (uint32_t i = 0; i < x->n_calls; i++) {
        mem_free(x->calls[i].id);
        mem_free(x->calls[i].name);
        str_deinit(&x->calls[i].args);
    }
    mem_free(x->calls);
    str_deinit(&x->unparsed);
}

bool api_has_calls(const struct api_choice *x)
{
    return x->finish == SERVICE_STOP && x->n_calls > 0 && x->calls[x->n_calls - 1].complete;
}

json_t *api_call_arguments(const struct api_toolcall *call)
{
    json_t *v = call->complete ? json_loadb(str_cstr(&call->args), call->args.len, 0, NULL) : NULL;

    if (json_is_object(v))
        return v;
    json_decref(v);
    return json_object();
}
