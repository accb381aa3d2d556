/* serve_json.h: values of the answers of serve_rig.h by their way in the document. */
#ifndef TESTS_SERVE_JSON_H
#define TESTS_SERVE_JSON_H

#include "serve_rig.h"

/* A value by its way, "content.0.text"; NULL: not there. */
static inline const json_t *at(const json_t *j, const char *way)
{
    char key[64];

    while (j && *way) {
        const size_t n = strcspn(way, ".");

        (void)snprintf(key, sizeof key, "%.*s", (int)n, way);
        j = json_is_array(j) ? json_array_get(j, strtoul(key, NULL, 10)) : json_object_get(j, key);
        way += n + (way[n] == '.');
    }
    return j;
}

static inline const char *text_at(const json_t *j, const char *way)
{
    const char *s = json_string_value(at(j, way));

    if (!s)
        fail_msg("%s is no string in %s", way, answer);
    return s ? s : "";
}

static inline long long int_at(const json_t *j, const char *way)
{
    if (!json_is_integer(at(j, way)))
        fail_msg("%s is no integer in %s", way, answer);
    return json_integer_value(at(j, way));
}

/* The answer to a request that is answered. */
static inline json_t *posted(const char *path, const char *body)
{
    if (post(path, body) != 200)
        fail_msg("%s %s: %s", path, body, answer);
    return parsed();
}

struct wrong { const char *path, *body; int status; const char *needle; };

static inline void refuses(const struct wrong *cases, size_t n, const char *shape)
{
    for (size_t i = 0; i < n; i++) {
        const int status = post(cases[i].path, cases[i].body);

        if (status != cases[i].status || !strstr(answer, cases[i].needle) ||
            strncmp(answer, shape, strlen(shape)) != 0)
            fail_msg("%s %s: %d %s", cases[i].path, cases[i].body, status, answer);
    }
}

#endif
