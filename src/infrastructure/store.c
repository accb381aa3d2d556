/* store.c: see store.h. */
#include "infrastructure/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

#define MANIFEST      "manifest.json"
#define ALIASES       "aliases.json"
#define PARTIAL       ".partial"
#define MAX_MANIFEST  ((size_t)8 << 20)
#define MAX_ALIAS     200u
#define MAX_ALIASES   10000u
#define MAX_ENTRIES   100000u       /* of a folder */
#define MAX_DEPTH     6             /* of a model's folders */

struct store {
    char *dir;
};

static char *join(const char *fmt, ...) PRINTF_LIKE(1, 2);
static char *join(const char *fmt, ...)
{
    char buf[4096];
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(buf, sizeof buf, fmt, args);
    va_end(args);
    return n > 0 && (size_t)n < sizeof buf ? mem_strdup(buf) : NULL;
}

/* ---- names ---- */

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("._-", c));
}

static bool copy_part(char out[STORE_PART_MAX], const char *s, size_t n)
{
    if (n == 0 || n >= STORE_PART_MAX || *s == '.' || *s == '-')
        return false;
    for (size_t i = 0; i < n; i++)
        if (!is_name_char(s[i]))
            return false;
    memcpy(out, s, n);
    out[n] = '\0';
    return strstr(out, "..") == NULL && strstr(out, "--") == NULL;
}

static const char *skip_hub(const char *s)
{
    static const char *const fronts[] = { "https://", "http://", NULL };
    static const char *const hosts[] = { "hf.co/", "huggingface.co/", NULL };

    for (size_t i = 0; fronts[i]; i++)
        if (strncmp(s, fronts[i], strlen(fronts[i])) == 0) {
            s += strlen(fronts[i]);
            break;
        }
    for (size_t i = 0; hosts[i]; i++)
        if (strncmp(s, hosts[i], strlen(hosts[i])) == 0)
            return s + strlen(hosts[i]);
    return s;
}

int store_name_parse(struct store_name *n, const char *text, struct err *e)
{
    const char *s = skip_hub(text), *slash = strchr(s, '/');
    const char *repo = slash ? slash + 1 : s;
    const size_t repo_len = strcspn(repo, ":@");
    const char *p = repo + repo_len;

    *n = (struct store_name){ 0 };
    if (!slash || !copy_part(n->org, s, (size_t)(slash - s)) || !copy_part(n->repo, repo, repo_len))
        goto bad;
    if (*p == ':') {
        const size_t len = strcspn(++p, "@");

        if (!copy_part(n->tag, p, len))
            goto bad;
        p += len;
    }
    if (*p == '@' && !copy_part(n->revision, p + 1, strlen(p + 1)))
        goto bad;
    if (strcmp(n->tag, "latest") == 0)
        n->tag[0] = '\0';
    return 0;
bad:
    *n = (struct store_name){ 0 };
    return err_set(e, WATT_EINVAL, "'%.200s' is no model of a hub: ORG/REPO, with :QUANT behind it "
                   "if need be", text);
}

void store_name_text(const struct store_name *n, char out[STORE_NAME_MAX])
{
    (void)snprintf(out, STORE_NAME_MAX, "%s/%s%s%s", n->org, n->repo, *n->tag ? ":" : "", n->tag);
}

unsigned store_tag_rank(const char *tag)
{
    static const char *const order[] = { "Q4_K_M", "Q8_0", "Q4_K_S", "Q5_K_M", "Q6_K", "Q4_0",
                                         "BF16", "F16", "safetensors" };
    unsigned i = 0;

    while (i < sizeof order / sizeof *order && strcasecmp(order[i], tag) != 0)
        i++;
    return i;
}

bool store_path_ok(const char *path)
{
    unsigned depth = 0;

    if (strcmp(path, MANIFEST) == 0)    /* is ours */
        return false;
    for (const char *p = path;; depth++) {
        const size_t n = strcspn(p, "/");

        if (n == 0 || n > 200 || *p == '.' || depth >= MAX_DEPTH)
            return false;
        for (size_t i = 0; i < n; i++)
            if ((unsigned char)p[i] < ' ' || p[i] == 0x7f || p[i] == '\\')
                return false;
        if (p[n] == '\0')
            return true;
        p += n + 1;
    }
}

/* ---- manifests ---- */

