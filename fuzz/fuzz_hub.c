/* fuzz_hub.c: what a model hub answers, and the manifests of the store. */
#include <stddef.h>
#include <stdint.h>

#include "infrastructure/hub_listing.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const tags[] = { "", "Q4_K_M", "safetensors", "gguf" };
    struct hub_listing l;
    struct hub_choice c;
    struct store_model m;
    struct store_name n;
    char text[256], name[STORE_NAME_MAX];

    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++)
        if (hub_listing_parse(&l, (const char *)data, size, NULL) == 0) {
            if (hub_choose(&c, &l, tags[i], NULL) == 0)
                hub_choice_deinit(&c);
            hub_listing_deinit(&l);
        }
    if (store_manifest_parse(&m, "folder", (const char *)data, size, NULL) == 0)
        store_model_deinit(&m);
    if (size < sizeof text) {
        for (size_t i = 0; i < size; i++)
            text[i] = (char)data[i];
        text[size] = '\0';
        (void)store_path_ok(text);
        if (store_name_parse(&n, text, NULL) == 0)
            store_name_text(&n, name);
    }
    return 0;
}
