/* store.c: the models that are there, their other names, and taking them away. */
#include "infrastructure/store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

#define ALIASES       "aliases.json"
#define CHANGES       "changes.lock"        /* in STORE_PARTIAL */
#define GONE          "gone"                /* likewise: what is being removed */
#define MAX_ALIAS     200u
#define MAX_ALIASES   10000u
#define MAX_ALIAS_FILE ((size_t)8 << 20)

/* ---- the store ---- */

int store_open(struct store **out, const char *dir, struct err *e)
{
    const char *env = getenv("WATT_STORE"), *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    struct store *s = mem_calloc(1, sizeof *s);

    if (!s)
        return err_set(e, WATT_ENOMEM, "store");
    if (!dir && env && *env)
        dir = env;
    if (dir)
        s->dir = mem_strdup(dir);
    else if (data && *data == '/')
        s->dir = store_join("%s/watt/models", data);
    else if (home && *home)
        s->dir = store_join("%s/.local/share/watt/models", home);
    if (!s->dir) {
        mem_free(s);
        return err_set(e, WATT_EINVAL, "no folder for models: set WATT_STORE, XDG_DATA_HOME or HOME");
    }
    *out = s;
    return 0;
}

void store_close(struct store *s)
{
    if (s)
        mem_free(s->dir);
    mem_free(s);
}

const char *store_dir(const struct store *s)
{
    return s->dir;
}

/* ---- listing ---- */

struct walk {
    int  (*each)(void *ctx, const struct store_model *m);
    void (*bad)(void *ctx, const struct err *why);
    void  *ctx;
    bool   stop;
};

static int walk_repo(const char *folder, struct walk *w, struct err *e)
{
    char **tags;
    size_t n;
    int rc = store_list_folder(folder, &tags, &n, e);

    for (size_t i = 0; rc == 0 && i < n && !w->stop; i++) {
        char *path = store_join("%s/%s", folder, tags[i]);
        struct store_model m = { 0 };
        struct err why = { 0 };

        if (!path)
            rc = err_set(e, WATT_ENOMEM, "%s", folder);
        else if (store_load_manifest(&m, path, &why) == 0)
            w->stop = w->each(w->ctx, &m) != 0;
        else if (w->bad)
            w->bad(w->ctx, &why);
        store_model_deinit(&m);
        mem_free(path);
    }
    store_free_names(tags, n);
    return rc;
}

static int walk_org(const char *folder, struct walk *w, struct err *e)
{
    char **repos;
    size_t n;
    int rc = store_list_folder(folder, &repos, &n, e);

    for (size_t i = 0; rc == 0 && i < n && !w->stop; i++) {
        char *path = store_join("%s/%s", folder, repos[i]);

        rc = path ? walk_repo(path, w, e) : err_set(e, WATT_ENOMEM, "%s", folder);
        mem_free(path);
    }
    store_free_names(repos, n);
    return rc;
}

int store_list(const struct store *s, int (*each)(void *ctx, const struct store_model *m),
               void (*bad)(void *ctx, const struct err *why), void *ctx, struct err *e)
{
    struct walk w = { each, bad, ctx, false };
    char **orgs;
    size_t n;
    int rc = store_list_folder(s->dir, &orgs, &n, e);

    for (size_t i = 0; rc == 0 && i < n && !w.stop; i++) {
        char *path = store_join("%s/%s", s->dir, orgs[i]);

        rc = path ? walk_org(path, &w, e) : err_set(e, WATT_ENOMEM, "%s", s->dir);
        mem_free(path);
    }
    store_free_names(orgs, n);
    return rc;
}

/* ---- changes ---- */

/* Whoever changes names or takes models away does so alone, among threads and processes; close *fd. */
int store_lock(const struct store *s, int *fd, struct err *e)
{
    char *bin = store_join("%s/" STORE_PARTIAL, s->dir), *lock = store_join("%s/" STORE_PARTIAL "/" CHANGES, s->dir);
    int rc = bin && lock ? store_make_folder(bin, e) : err_set(e, WATT_ELIMIT, "%s: too long", s->dir);

    *fd = -1;
    if (rc == 0) {
        *fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (*fd < 0)
            rc = err_errno(e, WATT_EIO, errno, "%s", lock);
    }
    while (rc == 0 && flock(*fd, LOCK_EX) < 0)
        if (errno != EINTR)
            rc = err_errno(e, WATT_EIO, errno, "%s", lock);
    mem_free(bin);
    mem_free(lock);
    return rc;
}

void store_unlock(int fd)
{
    if (fd >= 0)
        (void)close(fd);
}

/* ---- aliases ---- */

static bool alias_ok(const char *s)
{
    const size_t n = strlen(s);

    if (n == 0 || n > MAX_ALIAS || !store_name_char(*s) || *s == '.' || *s == '-')
        return false;
    for (size_t i = 0; i < n; i++)
        if (!store_name_char(s[i]) && s[i] != ':' && s[i] != '/')
            return false;
    return true;
}