void store_model_deinit(struct store_model *m)
{
    for (size_t i = 0; i < m->n_files; i++)
        mem_free(m->files[i].path);
    mem_free(m->files);
    mem_free(m->folder);
    mem_free(m->path);
    mem_free(m->hub);
    *m = (struct store_model){ 0 };
}

static bool read_hash(const char *hex, uint8_t out[SHA256_BYTES])
{
    if (strlen(hex) != 2 * SHA256_BYTES || strspn(hex, "0123456789abcdef") != 2 * SHA256_BYTES)
        return false;
    for (size_t i = 0; i < SHA256_BYTES; i++) {
        const char pair[3] = { hex[2 * i], hex[2 * i + 1], '\0' };

        out[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return true;
}

static int read_file_entry(const struct json_place *at, struct store_file *f, struct err *e)
{
    struct json_place p;
    const char *path, *hash;
    int rc = json_need(at, "path", &p, e);

    if (rc == 0)
        rc = json_read_cstr(&p, &path, e);
    if (rc == 0 && !store_path_ok(path))
        rc = json_refuse(&p, e, WATT_EFORMAT, "'%.100s' is no file of a model's folder", path);
    if (rc == 0)
        rc = json_get_u64(at, "size", 0, 0, INT64_MAX, &f->size, e);
    if (rc == 0)
        rc = json_get_cstr(at, "sha256", "", &hash, e);
    if (rc < 0)
        return rc;
    if (*hash && !read_hash(hash, f->sha256))
        return json_refuse(at, e, WATT_EFORMAT, "sha256: expected 64 hexadecimal digits");
    f->has_sha256 = *hash != '\0';
    f->path = mem_strdup(path);
    return f->path ? 0 : err_set(e, WATT_ENOMEM, "manifest");
}

static int read_files(const struct json_place *root, struct store_model *m, struct err *e)
{
    struct json_place list;
    size_t n;
    int rc = json_need(root, "files", &list, e);

    if (rc == 0)
        rc = json_read_array(&list, STORE_MAX_FILES, &n, e);
    if (rc < 0)
        return rc;
    m->files = mem_calloc(n ? n : 1, sizeof *m->files);
    if (!m->files)
        return err_set(e, WATT_ENOMEM, "manifest");
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place item = json_item(&list, i);

        m->n_files = i + 1;
        rc = read_file_entry(&item, &m->files[i], e);
        if (rc == 0 && !add_u64(m->bytes, m->files[i].size, &m->bytes))
            rc = json_refuse(&item, e, WATT_EFORMAT, "size: too large");
    }
    return rc;
}

static int get_text(const struct json_place *root, const char *key, char *out, size_t cap,
                    struct err *e)
{
    const char *v;
    const int rc = json_get_cstr(root, key, "", &v, e);

    if (rc == 0)
        (void)snprintf(out, cap, "%s", v);
    return rc;
}

static void digest_of(struct store_model *m)
{
    uint8_t digest[SHA256_BYTES];
    struct sha256 h;

    sha256_init(&h);
    for (size_t i = 0; i < m->n_files; i++) {
        sha256_add(&h, m->files[i].path, strlen(m->files[i].path) + 1);
        sha256_add(&h, &m->files[i].size, sizeof m->files[i].size);
        sha256_add(&h, m->files[i].sha256, SHA256_BYTES);
    }
    sha256_end(&h, digest);
    for (size_t i = 0; i < SHA256_BYTES; i++)
        (void)snprintf(m->digest + 2 * i, 3, "%02x", digest[i]);
}

static int read_manifest(const struct json_place *root, struct store_model *m, const char *folder,
                         struct err *e)
{
    struct store_name n;
    struct json_place p;
    const char *name, *hub, *model;
    uint64_t version;
    int rc = json_get_u64(root, "version", 0, 1, 1, &version, e);

    if (rc == 0)
        rc = json_need(root, "name", &p, e);
    if (rc == 0)
        rc = json_read_cstr(&p, &name, e);
    if (rc == 0)
        rc = store_name_parse(&n, name, e);
    if (rc == 0 && !*n.tag)
        rc = json_refuse(&p, e, WATT_EFORMAT, "has no tag");
    if (rc == 0)
        rc = json_get_cstr(root, "hub", "", &hub, e);
    if (rc == 0)
        rc = json_get_cstr(root, "model", "", &model, e);
    if (rc == 0 && *model && !store_path_ok(model))
        rc = json_refuse(root, e, WATT_EFORMAT, "model: '%.100s' is no file of its folder", model);
    if (rc == 0)
        rc = get_text(root, "format", m->format, sizeof m->format, e);
    if (rc == 0)
        rc = get_text(root, "revision", m->revision, sizeof m->revision, e);
    if (rc == 0)
        rc = get_text(root, "commit", m->commit, sizeof m->commit, e);
    if (rc == 0)
        rc = get_text(root, "pulled", m->pulled, sizeof m->pulled, e);
    if (rc == 0)
        rc = read_files(root, m, e);
    if (rc < 0)
        return rc;
    store_name_text(&n, m->name);
    digest_of(m);
    m->folder = mem_strdup(folder);
    m->hub = mem_strdup(hub);
    m->path = *model ? join("%s/%s", folder, model) : mem_strdup(folder);
    return m->folder && m->hub && m->path ? 0 : err_set(e, WATT_ENOMEM, "manifest");
}

int store_manifest_parse(struct store_model *out, const char *folder, const char *text, size_t n,
                         struct err *e)
{
    static const struct json_limits limits = { .max_bytes = MAX_MANIFEST, .max_depth = 16 };
    struct store_model m = { 0 };
    struct json_place root;
    json_t *j;
    int rc = json_parse(&j, MANIFEST, text, n, &limits, e);

    if (rc < 0)
        return rc;
    root = json_root(j, MANIFEST);
    rc = read_manifest(&root, &m, folder, e);
    json_close(j);
    if (rc < 0) {
        store_model_deinit(&m);
        return rc;
    }
    *out = m;
    return 0;
}

static int load_manifest(struct store_model *out, const char *folder, struct err *e)
{
    char *path = join("%s/" MANIFEST, folder), *text;
    size_t n;
    int rc = path ? file_read(path, MAX_MANIFEST, &text, &n, e)
                  : err_set(e, WATT_ELIMIT, "%.200s: the path is too long", folder);

    mem_free(path);
    if (rc < 0)
        return rc;
    rc = store_manifest_parse(out, folder, text, n, e);
    mem_free(text);
    return rc < 0 ? err_prefix(e, "%s", folder) : 0;
}

static json_t *manifest_json(const struct store_name *n, const struct store_model *m,
                             const char *model)
{
    json_t *files = json_array();
    char name[STORE_NAME_MAX];

    store_name_text(n, name);
    for (size_t i = 0; i < m->n_files; i++) {
        const struct store_file *f = &m->files[i];
        char hex[2 * SHA256_BYTES + 1] = "";

        for (size_t k = 0; f->has_sha256 && k < SHA256_BYTES; k++)
            (void)snprintf(hex + 2 * k, 3, "%02x", f->sha256[k]);
        (void)json_array_append_new(files, json_pack("{s:s,s:I,s:s*}", "path", f->path, "size",
            (json_int_t)f->size, "sha256", f->has_sha256 ? hex : NULL));
    }
    return json_pack("{s:i,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:o}", "version", 1, "name", name, "hub",
                     m->hub ? m->hub : "", "revision", m->revision, "commit", m->commit, "pulled",
                     m->pulled, "format", m->format, "model", model, "files", files);
}

/* Takes j over. */
static int write_json(const char *path, json_t *j, struct err *e)
{
    struct file_new f;
    int rc = j ? file_new_open(&f, path, e) : err_set(e, WATT_ENOMEM, "%s", path);

    if (rc < 0) {
        json_decref(j);
        return rc;
    }
    if (json_dumpf(j, f.f, JSON_INDENT(1)) < 0 && !ferror(f.f))
        rc = err_set(e, WATT_ENOMEM, "%s", path);
    json_decref(j);
    if (rc == 0)
        return file_new_commit(&f, e);      /* tells of failed writes, too */
    file_new_abort(&f);
    return rc;
}

/* ---- folders ---- */

/* With every folder above it. */
static int make_folder(const char *path, struct err *e)
{
    char *p = mem_strdup(path);
    int rc = p ? 0 : err_set(e, WATT_ENOMEM, "%s", path);

    for (char *s = p ? p + 1 : NULL; rc == 0 && s; s = s ? s + 1 : NULL) {
        s = strchr(s, '/');
        if (s)
            *s = '\0';
        if (mkdir(p, 0777) < 0 && errno != EEXIST)
            rc = err_errno(e, WATT_EIO, errno, "%s: can't be made", p);
        if (s)
            *s = '/';
    }
    mem_free(p);
    return rc;
}

/* With everything in it; follows no link. */
static int remove_tree(int at, const char *name, int depth, struct err *e)
{
    const int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    int rc = 0;

    if (!d) {
        const int why = errno;

        if (fd >= 0)
            (void)close(fd);
        if (why == ENOENT)
            return 0;
        return err_errno(e, WATT_EIO, why, "%s: can't be removed", name);
    }
    for (const struct dirent *x; rc == 0 && (x = readdir(d));) {
        struct stat st;

        if (strcmp(x->d_name, ".") == 0 || strcmp(x->d_name, "..") == 0)
            continue;
        if (fstatat(dirfd(d), x->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
            rc = depth > 0 ? remove_tree(dirfd(d), x->d_name, depth - 1, e)
                           : err_set(e, WATT_ELIMIT, "%s: folders too deep to remove", name);
        else if (unlinkat(dirfd(d), x->d_name, 0) < 0)
            rc = err_errno(e, WATT_EIO, errno, "%s/%s: can't be removed", name, x->d_name);
    }
    (void)closedir(d);
    if (rc == 0 && unlinkat(at, name, AT_REMOVEDIR) < 0)
        rc = err_errno(e, WATT_EIO, errno, "%s: can't be removed", name);
    return rc;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void free_names(char **v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        mem_free(v[i]);
    mem_free(v);
}

/* The folders in a folder, sorted; a missing one has none. */
static int list_folder(const char *path, char ***out, size_t *n_out, struct err *e)
{
    DIR *d = opendir(path);
    char part[STORE_PART_MAX], **v = NULL;
    size_t n = 0;
    int rc = 0;

    *out = NULL;
    *n_out = 0;
    if (!d && (errno == ENOENT || errno == ENOTDIR))
        return 0;
    if (!d)
        return err_errno(e, WATT_EIO, errno, "%s", path);
    for (const struct dirent *x; rc == 0 && (x = readdir(d));) {
        char **bigger;

        if (!copy_part(part, x->d_name, strlen(x->d_name)) || x->d_type == DT_REG)
            continue;
        bigger = n < MAX_ENTRIES ? mem_grow(v, n + 1, sizeof *v) : NULL;
        if (bigger)
            v = bigger;
        if (bigger && (v[n] = mem_strdup(part)))
            n++;
        else
            rc = err_set(e, WATT_ENOMEM, "%s: too many entries", path);
    }
    (void)closedir(d);
    if (rc < 0) {
        free_names(v, n);
        return rc;
    }
    if (n > 0)
        qsort(v, n, sizeof *v, by_text);
    *out = v;
    *n_out = n;
    return 0;
}

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
        s->dir = join("%s/watt/models", data);
    else if (home && *home)
        s->dir = join("%s/.local/share/watt/models", home);
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
    int rc = list_folder(folder, &tags, &n, e);

    for (size_t i = 0; rc == 0 && i < n && !w->stop; i++) {
        char *path = join("%s/%s", folder, tags[i]);
        struct store_model m = { 0 };
        struct err why = { 0 };

        if (!path)
            rc = err_set(e, WATT_ENOMEM, "%s", folder);
        else if (load_manifest(&m, path, &why) == 0)
            w->stop = w->each(w->ctx, &m) != 0;
        else if (w->bad)
            w->bad(w->ctx, &why);
        store_model_deinit(&m);
        mem_free(path);
    }
    free_names(tags, n);
    return rc;
}

static int walk_org(const char *folder, struct walk *w, struct err *e)
{
    char **repos;
    size_t n;
    int rc = list_folder(folder, &repos, &n, e);

    for (size_t i = 0; rc == 0 && i < n && !w->stop; i++) {
        char *path = join("%s/%s", folder, repos[i]);

        rc = path ? walk_repo(path, w, e) : err_set(e, WATT_ENOMEM, "%s", folder);
        mem_free(path);
    }
    free_names(repos, n);
    return rc;
}

int store_list(const struct store *s, int (*each)(void *ctx, const struct store_model *m),
               void (*bad)(void *ctx, const struct err *why), void *ctx, struct err *e)
{
    struct walk w = { each, bad, ctx, false };
    char **orgs;
    size_t n;
    int rc = list_folder(s->dir, &orgs, &n, e);

    for (size_t i = 0; rc == 0 && i < n && !w.stop; i++) {
        char *path = join("%s/%s", s->dir, orgs[i]);

        rc = path ? walk_org(path, &w, e) : err_set(e, WATT_ENOMEM, "%s", s->dir);
        mem_free(path);
    }
    free_names(orgs, n);
    return rc;
}

/* ---- aliases ---- */

static bool alias_ok(const char *s)
{
    const size_t n = strlen(s);

    if (n == 0 || n > MAX_ALIAS || !is_name_char(*s) || *s == '.' || *s == '-')
        return false;
    for (size_t i = 0; i < n; i++)
        if (!is_name_char(s[i]) && s[i] != ':' && s[i] != '/')
            return false;
    return true;
}

/* An empty object when there is none. */
static int read_aliases(const struct store *s, json_t **out, struct err *e)
{
    static const struct json_limits limits = { .max_bytes = MAX_MANIFEST, .max_depth = 4 };
    char *path = join("%s/" ALIASES, s->dir), *text = NULL;
    size_t n;
    int rc = path ? file_read(path, MAX_MANIFEST, &text, &n, e)
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

static int write_aliases(const struct store *s, json_t *j, struct err *e)
{
    char *path = join("%s/" ALIASES, s->dir);
    int rc = make_folder(s->dir, e);

    if (rc == 0)
        rc = path ? write_json(path, json_incref(j), e) : err_set(e, WATT_ENOMEM, ALIASES);
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
    int rc;

    if (!alias_ok(alias))
        return err_set(e, WATT_EINVAL, "'%.100s' can't be a name: letters, digits and ._:/- only",
                       alias);
    rc = store_find(s, name, &m, e);
    if (rc < 0)
        return rc;
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
    char *folder = join("%s/%s/%s%s%s", s->dir, n->org, n->repo, *n->tag ? "/" : "", n->tag);
    struct best b = { 0 };
    struct walk w = { take_better, NULL, &b, false };
    int rc;

    if (!folder)
        return err_set(e, WATT_ELIMIT, "%.200s: the path is too long", s->dir);
    if (*n->tag) {
        rc = load_manifest(out, folder, e);
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

/* ---- drafts ---- */

/* Bytes on the disk; what can't be read counts nothing. */
static uint64_t tree_bytes(int at, const char *name, int depth)
{
    const int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    uint64_t sum = 0;

    if (!d && fd >= 0)
        (void)close(fd);
    for (const struct dirent *x; d && (x = readdir(d));) {
        struct stat st;

        if (strcmp(x->d_name, ".") == 0 || strcmp(x->d_name, "..") == 0 ||
            fstatat(dirfd(d), x->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (!S_ISDIR(st.st_mode))
            sum += (uint64_t)st.st_blocks * 512;
        else if (depth > 0)
            sum += tree_bytes(dirfd(d), x->d_name, depth - 1);
    }
    if (d)
        (void)closedir(d);
    return sum;
}

struct draft_list { char **names; size_t n; };

/* Folders of .partial whose names begin so. */
static int list_drafts(const struct store *s, const char *front, struct draft_list *l, struct err *e)
{
    char *path = join("%s/" PARTIAL, s->dir);
    DIR *d = path ? opendir(path) : NULL;
    int rc = path ? 0 : err_set(e, WATT_ENOMEM, "%s", s->dir);

    *l = (struct draft_list){ 0 };
    for (const struct dirent *x; rc == 0 && d && (x = readdir(d));) {
        const size_t n = strlen(x->d_name);
        char **bigger;

        if (*x->d_name == '.' || strncmp(x->d_name, front, strlen(front)) != 0 ||
            !strstr(x->d_name, "--") || (n > 5 && strcmp(x->d_name + n - 5, ".lock") == 0))
            continue;
        bigger = l->n < MAX_ENTRIES ? mem_grow(l->names, l->n + 1, sizeof *bigger) : NULL;
        if (bigger)
            l->names = bigger;
        if (bigger && (l->names[l->n] = mem_strdup(x->d_name)))
            l->n++;
        else
            rc = err_set(e, WATT_ENOMEM, "%s", path);
    }
    if (d)
        (void)closedir(d);
    mem_free(path);
    if (rc < 0) {
        free_names(l->names, l->n);
        *l = (struct draft_list){ 0 };
    } else if (l->n > 0) {
        qsort(l->names, l->n, sizeof *l->names, by_text);
    }
    return rc;
}

/* Those of n but for `keep`; under n's lock. */
static int remove_drafts(const struct store *s, const struct store_name *n, const char *keep,
                         uint64_t *freed, struct err *e)
{
    char *front = join("%s--%s--%s--", n->org, n->repo, n->tag);
    struct draft_list l;
    int rc = front ? list_drafts(s, front, &l, e) : err_set(e, WATT_ENOMEM, "%s", s->dir);

    mem_free(front);
    *freed = 0;
    if (rc < 0)
        return rc;
    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        char *path = join("%s/" PARTIAL "/%s", s->dir, l.names[i]);

        if (path && strcmp(l.names[i], keep) != 0) {
            *freed += tree_bytes(AT_FDCWD, path, MAX_DEPTH + 2);
            rc = remove_tree(AT_FDCWD, path, MAX_DEPTH + 2, e);
        }
        mem_free(path);
    }
    free_names(l.names, l.n);
    return rc;
}

static int lock_draft(const struct store *s, const struct store_name *n, int *fd, struct err *e)
{
    char *bin = join("%s/" PARTIAL, s->dir);
    char *lock = join("%s/" PARTIAL "/%s--%s--%s.lock", s->dir, n->org, n->repo, n->tag);
    int rc = bin && lock ? make_folder(bin, e) : err_set(e, WATT_ELIMIT, "%s: too long", s->dir);

    *fd = -1;
    if (rc == 0) {
        *fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (*fd < 0)
            rc = err_errno(e, WATT_EIO, errno, "%s", lock);
        else if (flock(*fd, LOCK_EX | LOCK_NB) < 0)
            rc = err_set(e, WATT_EBUSY, "%s/%s:%s is being fetched already", n->org, n->repo, n->tag);
    }
    mem_free(bin);
    mem_free(lock);
    return rc;
}

/* What is left of a fetch; nothing is WATT_ENOENT. */
static int remove_partial(const struct store *s, const char *name, uint64_t *freed, struct err *e)
{
    struct store_name n;
    int fd, rc = store_name_parse(&n, name, NULL);

    if (rc < 0 || !*n.tag)
        return WATT_ENOENT;
    rc = lock_draft(s, &n, &fd, e);
    if (rc == 0)
        rc = remove_drafts(s, &n, "", freed, e);
    if (fd >= 0)
        (void)close(fd);
    return rc == 0 && *freed == 0 ? WATT_ENOENT : rc;
}

/* ---- removing ---- */

/* Those that name this model, or the one alias. */
static int drop_aliases(const struct store *s, json_t *j, const char *model, const char *alias,
                        struct err *e)
{
    const char *key;
    json_t *v;
    void *next;
    bool any = false;

    json_object_foreach_safe(j, next, key, v)
        if ((alias && strcmp(key, alias) == 0) ||
            (model && json_is_string(v) && strcmp(json_string_value(v), model) == 0)) {
            (void)json_object_del(j, key);
            any = true;
        }
    return any ? write_aliases(s, j, e) : 0;
}

static int remove_model(const struct store *s, const struct store_model *m, struct err *e)
{
    char *bin = join("%s/" PARTIAL, s->dir), *away = join("%s/" PARTIAL "/gone-%ld", s->dir,
                                                          (long)getpid());
    char *up = mem_strdup(m->folder);
    int rc = bin && away && up ? make_folder(bin, e) : err_set(e, WATT_ENOMEM, "%s", m->name);

    if (rc == 0)
        rc = remove_tree(AT_FDCWD, away, MAX_DEPTH + 2, e);     /* of a process that was killed */
    if (rc == 0 && rename(m->folder, away) < 0)
        rc = err_errno(e, WATT_EIO, errno, "%s: can't be removed", m->folder);
    if (rc == 0)
        rc = remove_tree(AT_FDCWD, away, MAX_DEPTH + 2, e);
    for (int i = 0; rc == 0 && i < 2; i++) {    /* repository and organisation, when empty */
        char *slash = strrchr(up, '/');

        if (slash)
            *slash = '\0';
        (void)rmdir(up);
    }
    mem_free(bin);
    mem_free(away);
    mem_free(up);
    return rc;
}

int store_remove(const struct store *s, const char *name, uint64_t *freed, struct err *e)
{
    struct store_model m = { 0 };
    json_t *j;
    int rc = read_aliases(s, &j, e);

    *freed = 0;
    if (rc < 0)
        return rc;
    if (json_object_get(j, name)) {
        rc = drop_aliases(s, j, NULL, name, e);
        json_decref(j);
        return rc;
    }
    rc = store_find(s, name, &m, e);
    if (rc == WATT_ENOENT) {
        struct err why = { 0 };

        rc = remove_partial(s, name, freed, &why);
        if (rc < 0 && rc != WATT_ENOENT)
            *e = why;
        json_decref(j);
        return rc;
    }
    if (rc == 0) {
        *freed = m.bytes;
        rc = remove_model(s, &m, e);
    }
    if (rc == 0)
        rc = drop_aliases(s, j, m.name, NULL, e);
    store_model_deinit(&m);
    json_decref(j);
    return rc;
}

/* ---- fetching ---- */

int store_begin(const struct store *s, const struct store_name *n, const char *commit,
                struct store_draft *d, struct err *e)
{
    uint64_t freed;
    int rc;

    *d = (struct store_draft){ .lock_fd = -1, .open = true };
    d->folder = join("%s/" PARTIAL "/%s--%s--%s--%.12s", s->dir, n->org, n->repo, n->tag, commit);
    rc = d->folder ? 0 : err_set(e, WATT_ELIMIT, "%s: too long", s->dir);
    if (rc == 0)
        rc = lock_draft(s, n, &d->lock_fd, e);
    if (rc == 0)
        rc = remove_drafts(s, n, strrchr(d->folder, '/') + 1, &freed, e);
    if (rc == 0)
        rc = make_folder(d->folder, e);
    if (rc < 0)
        store_end(d);
    return rc;
}

int store_commit(const struct store *s, const struct store_name *n, struct store_draft *d,
                 const struct store_model *m, const char *model, struct err *e)
{
    char *manifest = join("%s/" MANIFEST, d->folder), *repo = join("%s/%s/%s", s->dir, n->org, n->repo);
    char *to = join("%s/%s/%s/%s", s->dir, n->org, n->repo, n->tag);
    struct store_model old = { 0 };
    int rc = manifest && repo && to ? write_json(manifest, manifest_json(n, m, model), e)
                                    : err_set(e, WATT_ELIMIT, "%s: too long", s->dir);

    if (rc == 0)
        rc = make_folder(repo, e);
    if (rc == 0 && rename(d->folder, to) < 0) {
        if ((errno == ENOTEMPTY || errno == EEXIST) && (old.folder = mem_strdup(to))) {
            rc = remove_model(s, &old, e);      /* an older version of it */
            if (rc == 0)
                rc = make_folder(repo, e);
            if (rc == 0 && rename(d->folder, to) < 0)
                rc = err_errno(e, WATT_EIO, errno, "%s", to);
        } else {
            rc = err_errno(e, WATT_EIO, errno, "%s", to);
        }
    }
    store_model_deinit(&old);
    mem_free(manifest);
    mem_free(repo);
    mem_free(to);
    return rc;
}

void store_end(struct store_draft *d)
{
    if (!d->open)
        return;
    if (d->lock_fd >= 0)
        (void)close(d->lock_fd);
    mem_free(d->folder);
    *d = (struct store_draft){ .lock_fd = -1 };
}

int store_partials(const struct store *s, int (*each)(void *ctx, const char *name, uint64_t bytes),
                   void *ctx, struct err *e)
{
    struct draft_list l;
    int rc = list_drafts(s, "", &l, e);

    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        char *path = join("%s/" PARTIAL "/%s", s->dir, l.names[i]);
        char name[STORE_NAME_MAX] = "";
        const char *p = l.names[i];

        for (unsigned k = 0; *p && k < 3; k++) {        /* ORG--REPO--TAG--COMMIT */
            const char *end = strstr(p, "--");
            const size_t n = end ? (size_t)(end - p) : strlen(p), have = strlen(name);

            (void)snprintf(name + have, sizeof name - have, "%s%.*s", k == 1 ? "/" : k == 2 ? ":" : "",
                           (int)n, p);
            p = end ? end + 2 : p + n;
        }
        if (!path)
            rc = err_set(e, WATT_ENOMEM, "%s", s->dir);
        else if (each(ctx, name, tree_bytes(AT_FDCWD, path, MAX_DEPTH + 2)) != 0)
            i = l.n - 1;
        mem_free(path);
    }
    free_names(l.names, l.n);
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
