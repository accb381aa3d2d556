/* fuzz_meter.c: what an external meter answers (energy/meter_internal.h) comes from outside. The
 * first line is the JSON pointer. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "energy/meter_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nl = size ? memchr(data, '\n', size) : NULL;
    struct meter_coefficients k;
    char pointer[256] = "";
    double v;

    if (nl && (size_t)(nl - data) < sizeof pointer) {
        memcpy(pointer, data, (size_t)(nl - data));
        size -= (size_t)(nl - data) + 1;
        data = nl + 1;
    }
    if (meter_answer((const char *)data, size, pointer, &v, NULL) == 0 && v != v)
        __builtin_trap();               /* never a NaN */
    return meter_coefficients_parse(pointer, &k, NULL) == 1;
}
