/* test_store.c: `watt pull`, `list` and `rm` with a hub of our own: choices, resume, faults, hostile answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/sha256.h"
#include "infrastructure/http.h"
#include "infrastructure/hub.h"
#include "remove_tree.h"
#include "spawn.h"

#define BIG ((size_t)21 << 20)
#define COMMIT "0123456789abcdef0123456789abcdef01234567"

static char top[] = "watt-store-XXXXXX";
static char dir[128], hub[64];
static struct http_server *server;
static uint8_t *big;                    /* the weights */
static char big_hash[2 * SHA256_BYTES + 1];
static struct spawned r;

/* how the hub behaves */
static atomic_bool no_ranges, needs_token, bad_bytes, moved;
static atomic_uint fail_next;           /* so many answers are 503 */
static atomic_uint hold_after;          /* pieces (of 64 KiB) before it stalls; 0: never */
static atomic_ulong n_sent;
static const char *listing;             /* NULL: the usual one */

/* ---- the hub ---- */

static void send_listing(struct http_exchange *x)
{
    static const char usual[] =
        "{\"sha\":\"%s\",\"siblings\":[{\"rfilename\":\".gitattributes\",\"size\":3},"
        "{\"rfilename\":\"README.md\",\"size\":10},"
        "{\"rfilename\":\"m-Q4_K_M.gguf\",\"size\":%zu,\"lfs\":{\"sha256\":\"%s\",\"size\":%zu}},"
        "{\"rfilename\":\"m-Q8_0.gguf\",\"size\":%zu,\"lfs\":{\"sha256\":\"%s\",\"size\":%zu}},"
        "{\"rfilename\":\"mmproj-m-F16.gguf\",\"size\":10},"
        "{\"rfilename\":\"s/m-Q6_K-00001-of-00002.gguf\",\"size\":1000},"
        "{\"rfilename\":\"s/m-Q6_K-00002-of-00002.gguf\",\"size\":1000},"
        "{\"rfilename\":\"config.json\"},{\"rfilename\":\"model.safetensors\",\"size\":1000},"
        "{\"rfilename\":\"consolidated.safetensors\",\"size\":1000},"
        "{\"rfilename\":\"1_Pooling/config.json\",\"size\":100}]}";
    char text[4096];
    int n;

    if (listing) {
        http_reply(x, 200, "application/json", listing, strlen(listing));
        return;
    }
    n = snprintf(text, sizeof text, usual, atomic_load(&moved) ? "89abcdef" COMMIT : COMMIT, BIG,
                 big_hash, BIG, BIG, big_hash, BIG);
    http_reply(x, 200, "application/json", text, (size_t)n);
}

struct sending { struct http_exchange *x; size_t from, to; };

static void *send_slowly(void *arg)
{
    struct sending *s = arg;
    unsigned pieces = 0;

    while (s->from < s->to) {
        const size_t n = s->to - s->from < 65536 ? s->to - s->from : 65536;
        const unsigned hold = atomic_load(&hold_after);

        if (hold && ++pieces > hold) {
            (void)usleep(20000);
            if (http_gone(s->x))
                break;
            continue;
        }
        if (!http_write(s->x, big + s->from, n))
            break;
        atomic_fetch_add(&n_sent, n);
        s->from += n;
        if (hold)
            (void)usleep(1000);
    }
    http_end(s->x);
    http_release(s->x);
    mem_free(s);
    return NULL;
}

static void send_file(struct http_exchange *x, size_t size)
{
    const char *range = http_header(x, "Range");
    struct sending *s = mem_calloc(1, sizeof *s);
    pthread_t thread;
    char text[96];

    *s = (struct sending){ x, 0, size };
    if (range && !atomic_load(&no_ranges)) {
        char *end;

        s->from = strtoul(range + 6, &end, 10);
        if (end[1])
            s->to = strtoul(end + 1, NULL, 10) + 1;
        (void)snprintf(text, sizeof text, "bytes %zu-%zu/%zu", s->from, s->to - 1, size);
        http_add_header(x, "Content-Range", text);
        http_add_header(x, "ETag", "\"v1\"");
    }
    if (size < 10000) {
        http_reply(x, range && !atomic_load(&no_ranges) ? 206 : 200, "x", big + s->from,
                   s->to - s->from);
        mem_free(s);
        http_release(x);
        return;
    }
    http_stream(x, range && !atomic_load(&no_ranges) ? 206 : 200, "application/octet-stream");
    assert_int_equal(pthread_create(&thread, NULL, send_slowly, s), 0);
    (void)pthread_detach(thread);
}