/* An empty object when there is none. */
static int read_aliases(const struct store *s, json_t **out, struct err *e)
{
    static const struct json_limits limits = { .max_bytes = MAX_ALIAS_FILE, .max_depth = 4 };
    char *path = store_join("%s/" ALIASES, s->dir), *text = NULL;
    size_t n;
    int rc = path ? file_read(path, MAX_ALIAS_FILE, &text, &n, e)
                  : err_set(e, WATT_ELIMIT, "%.200s: the path is too long", s->dir);

    if (rc == WATT_ENOENT) {
        *out = json_object();
        rc = *out ? 0 : err_set(e, WATT_ENOMEM, ALIASES);
    } else if (rc == 0) {
        rc = json_parse(out, path, text, n, &limits, e);
        if (rc == 0 && !json_is_object(*out)) {
            json_decref(*out);
            rc = err_set(e, WATT_EFORMAT, "%s: expected an object", path);
        }
    }
    mem_free(text);
    mem_free(path);
    return rc;
}

/* Under the lock of changes, as reading what is changed. */
static int write_aliases(const struct store *s, json_t *j, struct err *e)
{
    char *path = store_join("%s/" ALIASES, s->dir);
    int rc = store_make_folder(s->dir, e);

    if (rc == 0)
        rc = path ? store_write_json(path, json_incref(j), e) : err_set(e, WATT_ENOMEM, ALIASES);
    mem_free(path);
    return rc;
}

static const char *alias_target(const json_t *aliases, const char *name)
{
    const size_t n = strlen(name);
    const char *to = json_string_value(json_object_get(aliases, name));
    char plain[MAX_ALIAS + 1];

    if (to || n <= 7 || n - 7 > MAX_ALIAS || strcmp(name + n - 7, ":latest") != 0)
        return to;
    memcpy(plain, name, n - 7);
    plain[n - 7] = '\0';
    return json_string_value(json_object_get(aliases, plain));
}

int store_aliases(const struct store *s, int (*each)(void *ctx, const char *alias, const char *name),
                  void *ctx, struct err *e)
{
    json_t *j, *v;
    const char *key;
    const int rc = read_aliases(s, &j, e);

    if (rc < 0)
        return rc;
    json_object_foreach(j, key, v)
        if (alias_ok(key) && json_is_string(v) && each(ctx, key, json_string_value(v)) != 0)
            break;
    json_decref(j);
    return 0;
}

int store_alias(const struct store *s, const char *alias, const char *name, struct err *e)
{
    struct store_model m = { 0 };
    json_t *j;
    int rc, lock;

    if (!alias_ok(alias))
        return err_set(e, WATT_EINVAL, "'%.100s' can't be a name: letters, digits and ._:/- only",
                       alias);
    rc = store_find(s, name, &m, e);
    if (rc < 0)
        return rc;
    rc = store_lock(s, &lock, e);
    if (rc == 0)
        rc = read_aliases(s, &j, e);
    if (rc == 0) {
        if (json_object_size(j) >= MAX_ALIASES)
            rc = err_set(e, WATT_ELIMIT, "over %u aliases", MAX_ALIASES);
        else if (json_object_set_new(j, alias, json_string(m.name)) < 0)
            rc = err_set(e, WATT_ENOMEM, ALIASES);
        else
            rc = write_aliases(s, j, e);
        json_decref(j);
    }
    store_unlock(lock);
    store_model_deinit(&m);
    return rc;
}

/* ---- finding ---- */

struct best { struct store_model m; unsigned rank; bool found; };

static int take_better(void *ctx, const struct store_model *m)
{
    struct best *b = ctx;
    const unsigned rank = store_tag_rank(strrchr(m->name, ':') + 1);

    if (b->found && rank >= b->rank)
        return 0;
    store_model_deinit(&b->m);
    b->m = *m;
    *(struct store_model *)(uintptr_t)m = (struct store_model){ 0 };    /* the walk's own copy */
    b->rank = rank;
    b->found = true;
    return 0;
}

static int find_by_name(const struct store *s, const struct store_name *n, struct store_model *out,
                        struct err *e)
{
    char *folder = store_join("%s/%s/%s%s%s", s->dir, n->org, n->repo, *n->tag ? "/" : "", n->tag);
    struct best b = { 0 };
    struct walk w = { take_better, NULL, &b, false };
    int rc;

    if (!folder)
        return err_set(e, WATT_ELIMIT, "%.200s: the path is too long", s->dir);
    if (*n->tag) {
        rc = store_load_manifest(out, folder, e);
    } else {
        rc = walk_repo(folder, &w, e);
        if (rc == 0 && !b.found)
            rc = WATT_ENOENT;
        if (rc == 0)
            *out = b.m;
        else
            store_model_deinit(&b.m);
    }
    mem_free(folder);
    return rc;
}

