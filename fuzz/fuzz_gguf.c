/* fuzz_gguf.c: opens arbitrary bytes as a GGUF file and reads everything in it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "models/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint8_t sink;

static void read_value(const struct gguf *g, const struct gguf_kv *kv)
{
    const uint64_t n = kv->n < 4096 ? kv->n : 4096;
    int64_t v;
    double d;
    struct sv s;

    for (uint64_t i = 0; i <= n; i++) {
        (void)gguf_elem_i64(kv, i, &v);
        (void)gguf_elem_f64(kv, i, &d);
        if (gguf_elem_str(g, kv, i, &s) && s.len > 0)
            sink = (uint8_t)s.data[s.len - 1];
    }
}

static void read_typed(const struct gguf *g, const char *key)
{
    struct err e;
    uint32_t u32;
    uint64_t u64;
    float f;
    bool b;
    struct sv s;

    (void)!gguf_get_u32(g, key, &u32, &e);
    (void)!gguf_get_u64(g, key, &u64, &e);
    (void)!gguf_get_f32(g, key, &f, &e);
    (void)!gguf_get_bool(g, key, &b, &e);
    (void)!gguf_get_str(g, key, &s, &e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf *g;
    struct err e;
    uint8_t *copy = malloc(size ? size : 1);     /* exact, so that overreads are seen */

    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    if (gguf_open_memory(&g, copy, size, "fuzz", &e) < 0) {
        if (strncmp(e.msg, "fuzz: ", 6) != 0)
            abort();
        free(copy);
        return 0;
    }
    for (size_t i = 0; i < gguf_n_kv(g); i++) {
        const struct gguf_kv *kv = gguf_kv_at(g, i);
        char key[64];

        read_value(g, kv);
        if (kv->key.len < sizeof key) {
            memcpy(key, kv->key.data, kv->key.len);
            key[kv->key.len] = '\0';
            if (gguf_find(g, key) != kv)
                abort();
            read_typed(g, key);
        }
    }
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct tensor *t = &gguf_tensor_at(g, i)->t;

        sink = ((const uint8_t *)t->data)[0];
        sink = ((const uint8_t *)t->data)[t->size_bytes - 1];
    }
    gguf_close(g);
    free(copy);
    return 0;
}