static void on_request(void *ctx, struct http_exchange *x)
{
    const char *path = http_path(x), *auth = http_header(x, "Authorization");
    unsigned left = atomic_load(&fail_next);

    (void)ctx;
    if (atomic_load(&needs_token) && (!auth || strcmp(auth, "Bearer hf_secret") != 0)) {
        http_reply(x, 401, "application/json", "{\"error\":\"no\"}", 14);
    } else if (strncmp(path, "/api/models/org/repo/revision/main", 34) == 0) {
        send_listing(x);
    } else if (!strstr(path, "/resolve/")) {
        http_reply(x, 404, "application/json", "{\"error\":\"Repository not found\"}", 32);
    } else if (left > 0) {
        atomic_store(&fail_next, left - 1);
        http_add_header(x, "Retry-After", "0");
        http_reply(x, 503, "text/plain", "busy", 4);
    } else {
        send_file(x, strstr(path, "-Q4_K_M.") || strstr(path, "-Q8_0.") ? BIG
                  : strstr(path, "Pooling") ? 100 : 1000);
        return;
    }
    http_release(x);
}

static int up(void **state)
{
    const struct http_opts opts = { .handler = { .on_request = on_request }, .n_threads = 2,
                                    .max_queued_bytes = (size_t)64 << 20 };
    uint8_t digest[SHA256_BYTES];
    struct err e = { 0 };
    uint32_t v = 1;

    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    assert_non_null(mkdtemp(top));
    (void)snprintf(dir, sizeof dir, "%s/store", top);
    assert_int_equal(setenv("WATT_STORE", dir, 1), 0);
    (void)unsetenv("HF_TOKEN");
    (void)unsetenv("http_proxy");
    big = mem_alloc(BIG);
    assert_non_null(big);
    for (size_t i = 0; i < BIG; i++) {
        v = v * 1664525 + 1013904223;
        big[i] = (uint8_t)(v >> 24);
    }
    sha256(big, BIG, digest);
    for (size_t i = 0; i < SHA256_BYTES; i++)
        (void)snprintf(big_hash + 2 * i, 3, "%02x", digest[i]);
    assert_int_equal(http_open(&server, &opts, &e), 0);
    (void)snprintf(hub, sizeof hub, "http://127.0.0.1:%u/", http_port(server));
    return setenv("WATT_HUB", hub, 1);
}

static int down(void **state)
{
    (void)state;
    for (int i = 0; i < 100 && http_n_exchanges(server) > 0; i++)
        (void)usleep(20000);
    http_close(server);
    mem_free(big);
    return remove_tree(top);
}

static int fresh(void **state)
{
    (void)state;
    atomic_store(&no_ranges, false);
    atomic_store(&needs_token, false);
    atomic_store(&bad_bytes, false);
    atomic_store(&moved, false);
    atomic_store(&fail_next, 0);
    atomic_store(&hold_after, 0);
    atomic_store(&n_sent, 0);
    listing = NULL;
    return 0;
}

static char *path_of(const char *name)
{
    struct store_model m = { 0 };
    struct store *s;
    struct err e = { 0 };
    static char path[512];

    path[0] = '\0';
    assert_int_equal(store_open(&s, NULL, &e), 0);
    if (store_find(s, name, &m, &e) == 0)
        (void)snprintf(path, sizeof path, "%s", m.path);
    store_model_deinit(&m);
    store_close(s);
    return path;
}

