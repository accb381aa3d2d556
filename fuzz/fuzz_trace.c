/* fuzz_trace.c: recorded arrivals (infrastructure/trace_file.h) are bytes from outside. */
#include <stddef.h>
#include <stdint.h>

#include "infrastructure/trace_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct trace t;

    if (trace_parse(&t, "trace", (const char *)data, size, NULL) == 0)
        trace_close(&t);
    return 0;
}
