/* fuzz_shard.c: opens arbitrary bytes as a shard of tokens and reads all of it. Hashes are made to
 * fit, else nothing behind them would be reached. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xxhash.h>

#include "base/bytes.h"
#include "models/train/shard.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const struct shard *s)
{
    const uint64_t n = shard_n_tokens(s);
    int32_t ids[64];
    uint8_t marks[64];
    struct err e;

    for (uint64_t at = 0; at < n && at < 100000; at += 64)
        (void)!shard_read(s, at, (uint32_t)(n - at < 64 ? n - at : 64), ids, marks, &e);
    for (uint64_t i = 0; i < shard_n_docs(s) && i < 1000; i++) {
        uint64_t first, end;

        (void)!shard_doc(s, i, &first, &end, &e);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size + 1);
    const int fd = memfd_create("shard", MFD_CLOEXEC);
    char path[64];
    struct shard *s;
    struct err e;

    if (!copy || fd < 0)
        abort();
    memcpy(copy, data, size);
    if (size >= SHARD_HEADER_BYTES && copy[8] != 0) {
        store_le64(copy + 48, XXH3_64bits(copy + SHARD_HEADER_BYTES, size - SHARD_HEADER_BYTES));
        store_le64(copy + 88, XXH3_64bits(copy, 88));
    }
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (write(fd, copy, size) == (ssize_t)size && shard_open(&s, path, &e) == 0) {
        read_all(s);
        shard_close(s);
    }
    (void)close(fd);
    free(copy);
    return 0;
}
