/* store_manifest.c: names of models, and the manifests that say what a folder holds. */
#include "infrastructure/store_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

#define MAX_MANIFEST  ((size_t)8 << 20)

/* ---- names ---- */

bool store_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("._-", c));
}

bool store_copy_part(char out[STORE_PART_MAX], const char *s, size_t n)
{
    if (n == 0 || n >= STORE_PART_MAX || *s == '.' || *s == '-')
        return false;
    for (size_t i = 0; i < n; i++)
        if (!store_name_char(s[i]))
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
    if (!slash || !store_copy_part(n->org, s, (size_t)(slash - s)) || !store_copy_part(n->repo, repo, repo_len))
        goto bad;
    if (*p == ':') {
        const size_t len = strcspn(++p, "@");

        if (!store_copy_part(n->tag, p, len))
            goto bad;
        p += len;
    }
    if (*p == '@' && !store_copy_part(n->revision, p + 1, strlen(p + 1)))
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

    if (strcmp(path, STORE_MANIFEST) == 0)    /* is ours */
        return false;
    for (const char *p = path;; depth++) {
        const size_t n = strcspn(p, "/");

        if (n == 0 || n > 200 || *p == '.' || depth >= STORE_MAX_DEPTH)
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
    m->path = *model ? store_join("%s/%s", folder, model) : mem_strdup(folder);
    return m->folder && m->hub && m->path ? 0 : err_set(e, WATT_ENOMEM, "manifest");
}

int store_manifest_parse(struct store_model *out, const char *folder, const char *text, size_t n,
                         struct err *e)
{
    static const struct json_limits limits = { .max_bytes = MAX_MANIFEST, .max_depth = 16 };
    struct store_model m = { 0 };
    struct json_place root;
    json_t *j;
    int rc = json_parse(&j, STORE_MANIFEST, text, n, &limits, e);

    if (rc < 0)
        return rc;
    root = json_root(j, STORE_MANIFEST);
    rc = read_manifest(&root, &m, folder, e);
    json_close(j);
    if (rc < 0) {
        store_model_deinit(&m);
        return rc;
    }
    *out = m;
    return 0;
}

int store_load_manifest(struct store_model *out, const char *folder, struct err *e)
{
    char *path = store_join("%s/" STORE_MANIFEST, folder), *text;
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

json_t *store_manifest_json(const struct store_name *n, const struct store_model *m,
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
        if (json_array_append_new(files, json_pack("{s:s,s:I,s:s*}", "path", f->path, "size",
                (json_int_t)f->size, "sha256", f->has_sha256 ? hex : NULL)) < 0) {
            json_decref(files);
            return NULL;
        }
    }
    return json_pack("{s:i,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:o}", "version", 1, "name", name, "hub",
                     m->hub ? m->hub : "", "revision", m->revision, "commit", m->commit, "pulled",
                     m->pulled, "format", m->format, "model", model, "files", files);
}

/* Takes j over. */
int store_write_json(const char *path, json_t *j, struct err *e)
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
