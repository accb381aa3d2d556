/* fuzz_api_responses.c: any bytes as the body of any request of this surface. */
#include "api_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    rig_route(api_responses_routes, data, size);
    return 0;
}