static bool same_as_big(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = mem_alloc(BIG + 1);
    const bool same = f && fread(data, 1, BIG + 1, f) == BIG && memcmp(data, big, BIG) == 0;

    mem_free(data);
    if (f)
        (void)fclose(f);
    return same;
}

static int add_kept(void *ctx, const char *name, uint64_t bytes)
{
    (void)name;
    *(uint64_t *)ctx += bytes;
    return 0;
}

/* Of models that are not fetched to the end. */
static uint64_t bytes_kept(void)
{
    uint64_t sum = 0;
    struct store *s;
    struct err e = { 0 };

    assert_int_equal(store_open(&s, NULL, &e), 0);
    assert_int_equal(store_partials(s, add_kept, &sum, &e), 0);
    store_close(s);
    return sum;
}

/* ---- tests ---- */

static void names(void **state)
{
    static const char *const bad[] = { "", "a", "a/", "/a", "a/b/c", "../a", "a/..", "a/b:", "a/b:../x",
                                       "a/b@", ".a/b", "a/b:c/d", "a\n/b", "a--b/c", "a/b c" };
    struct store_name n;
    char text[STORE_NAME_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (store_name_parse(&n, bad[i], NULL) == 0)
            fail_msg("'%s' is taken for a name", bad[i]);
    assert_int_equal(store_name_parse(&n, "https://huggingface.co/org/re.po:Q4_K_M@v1.0", NULL), 0);
    assert_string_equal(n.revision, "v1.0");
    store_name_text(&n, text);
    assert_string_equal(text, "org/re.po:Q4_K_M");
    assert_int_equal(store_name_parse(&n, "org/repo:latest", NULL), 0);
    assert_string_equal(n.tag, "");
    assert_true(store_path_ok("a/b-c.gguf"));
    assert_false(store_path_ok("../a") || store_path_ok("/a") || store_path_ok("a/../b") ||
                 store_path_ok("a//b") || store_path_ok(".a") || store_path_ok("a\\b") ||
                 store_path_ok("a\nb") || store_path_ok("") || store_path_ok("manifest.json") ||
                 store_path_ok("a/b/c/d/e/f/g"));
}

static void pulls_what_is_meant(void **state)
{
    (void)state;
    spawn(&r, NULL, "pull", "org/repo");
    assert_int_equal(r.code, 0);
    assert_string_equal(r.out, "org/repo:Q4_K_M\n");
    assert_true(same_as_big(path_of("org/repo:Q4_K_M")));
    atomic_store(&n_sent, 0);
    spawn(&r, NULL, "pull", "org/repo:q4_k_m", "--alias", "small");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.err, "already here"));
    assert_int_equal(atomic_load(&n_sent), 0);
    assert_true(same_as_big(path_of("small")));
    assert_true(same_as_big(path_of("small:latest")));
    spawn(&r, NULL, "pull", "org/repo:safetensors");
    assert_int_equal(r.code, 0);
    spawn(&r, NULL, "pull", "org/repo:Q6_K", "--connections", "1");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(path_of("org/repo:Q6_K"), "s/m-Q6_K-00001-of-00002.gguf"));
    spawn(&r, NULL, "list", "--json");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "1_Pooling/config.json"));
    assert_non_null(strstr(r.out, big_hash));
    assert_null(strstr(r.out, "consolidated"));
    assert_null(strstr(r.out, "mmproj"));
    spawn(&r, NULL, "list");
    assert_non_null(strstr(r.out, "small"));
    spawn(&r, NULL, "inspect", "small");        /* found, and refused for what it is */
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "m-Q4_K_M.gguf"));
    spawn(&r, NULL, "inspect", "org/other");
    assert_non_null(strstr(r.err, "watt pull org/other"));
    spawn(&r, NULL, "pull", "org/repo:Q3_K_S");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "Q4_K_M, Q8_0, Q6_K, safetensors"));
    spawn(&r, NULL, "rm", "small");
    assert_int_equal(r.code, 0);
    assert_true(same_as_big(path_of("org/repo")));
    spawn(&r, NULL, "rm", "org/repo:Q4_K_M", "org/repo:safetensors", "org/repo:Q6_K");
    assert_int_equal(r.code, 0);
    assert_string_equal(path_of("org/repo"), "");
    spawn(&r, NULL, "rm", "org/repo");
    assert_int_equal(r.code, 1);
    spawn(&r, NULL, "list");
    assert_string_equal(r.out, "");
}

