/* test_safetensors.c: the safetensors reader: one file, folders of shards, every
 * refusal, damage, failing allocations. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/fault.h"
#include "base/rng.h"
#include "models/safetensors.h"

static const char two[] =
    "{\"__metadata__\":{\"format\":\"pt\"},"
    "\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[4,28]},"
    "\"a.weight\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]},"
    "\"none\":{\"dtype\":\"I64\",\"shape\":[0,5],\"data_offsets\":[4,4]},"
    "\"one\":{\"dtype\":\"F8_E4M3\",\"shape\":[],\"data_offsets\":[28,29]}}";

/* A file of this header and n data bytes 0, 1, 2, … */
static void make(struct str *s, const char *header, size_t n)
{
    uint8_t len[8];

    str_reset(s);
    store_le64(len, strlen(header));
    str_append(s, len, 8);
    str_puts(s, header);
    for (size_t i = 0; i < n; i++)
        str_putc(s, (char)i);
    assert_true(str_ok(s));
}

static int open_bytes(struct safetensors **st, const void *bytes, size_t n, void **copy,
                      struct err *e)
{
    int rc;

    *copy = malloc(n ? n : 1);
    assert_non_null(*copy);
    if (n)
        memcpy(*copy, bytes, n);
    rc = safetensors_open_memory(st, *copy, n, "made", e);
    if (rc < 0) {
        free(*copy);
        *copy = NULL;
    }
    return rc;
}

static void test_values(void **state)
{
    const struct safetensors_tensor *t;
    struct safetensors *st;
    enum dtype dtype;
    struct err e;
    struct str s;
    void *copy;

    (void)state;
    str_init(&s, 0);
    make(&s, two, 29);
    if (open_bytes(&st, s.data, s.len, &copy, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(safetensors_n_tensors(st), 4);
    assert_int_equal(safetensors_n_shards(st), 1);
    assert_int_equal(safetensors_file_bytes(st), s.len);
    assert_string_equal(safetensors_path(st, 0), "made");
    t = safetensors_find(st, "b");
    assert_non_null(t);
    assert_int_equal(t->type, SAFETENSORS_F32);
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->shape[0], 2);
    assert_int_equal(t->shape[1], 3);
    assert_int_equal(t->size_bytes, 24);
    assert_int_equal(t->data[0], 4);
    assert_int_equal(t->file_offset, s.len - 25);
    assert_true(safetensors_dtype(t->type, &dtype) && dtype == DTYPE_F32);
    t = safetensors_find(st, "none");
    assert_int_equal(t->size_bytes, 0);
    t = safetensors_find(st, "one");
    assert_int_equal(t->n_dims, 0);
    assert_int_equal(t->data[0], 28);
    assert_false(safetensors_dtype(t->type, &dtype));
    assert_string_equal(safetensors_type_name(t->type), "F8_E4M3");
    assert_true(sv_eq_cstr(safetensors_at(st, 0)->name, "a.weight"));
    assert_null(safetensors_find(st, "c"));
    assert_null(safetensors_find(st, "__metadata__"));
    safetensors_close(st);
    free(copy);
    str_deinit(&s);
}

static void refused(const char *header, size_t n_data, int code, const char *says)
{
    struct safetensors *st = NULL;
    struct err e = { 0 };
    struct str s;
    void *copy;
    int rc;

    str_init(&s, 0);
    make(&s, header, n_data);
    rc = open_bytes(&st, s.data, s.len, &copy, &e);
    if (rc != code || !strstr(e.msg, says) || strncmp(e.msg, "made: ", 6) != 0)
        fail_msg("got %d '%s', expected %d '%s'", rc, e.msg, code, says);
    assert_null(st);
    str_deinit(&s);
}

#define T(fields) "{\"t\":{" fields "}}"

static void test_refusals(void **state)
{
    (void)state;
    refused("", 0, WATT_EFORMAT, "is no safetensors file");
    refused("[]", 0, WATT_EFORMAT, "doesn't start with '{'");
    refused("{", 0, WATT_EFORMAT, "header");
    refused("{\"t\":7}", 0, WATT_EFORMAT, "header: t");
    refused(T("\"shape\":[1],\"data_offsets\":[0,4]"), 4, WATT_EFORMAT, "header: t.dtype");
    refused(T("\"dtype\":\"F99\",\"shape\":[1],\"data_offsets\":[0,4]"), 4, WATT_ENOTSUP,
            "header: t.dtype: type 'F99' is not known");
    refused(T("\"dtype\":\"F32\",\"data_offsets\":[0,4]"), 4, WATT_EFORMAT, "header: t.shape");
    refused(T("\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]"), 4,
            WATT_ELIMIT, "header: t.shape");
    refused(T("\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]"), 4, WATT_EFORMAT,
            "header: t.shape[0]");
    refused(T("\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]"), 4, WATT_EFORMAT,
            "header: t.shape[0]");
    refused(T("\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]"), 4,
            WATT_EFORMAT, "overflows");
    refused(T("\"dtype\":\"F64\",\"shape\":[4611686018427387904],\"data_offsets\":[0,4]"), 4,
            WATT_EFORMAT, "no whole bytes");
    refused(T("\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]"), 1, WATT_EFORMAT,
            "3 elements of F4 are no whole bytes");
    refused(T("\"dtype\":\"F32\",\"shape\":[1]"), 4, WATT_EFORMAT, "header: t.data_offsets");
    refused(T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]"), 4, WATT_EFORMAT,
            "1 numbers, expected 2");
    refused(T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]"), 4, WATT_EFORMAT,
            "from 0 to 8, but there are 4 bytes of data");
    refused(T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]"), 4, WATT_EFORMAT,
            "from 4 to 0");
    refused(T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,3]"), 4, WATT_EFORMAT,
            "3 bytes, expected 4 from type and shape");
    refused(T("\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]"), 3, WATT_EFORMAT,
            "tensor 't' starts at byte 1 of the data, expected 0");
    refused(T("\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]"), 3, WATT_EFORMAT,
            "3 bytes of data, but its tensors take 2");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
            "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3, WATT_EFORMAT,
            "tensor 'b' starts at byte 1 of the data, expected 2");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
            "\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, WATT_EFORMAT, "");
    refused("{\"\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, WATT_EFORMAT,
            "the name '' of 0 bytes");
    refused("{\"t\":{\"dtype\":\"U8\",\"shape\":[[[[[0]]]]],\"data_offsets\":[0,0]}}", 0,
            WATT_ELIMIT, "nested");
}

