/* test_weights_cache.c: prepared weights on disk: the same bits from the cache; what is stale, cut
 * off, damaged or of something else is made anew; full disks, folders that can't be written,
 * budgets; the command that looks after the folder. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/mem.h"
#include "chips/cpu/weights_cache.h"
#include "models/session.h"
#include "spawn.h"
#include "tiny.h"

#define VOCAB 320

static char dir[] = "watt-wcache-XXXXXX", model_path[64], cache[64];
static char notes[4096];
static struct spawned r;

static void note(void *ctx, const char *text)
{
    const size_t at = strlen(notes);

    (void)ctx;
    (void)snprintf(notes + at, sizeof notes - at, "%s\n", text);
}

static void write_model(uint64_t seed)
{
    const struct synth_opts o = { .mix = QUANT_Q4_K_M, .seed = seed, .n_threads = 1 };
    struct shape s = tiny_shape("llama");
    struct err e = { 0 };

    s.n_layers = 6;         /* large enough to have bytes that no sample holds */
    s.n_ff = 2048;
    if (synth_write(model_path, &s, &o, &e) < 0)
        fail_msg("%s", e.msg);
}

static int set_up(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(model_path, sizeof model_path, "%s/m.gguf", dir);
    (void)snprintf(cache, sizeof cache, "%s/a/cache", dir);
    return 0;
}

/* How many files the cache has; the path of one of them into path[512]. */
static int cache_files(char *path)
{
    DIR *d = opendir(cache);
    int n = 0;

    for (struct dirent *ent; d && (ent = readdir(d));)
        if (ent->d_name[0] != '.') {
            (void)snprintf(path, 512, "%s/%s", cache, ent->d_name);
            n++;
        }
    if (d)
        (void)closedir(d);
    return n;
}

/* Path of the only one; NULL: there is none. */
static const char *cache_file(void)
{
    static char path[512];
    const int n = cache_files(path);

    assert_true(n <= 1);
    return n ? path : NULL;
}

static int clean(void **state)
{
    char path[512];

    (void)state;
    while (cache_files(path) > 0)
        assert_int_equal(unlink(path), 0);
    notes[0] = '\0';
    write_model(7);
    return 0;
}

static int tear_down(void **state)
{
    char path[128];

    (void)clean(state);
    (void)rmdir(cache);
    (void)snprintf(path, sizeof path, "%s/a", dir);
    (void)rmdir(path);
    (void)unlink(model_path);
    return rmdir(dir);
}

/* Logits of a few tokens, with these options. */
static int logits_of(struct session_opts o, float *out, struct err *e)
{
    const int32_t tokens[] = { 3, 1, 4, 1, 5 };
    struct session *s = NULL;
    struct model *m = NULL;
    int rc = model_open(&m, model_path, NULL, e);

    o.n_threads = 2;
    o.n_ctx = 64;
    o.note = note;
    if (rc == 0)
        rc = session_open(&s, m, &o, e);
    if (rc == 0)
        rc = session_append(s, 0, tokens, 5, out, e);
    session_close(s);
    model_close(m);
    return rc;
}

static void run(const char *folder, float *out)
{
    const struct session_opts o = { .weights_cache = folder };
    struct err e = { 0 };

    if (logits_of(o, out, &e) < 0)
        fail_msg("%s", e.msg);
}

static ino_t inode(const char *path)
{
    struct stat st;

    assert_non_null(path);
    assert_int_equal(stat(path, &st), 0);
    return st.st_ino;
}

static void poke(const char *path, off_t at, const void *bytes, size_t n)
{
    const int fd = open(path, O_WRONLY);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, n, at), n);
    assert_int_equal(close(fd), 0);
}

static void same_bits_from_the_cache(void **state)
{
    float plain[VOCAB], made[VOCAB], cached[VOCAB];
    ino_t first;

    (void)state;
    run(NULL, plain);
    assert_null(cache_file());
    run(cache, made);
    first = inode(cache_file());
    run(cache, cached);
    assert_int_equal(inode(cache_file()), first);       /* used, not made again */
    assert_memory_equal(plain, made, sizeof plain);
    assert_memory_equal(plain, cached, sizeof plain);
    assert_string_equal(notes, "");
}

