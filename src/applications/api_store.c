/* api_store.c: entries in a list, the one last used in front. */
#include "applications/api_store.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define FLAGS (JSON_COMPACT | JSON_ENCODE_ANY)

struct entry {
    struct entry *next, *previous;
    char     id[64];
    uint64_t account;
    size_t   len[API_N_STORED], bytes;
    char    *text[API_N_STORED];        /* in the entry's own block */
};

struct api_store {
    pthread_mutex_t mu;
    uint64_t      max_bytes;
    uint64_t      bytes;                /* under mu, as is what follows */
    uint32_t      n;
    struct entry *first, *last;
};

int api_store_open(struct api_store **out, uint64_t max_bytes, struct err *e)
{
    struct api_store *s = mem_calloc(1, sizeof *s);

    if (!s)
        return err_set(e, WATT_ENOMEM, "store of responses");
    s->max_bytes = max_bytes;
    pthread_mutex_init(&s->mu, NULL);
    *out = s;
    return 0;
}

/* ---- the list, with mu held ---- */

static void unlink_entry(struct api_store *s, struct entry *x)
{
    *(x->previous ? &x->previous->next : &s->first) = x->next;
    *(x->next ? &x->next->previous : &s->last) = x->previous;
    s->bytes -= x->bytes;
    s->n--;
}

static void push_front(struct api_store *s, struct entry *x)
{
    x->previous = NULL;
    x->next = s->first;
    *(s->first ? &s->first->previous : &s->last) = x;
    s->first = x;
    s->bytes += x->bytes;
    s->n++;
}

static struct entry *find(const struct api_store *s, const char *id, uint64_t account)
{
    struct entry *x = s->first;

    while (x && (x->account != account || strcmp(x->id, id) != 0))
        x = x->next;
    return x;
}

/* ---- entries ---- */

void api_store_close(struct api_store *s)
{
    if (!s)
        return;
    while (s->first) {
        struct entry *x = s->first;

        unlink_entry(s, x);
        mem_free(x);
    }
    pthread_mutex_destroy(&s->mu);
    mem_free(s);
}

/* NULL: too large, or no memory. */
static struct entry *entry_new(const struct api_store *s, const char *id, uint64_t account,
                               const json_t *const docs[API_N_STORED])
{
    size_t len[API_N_STORED], bytes = sizeof(struct entry);
    struct entry *x;
    char *to;

    for (size_t i = 0; i < API_N_STORED; i++) {
        len[i] = json_dumpb(docs[i], NULL, 0, FLAGS);
        if (len[i] == 0 || len[i] > s->max_bytes)
            return NULL;
        bytes += len[i];
    }
    x = bytes <= s->max_bytes && strlen(id) < sizeof x->id ? mem_calloc(1, bytes) : NULL;
    if (!x)
        return NULL;
    (void)snprintf(x->id, sizeof x->id, "%s", id);
    x->account = account;
    x->bytes = bytes;
    to = (char *)(x + 1);
    for (size_t i = 0; i < API_N_STORED; i++) {
        x->text[i] = to;
        x->len[i] = json_dumpb(docs[i], to, len[i], FLAGS);
        to += len[i];
    }
    return x;
}

void api_store_put(struct api_store *s, const char *id, uint64_t account,
                   const json_t *const docs[API_N_STORED])
{
    struct entry *x = entry_new(s, id, account, docs), *old;

    if (!x)
        return;
    pthread_mutex_lock(&s->mu);
    old = find(s, id, account);
    if (old) {
        unlink_entry(s, old);
        mem_free(old);
    }
    while (s->last && (s->bytes + x->bytes > s->max_bytes || s->n >= API_STORE_MAX_ENTRIES)) {
        struct entry *oldest = s->last;

        unlink_entry(s, oldest);
        mem_free(oldest);
    }
    push_front(s, x);
    pthread_mutex_unlock(&s->mu);
}

json_t *api_store_get(struct api_store *s, const char *id, uint64_t account, enum api_stored which)
{
    json_t *doc = NULL;
    struct entry *x;

    pthread_mutex_lock(&s->mu);
    x = find(s, id, account);
    if (x) {
        unlink_entry(s, x);
        push_front(s, x);
        doc = json_loadb(x->text[which], x->len[which], JSON_DECODE_ANY, NULL);
    }
    pthread_mutex_unlock(&s->mu);
    return doc;
}

bool api_store_drop(struct api_store *s, const char *id, uint64_t account)
{
    struct entry *x;

    pthread_mutex_lock(&s->mu);
    x = find(s, id, account);
    if (x)
        unlink_entry(s, x);
    pthread_mutex_unlock(&s->mu);
    mem_free(x);
    return x != NULL;
}

uint64_t api_store_bytes(struct api_store *s)
{
    uint64_t n;

    pthread_mutex_lock(&s->mu);
    n = s->bytes;
    pthread_mutex_unlock(&s->mu);
    return n;
}
