/* spill.h: pages of the prefix tree that left memory, in a bounded folder.
 *
 * One file per page, named by a hash of everything that its content depends on: the space (model,
 * adapter, salt), all tokens before it and its own. So a file says by its name what it is good for,
 * and the folder outlives the process. A file holds a header, the page's tokens, the page, perhaps
 * the fixed state after it, and a SHA-256 of all that; one that is short, damaged, of other sizes
 * or another version is deleted and counts as absent. Files appear whole (written aside, renamed)
 * and are not synced: what a power cut tears is found out by its hash.
 *
 * Writing happens on a thread of its own from a few buffers; when it can't keep up, or the disk is
 * full, pages are forgotten as they are without a folder. Reading happens in the caller's thread.
 * The folder is the process's own while it is open: two processes need two folders.
 *
 * One owner thread. */
#ifndef INFRASTRUCTURE_SPILL_H
#define INFRASTRUCTURE_SPILL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define SPILL_KEY_BYTES 16
#define SPILL_MAX_FILES (1u << 20)

#define SPILL_BUFFERS 5u        /* pages with their states that one has in memory */

struct spill_spec {
    const char *dir;            /* made when absent (its parent must be there) */
    uint64_t max_bytes;         /* of all files; the ones that were used least recently go first */
    uint64_t page_bytes;        /* 0: there are no pages */
    uint64_t slot_bytes;        /* 0: there are no fixed states */
    uint32_t page_tokens;
};

struct spill_key { uint8_t bytes[SPILL_KEY_BYTES]; };

struct spill;

/* Looks through the folder for what an earlier process left. WATT_EIO, WATT_EINVAL, WATT_ELIMIT
 * (max_bytes holds no page), WATT_ENOMEM. */
int  spill_open(struct spill **out, const struct spill_spec *spec, struct err *e) MUST_CHECK;
/* Writes what is still to be written. NULL is fine. */
void spill_close(struct spill *s);

/* The key of a page from its parent's (NULL: the first page of its space). */
struct spill_key spill_key(const uint64_t space[2], const struct spill_key *parent,
                           const int32_t *tokens, uint32_t n);
bool spill_has(const struct spill *s, const struct spill_key *key);
/* Takes a copy; slot NULL: none. False when it was not taken. */
bool spill_put(struct spill *s, const struct spill_key *key, const int32_t *tokens,
               const void *page, const void *slot);
/* Reads it back; *has_slot: the state came too (slot may be NULL: not wanted). False when it is not
 * there or not sound; page and slot may then hold anything. */
bool spill_get(struct spill *s, const struct spill_key *key, const int32_t *tokens, void *page,
               void *slot, bool *has_slot);
/* Deletes everything. */
void spill_forget(struct spill *s);
/* Waits until everything taken is written. For tests. */
void spill_flush(struct spill *s);

struct spill_stats { uint64_t n_files, n_bytes, n_put, n_dropped, n_got, n_damaged; };
void spill_stats(struct spill *s, struct spill_stats *st);

#endif
