/* fuzz_charrnn.c: folders of character models: the input is manifest.json, a zero byte and vocab.json;
 * files of variables are there in the sizes that a small model has. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "models/charrnn.h"
#include "models/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[] = "fuzz_charrnn.XXXXXX";
static const struct { const char *name; size_t floats; } files[] = {
    { "embedding", 20 }, { "w0", 240 }, { "b0", 24 }, { "w1", 288 }, { "b1", 24 }, { "sw", 30 },
    { "sb", 5 }, { "manifest.json", 0 }, { "vocab.json", 0 },
};

static void put(const char *name, const void *data, size_t size)
{
    char path[128];
    FILE *f;

    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    f = fopen(path, "wbe");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0)
        abort();
}

static void remove_folder(void)
{
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[128];

        (void)snprintf(path, sizeof path, "%s/%s", folder, files[i].name);
        (void)unlink(path);
    }
    (void)rmdir(folder);
}

static void make_folder(void)
{
    static const float zeros[288];

    if (!mkdtemp(folder) || atexit(remove_folder) != 0)
        abort();
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        put(files[i].name, zeros, files[i].floats * sizeof *zeros);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool made;
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    const size_t n = zero ? (size_t)(zero - data) : size;
    struct gguf *g;
    struct model *m;
    struct err e;

    if (!made)
        make_folder();
    made = true;
    put("manifest.json", data, n);
    put("vocab.json", zero ? data + n + 1 : data, zero ? size - n - 1 : 0);
    if (charrnn_is_folder(folder) && charrnn_open(&g, folder, NULL, NULL, &e) == 0 &&
        model_open_gguf(&m, g, NULL, &e) == 0)
        model_close(m);
    return 0;
}