static void a_new_version_replaces(void **state)
{
    (void)state;
    spawn(&r, NULL, "pull", "org/repo:Q8_0");
    assert_int_equal(r.code, 0);
    atomic_store(&moved, true);
    spawn(&r, NULL, "pull", "org/repo:Q8_0");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.err, "fetched"));
    assert_true(same_as_big(path_of("org/repo:Q8_0")));
    spawn(&r, NULL, "rm", "org/repo:Q8_0");
    assert_int_equal(r.code, 0);
}

/* Killed at any time; what had come is not asked for again. */
static void goes_on_after_kill(void **state)
{
    unsigned long first;
    int status;
    pid_t pid;

    (void)state;
    atomic_store(&hold_after, 40);
    pid = fork();
    if (pid == 0) {
        (void)execl(watt_bin(), "watt", "pull", "org/repo:Q8_0", "--quiet", (char *)NULL);
        _exit(98);
    }
    for (int i = 0; i < 3000 && (atomic_load(&n_sent) < 3 * 40 * 65536ul ||
                                 bytes_kept() < atomic_load(&n_sent)); i++)
        (void)usleep(20000);                            /* till the last byte that was sent is on disk */
    spawn(&r, NULL, "pull", "org/repo:Q8_0");           /* two at once */
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "already"));
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_string_equal(path_of("org/repo:Q8_0"), "");
    spawn(&r, NULL, "list");
    assert_non_null(strstr(r.out, "not fetched to the end"));
    first = atomic_load(&n_sent);
    assert_true(first > BIG / 3 && first < BIG);
    atomic_store(&n_sent, 0);
    atomic_store(&hold_after, 0);
    spawn(&r, NULL, "pull", "org/repo:Q8_0");
    assert_int_equal(r.code, 0);
    assert_true(same_as_big(path_of("org/repo:Q8_0")));
    assert_true(atomic_load(&n_sent) < BIG - first + (5u << 20));
    spawn(&r, NULL, "rm", "org/repo");
    assert_int_equal(r.code, 0);
}

static void copes_with_poor_hubs(void **state)
{
    (void)state;
    atomic_store(&fail_next, 1);
    spawn(&r, NULL, "pull", "org/repo:Q6_K");
    assert_int_equal(r.code, 0);
    spawn(&r, NULL, "rm", "org/repo");
    atomic_store(&no_ranges, true);
    spawn(&r, NULL, "pull", "org/repo:Q8_0");
    assert_int_equal(r.code, 0);
    assert_true(same_as_big(path_of("org/repo:Q8_0")));
    spawn(&r, NULL, "rm", "org/repo");
    atomic_store(&needs_token, true);
    spawn(&r, NULL, "pull", "org/repo:Q8_0");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "HF_TOKEN"));
    assert_int_equal(setenv("HF_TOKEN", "hf_secret", 1), 0);
    spawn(&r, NULL, "pull", "org/repo:Q6_K");
    assert_int_equal(r.code, 0);
    (void)unsetenv("HF_TOKEN");
    spawn(&r, NULL, "rm", "org/repo");
    atomic_store(&needs_token, false);
    spawn(&r, NULL, "pull", "org/nothing");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "no such repository"));
    spawn(&r, NULL, "pull", "org/repo", "--hub", "ftp://x");
    assert_int_equal(r.code, 1);
    spawn(&r, NULL, "pull", "nothing");
    assert_int_equal(r.code, 2);
}

static void other_bytes_are_thrown_away(void **state)
{
    (void)state;
    big[12345] ^= 1;
    spawn(&r, NULL, "pull", "org/repo:Q8_0");
    big[12345] ^= 1;
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "SHA-256"));
    assert_string_equal(path_of("org/repo"), "");
    spawn(&r, NULL, "pull", "org/repo:Q8_0");
    assert_int_equal(r.code, 0);
    spawn(&r, NULL, "rm", "org/repo");
}

