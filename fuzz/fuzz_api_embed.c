/* fuzz_api_embed.c: any bytes as the body of any request for vectors and scores. */
#include "api_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    rig_route(api_embed_routes, data, size);
    return 0;
}
