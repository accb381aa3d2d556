/* budget_sync.h: what keys have used today, from the ledger that several servers write: each learns
 * every BUDGET_SYNC_MS what the others have booked, so that a day's budget is one for all of them.
 *
 * Together they pass a budget by what they use in that time, in the quarter of a second until a
 * ledger is written, and in the answers that run when it is reached. While the ledger can't be read each
 * counts its own. */
#ifndef APPLICATIONS_BUDGET_SYNC_H
#define APPLICATIONS_BUDGET_SYNC_H

#include "applications/api_keys.h"

#define BUDGET_SYNC_MS 2000

struct budget_sync;

/* Reads once, whose failure is an error, then again and again on a thread of its own. ledger: as
 * ledger_open() takes it; keys are borrowed. */
int  budget_sync_open(struct budget_sync **out, const char *ledger, struct api_keys *keys,
                      struct err *e) MUST_CHECK;
void budget_sync_close(struct budget_sync *b);      /* NULL is fine */

#endif
