/* kv.h: the memory of sequences: a pool of KV pages, and slots of fixed state.
 *
 * Knows sizes, not models: a page is page_bytes that the program's layout
 * (chips/kv_layout.h) fills with page_tokens positions of every KV state; a slot is all fixed
 * state of one sequence after some position. Both are counted, so that sequences, marks and a
 * prefix cache can hold the same ones; what more than one owner holds must not be written
 * (kv_page_own, kv_slot_own make a copy of one's own). A slot that nobody writes is a snapshot.
 * Sequences over pages and slots are in kv_seq.h. Everything is had at open; nothing is
 * allocated afterwards. One owner thread. */
#ifndef INFRASTRUCTURE_KV_H
#define INFRASTRUCTURE_KV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define KV_NO_PAGE UINT32_MAX
#define KV_NO_SLOT UINT32_MAX

struct kv_spec {
    uint64_t page_bytes;    /* 0: the model keeps no KV; n_pages must be 0 then */
    uint32_t page_tokens;   /* positions of a page; 0 counts as KV_PAGE_TOKENS */
    uint32_t n_pages;
    uint64_t slot_floats;   /* 0: no fixed state; n_slots must be 0 then */
    uint32_t n_slots;
};

struct kv;

/* WATT_EINVAL spec, WATT_ELIMIT when sizes overflow, WATT_ENOMEM with the numbers. */
int  kv_open(struct kv **out, const struct kv_spec *spec, struct err *e) MUST_CHECK;
void kv_close(struct kv *kv);   /* NULL is fine */
/* Keeps pages and slots in memory, all of them touched; WATT_ELIMIT when the system refuses. */
int  kv_lock(struct kv *kv, struct err *e) MUST_CHECK;

uint64_t kv_bytes(const struct kv *kv);             /* of all pages and slots */
/* Bytes of n_slots slots of slot_floats, as kv_open takes them. */
uint64_t kv_slots_bytes(const struct kv_spec *spec);

/* ---- pages ---- */

void    *kv_pages(const struct kv *kv);             /* base of the pool: page i at i * page_bytes */
uint64_t kv_page_bytes(const struct kv *kv);        /* 0: there are no pages */
uint32_t kv_page_tokens(const struct kv *kv);
uint32_t kv_n_pages(const struct kv *kv);
uint32_t kv_n_free(const struct kv *kv);            /* pages nobody holds */

/* A page with one owner; what is in it is arbitrary. KV_NO_PAGE when none is free. */
uint32_t kv_page_get(struct kv *kv);
void     kv_page_hold(struct kv *kv, uint32_t page);        /* one more owner */
void     kv_page_drop(struct kv *kv, uint32_t page);        /* free when nobody is left */
uint32_t kv_page_owners(const struct kv *kv, uint32_t page);
void     kv_page_copy(struct kv *kv, uint32_t to, uint32_t from);
/* The page itself when nobody else holds it, else a copy in its place; KV_NO_PAGE when none is
 * free, and nothing is changed. */
uint32_t kv_page_own(struct kv *kv, uint32_t page);

/* The cache of prefixes is one owner of a page: it says so when it takes and before it gives back
 * its hold, so that pages that nobody else holds can be counted. At most one cache. */
void     kv_page_set_cached(struct kv *kv, uint32_t page, bool cached);
bool     kv_page_is_cached(const struct kv *kv, uint32_t page);
uint32_t kv_n_cached(const struct kv *kv);          /* pages that only the cache holds */

/* ---- slots ---- */

uint64_t kv_slot_bytes(const struct kv *kv);        /* 0: there is no fixed state */
uint32_t kv_n_slots(const struct kv *kv);
uint32_t kv_n_free_slots(const struct kv *kv);

/* A slot of zeros with one owner, or KV_NO_SLOT. */
uint32_t kv_slot_get(struct kv *kv);
void     kv_slot_hold(struct kv *kv, uint32_t slot);
void     kv_slot_drop(struct kv *kv, uint32_t slot);
uint32_t kv_slot_owners(const struct kv *kv, uint32_t slot);
float   *kv_slot(const struct kv *kv, uint32_t slot);
void     kv_slot_clear(struct kv *kv, uint32_t slot);
void     kv_slot_copy(struct kv *kv, uint32_t to, uint32_t from);
uint32_t kv_slot_own(struct kv *kv, uint32_t slot);         /* as kv_page_own */
void     kv_slot_set_cached(struct kv *kv, uint32_t slot, bool cached);     /* as of pages */
bool     kv_slot_is_cached(const struct kv *kv, uint32_t slot);
uint32_t kv_n_cached_slots(const struct kv *kv);

#endif
