/* features.c: detection of instruction sets, and masks by name; see features.h. */
#include "chips/cpu/features.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

static pthread_once_t once = PTHREAD_ONCE_INIT;
static uint32_t       found;
static char           model[128];

#if defined(__x86_64__)

#define XCR0_YMM 0x06u      /* SSE and AVX state */
#define XCR0_ZMM 0xE6u      /* and mask registers, upper halves, upper sixteen */

static uint64_t xcr0(void)
{
    uint32_t lo, hi;

    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static bool all_of(uint32_t reg, uint32_t bits) { return (reg & bits) == bits; }

static uint32_t detect(void)
{
    enum { FMA = 1u << 12, OSXSAVE = 1u << 27, F16C = 1u << 29 };           /* leaf 1, ecx */
    enum { AVX2 = 1u << 5, F = 1u << 16, DQ = 1u << 17, BW = 1u << 30 };    /* leaf 7, ebx */
    const uint32_t vl = 1u << 31, vnni = 1u << 11;                          /* ebx; ecx */
    enum { AVXVNNI = 1u << 4, BF16 = 1u << 5 };                             /* leaf 7.1, eax */
    uint32_t a, b, c, d, b7, c7, a71 = 0, mask = 0;
    uint64_t os;

    if (!__get_cpuid(1, &a, &b, &c, &d) || !all_of(c, FMA | OSXSAVE | F16C))
        return 0;
    os = xcr0();
    if ((os & XCR0_YMM) != XCR0_YMM || !__get_cpuid_count(7, 0, &a, &b7, &c7, &d) ||
        !all_of(b7, AVX2))
        return 0;
    mask = CPU_AVX2;
    if (a >= 1 && __get_cpuid_count(7, 1, &a71, &b, &c, &d) && (a71 & AVXVNNI))
        mask |= CPU_AVX_VNNI;
    if ((os & XCR0_ZMM) != XCR0_ZMM || !all_of(b7, F | DQ | BW | vl))
        return mask;
    mask |= CPU_AVX512;
    if (c7 & vnni)
        mask |= CPU_AVX512_VNNI;
    if (a71 & BF16)
        mask |= CPU_AVX512_BF16;
    return mask;
}

#elif defined(__aarch64__)

static uint32_t detect(void)
{
    enum { ASIMD = 1u << 1, ASIMDDP = 1u << 20 };       /* AT_HWCAP */
    enum { I8MM = 1u << 13, BF16 = 1u << 14 };          /* AT_HWCAP2 */
    const unsigned long cap = getauxval(AT_HWCAP), cap2 = getauxval(AT_HWCAP2);
    uint32_t mask;

    if (!(cap & ASIMD))
        return 0;
    mask = CPU_NEON;
    if (cap & ASIMDDP)
        mask |= CPU_NEON_DOT;
    if ((cap & ASIMDDP) && (cap2 & I8MM))
        mask |= CPU_NEON_I8MM;
    if (cap2 & BF16)
        mask |= CPU_NEON_BF16;
    return mask;
}

#else

static uint32_t detect(void) { return 0; }

#endif

static void read_model(void)
{
    static const char *const keys[] = { "model name", "Model", "Hardware" };
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "re");

    (void)snprintf(model, sizeof model, "unknown");
    while (f && fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');

        for (size_t i = 0; colon && i < sizeof keys / sizeof keys[0]; i++) {
            if (strncmp(line, keys[i], strlen(keys[i])) == 0) {
                while (*++colon == ' ')
                    ;
                (void)snprintf(model, sizeof model, "%.*s", (int)strcspn(colon, "\n"), colon);
                (void)fclose(f);
                return;
            }
        }
    }
    if (f)
        (void)fclose(f);
}

static void init(void)
{
    found = detect();
    read_model();
}

uint32_t cpu_features(void)
{
    (void)pthread_once(&once, init);
    return found;
}

const char *cpu_model_name(void)
{
    (void)pthread_once(&once, init);
    return model;
}

bool cpu_mask_parse(const char *text, uint32_t *mask)
{
    enum { A2 = CPU_AVX2, A5 = CPU_AVX2 | CPU_AVX512 };
    static const struct { const char *name; uint32_t bits; } names[] = {
        { "ref", 0 },
        { "avx2", A2 },
        { "avxvnni", A2 | CPU_AVX_VNNI },
        { "avx512", A5 },
        { "avx512vnni", A5 | CPU_AVX512_VNNI },
        { "avx512bf16", A5 | CPU_AVX512_BF16 },
        { "neon", CPU_NEON },
        { "neondot", CPU_NEON | CPU_NEON_DOT },
        { "neoni8mm", CPU_NEON | CPU_NEON_DOT | CPU_NEON_I8MM },
        { "neonbf16", CPU_NEON | CPU_NEON_BF16 },
        { "all", CPU_ALL },
    };
    const size_t n_names = sizeof names / sizeof names[0];
    uint32_t bits = 0;

    for (;;) {
        const size_t len = strcspn(text, "+");
        size_t i = 0;

        while (i < n_names && (strlen(names[i].name) != len ||
                               strncasecmp(names[i].name, text, len) != 0))
            i++;
        if (i == n_names)
            return false;
        bits |= names[i].bits;
        if (text[len] == '\0')
            break;
        text += len + 1;
    }
    *mask = bits;
    return true;
}
