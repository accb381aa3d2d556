/* fuzz_api_request.c: any bytes as method, path and headers of a request, before servers with and
 * without keys: lines of them, in that order. */
#include "api_rig.h"

static const char *const headers[] = { "Authorization", "x-api-key", "api-key", "X-Request-Id",
                                       "Origin", "anthropic-version" };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http_exchange x = { .method = "GET", .path = "/", .body = { "{}", 2 } };
    static bool keyed;
    struct err e;
    char *text = mem_alloc(size + 1), *line = text;

    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    for (size_t i = 0; line && i < 2 + sizeof headers / sizeof *headers; i++) {
        char *end = strchr(line, '\n');

        if (end)
            *end = '\0';
        if (i == 0)
            x.method = line;
        else if (i == 1)
            x.path = line;
        else if (*line) {
            x.names[i - 2] = headers[i - 2];
            x.values[i - 2] = line;
        }
        line = end ? end + 1 : NULL;
    }
    if (!rig.models)
        rig_open();
    if (!keyed)
        rig_must(api_keys_add(rig.keys, "secret", &e), &e);
    keyed = true;
    rig.cors = size % 2 ? "*" : NULL;
    rig_ask(&x);
    mem_free(text);
    return 0;
}
