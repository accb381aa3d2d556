/* fuzz_config.c: arbitrary bytes as a config.json; what is accepted must be usable. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "models/hf_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int look(void *ctx, const struct shape_tensor *t)
{
    unsigned *n = ctx;

    if (t->n_dims < 1 || t->name[0] == '\0')
        abort();
    for (int i = 0; i < t->n_dims; i++) {
        if (t->shape[i] <= 0)
            abort();
    }
    return ++*n > 1000;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct shape s;
    struct err e;
    unsigned n = 0;

    if (hf_config_parse(&s, "fuzz", data, size, &e) < 0)
        return strncmp(e.msg, "fuzz", 4) == 0 ? 0 : (abort(), 0);
    if (shape_check(&s, &e) < 0)
        abort();
    (void)shape_each_tensor(&s, look, &n);
    return 0;
}
