/* api_keys.c: keys against the hashes that are known; buckets of requests and tokens. */
#include "applications/api_keys.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/str.h"

#define MAX_KEY_FILE ((size_t)16 << 20)
#define MINUTE_NS    60e9
#define SCOPES_GIVEN (1u << API_INFER | 1u << API_EMBED | 1u << API_METRICS)
#define SCOPES_ALL   (SCOPES_GIVEN | 1u << API_ADMIN)

struct limits {
    char     name[API_KEY_NAME_BYTES];
    char     models[API_KEY_LIST_BYTES];        /* "a,b"; "": all */
    unsigned scopes;
    uint64_t per_minute, tokens_per_minute, concurrent;     /* 0: none */
    int32_t  priority;
    struct budget_limits budget;
};

struct bucket {
    double   level;
    uint64_t filled;            /* clock_mono_ns of the level; 0: never used, full */
};

struct api_key {
    struct api_keys *set;
    unsigned refs;              /* under set->mu, as is all that follows */
    bool     from_file;
    uint8_t  digest[SHA256_BYTES];
    struct limits limits;
    struct bucket requests, tokens;
    struct budget budget;
    uint64_t n_running;
};

struct api_keys {
    pthread_mutex_t  mu;
    struct api_key **list;      /* under mu */
    size_t           n;
};

const char *api_scope_name(enum api_scope s)
{
    static const char *const names[] = { "infer", "open", "embed", "metrics", "admin" };

    return names[s];
}