/* Runs twice: the first makes it anew and says why, the second uses that. */
static void assert_made_anew(const char *why)
{
    float plain[VOCAB], out[VOCAB];
    ino_t before;

    run(NULL, plain);
    run(cache, out);
    assert_memory_equal(plain, out, sizeof plain);
    if (!strstr(notes, why))
        fail_msg("no '%s' in: %s", why, notes);
    notes[0] = '\0';
    before = inode(cache_file());
    run(cache, out);
    assert_memory_equal(plain, out, sizeof plain);
    assert_int_equal(inode(cache_file()), before);
    assert_string_equal(notes, "");
}

static void damage_is_found(void **state)
{
    static const uint8_t junk[64] = { 1, 2, 3, 250, 7 };
    float out[VOCAB];
    struct stat st;

    (void)state;
    run(cache, out);
    assert_int_equal(stat(cache_file(), &st), 0);
    poke(cache_file(), 0, "NOTOURS!", 8);
    assert_made_anew("no file of prepared weights");
    poke(cache_file(), 8, "\x01\x02\x03\x04", 4);
    assert_made_anew("another byte order");
    poke(cache_file(), 12, "\x63\0\0\0", 4);
    assert_made_anew("another version");
    poke(cache_file(), 40, junk, 8);
    assert_made_anew("header is damaged");
    poke(cache_file(), 4096, junk, 8);
    assert_made_anew("table of hashes is damaged");
    poke(cache_file(), st.st_size - (off_t)sizeof junk, junk, sizeof junk);
    assert_made_anew("data is damaged");
    assert_int_equal(truncate(cache_file(), st.st_size - 1), 0);
    assert_made_anew("cut off");
    assert_int_equal(truncate(cache_file(), 100), 0);
    assert_made_anew("can't be read");
    assert_int_equal(truncate(cache_file(), 0), 0);
    assert_made_anew("can't be read");
}

/* Bytes of the header, flipped: never taken for sound. */
static void every_header_byte_counts(void **state)
{
    const struct session_opts o = { .weights_cache = cache };
    float plain[VOCAB], out[VOCAB];
    struct err e = { 0 };

    (void)state;
    run(NULL, plain);
    run(cache, out);
    for (off_t at = 0; at < 496; at += 31) {
        const int fd = open(cache_file(), O_RDWR);
        uint8_t b;

        assert_int_equal(pread(fd, &b, 1, at), 1);
        b ^= 0x55;
        assert_int_equal(pwrite(fd, &b, 1, at), 1);
        assert_int_equal(close(fd), 0);
        notes[0] = '\0';
        assert_int_equal(logits_of(o, out, &e), 0);
        assert_memory_equal(plain, out, sizeof plain);
        assert_non_null(strstr(notes, "made anew"));
    }
}

static void set_time(int64_t s)
{
    const struct timespec t[2] = { { .tv_sec = s }, { .tv_sec = s } };

    assert_int_equal(utimensat(AT_FDCWD, model_path, t, 0), 0);
}

static void another_time_with_the_same_bytes(void **state)
{
    float out[VOCAB];
    ino_t before;

    (void)state;
    run(cache, out);
    before = inode(cache_file());
    set_time(1000);
    run(cache, out);
    assert_int_equal(inode(cache_file()), before);      /* brought up to date in place */
    assert_string_equal(notes, "");
    set_time(2000);
    run(cache, out);
    assert_int_equal(inode(cache_file()), before);
}

/* Bytes between the samples change, and the time: the hash of all of them tells. */
static void a_changed_model_is_stale(void **state)
{
    static const uint8_t other[16] = { 9, 8, 7 };
    float before[VOCAB], after[VOCAB], plain[VOCAB];
    struct stat st;

    (void)state;
    run(cache, before);
    assert_int_equal(stat(model_path, &st), 0);
    assert_true(st.st_size > 4 << 20);
    poke(model_path, (st.st_size - (16 << 10)) / 63 * 40 + (20 << 10), other, sizeof other);
    set_time(3000);
    run(cache, after);
    assert_non_null(strstr(notes, "the model's files changed"));
    run(NULL, plain);
    assert_memory_equal(plain, after, sizeof plain);
    assert_non_null(cache_file());          /* replaced, not added */
}

