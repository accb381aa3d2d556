/* fuzz_json.c: any bytes as JSON: parsed within limits, then read through every
 * place of the document as every kind, and written back as strings. */
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "base/utf8.h"

static void visit(const struct json_place *at)
{
    struct json_place found;
    struct str text;
    struct err e;
    struct sv s;
    const char *z;
    const char *key;
    json_t *member;
    uint64_t u;
    int64_t i;
    double d;
    size_t n;
    bool b;

    if (json_read_u64(at, 1, UINT64_MAX, &u, &e) == 0)
        CHECK(u >= 1);
    if (json_read_i64(at, INT64_MIN, -1, &i, &e) == 0)
        CHECK(i < 0);
    if (json_read_double(at, -1, 1, &d, &e) == 0)
        CHECK(d >= -1 && d <= 1);
    (void)!json_read_bool(at, &b, &e);
    (void)!json_read_cstr(at, &z, &e);
    if (json_read_str(at, &s, &e) == 0) {
        str_init(&text, 0);
        json_put_str(&text, s);
        CHECK(!str_ok(&text) || utf8_valid(text.data, text.len));
        str_deinit(&text);
    } else {
        CHECK(e.msg[0] && utf8_valid(e.msg, sizeof e.msg));
    }
    if (json_find(at, "a", &found, &e) == 0 && found.value)
        CHECK(json_is_object(at->value));
    if (json_read_array(at, 100, &n, &e) == 0)
        for (size_t k = 0; k < n; k++) {
            const struct json_place item = json_item(at, k);

            visit(&item);
        }
    if (json_is_object(at->value))
        json_object_foreach((json_t *)(uintptr_t)at->value, key, member)
            if (json_need(at, key, &found, &e) == 0)
                visit(&found);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct json_limits limits = { .max_bytes = 1 << 16, .max_depth = 200 };
    struct json_place root;
    json_t *doc;
    struct err e;

    if (json_parse(&doc, "input", data, size, &limits, &e) < 0)
        return 0;
    root = json_root(doc, "input");
    visit(&root);
    json_close(doc);
    return 0;
}
