/* kv.h: the memory of sequences: a pool of KV pages, and slots of fixed state.
 *
 * Knows sizes, not models: a page is page_bytes that the program's layout
 * (chips/kv_layout.h) fills; a slot is the fixed state of one sequence. Pages are counted, so
 * that sequences with the same beginning can share them; a page that more than one owner holds
 * must not be written. Everything is had at open; nothing is allocated afterwards. One owner
 * thread. */
#ifndef INFRASTRUCTURE_KV_H
#define INFRASTRUCTURE_KV_H

#include <stdint.h>

#include "base/err.h"

#define KV_NO_PAGE UINT32_MAX
#define KV_NO_SLOT UINT32_MAX

struct kv_spec {
    uint64_t page_bytes;    /* 0: the model keeps no KV; n_pages must be 0 then */
    uint32_t n_pages;
    uint64_t slot_floats;   /* 0: no fixed state; n_slots must be 0 then */
    uint32_t n_slots;
};

struct kv;

/* WATT_EINVAL spec, WATT_ELIMIT when sizes overflow, WATT_ENOMEM with the numbers. */
int  kv_open(struct kv **out, const struct kv_spec *spec, struct err *e) MUST_CHECK;
void kv_close(struct kv *kv);   /* NULL is fine */

void    *kv_pages(const struct kv *kv);             /* base of the pool: page i at i * page_bytes */
uint32_t kv_n_pages(const struct kv *kv);
uint32_t kv_n_free(const struct kv *kv);            /* pages nobody holds */
uint64_t kv_bytes(const struct kv *kv);             /* of pages and slots */

/* A page with one owner; what is in it is arbitrary. KV_NO_PAGE when none is free. */
uint32_t kv_page_get(struct kv *kv);
void     kv_page_hold(struct kv *kv, uint32_t page);        /* one more owner */
void     kv_page_drop(struct kv *kv, uint32_t page);        /* free when nobody is left */
uint32_t kv_page_owners(const struct kv *kv, uint32_t page);
void     kv_page_copy(struct kv *kv, uint32_t to, uint32_t from);

/* A slot of zeros, or KV_NO_SLOT. */
uint32_t kv_slot_get(struct kv *kv);
void     kv_slot_drop(struct kv *kv, uint32_t slot);
float   *kv_slot(const struct kv *kv, uint32_t slot);
void     kv_slot_clear(struct kv *kv, uint32_t slot);
void     kv_slot_copy(struct kv *kv, uint32_t to, uint32_t from);

#endif