void api_key_hash(const char *key, char out[API_KEY_HASH_BYTES])
{
    uint8_t digest[SHA256_BYTES];

    sha256(key, strlen(key), digest);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

/* ---- the set ---- */

int api_keys_open(struct api_keys **out, struct err *e)
{
    struct api_keys *k = mem_calloc(1, sizeof *k);

    if (!k)
        return err_set(e, WATT_ENOMEM, "API keys");
    pthread_mutex_init(&k->mu, NULL);
    *out = k;
    return 0;
}

/* With mu held. */
static void drop(struct api_key *key)
{
    if (--key->refs == 0)
        mem_free(key);
}

void api_keys_close(struct api_keys *k)
{
    if (!k)
        return;
    for (size_t i = 0; i < k->n; i++)
        drop(k->list[i]);
    mem_free(k->list);
    pthread_mutex_destroy(&k->mu);
    mem_free(k);
}

size_t api_keys_count(struct api_keys *k)
{
    size_t n;

    pthread_mutex_lock(&k->mu);
    n = k->n;
    pthread_mutex_unlock(&k->mu);
    return n;
}

static struct api_key *key_new(struct api_keys *k, const uint8_t digest[SHA256_BYTES])
{
    struct api_key *key = mem_calloc(1, sizeof *key);

    if (!key)
        return NULL;
    key->set = k;
    key->refs = 1;
    memcpy(key->digest, digest, SHA256_BYTES);
    key->limits.scopes = SCOPES_GIVEN;
    return key;
}

int api_keys_add(struct api_keys *k, const char *text, struct err *e)
{
    uint8_t digest[SHA256_BYTES];
    struct api_key *key, **list;

    sha256(text, strlen(text), digest);
    key = key_new(k, digest);
    list = mem_alloc((api_keys_count(k) + 1) * sizeof *list);
    if (!key || !list) {
        mem_free(key);
        mem_free(list);
        return err_set(e, WATT_ENOMEM, "API keys");
    }
    key->limits.scopes = SCOPES_ALL;
    pthread_mutex_lock(&k->mu);
    if (k->n)
        memcpy(list, k->list, k->n * sizeof *list);
    list[k->n++] = key;
    mem_free(k->list);
    k->list = list;
    pthread_mutex_unlock(&k->mu);
    return 0;
}

/* ---- the file ---- */

struct line {
    const char *path;
    size_t      number;
    struct err *e;
};

static int read_number(const struct line *l, const char *what, struct sv v, int64_t min,
                       int64_t max, int64_t *out)
{
    char text[24], *end;

    if (v.len > 0 && v.len < sizeof text) {
        memcpy(text, v.data, v.len);
        text[v.len] = '\0';
        *out = strtoll(text, &end, 10);
        if (*end == '\0' && *out >= min && *out <= max)
            return 0;
    }
    return err_set(l->e, WATT_EFORMAT, "%s: line %zu: %s: expected a number from %lld to %lld, "
                   "found '%.*s'", l->path, l->number, what, (long long)min, (long long)max,
                   (int)(v.len < 40 ? v.len : 40), v.data);
}

static int read_amount(const struct line *l, const char *what, struct sv v, double *out)
{
    char text[40], *end;

    if (v.len > 0 && v.len < sizeof text) {
        memcpy(text, v.data, v.len);
        text[v.len] = '\0';
        *out = strtod(text, &end);
        if (*end == '\0' && *out > 0 && *out <= 1e15)
            return 0;
    }
    return err_set(l->e, WATT_EFORMAT, "%s: line %zu: %s: expected a number above 0, found '%.*s'",
                   l->path, l->number, what, (int)(v.len < 40 ? v.len : 40), v.data);
}

static int read_scopes(const struct line *l, struct sv v, unsigned *out)
{
    *out = 0;
    while (v.len > 0) {
        const char *comma = memchr(v.data, ',', v.len);
        const struct sv word = { v.data, comma ? (size_t)(comma - v.data) : v.len };
        unsigned bit = sv_eq_cstr(word, "all") ? SCOPES_ALL : 0;

        for (unsigned s = API_INFER; s <= API_ADMIN; s++)
            if (s != API_OPEN && sv_eq_cstr(word, api_scope_name((enum api_scope)s)))
                bit = 1u << s;
        if (bit == 0)
            return err_set(l->e, WATT_EFORMAT, "%s: line %zu: scopes: '%.*s' is none of infer, "
                           "embed, metrics, admin, all", l->path, l->number,
                           (int)(word.len < 40 ? word.len : 40), word.data);
        *out |= bit;
        v.data += word.len + (comma != NULL);
        v.len -= word.len + (comma != NULL);
    }
    return 0;
}

static int read_text(const struct line *l, const char *what, struct sv v, char *out, size_t cap)
{
    if (v.len >= cap)
        return err_set(l->e, WATT_ELIMIT, "%s: line %zu: %s: over %zu bytes", l->path, l->number,
                       what, cap - 1);
    memcpy(out, v.data, v.len);
    out[v.len] = '\0';
    return 0;
}

static int read_option(const struct line *l, struct sv name, struct sv v, struct limits *to)
{
    static const struct { const char *name; size_t offset; } counts[] = {
        { "rpm", offsetof(struct limits, per_minute) },
        { "tpm", offsetof(struct limits, tokens_per_minute) },
        { "concurrent", offsetof(struct limits, concurrent) },
    };
    int64_t n;
    int rc;

    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (sv_eq_cstr(name, counts[i].name)) {
            rc = read_number(l, counts[i].name, v, 1, 1000000000000, &n);
            if (rc == 0)
                *(uint64_t *)(void *)((char *)to + counts[i].offset) = (uint64_t)n;
            return rc;
        }
    for (int k = 0; k < N_BUDGETS; k++) {
        char option[16];

        (void)snprintf(option, sizeof option, "%s_day", budget_name((enum budget_kind)k));
        if (sv_eq_cstr(name, option))
            return read_amount(l, option, v, &to->budget.a_day[k]);
    }
    if (sv_eq_cstr(name, "priority")) {
        rc = read_number(l, "priority", v, -100, 100, &n);
        if (rc == 0)
            to->priority = (int32_t)n;
        return rc;
    }
    if (sv_eq_cstr(name, "scopes"))
        return read_scopes(l, v, &to->scopes);
    if (sv_eq_cstr(name, "name"))
        return read_text(l, "name", v, to->name, sizeof to->name);
    if (sv_eq_cstr(name, "models"))
        return read_text(l, "models", v, to->models, sizeof to->models);
    return err_set(l->e, WATT_EFORMAT, "%s: line %zu: '%.*s' is none of name, scopes, models, rpm, "
                   "tpm, concurrent, priority, tokens_day, joules_day, money_day", l->path, l->number,
                   (int)(name.len < 40 ? name.len : 40), name.data);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int read_hash(const struct line *l, struct sv word, uint8_t digest[SHA256_BYTES])
{
    bool ok = word.len == 2 * SHA256_BYTES;

    for (size_t i = 0; ok && i < word.len; i++) {
        const int d = hex_digit(word.data[i]);

        ok = d >= 0;
        digest[i / 2] = (uint8_t)(i % 2 ? digest[i / 2] << 4 | (d & 15) : d & 15);
    }
    return ok ? 0 : err_set(l->e, WATT_EFORMAT, "%s: line %zu: expected a SHA-256 in hexadecimal "
                            "first", l->path, l->number);
}

/* A word up to blanks; its length 0 at the end of the line or at a comment. */
static struct sv next_word(struct sv *rest)
{
    struct sv w;

    while (rest->len > 0 && (*rest->data == ' ' || *rest->data == '\t' || *rest->data == '\r')) {
        rest->data++;
        rest->len--;
    }
    w = (struct sv){ rest->data, 0 };
    if (rest->len > 0 && *rest->data == '#')
        return w;
    while (w.len < rest->len && !strchr(" \t\r", rest->data[w.len]))
        w.len++;
    rest->data += w.len;
    rest->len -= w.len;
    return w;
}

static int read_line(const struct line *l, struct sv rest, struct api_keys *k,
                     struct api_key **out)
{
    uint8_t digest[SHA256_BYTES] = { 0 };
    struct sv word = next_word(&rest);
    struct api_key *key;
    int rc;

    *out = NULL;
    if (word.len == 0)
        return 0;
    rc = read_hash(l, word, digest);
    if (rc < 0)
        return rc;
    key = key_new(k, digest);
    if (!key)
        return err_set(l->e, WATT_ENOMEM, "API keys");
    key->from_file = true;
    while (rc == 0 && (word = next_word(&rest)).len > 0) {
        const char *is = memchr(word.data, '=', word.len);
        const size_t n = is ? (size_t)(is - word.data) : word.len;
        const struct sv value = { is ? is + 1 : "", is ? word.len - n - 1 : 0 };

        rc = read_option(l, (struct sv){ word.data, n }, value, &key->limits);
    }
    if (rc < 0)
        mem_free(key);
    else
        *out = key;
    return rc;
}

static int read_lines(struct api_keys *k, const char *path, struct sv text, struct api_key **list,
                      size_t *n, struct err *e)
{
    struct line l = { path, 0, e };
    int rc = 0;

    while (rc == 0 && text.len > 0) {
        const char *end = memchr(text.data, '\n', text.len);
        const struct sv line = { text.data, end ? (size_t)(end - text.data) : text.len };
        struct api_key *key;

        l.number++;
        text.data += line.len + (end != NULL);
        text.len -= line.len + (end != NULL);
        rc = read_line(&l, line, k, &key);
        if (rc == 0 && key && *n == API_MAX_KEYS) {
            mem_free(key);
            rc = err_set(e, WATT_ELIMIT, "%s: over %u API keys", path, API_MAX_KEYS);
        } else if (rc == 0 && key) {
            list[(*n)++] = key;
        }
    }
    if (rc == 0 && *n == 0)
        rc = err_set(e, WATT_EFORMAT, "%s: no keys", path);
    return rc;
}

static int by_digest(const void *a, const void *b)
{
    return memcmp((*(struct api_key *const *)a)->digest, (*(struct api_key *const *)b)->digest,
                  SHA256_BYTES);
}

static int sort_lines(const char *path, struct api_key **list, size_t n, struct err *e)
{
    qsort(list, n, sizeof *list, by_digest);
    for (size_t i = 1; i < n; i++)
        if (by_digest(&list[i - 1], &list[i]) == 0)
            return err_set(e, WATT_EFORMAT, "%s: the hash %02x%02x%02x%02x… stands there twice",
                           path, list[i]->digest[0], list[i]->digest[1], list[i]->digest[2],
                           list[i]->digest[3]);
    return 0;
}

/* With mu held: the new list, sorted, with what the old one has used, then those that no file
 * gave. */
static size_t take_over(struct api_keys *k, struct api_key **list, size_t n)
{
    const size_t n_lines = n;

    for (size_t i = 0; i < k->n; i++) {
        struct api_key *old = k->list[i], **now;

        if (!old->from_file) {
            list[n++] = old;
            continue;
        }
        now = bsearch(&old, list, n_lines, sizeof *list, by_digest);
        if (now) {
            old->limits = (*now)->limits;
            mem_free(*now);
            *now = old;
        } else {
            drop(old);
        }
    }
    return n;
}

int api_keys_read(struct api_keys *k, const char *path, struct err *e)
{
    struct api_key **list, **old;
    size_t len, n = 0;
    char *text;
    int rc = file_read(path, MAX_KEY_FILE, &text, &len, e);

    if (rc < 0)
        return rc;
    list = mem_calloc(API_MAX_KEYS + api_keys_count(k) + 1, sizeof *list);
    rc = list ? read_lines(k, path, (struct sv){ text, len }, list, &n, e)
              : err_set(e, WATT_ENOMEM, "API keys");
    mem_free(text);
    if (rc == 0)
        rc = sort_lines(path, list, n, e);
    if (rc < 0) {
        for (size_t i = 0; i < n; i++)
            mem_free(list[i]);
        mem_free(list);
        return rc;
    }
    pthread_mutex_lock(&k->mu);
    n = take_over(k, list, n);
    old = k->list;
    k->list = list;
    k->n = n;
    pthread_mutex_unlock(&k->mu);
    mem_free(old);
    return 0;
}

struct api_key *api_keys_find(struct api_keys *k, const char *text)
{
    struct api_key *found = NULL;
    uint8_t digest[SHA256_BYTES];

    if (strlen(text) > 1024)
        return NULL;
    sha256(text, strlen(text), digest);
    pthread_mutex_lock(&k->mu);
    for (size_t i = 0; i < k->n; i++) {
        unsigned char differs = 0;

        for (size_t b = 0; b < SHA256_BYTES; b++)
            differs |= (unsigned char)(k->list[i]->digest[b] ^ digest[b]);
        if (differs == 0)
            found = k->list[i];
    }
    if (found)
        found->refs++;
    pthread_mutex_unlock(&k->mu);
    return found;
}

void api_key_hold(struct api_key *key)
{
    if (!key)
        return;
    pthread_mutex_lock(&key->set->mu);
    key->refs++;
    pthread_mutex_unlock(&key->set->mu);
}

void api_key_release(struct api_key *key)
{
    struct api_keys *k = key ? key->set : NULL;

    if (!key)
        return;
    pthread_mutex_lock(&k->mu);
    drop(key);
    pthread_mutex_unlock(&k->mu);
}

/* ---- what a key may do ---- */

static struct limits limits_of(const struct api_key *key)
{
    struct limits l;

    pthread_mutex_lock(&key->set->mu);
    l = key->limits;
    pthread_mutex_unlock(&key->set->mu);
    return l;
}

bool api_key_may(const struct api_key *key, enum api_scope scope)
{
    return !key || scope == API_OPEN || (limits_of(key).scopes & 1u << scope) != 0;
}

bool api_key_may_use(const struct api_key *key, const char *model)
{
    struct limits l;
    const size_t n = strlen(model);

    if (!key)
        return true;
    l = limits_of(key);
    if (!l.models[0])
        return true;
    for (const char *p = l.models; *p;) {
        const size_t len = strcspn(p, ",");

        if (len == n && memcmp(p, model, n) == 0)
            return true;
        p += len + (p[len] == ',');
    }
    return false;
}

uint64_t api_key_account(const struct api_key *key)
{
    uint64_t id = 0;

    if (!key)
        return 0;
    memcpy(&id, key->digest, sizeof id);        /* never changes: no lock */
    return id ? id : 1;
}

void api_key_name(const struct api_key *key, char out[API_KEY_NAME_BYTES])
{
    out[0] = '\0';
    if (key)
        snprintf(out, API_KEY_NAME_BYTES, "%s", limits_of(key).name);
}

/* With mu held. */
static void label_of(const struct api_key *key, char out[API_KEY_LABEL_BYTES])
{
    (void)snprintf(out, API_KEY_LABEL_BYTES, "%s", key->limits.name);
    for (size_t i = 0; !key->limits.name[0] && i < 6; i++)
        (void)snprintf(out + 2 * i, 3, "%02x", key->digest[i]);
}

void api_key_label(const struct api_key *key, char out[API_KEY_LABEL_BYTES])
{
    out[0] = '\0';
    if (!key)
        return;
    pthread_mutex_lock(&key->set->mu);
    label_of(key, out);
    pthread_mutex_unlock(&key->set->mu);
}

int32_t api_key_priority(const struct api_key *key, int32_t wanted)
{
    int32_t base;

    if (!key)
        return wanted;
    base = limits_of(key).priority;
    wanted = wanted < -100 ? -100 : wanted;
    return base + (wanted < 0 ? wanted : 0);
}

/* ---- rates ---- */

static void fill(struct bucket *b, uint64_t limit, uint64_t now)
{
    const double max = (double)limit;

    if (limit == 0) {
        b->filled = 0;          /* full when a limit comes */
        return;
    }
    if (b->filled == 0 || b->level > max)
        b->level = max;
    else if (now > b->filled)
        b->level += (double)(now - b->filled) * max / MINUTE_NS;
    if (b->level > max)
        b->level = max;
    b->filled = now ? now : 1;
}

static uint64_t ms_until(const struct bucket *b, uint64_t limit, double level)
{
    return b->level >= level ? 0
                             : (uint64_t)((level - b->level) / (double)limit * MINUTE_NS / 1e6) + 1;
}

enum api_verdict api_key_enter(struct api_key *key, uint64_t now, struct api_allowance *left)
{
    enum api_verdict verdict = API_ENTERS;
    const struct limits *l;

    memset(left, 0, sizeof *left);
    if (!key)
        return API_ENTERS;
    pthread_mutex_lock(&key->set->mu);
    l = &key->limits;
    fill(&key->requests, l->per_minute, now);
    fill(&key->tokens, l->tokens_per_minute, now);
    left->budget = budget_exhausted(&key->budget, &l->budget, clock_wall_ns() / 1000000000);
    if (left->budget != BUDGET_NONE) {
        verdict = API_OVER_BUDGET;
        left->budget_limit = l->budget.a_day[left->budget];
        left->budget_renews = budget_renews(clock_wall_ns() / 1000000000);
        left->retry_ms = (uint64_t)(left->budget_renews - clock_wall_ns() / 1000000000) * 1000;
    } else if (l->concurrent && key->n_running >= l->concurrent) {
        verdict = API_OVER_CONCURRENT;
        left->retry_ms = 1000;
    } else if (l->per_minute && key->requests.level < 1) {
        verdict = API_OVER_REQUESTS;
        left->retry_ms = ms_until(&key->requests, l->per_minute, 1);
    } else if (l->tokens_per_minute && key->tokens.level < 1) {
        verdict = API_OVER_TOKENS;
        left->retry_ms = ms_until(&key->tokens, l->tokens_per_minute, 1);
    } else {
        key->n_running++;
        key->requests.level -= 1;
    }
    left->concurrent = (uint32_t)l->concurrent;
    left->limit_requests = l->per_minute;
    left->limit_tokens = l->tokens_per_minute;
    if (l->per_minute) {
        left->left_requests = key->requests.level > 0 ? (uint64_t)key->requests.level : 0;
        left->full_requests_ms = ms_until(&key->requests, l->per_minute, (double)l->per_minute);
    }
    if (l->tokens_per_minute) {
        left->left_tokens = key->tokens.level > 0 ? (uint64_t)key->tokens.level : 0;
        left->full_tokens_ms = ms_until(&key->tokens, l->tokens_per_minute,
                                        (double)l->tokens_per_minute);
    }
    pthread_mutex_unlock(&key->set->mu);
    return verdict;
}

void api_key_spend(struct api_key *key, uint64_t now, uint64_t n_tokens)
{
    if (!key)
        return;
    pthread_mutex_lock(&key->set->mu);
    if (key->limits.tokens_per_minute) {
        fill(&key->tokens, key->limits.tokens_per_minute, now);
        key->tokens.level -= (double)n_tokens;
    }
    budget_charge(&key->budget, BUDGET_TOKENS, (double)n_tokens, clock_wall_ns() / 1000000000);
    pthread_mutex_unlock(&key->set->mu);
}

void api_key_leave(struct api_key *key)
{
    if (!key)
        return;
    pthread_mutex_lock(&key->set->mu);
    CHECK(key->n_running > 0);
    key->n_running--;
    pthread_mutex_unlock(&key->set->mu);
}

void api_key_charge(struct api_key *key, enum budget_kind kind, double amount)
{
    if (!key)
        return;
    pthread_mutex_lock(&key->set->mu);
    budget_charge(&key->budget, kind, amount, clock_wall_ns() / 1000000000);
    pthread_mutex_unlock(&key->set->mu);
}

static int by_label(const void *a, const void *b)
{
    return strcmp(((const struct api_key_use *)a)->label, ((const struct api_key_use *)b)->label);
}

void api_keys_used(struct api_keys *k, const struct api_key_use *list, size_t n, int64_t day)
{
    pthread_mutex_lock(&k->mu);
    for (size_t i = 0; n > 0 && i < k->n; i++) {
        const struct api_key_use *u;
        struct api_key_use want;

        label_of(k->list[i], want.label);
        u = bsearch(&want, list, n, sizeof *list, by_label);
        for (int b = 0; u && b < N_BUDGETS; b++)
            budget_raise(&k->list[i]->budget, (enum budget_kind)b, u->used[b], day);
    }
    pthread_mutex_unlock(&k->mu);
}

bool api_keys_budget(struct api_keys *k, enum budget_kind kind)
{
    bool any = false;

    pthread_mutex_lock(&k->mu);
    for (size_t i = 0; i < k->n; i++)
        any |= k->list[i]->limits.budget.a_day[kind] > 0;
    pthread_mutex_unlock(&k->mu);
    return any;
}
