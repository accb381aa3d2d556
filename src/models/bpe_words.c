/* bpe_words.c: see bpe_words.h. */
#include "models/bpe_words.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/team.h"
#include "models/tok_impl.h"

#define N_SHARDS    64u
#define BATCH_BYTES ((size_t)32 << 20)
#define UNIT_BYTES  ((size_t)1 << 20)   /* a document is cut into these */
#define TASK_BYTES  ((size_t)256 << 10)
#define CUT_SEARCH  ((size_t)64 << 10)  /* how far from UNIT_BYTES a cut between lines is looked for */

struct entry {
    uint64_t hash, count;
    size_t   at;            /* in the table's bytes */
    uint32_t len;
};

struct table {
    struct entry *e;
    uint32_t     *slots;    /* index + 1 of e; 0: empty */
    char         *bytes;
    uint32_t      n, n_slots;   /* n_slots: 0 or a power of two */
    size_t        cap, n_bytes, cap_bytes;
};

/* One thread's. */
struct counter {
    struct table          shards[N_SHARDS];
    struct split_scratch *split;
    struct str            nfc;
    struct bpe_words     *w;
    struct err            e;
    int                   rc;
};

struct bpe_words {
    const struct pretok     *pre;
    struct splitter         *splitter;
    const struct bpe_added  *added;
    uint32_t                 n_added, max_words;
    bool                     starts[256];   /* bytes that begin an added token */
    struct team             *team;
    struct counter          *counters;
    unsigned                 n_counters;
    struct table             all[N_SHARDS];
    char                    *batch;
    size_t                   n_batch;
    size_t                  *ends;          /* of units */
    size_t                   n_units, cap_ends;
    size_t                  *tasks;         /* first unit of each; [n_tasks + 1] */
    size_t                   n_tasks, cap_tasks;
    uint64_t                 dropped;
};

static int nomem(struct err *e)
{
    return err_set(e, WATT_ENOMEM, "BPE training: out of memory for the words of the text");
}

/* ---- tables ---- */

static void table_deinit(struct table *t)
{
    mem_free(t->e);
    mem_free(t->slots);
    mem_free(t->bytes);
    *t = (struct table){ 0 };
}

static void table_index(struct table *t, uint32_t i)
{
    uint32_t at = (uint32_t)(t->e[i].hash >> 8) & (t->n_slots - 1);

    while (t->slots[at])
        at = (at + 1) & (t->n_slots - 1);
    t->slots[at] = i + 1;
}

/* Slots for n entries, at most half full. */
static bool table_grow(struct table *t, uint32_t n)
{
    uint32_t n_slots = t->n_slots ? t->n_slots : 64;
    uint32_t *slots;

    while (n_slots / 2 < n) {
        if (n_slots > UINT32_MAX / 2)
            return false;
        n_slots *= 2;
    }
    if (n_slots == t->n_slots)
        return true;
    slots = mem_calloc(n_slots, sizeof *slots);
    if (!slots)
        return false;
    mem_free(t->slots);
    t->slots = slots;
    t->n_slots = n_slots;
    for (uint32_t i = 0; i < t->n; i++)
        table_index(t, i);
    return true;
}

static bool table_add(struct table *t, uint64_t hash, const char *s, uint32_t len, uint64_t count)
{
    if (t->n_slots)
        for (uint32_t at = (uint32_t)(hash >> 8) & (t->n_slots - 1); t->slots[at];
             at = (at + 1) & (t->n_slots - 1)) {
            struct entry *x = &t->e[t->slots[at] - 1];

            if (x->hash == hash && x->len == len && memcmp(t->bytes + x->at, s, len) == 0) {
                x->count += count;
                return true;
            }
        }
    if (!table_grow(t, t->n + 1) || !tok_room(&t->e, &t->cap, t->n + 1, sizeof *t->e) ||
        !tok_room(&t->bytes, &t->cap_bytes, t->n_bytes + len, 1))
        return false;
    memcpy(t->bytes + t->n_bytes, s, len);
    t->e[t->n] = (struct entry){ hash, count, t->n_bytes, len };
    t->n_bytes += len;
    table_index(t, t->n++);
    return true;
}

/* Forgets what occurred this often or less. */
static void table_keep_above(struct table *t, uint64_t count)
{
    uint32_t n = 0;
    size_t n_bytes = 0;

    for (uint32_t i = 0; i < t->n; i++) {
        struct entry x = t->e[i];

        if (x.count <= count)
            continue;
        memmove(t->bytes + n_bytes, t->bytes + x.at, x.len);
        x.at = n_bytes;
        n_bytes += x.len;
        t->e[n++] = x;
    }
    t->n = n;
    t->n_bytes = n_bytes;
    if (t->n_slots)
        memset(t->slots, 0, t->n_slots * sizeof *t->slots);
    for (uint32_t i = 0; i < n; i++)
        table_index(t, i);
}

static void table_empty(struct table *t)
{
    t->n = 0;
    t->n_bytes = 0;
    if (t->n_slots)
        memset(t->slots, 0, t->n_slots * sizeof *t->slots);
}

