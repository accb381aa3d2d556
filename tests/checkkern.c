/* checkkern.c: every kernel of every instruction set against its reference.
 *
 *   checkkern [--seed N] [--full | --brief] [--mask NAME] [--only matmul|rows|attention]
 *   checkkern --bench matmul [TYPE] [ROWS]   fraction of this machine's peak
 *   checkkern --bench attention [TYPE [POSITIONS [QUERIES [COLUMNS [HEADS]]]]]
 *
 * Exit code 0 when all agree. */
#include "checkkern.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

const char *const ck_masks[] = {
    "ref", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16", "neon", "neondot",
    "neoni8mm", "neonbf16", "all", NULL
};

bool ck_mask_usable(const char *name, uint32_t *mask)
{
    if (!cpu_mask_parse(name, mask)) {
        (void)fprintf(stderr, "checkkern: unknown mask %s\n", name);
        exit(2);
    }
    return *mask == CPU_ALL || (*mask & cpu_features()) == *mask;
}

/* The mapping's size stands in its first bytes, far below what the caller sees. */
void *ck_guarded(struct ck *ck, size_t n, size_t align)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t body = (n + page - 1) / page * page, all = page + body + page;
    uint8_t *m = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *p;

    if (m == MAP_FAILED || mprotect(m + page + body, page, PROT_NONE) != 0)
        abort();
    memcpy(m, &all, sizeof all);
    for (size_t i = 0; i + 8 <= body; i += 8) {
        const uint64_t x = rng_u64(&ck->rng);

        memcpy(m + page + i, &x, 8);
    }
    p = m + page + body - n;
    return p - ((uintptr_t)p & (align - 1));
}

void ck_free(void *p)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uint8_t *m = (uint8_t *)(((uintptr_t)p & ~(page - 1)) - page);
    size_t all;

    memcpy(&all, m, sizeof all);
    (void)munmap(m, all);
}

void ck_expect(struct ck *ck, bool ok, const char *fmt, ...)
{
    va_list args;

    ck->n_cases++;
    if (ok)
        return;
    if (++ck->n_failed > 20)
        return;
    (void)fprintf(stderr, "FAIL [mask %s, seed %" PRIu64 "] ", ck->mask_name, ck->seed);
    va_start(args, fmt);
    (void)vfprintf(stderr, fmt, args);
    va_end(args);
    (void)fputc('\n', stderr);
}

static int bench(int argc, char **argv)
{
    if (argc > 0 && strcmp(argv[0], "matmul") == 0) {
        ck_matmul_bench(argc - 1, argv + 1);
        return 0;
    }
    if (argc > 0 && strcmp(argv[0], "attention") == 0) {
        ck_attention_bench(argc - 1, argv + 1);
        return 0;
    }
    (void)fprintf(stderr, "usage: checkkern --bench matmul [TYPE] [ROWS]\n"
                          "       checkkern --bench attention [TYPE [POSITIONS [QUERIES [COLUMNS [HEADS]]]]]\n");
    return 2;
}

int main(int argc, char **argv)
{
    struct ck ck = { .seed = (uint64_t)time(NULL) };
    struct kernels ref, k;
    const char *only = NULL, *part = NULL;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--bench") == 0)
            return bench(argc - i - 1, argv + i + 1);
        if (strcmp(argv[i], "--full") == 0)
            ck.full = true;
        else if (strcmp(argv[i], "--brief") == 0)
            ck.brief = true;
        else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
            part = argv[++i];
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            ck.seed = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--mask") == 0 && i + 1 < argc)
            only = argv[++i];
        else
            return (void)fprintf(stderr, "checkkern: unknown option %s\n", argv[i]), 2;
    }
    printf("checkkern: %s, features %#" PRIx32 ", seed %" PRIu64 "\n", cpu_model_name(),
           cpu_features(), ck.seed);
    kernels_init(&ref, 0);
    for (size_t i = 0; ck_masks[i]; i++) {
        const unsigned long before = ck.n_cases;
        uint32_t mask;

        if ((only && strcmp(only, ck_masks[i]) != 0) || !ck_mask_usable(ck_masks[i], &mask))
            continue;
        ck.mask_name = ck_masks[i];
        rng_init(&ck.rng, ck.seed);
        kernels_init(&k, mask);
        if (!part || strcmp(part, "matmul") == 0)
            ck_matmul(&ck, &k, &ref);
        if (!part || strcmp(part, "rows") == 0)
            ck_rows(&ck, &k, &ref);
        if (!part || strcmp(part, "attention") == 0)
            ck_attention(&ck, &k, &ref);
        printf("%-12s %lu cases\n", ck_masks[i], ck.n_cases - before);
    }
    printf("%lu cases, %lu failed\n", ck.n_cases, ck.n_failed);
    return ck.n_failed || ck.n_cases == 0 ? 1 : 0;
}