int store_find(const struct store *s, const char *name, struct store_model *out, struct err *e)
{
    struct store_name n;
    json_t *aliases;
    const char *target;
    int rc = read_aliases(s, &aliases, e);

    if (rc < 0)
        return rc;
    target = alias_target(aliases, name);
    rc = store_name_parse(&n, target ? target : name, NULL);
    json_decref(aliases);
    if (rc == 0)
        rc = find_by_name(s, &n, out, e);
    if (rc == 0 || (rc != WATT_ENOENT && rc != WATT_EINVAL))
        return rc;
    return err_set(e, WATT_ENOENT, "'%.200s' is not among the fetched models in %s", name, s->dir);
}

/* ---- removing ---- */

/* Those that name this model, or the one alias. Under the lock of changes. */
static int drop_aliases(const struct store *s, const char *model, const char *alias, struct err *e)
{
    const char *key;
    json_t *j, *v;
    void *next;
    bool any = false;
    int rc = read_aliases(s, &j, e);

    if (rc < 0)
        return rc;
    json_object_foreach_safe(j, next, key, v)
        if ((alias && strcmp(key, alias) == 0) ||
            (model && json_is_string(v) && strcmp(json_string_value(v), model) == 0)) {
            (void)json_object_del(j, key);
            any = true;
        }
    rc = any ? write_aliases(s, j, e) : 0;
    json_decref(j);
    return rc;
}

/* What a process that was killed left half removed. Under the lock of changes. */
static int remove_gone(const struct store *s, struct err *e)
{
    char *path = store_join("%s/" STORE_PARTIAL "/" GONE, s->dir);
    const int rc = path ? store_remove_tree(AT_FDCWD, path, STORE_MAX_DEPTH + 2, e)
                        : err_set(e, WATT_ENOMEM, "%s", s->dir);

    mem_free(path);
    return rc;
}

/* Under the lock of changes. */
int store_drop_model(const struct store *s, const char *folder, struct err *e)
{
    char *away = store_join("%s/" STORE_PARTIAL "/" GONE, s->dir), *up = mem_strdup(folder);
    int rc = away && up ? remove_gone(s, e) : err_set(e, WATT_ENOMEM, "%s", folder);

    if (rc == 0 && rename(folder, away) < 0)
        rc = err_errno(e, errno == ENOENT ? WATT_ENOENT : WATT_EIO, errno, "%s: can't be removed",
                       folder);
    if (rc == 0)
        rc = remove_gone(s, e);
    for (int i = 0; rc == 0 && i < 2; i++) {    /* repository and organisation, when empty */
        char *slash = strrchr(up, '/');

        if (slash)
            *slash = '\0';
        (void)rmdir(up);
    }
    mem_free(away);
    mem_free(up);
    return rc;
}

/* A model with its aliases, or with m NULL one alias. */
static int remove_named(const struct store *s, const struct store_model *m, const char *alias,
                        struct err *e)
{
    int lock, rc = store_lock(s, &lock, e);

    if (rc == 0 && m)
        rc = store_drop_model(s, m->folder, e);
    if (rc == 0)
        rc = drop_aliases(s, m ? m->name : NULL, alias, e);
    store_unlock(lock);
    return rc;
}

int store_remove(const struct store *s, const char *name, uint64_t *freed, struct err *e)
{
    struct store_model m = { 0 };
    json_t *j;
    bool is_alias;
    int rc = read_aliases(s, &j, e);

    *freed = 0;
    if (rc < 0)
        return rc;
    is_alias = json_object_get(j, name) != NULL;
    json_decref(j);
    if (is_alias)
        return remove_named(s, NULL, name, e);
    rc = store_find(s, name, &m, e);
    if (rc == WATT_ENOENT) {
        struct err why = { 0 };

        rc = store_remove_partial(s, name, freed, &why);
        if (rc < 0 && rc != WATT_ENOENT)
            *e = why;
        return rc;
    }
    if (rc == 0)
        rc = remove_named(s, &m, NULL, e);
    *freed = rc == 0 ? m.bytes : 0;
    store_model_deinit(&m);
    return rc;
}

/* ---- paths ---- */

int store_resolve(const char *given, char **path, struct err *e)
{
    struct store_model m = { 0 };
    struct store *s;
    struct store_name n;
    struct stat st;
    int rc;

    if (stat(given, &st) == 0 || errno != ENOENT || !alias_ok(given) ||
        store_open(&s, NULL, NULL) < 0) {
        *path = mem_strdup(given);
        return *path ? 0 : err_set(e, WATT_ENOMEM, "%.200s", given);
    }
    rc = store_find(s, given, &m, e);
    if (rc == 0) {
        *path = m.path;
        m.path = NULL;
    } else if (rc == WATT_ENOENT && store_name_parse(&n, given, NULL) == 0 &&
               !strstr(given, ".gguf")) {
        rc = err_set(e, rc, "%s: no such file, and no such model among the fetched ones; "
                     "`watt pull %s` fetches it", given, given);
    } else if (rc == WATT_ENOENT) {
        *path = mem_strdup(given);      /* whoever opens it says what is wrong */
        rc = *path ? 0 : err_set(e, WATT_ENOMEM, "%.200s", given);
    }
    store_model_deinit(&m);
    store_close(s);
    return rc;
}
