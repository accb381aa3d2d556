/* quant_tables.h: codebooks of the quantised formats. Constant; any thread.
 *
 * A grid entry packs the codes of 8 elements, 2 bits each (IQ1, IQ2), or of 4
 * elements, 4 bits each (IQ3), the first in the lowest bits; the _level tables
 * turn a code into a magnitude. */
#ifndef CHIPS_QUANT_TABLES_H
#define CHIPS_QUANT_TABLES_H

#include <stdint.h>

extern const int8_t iq4_levels[16];         /* IQ4_NL, IQ4_XS; ascending */
extern const int8_t fp4_levels[16];         /* MXFP4, NVFP4: twice the E2M1 values, sign in bit 3 */

extern const uint8_t iq2_level[4];          /* code 3 does not occur */
extern const uint8_t iq3_xxs_level[8];
extern const uint8_t iq3_s_level[8];

extern const uint16_t iq2_xxs_grid[256];
extern const uint16_t iq2_xs_grid[512];
extern const uint16_t iq2_s_grid[1024];
extern const uint16_t iq1_grid[2048];       /* element = code - 1 */
extern const uint16_t iq3_xxs_grid[256];
extern const uint16_t iq3_s_grid[512];

/* Half of 2^(e - 127): the factor of fp4_levels in MXFP4. */
float e8m0_half(uint8_t e);
/* Half of an unsigned E4M3 number (0x7F, which would be NaN, counts as 0): the
 * factor of fp4_levels in NVFP4. */
float ue4m3_half(uint8_t x);

/* Eight sign bits from the seven that a file stores: the eighth makes their
 * number even. */
static inline unsigned iq_signs(unsigned seven)
{
    return seven | (unsigned)(__builtin_popcount(seven) & 1) << 7;
}

#endif
