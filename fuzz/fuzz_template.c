/* fuzz_template.c: arbitrary template text, up to a NUL, rendered with the JSON
 * after it or with some variables of a chat. */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "models/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char chat[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\" h\\u00e9 \"},"
    "{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"x\"}],\"tool_calls\":"
    "[{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1,\"b\":[2.5,null,true]}}}]}],"
    "\"tools\":[{\"type\":\"function\"}],\"add_generation_prompt\":true,\"n\":7,\"f\":-2.5,"
    "\"s\":\"one, two\",\"l\":[3,1,2],\"d\":{\"b\":1,\"a\":2}}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    const size_t n = nul ? (size_t)(nul - data) : size;
    struct template_input in = {
        .has_now = true, .now_s = 1785067200, .bos_token = SV("<s>"), .eos_token = SV("</s>"),
        .limits = { .output_bytes = 1 << 20, .memory_bytes = 4 << 20, .steps = 300000,
                    .iterations = 30000, .time_ms = 1000 },
    };
    struct template *t;
    struct str out;
    struct err e;
    json_t *vars;

    if (template_open(&t, (const char *)data, n, "fuzz", &e) < 0)
        return 0;
    vars = nul ? json_loadb((const char *)nul + 1, size - n - 1, JSON_ALLOW_NUL, NULL) : NULL;
    if (!json_is_object(vars)) {
        json_decref(vars);
        vars = json_loads(chat, 0, NULL);
    }
    in.vars = vars;
    str_init(&out, 0);
    if (template_render(t, &in, &out, &e) < 0 && (out.len != 0 || e.msg[0] == '\0'))
        abort();                         /* a failure leaves no text and says why */
    str_deinit(&out);
    template_close(t);
    json_decref(vars);
    return 0;
}
