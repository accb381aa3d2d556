/* fuzz_chips.c: a user's table of chips for the planner (applications/plan_chips.h). */
#include <stddef.h>
#include <stdint.h>

#include "applications/plan_chips.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct plan_chips t;

    plan_chips_init(&t);
    if (plan_chips_parse(&t, "chips", (const char *)data, size, NULL) == 0)
        (void)plan_chips_find(&t, "a");
    return 0;
}