static void test_short_files(void **state)
{
    struct safetensors *st;
    struct err e;
    struct str s;
    void *copy;

    (void)state;
    str_init(&s, 0);
    make(&s, two, 29);
    for (size_t n = 0; n < s.len; n++) {
        assert_int_equal(open_bytes(&st, s.data, n, &copy, &e), WATT_EFORMAT);
        assert_int_equal(strncmp(e.msg, "made: ", 6), 0);
    }
    str_deinit(&s);
}

static void test_damage(void **state)
{
    struct safetensors *st;
    struct rng r;
    struct err e;
    struct str s;
    void *copy;

    (void)state;
    str_init(&s, 0);
    rng_init(&r, 5);
    for (size_t at = 0; at < 8 + strlen(two); at++) {
        for (int bit = 0; bit < 8; bit++) {
            make(&s, two, 29);
            s.data[at] = (char)(s.data[at] ^ (1 << bit));
            if (rng_below(&r, 4) == 0)
                s.data[rng_below(&r, (uint32_t)s.len)] = (char)rng_below(&r, 256);
            if (open_bytes(&st, s.data, s.len, &copy, &e) < 0) {
                assert_int_equal(strncmp(e.msg, "made: ", 6), 0);
                continue;
            }
            for (size_t i = 0; i < safetensors_n_tensors(st); i++) {
                const struct safetensors_tensor *t = safetensors_at(st, i);
                volatile uint8_t last = t->size_bytes ? t->data[t->size_bytes - 1] : 0;

                (void)last;
            }
            safetensors_close(st);
            free(copy);
        }
    }
    str_deinit(&s);
}

/* ---- folders ---- */

static char dir[] = "test_safetensors.XXXXXX";
static char path_buf[128];

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static const char *in_dir(const char *name)
{
    (void)snprintf(path_buf, sizeof path_buf, "%s/%.80s", dir, name);
    return path_buf;
}

static int remove_dir(void **state)
{
    struct dirent *d;
    DIR *open_dir = opendir(dir);

    (void)state;
    while (open_dir && (d = readdir(open_dir)) != NULL) {
        if (d->d_name[0] != '.')
            (void)remove(in_dir(d->d_name));
    }
    if (open_dir)
        (void)closedir(open_dir);
    return rmdir(dir);
}