/* ---- counting, in workers ---- */

static int count_word(void *ctx, const char *s, size_t len, struct err *e)
{
    struct counter *c = ctx;

    for (size_t done = 0; done < len;) {
        const uint32_t n = len - done > BPE_TRAIN_WORD_BYTES ? BPE_TRAIN_WORD_BYTES : (uint32_t)(len - done);
        const uint64_t hash = tok_hash(s + done, n);

        if (!table_add(&c->shards[hash % N_SHARDS], hash, s + done, n, 1))
            return nomem(e);
        done += n;
    }
    return 0;
}

static int count_text(struct counter *c, const char *s, size_t n, struct err *e)
{
    if (c->w->pre->nfc) {
        const int rc = norm_nfc(s, n, &c->nfc, &s, &n, e);

        if (rc < 0)
            return rc;
    }
    return splitter_run(c->w->splitter, c->split, s, n, count_word, c, e);
}

/* The added token that begins at s: the longest one. 0: none. */
static size_t added_at(const struct bpe_words *w, const char *s, size_t n)
{
    size_t best = 0;

    for (uint32_t i = 0; i < w->n_added; i++) {
        const struct sv t = w->added[i].text;

        if (t.len > best && t.len <= n && memcmp(t.data, s, t.len) == 0)
            best = t.len;
    }
    return best;
}

static int count_unit(struct counter *c, const char *s, size_t n, struct err *e)
{
    size_t from = 0;
    int rc = 0;

    for (size_t i = 0; i < n && rc == 0;) {
        const size_t k = c->w->starts[(unsigned char)s[i]] ? added_at(c->w, s + i, n - i) : 0;

        if (k > 0) {
            rc = count_text(c, s + from, i - from, e);
            from = i + k;
        }
        i += k ? k : 1;
    }
    return rc < 0 ? rc : count_text(c, s + from, n - from, e);
}

static void count_job(void *arg, unsigned worker)
{
    struct bpe_words *w = arg;
    struct counter *c = &w->counters[worker];
    size_t task;

    while ((task = team_next(w->team)) < w->n_tasks)
        for (size_t u = w->tasks[task]; u < w->tasks[task + 1] && c->rc == 0; u++) {
            const size_t from = u ? w->ends[u - 1] : 0;

            c->rc = count_unit(c, w->batch + from, w->ends[u] - from, &c->e);
        }
    team_barrier(w->team, worker);
    while ((task = team_next(w->team)) < N_SHARDS)
        for (unsigned i = 0; i < w->n_counters && c->rc == 0; i++) {
            struct table *t = &w->counters[i].shards[task];

            for (uint32_t k = 0; k < t->n; k++)
                if (!table_add(&w->all[task], t->e[k].hash, t->bytes + t->e[k].at, t->e[k].len, t->e[k].count)) {
                    c->rc = nomem(&c->e);
                    break;
                }
            table_empty(t);
        }
}

/* ---- batches ---- */