/* A limit on file sizes is what a full disk looks like. */
static void a_full_disk_keeps_what_came(void **state)
{
    struct rlimit old, low;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    low = old;
    low.rlim_cur = BIG / 2;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    spawn(&r, NULL, "pull", "org/repo:Q8_0", "--connections", "1");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "are kept"));
    atomic_store(&n_sent, 0);
    spawn(&r, NULL, "pull", "org/repo:Q8_0", "--connections", "1");
    assert_int_equal(r.code, 0);
    assert_true(atomic_load(&n_sent) < BIG / 2 + (3u << 20));
    spawn(&r, NULL, "rm", "org/repo");
}

static void hostile_listings(void **state)
{
#define L(files) "{\"sha\":\"" COMMIT "\",\"siblings\":[" files "]}"
    static const char *const bad[] = {
        "", "[]", "{\"sha\":\"../../x\",\"siblings\":[]}", "{\"sha\":\"" COMMIT "\"}",
        L("{\"rfilename\":\"../../../m-Q8_0.gguf\",\"size\":1}"),
        L("{\"rfilename\":\"..\",\"size\":1}"),
        L("{\"rfilename\":\"/etc/m-Q8_0.gguf\",\"size\":1}"),
        L("{\"rfilename\":\"a/.././m-Q8_0.gguf\",\"size\":1}"),
        L("{\"rfilename\":\"m\\n-Q8_0.gguf\",\"size\":1}"),
        L("{\"rfilename\":7}"),
        L("{\"rfilename\":\"m-Q8_0.gguf\",\"size\":-1}"),
        L("{\"rfilename\":\"m-Q8_0.gguf\",\"size\":1},{\"rfilename\":\"m-Q8_0.gguf\",\"size\":2}"),
        L("{\"rfilename\":\"m-Q8_0.gguf\",\"size\":9000000000000000000}"),
        L("{\"rfilename\":\"m-Q8_0.gguf\",\"lfs\":{\"sha256\":\"zz\",\"size\":1}}"),
        L("{\"rfilename\":\"m-Q8_0-00001-of-00003.gguf\",\"size\":1}"),
        L("{\"rfilename\":\"README.md\",\"size\":1}"),
        L("{\"rfilename\":\"m-Q8_0.gguf\",\"size\":1}"),        /* the file is another size */
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        listing = bad[i];
        spawn(&r, NULL, "pull", "org/repo:Q8_0");
        if (r.code != 1 || !*r.err)
            fail_msg("%s: %d %s", bad[i], r.code, r.err);
    }
    assert_string_equal(path_of("org/repo"), "");
}

static void damaged_manifests(void **state)
{
    char path[256];
    FILE *f;

    (void)state;
    spawn(&r, NULL, "pull", "org/repo:Q6_K");
    assert_int_equal(r.code, 0);
    (void)snprintf(path, sizeof path, "%s/org/repo/Q6_K/manifest.json", dir);
    f = fopen(path, "wb");
    assert_non_null(f);
    (void)fputs("{\"version\":1,\"name\":\"org/repo:Q6_K\",\"model\":\"../x\",\"files\":[]}", f);
    (void)fclose(f);
    spawn(&r, NULL, "list");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.err, "manifest.json"));
    spawn(&r, NULL, "inspect", "org/repo:Q6_K");
    assert_int_equal(r.code, 1);
    spawn(&r, NULL, "pull", "org/repo:Q6_K");           /* mends it */
    assert_int_equal(r.code, 0);
    spawn(&r, NULL, "rm", "org/repo:Q6_K");
    assert_int_equal(r.code, 0);
}

/* ---- several at once ---- */

#define N_THREADS 6
#define N_EACH    20

