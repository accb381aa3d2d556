/* rope.c: frequencies of rotary position embedding; see rope.h. */
#include "chips/rope.h"

#include <math.h>

#define TWO_PI 6.283185307179586476925

/* The (fractional) pair whose wave turns `turns` times over the original context. */
static double pair_of_turns(const struct rope_args *a, double turns)
{
    return a->n_rot * log(a->n_ctx_orig / (turns * TWO_PI)) / (2.0 * log((double)a->base));
}

/* YaRN's ramp: 1 where a pair keeps its frequency, 0 where it is interpolated. */
static double keep_share(double low, double high, uint32_t pair)
{
    double y = (pair - low) / fmax(0.001, high - low);

    return 1.0 - fmin(1.0, fmax(0.0, y));
}

void rope_frequencies(const struct rope_args *a, const float *factors, double *freq,
                      double *magnitude)
{
    const uint32_t n_pairs = a->n_rot / 2;
    const double scale = a->freq_scale;
    double low = 0, high = 0;

    *magnitude = a->attn_factor;
    if (a->ext_factor != 0.0f) {
        low = pair_of_turns(a, a->beta_fast);
        high = pair_of_turns(a, a->beta_slow);
        low = fmax(0.0, a->yarn_smooth ? low : floor(low));
        high = fmin(a->n_rot - 1.0, a->yarn_smooth ? high : ceil(high));
        *magnitude *= 1.0 + 0.1 * log(1.0 / scale);
    }
    for (uint32_t i = 0; i < n_pairs; i++) {
        double f = pow(a->base, -2.0 * i / a->n_rot) / (factors ? (double)factors[i] : 1.0);
        double mix = a->ext_factor != 0.0f ? keep_share(low, high, i) * a->ext_factor : 0.0;

        freq[i] = f * (scale * (1.0 - mix) + mix);
    }
}

/* Which of the four positions pair i turns by. */
static unsigned section_of(const struct rope_args *a, uint32_t i)
{
    const uint32_t *s = a->sections;
    const uint32_t total = s[0] + s[1] + s[2] + s[3];
    uint32_t at;

    if (total == 0)
        return 0;
    at = i % total;
    if (a->interleaved) {
        if (at % 3 == 1 && at < 3 * s[1])
            return 1;
        if (at % 3 == 2 && at < 3 * s[2])
            return 2;
        return at % 3 == 0 && at < 3 * s[0] ? 0 : 3;
    }
    if (at < s[0])
        return 0;
    if (at < s[0] + s[1])
        return 1;
    return at < s[0] + s[1] + s[2] ? 2 : 3;
}

void rope_cos_sin(const struct rope_args *a, const double *freq, double magnitude,
                  const int32_t pos4[4], float *cos_sin)
{
    for (uint32_t i = 0; i < a->n_rot / 2; i++) {
        double angle = pos4[section_of(a, i)] * freq[i];

        cos_sin[2 * i] = (float)(cos(angle) * magnitude);
        cos_sin[2 * i + 1] = (float)(sin(angle) * magnitude);
    }
}
