/* machine_memory.c: see machine_memory.h. */
#include "applications/machine_memory.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

uint64_t machine_memory(void)
{
    static const char *const limits[] = { "/sys/fs/cgroup/memory.max",
                                          "/sys/fs/cgroup/memory/memory.limit_in_bytes" };
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t bytes = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;

    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        char *text;
        size_t n;

        if (file_read(limits[i], 64, &text, &n, NULL) < 0)
            continue;
        if (*text >= '0' && *text <= '9' && strtoull(text, NULL, 10) < bytes)
            bytes = strtoull(text, NULL, 10);
        mem_free(text);
    }
    return bytes;
}
