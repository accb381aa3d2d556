/* template_cases.c: renders many templates for a reference script: reads lines of
 * {"template", "vars"} on standard input and answers each with {"text"} or
 * {"error"}. The clock stands at 2026-07-26 12:00. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/template.h"

static json_t *answer(const json_t *row)
{
    const json_t *source = json_object_get(row, "template");
    struct template_input in = { .vars = json_object_get(row, "vars"), .has_now = true,
                                 .now_s = 1785067200 };
    struct template *t = NULL;
    struct str out;
    struct err e = { 0 };
    json_t *r;

    str_init(&out, 0);
    if (template_open(&t, json_string_value(source), json_string_length(source), "case", &e) < 0 ||
        template_render(t, &in, &out, &e) < 0)
        r = json_pack("{s:s}", "error", e.msg);
    else
        r = json_pack("{s:s#}", "text", str_cstr(&out), (int)out.len);
    template_close(t);
    str_deinit(&out);
    return r;
}

int main(void)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;

    while ((n = getline(&line, &cap, stdin)) > 0) {
        json_t *row = json_loadb(line, (size_t)n, JSON_ALLOW_NUL, NULL), *r;

        if (!row || !json_is_string(json_object_get(row, "template"))) {
            fprintf(stderr, "template_cases: a line is not a case\n");
            return 1;
        }
        r = answer(row);
        if (!r)
            r = json_pack("{s:s}", "error", "the text is not UTF-8");
        json_dumpf(r, stdout, JSON_COMPACT);
        putchar('\n');
        fflush(stdout);
        json_decref(r);
        json_decref(row);
    }
    free(line);
    return 0;
}
