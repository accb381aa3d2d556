/* hub_listing.c: see hub_listing.h. */
#include "infrastructure/hub_listing.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/mem.h"

#define MAX_LISTING ((size_t)64 << 20)
#define MAX_SMALL   ((uint64_t)256 << 20)   /* of a file that is no weights */

/* ---- the listing ---- */

void hub_listing_deinit(struct hub_listing *l)
{
    for (size_t i = 0; i < l->n_files; i++)
        mem_free(l->files[i].path);
    mem_free(l->files);
    *l = (struct hub_listing){ 0 };
}

static int read_lfs(const struct json_place *at, struct store_file *f, struct err *e)
{
    struct json_place lfs, p;
    const char *hex = "";
    int rc = json_find(at, "lfs", &lfs, e);

    if (rc < 0 || !lfs.value)
        return rc;
    rc = json_find(&lfs, "sha256", &p, e);
    if (rc == 0 && !p.value)
        rc = json_find(&lfs, "oid", &p, e);
    if (rc == 0 && p.value)
        rc = json_read_cstr(&p, &hex, e);
    if (rc == 0)
        rc = json_get_u64(&lfs, "size", f->size, 0, INT64_MAX, &f->size, e);
    if (rc < 0 || !*hex)
        return rc;
    if (strncmp(hex, "sha256:", 7) == 0)
        hex += 7;
    if (strlen(hex) != 2 * SHA256_BYTES || strspn(hex, "0123456789abcdefABCDEF") != strlen(hex))
        return json_refuse(&lfs, e, WATT_EFORMAT, "expected a SHA-256 in hexadecimal");
    for (size_t i = 0; i < SHA256_BYTES; i++) {
        const char pair[3] = { hex[2 * i], hex[2 * i + 1], '\0' };

        f->sha256[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    f->has_sha256 = true;
    return 0;
}

/* Hidden files (.gitattributes) are no part of a model; false: leave it out. */
static bool is_hidden(const char *path)
{
    return *path == '.' && path[1] != '.' && path[1] != '/' && !strstr(path, "/.");
}

static int read_sibling(const struct json_place *at, struct hub_listing *l, struct err *e)
{
    struct store_file *f = &l->files[l->n_files];
    struct json_place p;
    const char *path;
    int rc = json_need(at, "rfilename", &p, e);

    if (rc == 0)
        rc = json_read_cstr(&p, &path, e);
    if (rc < 0 || is_hidden(path))
        return rc;
    if (!store_path_ok(path))
        return json_refuse(&p, e, WATT_EFORMAT, "'%.100s' is no file of a model's folder", path);
    f->size = UINT64_MAX;
    rc = json_find(at, "size", &p, e);
    if (rc == 0 && p.value)
        rc = json_read_u64(&p, 0, INT64_MAX, &f->size, e);
    if (rc == 0)
        rc = read_lfs(at, f, e);
    if (rc < 0)
        return rc;
    f->path = mem_strdup(path);
    if (!f->path)
        return err_set(e, WATT_ENOMEM, "listing");
    l->n_files++;
    return 0;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct store_file *)a)->path, ((const struct store_file *)b)->path);
}

static int read_listing(const struct json_place *root, struct hub_listing *l, struct err *e)
{
    struct json_place list, p;
    const char *commit = "";
    size_t n = 0;
    int rc = json_need(root, "sha", &p, e);

    if (rc == 0)
        rc = json_read_cstr(&p, &commit, e);
    if (rc == 0 && (strlen(commit) < 7 || strlen(commit) >= sizeof l->commit ||
                    strspn(commit, "0123456789abcdef") != strlen(commit)))
        rc = json_refuse(&p, e, WATT_EFORMAT, "expected a commit in hexadecimal");
    if (rc == 0)
        rc = json_need(root, "siblings", &list, e);
    if (rc == 0)
        rc = json_read_array(&list, HUB_MAX_FILES, &n, e);
    if (rc < 0)
        return rc;
    (void)snprintf(l->commit, sizeof l->commit, "%s", commit);
    l->files = mem_calloc(n ? n : 1, sizeof *l->files);
    if (!l->files)
        return err_set(e, WATT_ENOMEM, "listing of %zu files", n);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place item = json_item(&list, i);

        rc = read_sibling(&item, l, e);
    }
    if (rc == 0)
        qsort(l->files, l->n_files, sizeof *l->files, by_path);
    for (size_t i = 1; rc == 0 && i < l->n_files; i++)
        if (strcmp(l->files[i].path, l->files[i - 1].path) == 0)
            rc = json_refuse(&list, e, WATT_EFORMAT, "'%.100s' is there twice", l->files[i].path);
    return rc;
}

