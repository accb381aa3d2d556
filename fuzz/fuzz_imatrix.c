/* fuzz_imatrix.c: opens arbitrary bytes as an importance matrix, in either format, and
 * reads every value. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "models/imatrix.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile float sink;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = { "a", "blk.0.attn_q.weight", "x.weight" };
    struct imatrix *m;
    struct err e;
    uint8_t *copy = malloc(size ? size : 1);     /* exact, so that overreads are seen */

    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    if (imatrix_open_memory(&m, copy, size, "fuzz", &e) < 0) {
        if (strncmp(e.msg, "fuzz: ", 6) != 0)
            abort();
        free(copy);
        return 0;
    }
    free(copy);     /* not needed any more */
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        uint64_t n = 0;
        const float *v = imatrix_find(m, sv_cstr(names[i]), &n);

        for (uint64_t k = 0; v && k < n; k++)
            sink = v[k];
    }
    sink = (float)imatrix_n_chunks(m) + (float)imatrix_dataset(m).len;
    imatrix_close(m);
    return 0;
}
