/* bench_template.c: how long a render takes: every template of a folder with a
 * chat of 20 messages, the median over many renders, without parsing.
 *
 *     bench_template FOLDER [RENDERS]
 */
#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "models/template.h"

#define RENDERS_MAX 100000
#define FILES_MAX 1000

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return n ? v[n / 2] : 0;
}

static json_t *chat_vars(void)
{
    json_t *messages = json_array();

    json_array_append_new(messages, json_pack("{s:s,s:s}", "role", "system", "content",
                                              "You are a helpful assistant. Answer briefly."));
    for (int i = 1; i < 20; i++) {
        char text[256];

        snprintf(text, sizeof text, "Message %d of the conversation, about as long as people "
                 "write them: two sentences, some punctuation. Nothing special here, really.", i);
        json_array_append_new(messages, json_pack("{s:s,s:s}", "role", i % 2 ? "user" : "assistant",
                                                  "content", text));
    }
    /* The last one is the user's. */
    return json_pack("{s:o,s:b,s:s}", "messages", messages, "add_generation_prompt", 1,
                     "date_string", "26 Jul 2026");
}

struct measure { double parse_us, render_us; size_t bytes; };

static int measure(const char *path, const json_t *vars, size_t renders, double *times,
                   struct measure *m, struct err *e)
{
    struct template_input in = { .vars = vars, .bos_token = SV("<s>"), .eos_token = SV("</s>"),
                                 .has_now = true, .now_s = 1785067200 };
    struct template *t = NULL;
    struct str out;
    size_t n;
    char *source;
    uint64_t start;
    int rc = file_read(path, TEMPLATE_SOURCE_MAX, &source, &n, e);

    if (rc < 0)
        return rc;
    str_init(&out, 0);
    start = clock_mono_ns();
    rc = template_open(&t, source, n, path, e);
    m->parse_us = (double)(clock_mono_ns() - start) * 1e-3;
    for (size_t i = 0; rc == 0 && i < renders; i++) {
        str_reset(&out);
        start = clock_mono_ns();
        rc = template_render(t, &in, &out, e);
        times[i] = (double)(clock_mono_ns() - start) * 1e-3;
    }
    m->render_us = median(times, renders);
    m->bytes = out.len;
    template_close(t);
    str_deinit(&out);
    mem_free(source);
    return rc;
}

int main(int argc, char **argv)
{
    const size_t renders = argc > 2 ? (size_t)strtoul(argv[2], NULL, 10) : 200;
    static double times[RENDERS_MAX], medians[FILES_MAX], parses[FILES_MAX];
    json_t *vars = chat_vars();
    struct dirent **names = NULL;
    size_t n = 0;
    int n_names;

    if (argc < 2 || renders < 1 || renders > RENDERS_MAX) {
        fprintf(stderr, "usage: bench_template FOLDER [RENDERS]\n");
        return 2;
    }
    n_names = scandir(argv[1], &names, NULL, alphasort);
    for (int i = 0; i < n_names && n < FILES_MAX; i++) {
        const char *name = names[i]->d_name;
        struct measure m;
        struct err e;
        char path[4096];

        if (strlen(name) > 6 && strcmp(name + strlen(name) - 6, ".jinja") == 0) {
            snprintf(path, sizeof path, "%s/%s", argv[1], name);
            if (measure(path, vars, renders, times, &m, &e) < 0) {
                printf("%-60s %s\n", name, e.msg);
            } else {
                printf("%-60s parse %7.1f us  render %7.1f us  %6zu bytes\n", name, m.parse_us,
                       m.render_us, m.bytes);
                parses[n] = m.parse_us;
                medians[n++] = m.render_us;
            }
        }
        free(names[i]);
    }
    free(names);
    if (n) {
        const double middle = median(medians, n);      /* sorts them */

        printf("%zu templates: median render %.1f us, slowest %.1f us; median parse %.1f us\n", n,
               middle, medians[n - 1], median(parses, n));
    }
    json_decref(vars);
    return n ? 0 : 1;
}