/* The same with size and time kept is seen by no sample of the file, but by the probes of panels
 * once enough of it changed: here all of it. */
static void another_model_at_the_same_path(void **state)
{
    float before[VOCAB], after[VOCAB], plain[VOCAB];
    char path[512];

    (void)state;
    run(cache, before);
    write_model(8);
    run(cache, after);
    run(NULL, plain);
    assert_memory_equal(plain, after, sizeof plain);
    assert_memory_not_equal(before, after, sizeof before);
    assert_int_equal(cache_files(path), 2);
}

/* A cache of other weights that claims to be ours, header, table and all, is found out by the
 * panels that are packed anew. */
static void probes_find_wrong_weights(void **state)
{
    float plain[VOCAB], out[VOCAB];
    char first[512], second[512];
    struct weights_cache_opts o = { .dir = cache, .note = note };
    struct team *team = NULL;
    struct err e = { 0 };

    (void)state;
    /* a region of zeros under the key of the model: stored through the module itself */
    run(cache, out);
    assert_int_equal(cache_files(first), 1);
    {
        const int fd = open(first, O_RDONLY), model = open(model_path, O_RDONLY);
        struct { char magic[8]; uint32_t order, version; uint64_t layout; } head;
        uint64_t data_bytes;
        struct weights_key key;
        void *zeros;

        assert_int_equal(pread(fd, &head, sizeof head, 0), sizeof head);
        assert_int_equal(pread(fd, &data_bytes, 8, 64), 8);
        o.fds = &model;
        o.n_fds = 1;
        o.name = model_path;
        assert_true(weights_cache_key(&key, &o, head.layout, data_bytes));
        zeros = mem_calloc(1, (size_t)data_bytes);
        assert_non_null(zeros);
        assert_int_equal(team_open(&team, 2, &e), 0);
        assert_true(weights_cache_store(&key, &o, zeros, team));
        team_close(team);
        mem_free(zeros);
        (void)close(fd);
        (void)close(model);
    }
    assert_int_equal(cache_files(second), 1);
    assert_string_equal(first, second);
    run(cache, out);
    assert_non_null(strstr(notes, "its panels are not those of the model"));
    run(NULL, plain);
    assert_memory_equal(plain, out, sizeof plain);
}

static void verify_hashes_everything(void **state)
{
    const struct session_opts o = { .weights_cache = cache, .weights_cache_verify = true };
    static const uint8_t junk[4] = { 77, 1, 2, 3 };
    float plain[VOCAB], out[VOCAB];
    struct err e = { 0 };
    struct stat st;

    (void)state;
    run(NULL, plain);
    run(cache, out);
    assert_int_equal(stat(cache_file(), &st), 0);
    poke(cache_file(), st.st_size - st.st_size / 3, junk, sizeof junk);
    assert_int_equal(logits_of(o, out, &e), 0);
    assert_memory_equal(plain, out, sizeof plain);
    assert_non_null(strstr(notes, "data is damaged"));
}

static void goes_on_without(void **state)
{
    const struct session_opts small = { .weights_cache = cache, .weights_cache_bytes = 1000 };
    float plain[VOCAB], out[VOCAB];
    struct err e = { 0 };

    (void)state;
    run(NULL, plain);
    run("/proc/no/such/folder", out);
    assert_memory_equal(plain, out, sizeof plain);
    assert_non_null(strstr(notes, "not written"));
    notes[0] = '\0';
    run("", out);
    assert_memory_equal(plain, out, sizeof plain);
    assert_int_equal(logits_of(small, out, &e), 0);
    assert_memory_equal(plain, out, sizeof plain);
    assert_non_null(strstr(notes, "more than the 1000 that it may hold"));
    assert_null(cache_file());
#ifdef WATT_FAULTS
    for (unsigned n = 1; n < 12; n++) {         /* a disk that fills up */
        notes[0] = '\0';
        (void)fault_arm(FAULT_WRITE, n);
        run(cache, out);
        assert_memory_equal(plain, out, sizeof plain);
        if (fault_arm(FAULT_WRITE, 0) < n)
            break;
        assert_non_null(strstr(notes, "not written"));
        assert_null(cache_file());
        notes[0] = '\0';
    }
    run(cache, out);
    assert_non_null(cache_file());
#endif
}