static void put_model(const struct store *s, const char *text)
{
    struct store_model m = { .hub = NULL, .format = "gguf", .revision = "main", .commit = "abc" };
    struct store_draft d;
    struct store_name n;
    struct err e = { 0 };

    assert_int_equal(store_name_parse(&n, text, &e), 0);
    if (store_begin(s, &n, "abc", &d, &e) < 0 || store_commit(s, &n, &d, &m, "", &e) < 0)
        fail_msg("%s", e.msg);
    store_end(&d);
}

struct changer { const struct store *s; int number; int rc; struct err e; };

/* Gives names, and takes models away of which others beside it are taken away, too. */
static void *change_names(void *arg)
{
    struct changer *c = arg;
    uint64_t freed;
    char text[64], alias[64];

    for (int i = 0; i < N_EACH && c->rc == 0; i++) {
        (void)snprintf(alias, sizeof alias, "name-%d-%d", c->number, i);
        c->rc = store_alias(c->s, alias, "many/kept:Q8_0", &c->e);
        (void)snprintf(text, sizeof text, "many/gone-%d-%d:Q8_0", c->number, i);
        if (c->rc == 0)
            c->rc = store_remove(c->s, text, &freed, &c->e);
    }
    return NULL;
}

static int count_alias(void *n, const char *alias, const char *name)
{
    *(int *)n += strncmp(alias, "name-", 5) == 0 && strcmp(name, "many/kept:Q8_0") == 0;
    return 0;
}

static int count_model(void *n, const struct store_model *m)
{
    *(int *)n += strncmp(m->name, "many/", 5) == 0;
    return 0;
}

static void names_are_not_lost(void **state)
{
    struct changer c[N_THREADS] = { 0 };
    pthread_t threads[N_THREADS];
    struct store *s;
    struct err e = { 0 };
    uint64_t freed;
    char text[64];
    int n = 0;

    (void)state;
    assert_int_equal(store_open(&s, NULL, &e), 0);
    put_model(s, "many/kept:Q8_0");
    for (int i = 0; i < N_THREADS * N_EACH; i++) {
        (void)snprintf(text, sizeof text, "many/gone-%d-%d:Q8_0", i / N_EACH, i % N_EACH);
        put_model(s, text);
    }
    for (int i = 0; i < N_THREADS; i++) {
        c[i] = (struct changer){ .s = s, .number = i };
        assert_int_equal(pthread_create(&threads[i], NULL, change_names, &c[i]), 0);
    }
    for (int i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < N_THREADS; i++)
        if (c[i].rc < 0)
            fail_msg("%s", c[i].e.msg);
    assert_int_equal(store_aliases(s, count_alias, &n, &e), 0);
    assert_int_equal(n, N_THREADS * N_EACH);
    n = 0;
    assert_int_equal(store_list(s, count_model, NULL, &n, &e), 0);
    assert_int_equal(n, 1);
    put_model(s, "many/kept:Q8_0");             /* over the one that is there: its names stay */
    assert_int_equal(store_remove(s, "name-0-0", &freed, &e), 0);
    n = 0;
    assert_int_equal(store_aliases(s, count_alias, &n, &e), 0);
    assert_int_equal(n, N_THREADS * N_EACH - 1);
    assert_int_equal(store_remove(s, "many/kept:Q8_0", &freed, &e), 0);
    n = 0;
    assert_int_equal(store_aliases(s, count_alias, &n, &e), 0);
    assert_int_equal(n, 0);                     /* they went with it */
    store_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test_setup(pulls_what_is_meant, fresh),
        cmocka_unit_test_setup(a_new_version_replaces, fresh),
        cmocka_unit_test_setup(goes_on_after_kill, fresh),
        cmocka_unit_test_setup(copes_with_poor_hubs, fresh),
        cmocka_unit_test_setup(other_bytes_are_thrown_away, fresh),
        cmocka_unit_test_setup(a_full_disk_keeps_what_came, fresh),
        cmocka_unit_test_setup(hostile_listings, fresh),
        cmocka_unit_test_setup(damaged_manifests, fresh),
        cmocka_unit_test(names_are_not_lost),
    };

    return cmocka_run_group_tests(tests, up, down);
}
