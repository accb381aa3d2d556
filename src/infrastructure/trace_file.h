/* trace_file.h: recorded arrivals of requests, to be replayed.
 *
 * Two public formats, told apart by their first byte:
 *   Azure LLM inference trace (Patel et al., "Splitwise", 2024): CSV with the header
 *     TIMESTAMP,ContextTokens,GeneratedTokens and dates with fractions of a second;
 *   Mooncake (Qin et al., 2025): one JSON object per line with timestamp (ms), input_length,
 *     output_length and hash_ids, one per 512 tokens of the prompt: equal ids, equal beginnings.
 *
 * Nothing in a file is trusted: an error names the file and the line. */
#ifndef INFRASTRUCTURE_TRACE_FILE_H
#define INFRASTRUCTURE_TRACE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TRACE_MAX_BYTES    ((size_t)1 << 30)
#define TRACE_MAX_ARRIVALS ((size_t)1 << 24)
#define TRACE_MAX_TOKENS   (1u << 26)       /* of one prompt or answer */
#define TRACE_BLOCK_TOKENS 512u

struct trace_arrival {
    uint64_t at_ns;             /* since the first */
    uint32_t n_prompt, n_answer;
    uint32_t account;
    int32_t  priority;
    size_t   first_block;       /* in trace.blocks; as many as n_prompt needs */
    uint32_t n_blocks;          /* 0: shares its beginning with nobody */
};

struct trace {
    struct trace_arrival *v;    /* [n] by time */
    size_t    n, cap;
    uint64_t *blocks;
    size_t    n_blocks, cap_blocks;
};

/* WATT_EFORMAT, WATT_ELIMIT, WATT_ENOMEM, or as file_read. */
int  trace_read(struct trace *t, const char *path, struct err *e) MUST_CHECK;
int  trace_parse(struct trace *t, const char *name, const char *bytes, size_t n,
                 struct err *e) MUST_CHECK;
/* Poisson arrivals for tests: lengths up to the given ones, a share of prompts that begin with one
 * of a few common texts, four accounts and two priorities. */
int  trace_random(struct trace *t, uint64_t seed, size_t n, double rate_per_s, uint32_t max_prompt,
                  uint32_t max_answer, struct err *e) MUST_CHECK;
void trace_close(struct trace *t);      /* a zeroed one is fine */

#endif
