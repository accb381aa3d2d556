/* checkkern.h: the frame of tests/checkkern, which compares every kernel of every
 * instruction-set mask with its reference, and measures them.
 *
 * A part is one function per subject. In check mode it runs cases and counts
 * them through ck_expect(); everything random comes from ck->rng, whose seed is
 * printed. In bench mode it prints lines. */
#ifndef TESTS_CHECKKERN_H
#define TESTS_CHECKKERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"
#include "chips/cpu/kernels.h"

struct ck {
    struct rng rng;
    uint64_t   seed;
    bool       full;            /* more shapes; minutes instead of seconds */
    bool       brief;           /* fewer shapes: for emulated processors */
    unsigned long n_cases, n_failed;
    const char *mask_name;      /* of the kernels under test */
};

/* Masks worth a run of their own on this machine, "ref" first; NULL ends. */
extern const char *const ck_masks[];
/* False when the machine can't run all of it. */
bool ck_mask_usable(const char *name, uint32_t *mask);

/* n bytes that end at an unreadable page, start aligned to `align`. All bytes are
 * random. Freed by ck_free. Aborts when memory is short: this is a test. */
void *ck_guarded(struct ck *ck, size_t n, size_t align);
void  ck_free(void *p);

/* Counts a case; when !ok prints the message with the mask and the seed. */
void ck_expect(struct ck *ck, bool ok, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The parts. k: the kernels of the mask; ref: those of "ref". */
void ck_matmul(struct ck *ck, const struct kernels *k, const struct kernels *ref);
void ck_rows(struct ck *ck, const struct kernels *k, const struct kernels *ref);
void ck_attention(struct ck *ck, const struct kernels *k, const struct kernels *ref);
void ck_matmul_bench(int argc, char **argv);
void ck_attention_bench(int argc, char **argv);

#endif
