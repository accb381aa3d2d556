/* meter_calibrate.h: the coefficients of an estimate (energy/meter.h) from a meter that measures: the
 * machine idle, then with every thread multiplying, then with every thread reading memory. What each
 * load draws above idle, over its rate, is the energy of one operation and of one byte. */
#ifndef APPLICATIONS_METER_CALIBRATE_H
#define APPLICATIONS_METER_CALIBRATE_H

#include <stdbool.h>

#include "base/err.h"
#include "energy/meter.h"

struct calibrate_phase {
    double seconds, watts;      /* of the part that was measured */
    double rate;                /* operations, bytes a second; idle: 0 */
};

struct calibration {
    struct calibrate_phase idle, ops, bytes;
    const char *kind;           /* of the operations: "int8", "F32" */
    struct meter_coefficients k;
};

/* Runs `seconds` of each, after settle_s that are not counted: external meters lag. n_threads 0: the
 * default. cancelled may be NULL. WATT_EINVAL: the meter does not measure, or did not through a whole
 * phase; WATT_ECANCEL; WATT_ENOMEM. */
int  meter_calibrate(struct meter *m, double seconds, double settle_s, unsigned n_threads,
                     bool (*cancelled)(void), struct calibration *out, struct err *e) MUST_CHECK;
/* k from the phases; a load that drew no more than idle gets 0. */
void calibration_fit(struct calibration *c);

#endif
