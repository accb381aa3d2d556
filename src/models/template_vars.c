/* template_vars.c: what templates of another convention take in place of tools. */
#include "models/template_vars.h"

#include <time.h>

static bool takes_functions(const struct template *t)
{
    return template_mentions(t, "functions") && !template_mentions(t, "tools");
}

bool template_takes_tools(const struct template *t)
{
    return template_mentions(t, "tools") || takes_functions(t);
}

static int put_text(const char *data, size_t n, void *str)
{
    str_append(str, data, n);
    return str_ok(str) ? 0 : -1;
}

/* The functions of tools as JSON, as Python's json.dumps(…, indent=4) writes them but for escapes. */
static json_t *functions_text(const json_t *tools)
{
    json_t *list = json_array(), *tool, *text = NULL;
    struct str s;
    size_t i;
    bool ok = list;

    str_init(&s, 0);
    json_array_foreach(tools, i, tool) {
        json_t *f = json_object_get(tool, "function");

        ok = ok && json_array_append(list, f ? f : tool) == 0;
    }
    if (ok && json_dump_callback(list, put_text, &s, JSON_INDENT(4)) == 0 && str_ok(&s))
        text = json_stringn(s.data, s.len);
    str_deinit(&s);
    json_decref(list);
    return text;
}

static json_t *hour_text(int64_t now_s)
{
    const time_t hour = (time_t)(now_s - now_s % 3600);
    char text[40] = "";
    struct tm tm;

    if (!gmtime_r(&hour, &tm) || strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
        return NULL;
    return json_string(text);
}

/* A copy of the variables and what they lack; NULL: no memory. */
static json_t *completed(const json_t *vars, int64_t now_s)
{
    json_t *all = vars ? json_copy((json_t *)(uintptr_t)vars) : json_object();
    bool ok = all;

    if (ok && !json_object_get(all, "functions"))
        ok = json_object_set_new(all, "functions", functions_text(json_object_get(all, "tools"))) == 0;
    if (ok && !json_object_get(all, "datetime"))
        ok = json_object_set_new(all, "datetime", hour_text(now_s)) == 0;
    if (!ok) {
        json_decref(all);
        all = NULL;
    }
    return all;
}

int template_render_chat(const struct template *t, const struct template_input *in, struct str *out,
                         struct err *e)
{
    struct template_input with = *in;
    json_t *all;
    int rc;

    if (!takes_functions(t))
        return template_render(t, in, out, e);
    all = completed(in->vars, in->has_now ? in->now_s : (int64_t)time(NULL));
    if (!all)
        return err_set(e, WATT_ENOMEM, "template variables");
    with.vars = all;
    rc = template_render(t, &with, out, e);
    json_decref(all);
    return rc;
}