static int compare_counts(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static uint64_t n_words(const struct bpe_words *w)
{
    uint64_t n = 0;

    for (unsigned s = 0; s < N_SHARDS; s++)
        n += w->all[s].n;
    return n;
}

/* Forgets the rarest words when there are too many, so that half the room is free again. */
static int make_room(struct bpe_words *w, struct err *e)
{
    const uint64_t n = n_words(w);
    uint64_t *counts, limit, at = 0;

    if (n <= w->max_words)
        return 0;
    counts = mem_array(n, sizeof *counts);
    if (!counts)
        return nomem(e);
    for (unsigned s = 0; s < N_SHARDS; s++)
        for (uint32_t i = 0; i < w->all[s].n; i++)
            counts[at++] = w->all[s].e[i].count;
    qsort(counts, n, sizeof *counts, compare_counts);
    limit = counts[n - w->max_words / 2 - 1];
    mem_free(counts);
    for (unsigned s = 0; s < N_SHARDS; s++)
        table_keep_above(&w->all[s], limit);
    w->dropped += n - n_words(w);
    return 0;
}

static bool plan_tasks(struct bpe_words *w)
{
    size_t begun = 0;

    w->n_tasks = 0;
    for (size_t u = 0; u < w->n_units; u++) {
        const size_t from = u ? w->ends[u - 1] : 0;

        if (u == 0 || from - begun >= TASK_BYTES) {
            if (!tok_room(&w->tasks, &w->cap_tasks, w->n_tasks + 2, sizeof *w->tasks))
                return false;
            w->tasks[w->n_tasks++] = u;
            begun = from;
        }
    }
    if (w->n_tasks > 0)
        w->tasks[w->n_tasks] = w->n_units;
    return true;
}

static int flush(struct bpe_words *w, struct err *e)
{
    if (w->n_units == 0)
        return 0;
    if (!plan_tasks(w))
        return nomem(e);
    team_run(w->team, count_job, w);
    w->n_batch = 0;
    w->n_units = 0;
    for (unsigned i = 0; i < w->n_counters; i++)
        if (w->counters[i].rc < 0)
            return err_set(e, w->counters[i].rc, "%s", w->counters[i].e.msg);
    return make_room(w, e);
}

/* Where to end a unit of s: behind a line, which ends a word in every pre-tokenizer of note, when
 * the next begins with something; else between characters. */
static size_t cut(const char *s, size_t n)
{
    size_t end = UNIT_BYTES;

    if (n <= UNIT_BYTES + CUT_SEARCH)
        return n;
    for (size_t i = UNIT_BYTES; i < UNIT_BYTES + CUT_SEARCH; i++)
        if (s[i - 1] == '\n' && !isspace((unsigned char)s[i]))
            return i;
    while (end > UNIT_BYTES - 4 && ((unsigned char)s[end] & 0xC0) == 0x80)
        end--;
    return end;
}

int bpe_words_add(struct bpe_words *w, const char *text, size_t len, struct err *e)
{
    while (len > 0) {
        const size_t n = cut(text, len);

        if (w->n_batch + n > BATCH_BYTES) {
            const int rc = flush(w, e);

            if (rc < 0)
                return rc;
        }
        if (!tok_room(&w->ends, &w->cap_ends, w->n_units + 1, sizeof *w->ends))
            return nomem(e);
        memcpy(w->batch + w->n_batch, text, n);
        w->n_batch += n;
        w->ends[w->n_units++] = w->n_batch;
        text += n;
        len -= n;
    }
    return 0;
}

/* ---- life ---- */

static int open_counters(struct bpe_words *w, struct err *e)
{
    w->n_counters = team_size(w->team);
    w->counters = mem_calloc(w->n_counters, sizeof *w->counters);
    w->batch = mem_alloc(BATCH_BYTES);
    if (!w->counters || !w->batch)
        return nomem(e);
    for (unsigned i = 0; i < w->n_counters; i++) {
        const int rc = split_scratch_open(&w->counters[i].split, w->splitter, e);

        if (rc < 0)
            return rc;
        w->counters[i].w = w;
        str_init(&w->counters[i].nfc, 0);
    }
    return 0;
}

int bpe_words_open(struct bpe_words **out, const struct bpe_train_opts *o, struct err *e)
{
    struct bpe_words *w = mem_calloc(1, sizeof *w);
    int rc;

    if (!w)
        return nomem(e);
    w->pre = pretok_find(sv_cstr(o->pre));
    CHECK(w->pre);
    w->added = o->added;
    w->n_added = o->n_added;
    w->max_words = o->max_words;
    for (uint32_t i = 0; i < o->n_added; i++)
        w->starts[(unsigned char)o->added[i].text.data[0]] = true;
    rc = splitter_open(&w->splitter, w->pre, e);
    if (rc == 0)
        rc = team_open(&w->team, o->n_threads ? o->n_threads : team_default_threads(), e);
    if (rc == 0)
        rc = open_counters(w, e);
    if (rc < 0) {
        bpe_words_close(w);
        return rc;
    }
    *out = w;
    return 0;
}

void bpe_words_close(struct bpe_words *w)
{
    if (!w)
        return;
    team_close(w->team);
    for (unsigned i = 0; w->counters && i < w->n_counters; i++) {
        for (unsigned s = 0; s < N_SHARDS; s++)
            table_deinit(&w->counters[i].shards[s]);
        split_scratch_close(w->counters[i].split);
        str_deinit(&w->counters[i].nfc);
    }
    mem_free(w->counters);
    for (unsigned s = 0; s < N_SHARDS; s++)
        table_deinit(&w->all[s]);
    splitter_close(w->splitter);
    mem_free(w->batch);
    mem_free(w->ends);
    mem_free(w->tasks);
    mem_free(w);
}

static int compare_words(const void *a, const void *b)
{
    const struct bpe_word *x = a, *y = b;
    const uint32_t n = x->len < y->len ? x->len : y->len;
    const int c = memcmp(x->bytes, y->bytes, n);

    return c ? c : x->len < y->len ? -1 : x->len > y->len;
}

int bpe_words_finish(struct bpe_words *w, struct bpe_word **words, uint32_t *n, struct err *e)
{
    struct bpe_word *list;
    uint64_t all;
    size_t at = 0;
    const int rc = flush(w, e);

    if (rc < 0)
        return rc;
    all = n_words(w);
    CHECK(all <= w->max_words);
    list = mem_array(all ? all : 1, sizeof *list);
    if (!list)
        return nomem(e);
    for (unsigned s = 0; s < N_SHARDS; s++)
        for (uint32_t i = 0; i < w->all[s].n; i++) {
            const struct entry *x = &w->all[s].e[i];

            list[at++] = (struct bpe_word){ w->all[s].bytes + x->at, x->len, x->count };
        }
    qsort(list, all, sizeof *list, compare_words);
    *words = list;
    *n = (uint32_t)all;
    return 0;
}

uint64_t bpe_words_dropped(const struct bpe_words *w) { return w->dropped; }
