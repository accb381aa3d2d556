/* template.c: opens and renders chat templates; see template.h. The work is in
 * the jinja_ files: lex, parse, resolve here once, evaluate at each render. */
#include "models/template.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "models/jinja_run.h"

#define NAME_MAX_BYTES 200
#define PARSE_MEMORY_MAX ((size_t)256 << 20)
#define PARSE_STEPS_MAX 200000000u

static uint64_t or_default(uint64_t v, uint64_t standard) { return v ? v : standard; }

void template_close(struct template *t)
{
    if (!t)
        return;
    jmem_deinit(&t->mem);
    mem_free(t->name);
    mem_free(t);
}

/* The one setjmp of parsing: whatever fails below comes back here. */
static int guarded_parse(struct jrt *rt, struct template *t, const char *source, size_t n)
{
    const int rc = setjmp(rt->fail);

    if (rc != 0)
        return rc;
    jparse(rt, t, source, n);
    jresolve(rt, t);
    return 0;
}

int template_open(struct template **out, const char *source, size_t n, const char *name,
                  struct err *e)
{
    struct jrt *rt;
    struct template *t;
    int rc;

    name = name ? name : "template";
    if (n > TEMPLATE_SOURCE_MAX)
        return err_set(e, WATT_ELIMIT, "%.200s: a template of %zu bytes, at most %zu are allowed",
                       name, n, TEMPLATE_SOURCE_MAX);
    if (!utf8_valid(source, n))
        return err_set(e, WATT_EFORMAT, "%.200s: the template is not valid UTF-8", name);
    t = mem_calloc(1, sizeof *t);
    rt = mem_calloc(1, sizeof *rt);
    if (t)
        t->name = mem_strndup(name, strnlen(name, NAME_MAX_BYTES));
    if (!t || !rt || !t->name) {
        mem_free(rt);
        template_close(t);
        return err_set(e, WATT_ENOMEM, "%.200s: no memory for a template", name);
    }
    rt->e = e;
    rt->name = t->name;
    rt->mem.limit = PARSE_MEMORY_MAX;
    rt->steps_max = PARSE_STEPS_MAX;
    rt->depth_max = UINT32_MAX;          /* the parser bounds heights itself */
    rc = guarded_parse(rt, t, source, n);
    t->mem = rt->mem;
    mem_free(rt);
    if (rc < 0) {
        template_close(t);
        return rc;
    }
    *out = t;
    return 0;
}

static void add_token(struct jrt *rt, const char *name, struct sv token)
{
    if (token.data && !jdict_get_z(rt, rt->vars, name))
        jdict_set(rt, rt->vars, jv_strz(rt, name), jv_str(jstr_view(rt, token.data, token.len)));
}

static void render(struct jrt *rt, const struct template_input *in)
{
    struct jval vars;

    if (in->vars && !json_is_object(in->vars))
        jraise(rt, "the variables are not a JSON object");
    if (in->vars)
        vars = jv_from_json(rt, in->vars);
    else
        vars = (struct jval){ .kind = J_DICT, .u.dict = jdict_new(rt, 2) };
    rt->vars = vars.u.dict;
    add_token(rt, "bos_token", in->bos_token);
    add_token(rt, "eos_token", in->eos_token);
    rt->root = jframe_new(rt, NULL, rt->t->n_slots);
    jenter_scope(rt, rt->root, &rt->t->scope);
    jexec(rt, rt->root, &rt->t->body);
}

static int guarded_render(struct jrt *rt, const struct template_input *in)
{
    const int rc = setjmp(rt->fail);

    if (rc != 0)
        return rc;
    render(rt, in);
    return 0;
}

int template_render(const struct template *t, const struct template_input *in, struct str *out,
                    struct err *e)
{
    const struct template_limits *l = &in->limits;
    const uint64_t time_ms = or_default(l->time_ms, 2000);
    struct jrt rt = {
        .e = e, .name = t->name, .t = t, .out = out, .out_start = out->len,
        .out_max = or_default(l->output_bytes, (size_t)16 << 20),
        .steps_max = or_default(l->steps, 50000000),
        .iterations_max = or_default(l->iterations, 4000000),
        .depth_max = (uint32_t)or_default(l->depth, 1500),
        .deadline_ns = clock_mono_ns() + time_ms * 1000000,
        .has_now = in->has_now, .now_s = in->now_s, .utc_offset_s = in->utc_offset_s,
    };
    int rc;

    rt.mem.limit = or_default(l->memory_bytes, (size_t)64 << 20);
    if (out->failed)
        return err_set(e, WATT_EINVAL, "%s: the output has failed before", t->name);
    rc = guarded_render(&rt, in);
    jmem_deinit(&rt.mem);
    if (rc < 0) {
        out->failed = false;
        out->len = rt.out_start;
        if (out->data)
            out->data[out->len] = '\0';
    }
    return rc;
}

bool template_mentions(const struct template *t, const char *variable)
{
    for (uint32_t i = 0; i < t->names.n; i++)
        if (jstr_is(t->names.v[i], variable))
            return true;
    return false;
}

const char *template_default(void)
{
    return
        "{%- for message in messages %}\n"
        "{{- '<|im_start|>' + message.role + '\\n' }}\n"
        "{%- if message.content is string %}\n"
        "{{- message.content }}\n"
        "{%- elif message.content is iterable %}\n"
        "{%- for part in message.content if part.type == 'text' %}{{- part.text }}{%- endfor %}\n"
        "{%- endif %}\n"
        "{{- '<|im_end|>\\n' }}\n"
        "{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n"
        "{{- '<|im_start|>assistant\\n' }}\n"
        "{%- endif %}\n";
}
