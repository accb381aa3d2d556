/* mem_guard.c: aborts on any allocation inside a step; see mem_guard.h. */
#include "base/mem_guard.h"

#ifdef WATT_FAULTS
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

void mem_guard_link(void)
{
}

/* Nothing here may allocate: we may be inside malloc. */
static void refuse(size_t size)
{
    char text[96];
    int n = snprintf(text, sizeof text, "watt: allocation of %zu bytes inside a step\n", size);

    if (n > 0 && write(STDERR_FILENO, text, (size_t)n) < 0)
        check_failed(__FILE__, __LINE__, "allocation inside a step");
    check_failed(__FILE__, __LINE__, "!mem_guarded()");
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

#ifdef SANITIZED
int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void *, size_t),
                                              void (*on_free)(const volatile void *));

static void on_malloc(const volatile void *p, size_t size)
{
    (void)p;
    if (mem_guarded())
        refuse(size);
}

static void on_free(const volatile void *p)
{
    (void)p;
}

__attribute__((constructor)) static void install(void)
{
    (void)__sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
}
#elif defined(__GLIBC__)
/* The names under which glibc keeps its own. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);

#define EXPORT __attribute__((visibility("default")))

EXPORT void *malloc(size_t size)
{
    if (mem_guarded())
        refuse(size);
    return __libc_malloc(size);
}

EXPORT void *calloc(size_t n, size_t size)
{
    if (mem_guarded())
        refuse(size);
    return __libc_calloc(n, size);
}

EXPORT void *realloc(void *p, size_t size)
{
    if (mem_guarded())
        refuse(size);
    return __libc_realloc(p, size);
}

EXPORT void *memalign(size_t align, size_t size)
{
    if (mem_guarded())
        refuse(size);
    return __libc_memalign(align, size);
}

EXPORT void *aligned_alloc(size_t align, size_t size)
{
    if (mem_guarded())
        refuse(size);
    return __libc_memalign(align, size);
}

EXPORT int posix_memalign(void **out, size_t align, size_t size)
{
    void *p;

    if (mem_guarded())
        refuse(size);
    if (align < sizeof(void *) || (align & (align - 1)) != 0)
        return EINVAL;
    p = __libc_memalign(align, size);
    if (!p)
        return ENOMEM;
    *out = p;
    return 0;
}
#endif
#else
typedef int mem_guard_unused;   /* ISO C wants a declaration in every file */
#endif
