/* api_keys.h: API keys, known only by their SHA-256, and what each may do.
 *
 * Keys stand in a file, one a line: the hash in hexadecimal, then any of
 *
 *   name=TEXT            in the access log; no secret
 *   scopes=a,b           of infer, embed, metrics, admin, all; default infer,embed,metrics
 *   models=a,b           names of the models it may use; default all
 *   rpm=N                requests a minute
 *   tpm=N                tokens a minute, of prompts and answers
 *   concurrent=N         answers at a time
 *   priority=N           -100..100, higher first; default 0
 *   tokens_day=N         a day's tokens, joules and money (energy/budget.h); days begin at
 *   joules_day=X         00:00 UTC
 *   money_day=X
 *
 * Rates are buckets that fill steadily and hold a minute's worth. A request enters when its bucket
 * isn't empty; its tokens are taken when they are known, so that one request may overdraw, and the
 * next ones wait until that is made good: over time the rate holds exactly.
 *
 * The set may be read again while it is in use: keys that stay keep what they have used, those
 * that are gone let their running requests finish. Every function may be called by any thread. */
#ifndef APPLICATIONS_API_KEYS_H
#define APPLICATIONS_API_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "energy/budget.h"

#define API_KEY_HASH_BYTES 65       /* hexadecimal and a NUL */
#define API_KEY_NAME_BYTES 64
#define API_KEY_LIST_BYTES 512      /* names of models, with commas */
#define API_MAX_KEYS       10000u

enum api_scope {                    /* what a route asks for */
    API_INFER,
    API_OPEN,                       /* no key */
    API_EMBED,
    API_METRICS,
    API_ADMIN
};
const char *api_scope_name(enum api_scope s);

struct api_keys;
struct api_key;

/* An empty set: nobody is asked for a key. */
int  api_keys_open(struct api_keys **out, struct err *e) MUST_CHECK;
void api_keys_close(struct api_keys *k);        /* every key must have been released */
/* One given in the clear, which has every scope and no limit. It stays when the file is read.
 * Before others use the set. */
int  api_keys_add(struct api_keys *k, const char *key, struct err *e) MUST_CHECK;
/* Takes the keys of a file in place of those that a file gave before; on an error, which names
 * the line, the set is as it was. A file without keys is an error. */
int  api_keys_read(struct api_keys *k, const char *path, struct err *e) MUST_CHECK;
size_t api_keys_count(struct api_keys *k);

/* SHA-256 (FIPS 180-4) of the key in lower-case hexadecimal. */
void api_key_hash(const char *key, char out[API_KEY_HASH_BYTES]);
/* The entry of a key given in the clear, to be released; NULL: unknown. Compares with every
 * hash, whichever fits: the time says nothing. */
struct api_key *api_keys_find(struct api_keys *k, const char *key);
void api_key_hold(struct api_key *key);
void api_key_release(struct api_key *key);      /* NULL is fine */

/* ---- what a key may do; a NULL key may do everything ---- */

bool     api_key_may(const struct api_key *key, enum api_scope scope);
bool     api_key_may_use(const struct api_key *key, const char *model);
uint64_t api_key_account(const struct api_key *key);    /* whose share of the machine; 0: nobody's */
void     api_key_name(const struct api_key *key, char out[API_KEY_NAME_BYTES]);    /* or "" */
/* What a ledger calls it: its name, else the first digits of its hash; "" without a key. */
#define API_KEY_LABEL_BYTES 64u
void     api_key_label(const struct api_key *key, char out[API_KEY_LABEL_BYTES]);
/* The service's priority (higher first) of a request that asks for `wanted`: an answer may stand
 * back behind its key's others, never before other keys'. */
int32_t  api_key_priority(const struct api_key *key, int32_t wanted);

enum api_verdict { API_ENTERS, API_OVER_REQUESTS, API_OVER_TOKENS, API_OVER_CONCURRENT,
                   API_OVER_BUDGET };

struct api_allowance {              /* for the headers; limit 0: none */
    uint64_t limit_requests, left_requests, limit_tokens, left_tokens;
    uint64_t full_requests_ms, full_tokens_ms;  /* until the bucket is full again */
    uint64_t retry_ms;              /* refused: when to come back */
    uint32_t concurrent;            /* its limit */
    enum budget_kind budget;        /* the one that is used up, */
    double   budget_limit;          /* its bound, */
    int64_t  budget_renews;         /* and when it is renewed, in seconds since 1970 */
};

/* Counts a request in; one that entered leaves by api_key_leave. now: clock_mono_ns. */
enum api_verdict api_key_enter(struct api_key *key, uint64_t now, struct api_allowance *left);
void api_key_spend(struct api_key *key, uint64_t now, uint64_t n_tokens);
void api_key_leave(struct api_key *key);
/* Of today's budget; tokens are charged by api_key_spend. */
void api_key_charge(struct api_key *key, enum budget_kind kind, double amount);
/* What keys of these labels (api_key_label) have used on a day (since 1970), as a ledger knows that
 * several servers write: budgets rise to it, where it is still that day. list: sorted by label. */
struct api_key_use { char label[API_KEY_LABEL_BYTES]; double used[N_BUDGETS]; };
void api_keys_used(struct api_keys *k, const struct api_key_use *list, size_t n, int64_t day);
/* Has any key such a budget? */
bool api_keys_budget(struct api_keys *k, enum budget_kind kind);

#endif