static void oldest_makes_room(void **state)
{
    struct session_opts o = { .weights_cache = cache };
    char path[512];
    float out[VOCAB];
    struct err e = { 0 };
    struct stat st;
    ino_t second;

    (void)state;
    run(cache, out);
    assert_int_equal(stat(cache_file(), &st), 0);
    o.weights_cache_bytes = (uint64_t)st.st_size * 3 / 2;
    write_model(9);
    assert_int_equal(logits_of(o, out, &e), 0);
    assert_non_null(strstr(notes, "made room"));
    assert_int_equal(cache_files(path), 1);
    second = inode(path);
    notes[0] = '\0';
    assert_int_equal(logits_of(o, out, &e), 0);
    assert_int_equal(inode(cache_file()), second);
}

static void memory_that_runs_out(void **state)
{
#ifdef WATT_FAULTS
    const struct session_opts o = { .weights_cache = cache };
    float plain[VOCAB], out[VOCAB];

    (void)state;
    run(NULL, plain);
    for (int made = 0; made < 2; made++)        /* while it is written, while it is used */
        for (unsigned n = 1;; n++) {
            struct err e = { 0 };
            int rc;

            if (!made)
                (void)(cache_file() && unlink(cache_file()));
            (void)fault_arm(FAULT_ALLOC, n);
            rc = logits_of(o, out, &e);
            if (fault_arm(FAULT_ALLOC, 0) < n)
                break;
            assert_true(rc == 0 || rc == WATT_ENOMEM);
            if (rc == 0)
                assert_memory_equal(plain, out, sizeof plain);
            assert_true(n < 2000);
            n += n / 8;             /* most are the model's own, tested elsewhere */
        }
#else
    (void)state;
    skip();
#endif
}

static void command_looks_after_it(void **state)
{
    char file[64];

    (void)state;
    spawn(&r, NULL, "logits", model_path, "--ids", "1,2", "--weights-cache", cache, "-o", "/dev/null");
    if (r.code != 0)
        fail_msg("%s", r.err);
    assert_non_null(cache_file());
    (void)snprintf(file, sizeof file, "%s", strrchr(cache_file(), '/') + 1);
    spawn(&r, NULL, "cache", "--folder", cache);
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, model_path));
    assert_non_null(strstr(r.out, "sound"));
    spawn(&r, NULL, "cache", "--folder", cache, "--json");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "\"sound\":true"));
    poke(cache_file(), 100000, "abc", 3);
    spawn(&r, NULL, "cache", "verify", "--folder", cache);
    poke(cache_file(), 3 << 20, "abcd", 4);
    spawn(&r, NULL, "cache", "verify", "--folder", cache);
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.out, "damaged"));
    spawn(&r, NULL, "cache", "remove", "../x", "--folder", cache);
    assert_int_equal(r.code, 1);
    spawn(&r, NULL, "cache", "remove", file, "--folder", cache);
    assert_int_equal(r.code, 0);
    assert_null(cache_file());
    spawn(&r, NULL, "cache", "clear", "--folder", cache);
    assert_int_equal(r.code, 0);
    spawn(&r, NULL, "cache", "dance", "--folder", cache);
    assert_int_equal(r.code, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(same_bits_from_the_cache, clean),
        cmocka_unit_test_setup(damage_is_found, clean),
        cmocka_unit_test_setup(every_header_byte_counts, clean),
        cmocka_unit_test_setup(another_time_with_the_same_bytes, clean),
        cmocka_unit_test_setup(a_changed_model_is_stale, clean),
        cmocka_unit_test_setup(another_model_at_the_same_path, clean),
        cmocka_unit_test_setup(probes_find_wrong_weights, clean),
        cmocka_unit_test_setup(verify_hashes_everything, clean),
        cmocka_unit_test_setup(goes_on_without, clean),
        cmocka_unit_test_setup(oldest_makes_room, clean),
        cmocka_unit_test_setup(memory_that_runs_out, clean),
        cmocka_unit_test_setup(command_looks_after_it, clean),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
