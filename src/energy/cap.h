/* cap.h: holds a machine's mean power under a bound, by saying how much it may work.
 *
 * Every period the controller is told the mean power and gives a level between a fiftieth and 1.
 * What is above idle power is taken to grow with the level, so the level that would just reach the
 * target is the present one times (target - idle) / (power - idle): no gain needs to be known.
 * Work in a part of the period only is taken as if it were there all the time: when more comes, the
 * bound still holds.
 * Downward it goes most of that way at once, upward a part of it, and at most by a half. The target is a little under the
 * bound, for the noise. It begins low: the bound holds from the first second on. While there is no
 * work the level stays. */
#ifndef ENERGY_CAP_H
#define ENERGY_CAP_H

#include <stdbool.h>
#include <stdint.h>

#define CAP_LEAST  0.02
#define CAP_LEAST_LIMIT 0.1
#define CAP_PERIOD 0.5              /* seconds */

struct cap {
    double watts;                   /* the bound */
    double idle_w;                  /* learned from periods without work; 0: not known */
    double level;
    double last_w;
    bool   held;                    /* the last period was within the bound, or without work */
    bool   out_of_reach;            /* at the least level there is still too much power */
    double limit;                   /* share of their own limits that devices are to have; 1: all */
    unsigned n_over, n_under;       /* periods in a row */
};

void   cap_init(struct cap *c, double watts);
/* watts: mean of the period; busy: share of it in which there was work, 0..1. NaN watts (not
 * known) lowers the level: what is not seen can't be held. Returns the new level. */
double cap_update(struct cap *c, double watts, double busy);

/* For devices that can be told a limit (power_limit.h), after cap_update() with the same: the share
 * of what they were found at. It stays 1 while working less is enough. When the bound was passed for
 * two seconds all the same, or at the least level, because others use the machine too, it goes down
 * until the bound holds; and up again slowly when there is room at full work. */
double cap_limit(struct cap *c, double watts, double busy);

struct cap_knobs {
    double   duty;                  /* share of the time that steps may run */
    uint32_t max_running;           /* answers together */
    uint32_t max_rows;              /* prompt rows of a step: short steps, so that pauses are short */
};
/* What a level means for a service of so many answers and rows. */
void   cap_knobs(double level, uint32_t max_seqs, uint32_t max_rows, struct cap_knobs *k);

#endif
