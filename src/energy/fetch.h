/* fetch.h: one bounded HTTP GET after the other, for meters and tariffs (libcurl).
 *
 * Only http and https; at most three redirections; an answer over the bound, a status that is not
 * 2xx or a host that says nothing for too long is an error that names the URL without its password.
 * A door keeps its connection between calls. One owner thread per door.
 *
 * Streams, uploads and many requests at once are infrastructure/http_client.h's, a floor above, over
 * the same library; what meters need of it is this much. */
#ifndef ENERGY_FETCH_H
#define ENERGY_FETCH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/str.h"

struct fetch;

bool fetch_is_url(const char *s);       /* "http://…" or "https://…" */

/* WATT_ENOMEM. */
int  fetch_open(struct fetch **out, struct err *e) MUST_CHECK;
void fetch_close(struct fetch *f);      /* NULL is fine */
/* Puts the body of the answer into *body, which it empties first. WATT_EIO, WATT_ELIMIT when the
 * body is over body->max, WATT_EINVAL for a bad URL. Ends after timeout_ms in any case. */
int  fetch_get(struct fetch *f, const char *url, unsigned timeout_ms, struct str *body,
               struct err *e) MUST_CHECK;

#endif