int hub_listing_parse(struct hub_listing *out, const char *text, size_t n, struct err *e)
{
    static const struct json_limits limits = { .max_bytes = MAX_LISTING, .max_depth = 32 };
    struct hub_listing l = { 0 };
    struct json_place root;
    json_t *j;
    int rc = json_parse(&j, "listing", text, n, &limits, e);

    if (rc < 0)
        return rc;
    root = json_root(j, "listing");
    rc = read_listing(&root, &l, e);
    json_close(j);
    if (rc < 0) {
        hub_listing_deinit(&l);
        return rc;
    }
    *out = l;
    return 0;
}

/* ---- what a tag means ---- */

/* The parts of a split file: NAME-00001-of-00003.gguf. The number and count, or 1 of 1. */
static void split_of(const char *path, unsigned *no, unsigned *count, size_t *stem)
{
    const size_t n = strlen(path), tail = sizeof "-00001-of-00003.gguf" - 1;
    const char *p = path + n - tail;

    *no = *count = 1;
    *stem = n - 5;
    if (n <= tail || *p != '-' || strncmp(p + 6, "-of-", 4) != 0 ||
        strspn(p + 1, "0123456789") != 5 || strspn(p + 10, "0123456789") != 5)
        return;
    *no = (unsigned)strtoul(p + 1, NULL, 10);
    *count = (unsigned)strtoul(p + 10, NULL, 10);
    *stem = n - tail;
}

static bool ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), k = strlen(end);

    return n > k && strcasecmp(s + n - k, end) == 0;
}

/* A language model's first file; not its projector, draft or matrix. */
static bool is_gguf(const char *path)
{
    static const char *const others[] = { "mmproj", "imatrix", "mtp-", "vocab" };
    const char *base = strrchr(path, '/');
    unsigned no, count;
    size_t stem;

    base = base ? base + 1 : path;
    if (!ends_with(path, ".gguf"))
        return false;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcasestr(base, others[i]))
            return false;
    split_of(path, &no, &count, &stem);
    return no == 1;
}

/* The quantisation in a name: the part behind the last '-' or '.' that looks like one, with what is
 * tied to it by '_' ("model-UD-Q4_K_M.gguf" gives Q4_K_M). "" when there is none. */
static void tag_of(const char *path, char out[STORE_PART_MAX])
{
    static const char *const kinds[] = { "Q", "IQ", "TQ", "BF16", "F16", "F32", "FP16", "MXFP4",
                                         "NVFP4" };
    unsigned no, count;
    size_t stem;
    const char *found = NULL;
    size_t n_found = 0;

    split_of(path, &no, &count, &stem);
    for (size_t i = 0; i < stem; i++) {
        size_t n = 0;

        if (i > 0 && !strchr("-./", path[i - 1]))
            continue;
        while (i + n < stem && !strchr("-./", path[i + n]))
            n++;
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            const size_t len = strlen(kinds[k]);
            const bool family = len <= 2;       /* a digit must follow */

            if (n >= len && strncasecmp(path + i, kinds[k], len) == 0 &&
                (family ? n > len && path[i + len] >= '0' && path[i + len] <= '9'
                        : n == len || path[i + len] == '_')) {
                found = path + i;
                n_found = n;
            }
        }
    }
    if (!found || n_found >= STORE_PART_MAX)
        n_found = 0;
    memcpy(out, found ? found : "", n_found);
    out[n_found] = '\0';
}

static bool has_safetensors(const struct hub_listing *l)
{
    bool weights = false, config = false;

    for (size_t i = 0; i < l->n_files; i++) {
        weights |= ends_with(l->files[i].path, ".safetensors") && !strchr(l->files[i].path, '/');
        config |= strcmp(l->files[i].path, "config.json") == 0;
    }
    return weights && config;
}

void hub_tags(const struct hub_listing *l, struct str *out)
{
    const size_t from = out->len;
    char tag[STORE_PART_MAX];

    for (size_t i = 0; i < l->n_files && out->len < from + 300; i++) {
        if (!is_gguf(l->files[i].path))
            continue;
        tag_of(l->files[i].path, tag);
        if (*tag)
            str_printf(out, "%s%s", out->len > from ? ", " : "", tag);
    }
    if (has_safetensors(l))
        str_printf(out, "%ssafetensors", out->len > from ? ", " : "");
}

/* What a folder of Hugging Face's needs beside its weights. */
static bool belongs(const char *path, bool whole)
{
    static const char *const names[] = { ".safetensors", ".json", ".jinja", ".model", "vocab.txt",
                                         "merges.txt", ".tiktoken" };
    const char *slash = strchr(path, '/');

    if (slash && !(strncmp(path, "1_Pooling/", 10) == 0 && strcmp(slash, "/config.json") == 0))
        return false;
    if (strncmp(path, "consolidated", 12) == 0 && !whole)   /* the same weights, in another form */
        return false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (ends_with(path, names[i]) || strcmp(path, names[i]) == 0)
            return true;
    return false;
}

