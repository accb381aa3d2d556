/* shared.h: finds the shared test data, real files that other software made.
 *
 * It lies in $WATT_SHARED, or in ../shared/data beside the source tree, and may
 * be absent: such tests then skip and say so. The project's own tests never
 * depend on it. Include after cmocka.h. */
#ifndef TESTS_SHARED_H
#define TESTS_SHARED_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SHARED_PATH_MAX 4096

/* Path of NAME inside the shared data, in a buffer that the next call reuses. */
static inline const char *shared_path(const char *name)
{
    static char path[SHARED_PATH_MAX];
    const char *dir = getenv("WATT_SHARED");
    int n;

    if (dir && *dir)
        n = snprintf(path, sizeof path, "%s/%s", dir, name);
    else
        n = snprintf(path, sizeof path, "%s/../shared/data/%s", WATT_SOURCE_DIR, name);
    if (n < 0 || (size_t)n >= sizeof path)
        abort();
    return path;
}

static inline bool shared_there(const char *name)
{
    return access(shared_path(name), R_OK) == 0;
}

/* Ends the cmocka test as skipped when NAME is not there. */
#define SHARED_OR_SKIP(name)                                                        \
    do {                                                                            \
        if (!shared_there(name)) {                                                  \
            (void)fprintf(stderr, "skipped: shared data has no %s\n", (name));      \
            skip();                                                                 \
        }                                                                           \
    } while (0)

/* Path of a file of the source tree. */
static inline const char *source_path(const char *name)
{
    static char path[SHARED_PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/%s", WATT_SOURCE_DIR, name);

    if (n < 0 || (size_t)n >= sizeof path)
        abort();
    return path;
}

#endif
