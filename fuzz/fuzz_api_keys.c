/* fuzz_api_keys.c: any bytes as a file of API keys, read over one that is in use. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "applications/api_keys.h"

static char path[] = "/dev/shm/watt-fuzz-keys-XXXXXX";

static void forget(void)
{
    (void)unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct api_keys *k;
    static int fd = -1;
    struct err e;
    size_t had;

    if (!k) {
        fd = mkstemp(path);
        if (fd < 0 || api_keys_open(&k, &e) < 0)
            return 0;
        (void)atexit(forget);
    }
    had = api_keys_count(k);
    if (ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        return 0;
    if (api_keys_read(k, path, &e) < 0)
        CHECK(e.msg[0] && api_keys_count(k) == had);
    else
        CHECK(api_keys_count(k) > 0);
    return 0;
}
