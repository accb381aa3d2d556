/* fuzz_safetensors.c: arbitrary bytes as a safetensors file; all that opens is read. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "models/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint8_t sink;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors *st;
    struct err e;
    uint8_t *copy = malloc(size ? size : 1);     /* exact, so that overreads are seen */

    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    if (safetensors_open_memory(&st, copy, size, "fuzz", &e) < 0) {
        if (strncmp(e.msg, "fuzz: ", 6) != 0)
            abort();
        free(copy);
        return 0;
    }
    for (size_t i = 0; i < safetensors_n_tensors(st); i++) {
        const struct safetensors_tensor *t = safetensors_at(st, i);
        char name[SAFETENSORS_MAX_NAME_BYTES + 1];

        memcpy(name, t->name.data, t->name.len);
        name[t->name.len] = '\0';
        if (safetensors_find(st, name) != t)
            abort();
        if (t->size_bytes) {
            sink = t->data[0];
            sink = t->data[t->size_bytes - 1];
        }
    }
    safetensors_close(st);
    free(copy);
    return 0;
}
