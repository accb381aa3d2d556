/* fuzz_model.c: opens arbitrary bytes as a model and, where it is small, runs three tokens in the
 * reference interpreter. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "models/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MEMORY_MAX (64u << 20)

static void run(const struct model *m)
{
    static const int32_t tokens[3] = { 0, 1, 0 };
    const struct session_opts o = { .exec = SESSION_EXEC_REF, .n_ctx = 16 };
    struct session_memory mem;
    struct session *s = NULL;
    struct err e;
    float *out;

    if (session_plan(m, &o, &mem, &e) < 0 || mem.total - mem.mapped > MEMORY_MAX)
        return;
    if (session_open(&s, m, &o, &e) < 0)
        return;
    out = malloc(session_width(s) * sizeof *out);
    if (out)
        (void)!session_append(s, 0, tokens, 3, out, &e);
    free(out);
    session_close(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);     /* exact, so that overreads are seen */
    struct gguf *g;
    struct model *m = NULL;
    struct err e;

    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    if (gguf_open_memory(&g, copy, size, "fuzz", &e) == 0 &&
        model_open_gguf(&m, g, NULL, &e) == 0) {
        struct prog_cost c;

        prog_cost(model_program(m), 3, 1, 5, 1, &c, NULL);
        run(m);
        model_close(m);
    }
    free(copy);
    return 0;
}
