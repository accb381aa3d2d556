/* fuzz_api_manage.c: any bytes as the body of any request about models. */
#include "api_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    rig_route(api_manage_routes, data, size);
    return 0;
}
