/* fuzz_tariff.c: tariffs (energy/tariff.h) are bytes from outside. */
#include <stddef.h>
#include <stdint.h>

#include "energy/tariff.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tariff *t;

    if (tariff_parse(&t, "tariff", (const char *)data, size, NULL) == 0) {
        const struct tariff_use use = { .model = "m", .unix_s = 1000000, .has_joules = true,
                                        .joules = 1, .n_input = 1 };
        struct tariff_bill bill;

        tariff_bill(t, &use, &bill);
        tariff_close(t);
    }
    return 0;
}
