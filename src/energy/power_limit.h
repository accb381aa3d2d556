/* power_limit.h: limits of power that the machine keeps itself: those of processor packages (RAPL
 * through /sys/class/powercap, the long-term constraint) and of NVIDIA GPUs (NVML). They hold
 * whatever runs, and they are the machine's, not a process's: what is changed here must be put back.
 *
 * Before the first change a note is written, with the limits that were found, and it goes when they
 * are back: at close. Whoever opens next finds the note of a process that was killed, and puts back
 * what it left, unless somebody else has changed the limit since. While one process has a machine's
 * limits, others may not. Without a place for the note nothing is changed.
 *
 * The note is watt-power-limits in ROOT/run, else in $RUNTIME_DIRECTORY or $XDG_RUNTIME_DIR: all
 * are emptied when the machine starts, which forgets its limits as well.
 *
 * One owner thread. */
#ifndef ENERGY_POWER_LIMIT_H
#define ENERGY_POWER_LIMIT_H

#include <stdint.h>

#include "base/err.h"

struct power_limit;

struct power_limit_opts {       /* zero means the default */
    const char *root;           /* stands in front of /sys and /run; default "" */
    const char *nvml;           /* library; default libnvidia-ml.so.1; "": don't look */
};

/* Looks for devices, and puts back what a killed process left. WATT_ENOMEM; that there is nothing to
 * set, or no permission, is no failure: power_limit_n() is 0 then and power_limit_why() says why. */
int  power_limit_open(struct power_limit **out, const struct power_limit_opts *opts,
                      struct err *e) MUST_CHECK;
/* Puts the limits back; NULL is fine. */
void power_limit_close(struct power_limit *p);

uint32_t    power_limit_n(const struct power_limit *p);     /* devices whose limit can be set */
/* Why there are none, or not all; "" otherwise. */
const char *power_limit_why(const struct power_limit *p);
/* "package-0", "gpu-1 (NVIDIA H100)". */
const char *power_limit_name(const struct power_limit *p, uint32_t i);
/* So many limits were those of a process that was killed, and are as they were before it. */
uint32_t    power_limit_recovered(const struct power_limit *p);

/* Every device's limit to this share, 0 to 1, of what it was found at (or can take at most, if that is
 * less), but not under what it can take. 1: as it was found. A device that refuses is left alone from
 * then on; WATT_EIO says which, the others are set. */
int  power_limit_set(struct power_limit *p, double share, struct err *e) MUST_CHECK;

#endif