static int add_file(struct hub_choice *c, const struct hub_listing *l, size_t i, struct err *e)
{
    const uint64_t size = l->files[i].size;

    if (c->n_files == STORE_MAX_FILES)
        return err_set(e, WATT_ELIMIT, "a model of over %u files", STORE_MAX_FILES);
    if (!ends_with(l->files[i].path, ".gguf") && !ends_with(l->files[i].path, ".safetensors") &&
        size != UINT64_MAX && size > MAX_SMALL)
        return err_set(e, WATT_ELIMIT, "%s has %" PRIu64 " bytes, at most %" PRIu64,
                       l->files[i].path, size, MAX_SMALL);
    c->files[c->n_files++] = i;
    if (size != UINT64_MAX && !add_u64(c->bytes, size, &c->bytes))
        return err_set(e, WATT_EFORMAT, "%s: the sizes are too large", l->files[i].path);
    return 0;
}

static int choose_folder(struct hub_choice *c, const struct hub_listing *l, struct err *e)
{
    int rc = 0;

    (void)snprintf(c->tag, sizeof c->tag, "safetensors");
    (void)snprintf(c->format, sizeof c->format, "safetensors");
    c->model = "";
    for (size_t i = 0; rc == 0 && i < l->n_files; i++)
        if (belongs(l->files[i].path, false))
            rc = add_file(c, l, i, e);
    return rc;
}

static int choose_gguf(struct hub_choice *c, const struct hub_listing *l, size_t first, struct err *e)
{
    const char *path = l->files[first].path;
    unsigned no, count, n_found = 0;
    size_t stem;
    int rc = 0;

    tag_of(path, c->tag);
    if (!*c->tag)
        (void)snprintf(c->tag, sizeof c->tag, "gguf");
    (void)snprintf(c->format, sizeof c->format, "gguf");
    c->model = path;
    split_of(path, &no, &count, &stem);
    if (count == 1)
        return add_file(c, l, first, e);
    for (size_t i = 0; rc == 0 && i < l->n_files; i++) {
        unsigned part, of;
        size_t n;

        split_of(l->files[i].path, &part, &of, &n);
        if (of == count && n == stem && strncmp(l->files[i].path, path, stem) == 0) {
            rc = add_file(c, l, i, e);
            n_found++;
        }
    }
    if (rc == 0 && n_found != count)
        rc = err_set(e, WATT_EFORMAT, "%s: the repository has %u of its %u parts", path, n_found,
                     count);
    return rc;
}

static size_t find_gguf(const struct hub_listing *l, const char *want)
{
    size_t best = SIZE_MAX;
    unsigned rank = UINT32_MAX;
    char tag[STORE_PART_MAX];

    for (size_t i = 0; i < l->n_files; i++) {
        if (!is_gguf(l->files[i].path))
            continue;
        tag_of(l->files[i].path, tag);
        if (*want && strcasecmp(want, *tag ? tag : "gguf") == 0)
            return i;
        if (!*want && store_tag_rank(tag) < rank) {
            rank = store_tag_rank(tag);
            best = i;
        }
    }
    return best;
}

int hub_choose(struct hub_choice *out, const struct hub_listing *l, const char *tag, struct err *e)
{
    struct hub_choice c = { .files = mem_array(l->n_files ? l->n_files : 1, sizeof *c.files) };
    const bool folder = strcasecmp(tag, "safetensors") == 0;
    const size_t gguf = folder ? SIZE_MAX : find_gguf(l, tag);
    struct str tags;
    int rc;

    if (!c.files)
        return err_set(e, WATT_ENOMEM, "choice of files");
    str_init(&tags, 0);
    if (gguf != SIZE_MAX) {
        rc = choose_gguf(&c, l, gguf, e);
    } else if (has_safetensors(l) && (folder || !*tag)) {
        rc = choose_folder(&c, l, e);
    } else {
        hub_tags(l, &tags);
        rc = tags.len ? err_set(e, WATT_ENOENT, "there is no '%.60s'; there are %s", tag,
                                str_cstr(&tags))
                      : err_set(e, WATT_ENOENT, "the repository has neither GGUF files nor "
                                "safetensors");
    }
    str_deinit(&tags);
    if (rc < 0) {
        hub_choice_deinit(&c);
        return rc;
    }
    *out = c;
    return 0;
}

void hub_choice_deinit(struct hub_choice *c)
{
    mem_free(c->files);
    *c = (struct hub_choice){ 0 };
}
