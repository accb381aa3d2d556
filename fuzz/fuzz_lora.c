/* fuzz_lora.c: opens arbitrary bytes as an adapter. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "models/lora.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    void *copy = aligned_alloc(8, (size + 15) / 8 * 8);
    struct lora *l = NULL;
    struct gguf *g = NULL;
    struct err e;

    if (!copy)
        return 0;
    memcpy(copy, data, size);
    if (gguf_open_memory(&g, copy, size, "input", &e) == 0 && lora_open_gguf(&l, g, 1, &e) == 0)
        lora_close(l);
    free(copy);
    return 0;
}
