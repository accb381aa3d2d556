/* cap.c: the controller of cap.h. */
#include "energy/cap.h"

#include <math.h>

#define AIM        0.97             /* of the bound */
#define BEGIN      0.25
#define DOWN       0.8              /* of the way to where the model points */
#define UP         0.35
#define MOST_UP    1.5
#define LEAD       1.5
#define NOISE      0.03             /* a smaller rise is none */
#define SOME_WORK  0.3              /* less of a period says nothing about the level */
#define NO_WORK    0.02
#define PATIENCE   4                /* periods */
#define ROOM       0.9

void cap_init(struct cap *c, double watts)
{
    *c = (struct cap){ .watts = watts, .level = BEGIN, .held = true, .limit = 1 };
}

static double bounded(double v, double least, double most)
{
    return v < least ? least : v > most ? most : v;
}

static void learn_idle(struct cap *c, double watts)
{
    c->idle_w = c->idle_w > 0 ? 0.8 * c->idle_w + 0.2 * watts : watts;
}

double cap_update(struct cap *c, double watts, double busy)
{
    const double target = c->watts * AIM;
    double rise, seen, above, want;

    if (isnan(watts)) {
        c->level = bounded(c->level * 0.7, CAP_LEAST, 1);
        c->held = false;
        return c->level;
    }
    c->held = watts <= c->watts;
    if (busy <= NO_WORK)
        learn_idle(c, watts);
    if (busy < SOME_WORK && watts <= target) {
        c->last_w = watts;
        return c->level;
    }
    /* machine and meter lag: what still rises has not arrived */
    rise = c->last_w > 0 ? watts - c->last_w - NOISE * watts : 0;
    seen = watts + (rise > 0 ? LEAD * rise : 0);
    c->last_w = watts;
    /* idle power is an estimate: it is never all there is; and with work all the time there would
     * be more */
    above = (seen - (c->idle_w < 0.9 * seen ? c->idle_w : 0.9 * seen)) /
            bounded(busy, SOME_WORK, 1);
    want = (target - (c->idle_w < 0.9 * target ? c->idle_w : 0.9 * target)) / above;
    if (want < 1)
        c->level *= 1 + DOWN * (want - 1);
    else
        c->level *= 1 + UP * (bounded(want, 1, MOST_UP / UP) - 1);
    c->level = bounded(c->level, CAP_LEAST, 1);
    c->out_of_reach = c->level <= CAP_LEAST && watts > c->watts;
    return c->level;
}

double cap_limit(struct cap *c, double watts, double busy)
{
    const double target = c->watts * AIM;

    if (isnan(watts))
        return c->limit;
    c->n_over = watts > c->watts ? c->n_over + 1 : 0;
    c->n_under = watts < ROOM * target && c->level >= 1 && busy >= SOME_WORK ? c->n_under + 1 : 0;
    if (c->n_over >= PATIENCE || (c->n_over > 0 && (c->level <= CAP_LEAST || c->limit < 1)))
        c->limit *= bounded(target / watts, 0.7, 0.98);
    else if (c->n_under >= PATIENCE && c->limit < 1)
        c->limit *= 1.03;
    c->limit = bounded(c->limit, CAP_LEAST_LIMIT, 1);
    return c->limit;
}

static uint32_t part(uint32_t n, double share)
{
    const double v = ceil((double)n * share);

    return v < 1 ? 1 : v > (double)n ? n : (uint32_t)v;
}

void cap_knobs(double level, uint32_t max_seqs, uint32_t max_rows, struct cap_knobs *k)
{
    k->duty = level;
    k->max_rows = level >= 1 ? max_rows : part(max_rows, level);
    k->max_running = level >= 0.5 ? max_seqs : part(max_seqs, 2 * level);
}