static void put_file(const char *name, const void *bytes, size_t n)
{
    FILE *f = fopen(in_dir(name), "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void put_shard(const char *name, const char *header, size_t n)
{
    struct str s;

    str_init(&s, 0);
    make(&s, header, n);
    put_file(name, s.data, s.len);
    str_deinit(&s);
}

static void put_index(const char *text)
{
    put_file("model.safetensors.index.json", text, strlen(text));
}

static void folder_refused(int code, const char *says)
{
    struct safetensors *st = NULL;
    struct err e = { 0 };
    int rc = safetensors_open(&st, dir, &e);

    if (rc != code || !strstr(e.msg, says))
        fail_msg("got %d '%s', expected %d '%s'", rc, e.msg, code, says);
    assert_null(st);
}

#define SHARD(name) "{\"" name "\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}"
#define INDEX "{\"metadata\":{\"total_size\":4},\"weight_map\":{\"a\":\"s1.safetensors\"," \
              "\"b\":\"s2.safetensors\"}}"

static void test_folders(void **state)
{
    const struct safetensors_tensor *t;
    struct safetensors *st;
    struct err e;

    (void)state;
    folder_refused(WATT_ENOENT, "holds neither");
    put_shard("model.safetensors", SHARD("x"), 2);
    assert_int_equal(safetensors_open(&st, dir, &e), 0);
    assert_non_null(safetensors_find(st, "x"));
    safetensors_close(st);

    put_index(INDEX);
    put_shard("s1.safetensors", SHARD("a"), 2);
    folder_refused(WATT_ENOENT, "s2.safetensors: ");
    put_shard("s2.safetensors", SHARD("b"), 2);
    if (safetensors_open(&st, dir, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(safetensors_n_shards(st), 2);
    assert_int_equal(safetensors_n_tensors(st), 2);
    t = safetensors_find(st, "b");
    assert_int_equal(t->shard, 1);
    assert_non_null(strstr(safetensors_path(st, t->shard), "s2.safetensors"));
    assert_int_equal(t->data[1], 1);
    safetensors_close(st);
}

static void test_bad_folders(void **state)
{
    (void)state;
    put_index(INDEX);
    put_shard("s1.safetensors", SHARD("a"), 2);
    put_shard("s2.safetensors", SHARD("a"), 2);
    folder_refused(WATT_EFORMAT, "tensor 'a' is in ");
    put_shard("s2.safetensors", SHARD("c"), 2);
    folder_refused(WATT_EFORMAT, "tensor 'b' is not in s2.safetensors");
    put_shard("s2.safetensors",
              "{\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
              "\"extra\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[2,3]}}", 3);
    folder_refused(WATT_EFORMAT, "tensor 'extra' of ");
    put_shard("s2.safetensors", SHARD("b"), 2);
    put_index("{\"weight_map\":{\"a\":\"s2.safetensors\",\"b\":\"s1.safetensors\"}}");
    folder_refused(WATT_EFORMAT, "tensor 'a' is not in s2.safetensors");
    put_index("{\"weight_map\":{\"a\":\"../s1.safetensors\"}}");
    folder_refused(WATT_EFORMAT, "'../s1.safetensors', expected the name of a file");
    put_index("{\"weight_map\":{\"a\":7}}");
    folder_refused(WATT_EFORMAT, "expected the name of a file");
    put_index("{\"weight_map\":[]}");
    folder_refused(WATT_EFORMAT, "weight_map: expected an object");
    put_index("{}");
    folder_refused(WATT_EFORMAT, "weight_map");
    put_index("{");
    folder_refused(WATT_EFORMAT, "model.safetensors.index.json");
    put_index(INDEX);
    put_shard("s1.safetensors", "", 0);
    folder_refused(WATT_EFORMAT, "s1.safetensors: is no safetensors file");
}

#ifdef WATT_FAULTS
static void test_torture(void **state)
{
    struct safetensors *st;
    struct err e;
    int rc;

    (void)state;
    put_index(INDEX);
    put_shard("s1.safetensors", SHARD("a"), 2);
    put_shard("s2.safetensors", SHARD("b"), 2);
    for (int kind = FAULT_ALLOC; kind <= FAULT_READ; kind++) {
        for (unsigned long n = 1;; n++) {
            (void)fault_arm((enum fault_kind)kind, n);
            rc = safetensors_open(&st, dir, &e);
            (void)fault_arm((enum fault_kind)kind, 0);
            if (rc == 0)
                break;
            assert_int_equal(rc, kind == FAULT_ALLOC ? WATT_ENOMEM : WATT_EIO);
            assert_true(n < 1000);
        }
        safetensors_close(st);
    }
}
#endif

/* Small files for fuzz/corpus/safetensors: test_safetensors --corpus FOLDER. */
static int write_corpus(const char *folder)
{
    static const struct { const char *name, *header; size_t n; } files[] = {
        { "two", two, 29 }, { "shard", SHARD("a"), 2 }, { "empty", "{}", 0 },
        { "hole", T("\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]"), 3 },
    };
    int failed = 0;

    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char name[4096];
        struct str s;
        FILE *f;

        str_init(&s, 0);
        make(&s, files[i].header, files[i].n);
        (void)snprintf(name, sizeof name, "%s/%s.safetensors", folder, files[i].name);
        f = fopen(name, "wb");
        failed |= !f || fwrite(s.data, 1, s.len, f) != s.len || fclose(f) != 0;
        str_deinit(&s);
    }
    return failed;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_short_files),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_folders),
        cmocka_unit_test(test_bad_folders),
#ifdef WATT_FAULTS
        cmocka_unit_test(test_torture),
#endif
    };

    if (argc == 3 && strcmp(argv[1], "--corpus") == 0)
        return write_corpus(argv[2]);
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
