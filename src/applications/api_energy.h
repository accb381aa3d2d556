/* api_energy.h: the server's account of joules and money: a meter, whose requests they were, what
 * they cost, and what answers, metrics and the ledger say of it. */
#ifndef APPLICATIONS_API_ENERGY_H
#define APPLICATIONS_API_ENERGY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json.h"
#include "base/metric.h"
#include "energy/attribution.h"
#include "energy/ledger.h"
#include "energy/meter.h"
#include "energy/tariff.h"
#include "models/service.h"

#define API_ENERGY_SCHEMA 1

struct api_energy;
struct api_energy_model;            /* of one service; lives as long as the struct above */

struct api_energy_opts {
    struct meter  *meter;           /* taken over, also on failure */
    struct tariff *tariff;          /* taken over; NULL: nothing has a price */
    struct ledger *ledger;          /* taken over; NULL: nothing is booked */
    const struct meter_coefficients *weights;   /* of attribution; NULL: the default ratio */
    struct metrics *metrics;
    uint32_t       max_requests;
};

int  api_energy_open(struct api_energy **out, const struct api_energy_opts *opts, struct err *e)
    MUST_CHECK;
void api_energy_close(struct api_energy *x);    /* after the services; NULL is fine */

/* Before a service of this model is opened: puts the hook into its options. x NULL: does nothing,
 * *out becomes NULL. */
int  api_energy_attach(struct api_energy *x, const struct model *m, struct service_opts *so,
                       struct api_energy_model **out, struct err *e) MUST_CHECK;
struct meter *api_energy_meter(const struct api_energy *x);
/* Of the tariff; "" without. x NULL is fine. */
const char *api_energy_currency(const struct api_energy *x);
/* When the service is closed. NULL is fine. */
void api_energy_detach(struct api_energy_model *m);

/* ---- one request ---- */

struct api_energy_use {             /* what it used; filled by api_energy_end */
    bool     counted;               /* begun and not ended */
    bool     over, known;
    int64_t  prefill_uj, decode_uj, saved_uj;
    double   machine_s;
    bool     billed;
    struct tariff_bill bill;
};

/* What the end of a request tells. */
struct api_energy_report {
    const char *key, *model, *request;
    uint64_t    id;                 /* the service's; 0: it was refused there */
    struct service_usage usage;     /* of all choices */
    uint32_t    n_prompt, n_thinking;
    struct service_times times;
    enum service_finish finish;
};

void api_energy_begin(struct api_energy_model *m, struct api_energy_use *use);
/* Ends it, and books it when id is not 0. */
void api_energy_end(struct api_energy_model *m, struct api_energy_use *use,
                    const struct api_energy_report *r);

/* Adds up what the prompts of one run used; begins with a sum of zeros. */
void api_energy_add(struct api_energy_use *sum, const struct api_energy_use *use);

/* ---- what is said ---- */

/* {"joules", "joules_prefill", "joules_decode", "source", "schema"}; numbers are null with a "why"
 * when nothing was measured. NULL without a model. */
json_t *api_energy_json(const struct api_energy_model *m, const struct api_energy_use *use);
/* {"currency", "energy_source", "energy", "hardware", "total", "price", "carbon_g"}; NULL without a tariff. */
json_t *api_cost_json(const struct api_energy_model *m, const struct api_energy_use *use);
/* Sets both in an object of usage. */
void    api_energy_into(json_t *usage, const struct api_energy_model *m,
                        const struct api_energy_use *use);
/* "1.234567"; "" when not known. For a header. */
void    api_energy_text(const struct api_energy_use *use, char out[32]);
const char *api_energy_source(const struct api_energy_model *m);
/* The document of /energy_metrics. */
json_t *api_energy_metrics(struct api_energy *x);
/* Is there a ledger that can't be written, and why not? */
bool    api_energy_ledger_fails(struct api_energy *x, char why[256]);
/* How the ledger fares, for /health; NULL: there is none. */
json_t *api_energy_ledger(struct api_energy *x);

#endif
