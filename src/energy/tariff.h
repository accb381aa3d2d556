/* tariff.h: what energy, machines and tokens cost, and what tokens are sold for.
 *
 * A tariff says, for any hour, the price of a kilowatt-hour and its carbon intensity; what the
 * hardware costs per hour; the PUE (energy of the site over energy of the machines); and a price
 * list per model and kind of token. tariff_bill() makes cost, revenue and margin from them.
 *
 * It comes from JSON (a file or a URL):
 *
 *   { "currency": "EUR",
 *     "electricity": { "price_per_kwh": 0.21,           always, or
 *                      "hourly": [24 prices],           by the hour of the day, or
 *                      "series": "prices.csv" },        a file (beside this one) or URL, see below
 *     "carbon":      { "g_per_kwh": 380, "hourly": [24 values] },
 *     "utc_offset_hours": 1,                            of "hourly"; default 0
 *     "pue": 1.2,
 *     "hardware": { "purchase": 18000, "life_years": 4, "share": 1, "other_per_hour": 0.1 },
 *     "prices": { "llama-*": { "input": 0.10, "cached": 0.02, "output": 0.40, "thinking": 0.40 },
 *                 "*":       { "input": 0.50, "output": 1.50 } } }
 *
 * Prices of tokens are per million; the longest pattern that fits the model's name counts ('*' at
 * its end stands for anything); cached defaults to input, thinking to output. What is absent costs
 * nothing. Unknown members are refused, so that a misspelt price is no price of zero.
 *
 * or from CSV alone: a header naming its columns, of which time and price_per_kwh are needed and
 * carbon_g_per_kwh is known: "2026-11-22T13:00:00Z,0.184,310", times rising, each until the next
 * one; the last holds for an hour. Outside the series the fixed price counts, or the nearest row.
 *
 * Immutable once opened: any thread may ask. */
#ifndef ENERGY_TARIFF_H
#define ENERGY_TARIFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define TARIFF_MAX_BYTES    ((size_t)16 << 20)
#define TARIFF_MAX_ROWS     200000u     /* of a series: 20 years of hours */
#define TARIFF_MAX_MODELS   1024u
#define TARIFF_CURRENCY     8u

struct tariff;

/* where: a path or a URL; its series is read too. Messages name file, member and line. WATT_EFORMAT,
 * WATT_ELIMIT, WATT_ENOENT, WATT_EIO, WATT_ENOMEM. */
int  tariff_open(struct tariff **out, const char *where, struct err *e) MUST_CHECK;
/* From bytes; `series` in it is refused (there is no folder to look in). name stands in messages. */
int  tariff_parse(struct tariff **out, const char *name, const char *bytes, size_t n,
                  struct err *e) MUST_CHECK;
/* A fixed price, carbon intensity, PUE (>= 1) and hardware cost; no token prices. WATT_EINVAL. */
int  tariff_fixed(struct tariff **out, const char *currency, double price_per_kwh,
                  double carbon_g_per_kwh, double pue, double hardware_per_hour,
                  struct err *e) MUST_CHECK;
void tariff_close(struct tariff *t);    /* NULL is fine */

const char *tariff_currency(const struct tariff *t);            /* "USD" unless it says otherwise */
double tariff_price_per_kwh(const struct tariff *t, int64_t unix_s);
double tariff_carbon_g_per_kwh(const struct tariff *t, int64_t unix_s);
double tariff_pue(const struct tariff *t);                      /* 1 unless it says otherwise */
/* Purchase over life, times the share, and what else an hour costs. */
double tariff_hardware_per_hour(const struct tariff *t);

struct tariff_prices { double input, cached, output, thinking; };   /* per million tokens */
/* False (and zeros): the list has nothing for this model. */
bool   tariff_prices(const struct tariff *t, const char *model, struct tariff_prices *out);

struct tariff_use {
    const char *model;
    int64_t  unix_s;            /* when */
    bool     has_joules;        /* else energy costs nothing here and the bill says so */
    double   joules;            /* at the machine, before PUE */
    double   machine_s;         /* seconds of the whole machine */
    uint64_t n_input;           /* prompt tokens that were computed, */
    uint64_t n_cached;          /* and those that came from a cache */
    uint64_t n_output;          /* answer tokens without */
    uint64_t n_thinking;        /* those of reasoning */
};
struct tariff_bill {            /* in the tariff's currency */
    bool   has_energy, has_price;
    double kwh;                 /* at the site: with PUE */
    double carbon_g;
    double energy, hardware;    /* cost */
    double cost, revenue, margin;   /* margin = revenue - cost */
};
void   tariff_bill(const struct tariff *t, const struct tariff_use *use, struct tariff_bill *out);

#endif
