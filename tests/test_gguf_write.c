/* test_gguf_write.c: the GGUF writer: what it writes is read back, what the reader
 * would refuse is refused, and a failure at any point leaves nothing behind. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"
#include "models/gguf.h"
#include "shared.h"

static char dir[] = "test_gguf_write.XXXXXX";
static char path[64];

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(path, sizeof path, "%s/out.gguf", dir);
    return 0;
}

static size_t files_there(void)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    size_t n = 0;

    assert_non_null(d);
    while ((entry = readdir(d)) != NULL)
        n += entry->d_name[0] != '.';
    (void)closedir(d);
    return n;
}

static int remove_dir(void **state)
{
    (void)state;
    (void)remove(path);
    return rmdir(dir);
}

static const int64_t shape_a[] = { 2, 3 }, shape_b[] = { 5, 2, 32 }, shape_c[] = { 1 };
static float data_a[6] = { 0, 1, 2, 3, 4, 5 };
static uint8_t data_b[5 * 2 * 34];
static const float data_c[1] = { 9 };

static int write_keys(struct gguf_writer *w, struct err *e)
{
    static const struct sv strs[] = { { "one", 3 }, { NULL, 0 }, { "dr\0i", 4 } };
    const int32_t numbers[] = { 7, -7 };
    int rc = gguf_writer_str(w, "general.architecture", SV("llama"), e);

    if (rc == 0)
        rc = gguf_writer_u32(w, "u32", UINT32_MAX, e);
    if (rc == 0)
        rc = gguf_writer_u64(w, "u64", UINT64_MAX, e);
    if (rc == 0)
        rc = gguf_writer_i32(w, "i32", -5, e);
    if (rc == 0)
        rc = gguf_writer_f32(w, "f32", 0.25f, e);
    if (rc == 0)
        rc = gguf_writer_bool(w, "bool", true, e);
    if (rc == 0)
        rc = gguf_writer_array(w, "i32s", GGUF_I32, numbers, 2, e);
    if (rc == 0)
        rc = gguf_writer_array(w, "none", GGUF_F64, NULL, 0, e);
    if (rc == 0)
        rc = gguf_writer_strs(w, "strs", strs, 3, e);
    if (rc == 0)
        rc = gguf_writer_tensor(w, "a", DTYPE_F32, 2, shape_a, e);
    if (rc == 0)
        rc = gguf_writer_tensor(w, "b", DTYPE_Q8_0, 3, shape_b, e);
    if (rc == 0)
        rc = gguf_writer_tensor(w, "c", DTYPE_F32, 1, shape_c, e);
    return rc == 0 ? gguf_writer_begin(w, e) : rc;
}

/* In pieces of `piece` bytes that cross the ends of tensors. */
static int write_sequential(struct gguf_writer *w, size_t piece, struct err *e)
{
    uint8_t all[sizeof data_a + sizeof data_b + sizeof data_c];
    int rc = 0;

    memcpy(all, data_a, sizeof data_a);
    memcpy(all + sizeof data_a, data_b, sizeof data_b);
    memcpy(all + sizeof data_a + sizeof data_b, data_c, sizeof data_c);
    for (size_t at = 0; at < sizeof all && rc == 0; at += piece)
        rc = gguf_writer_data(w, all + at, sizeof all - at < piece ? sizeof all - at : piece, e);
    return rc;
}

static int write_any_order(struct gguf_writer *w, struct err *e)
{
    int rc = gguf_writer_data_at(w, 2, 0, data_c, sizeof data_c, e);

    if (rc == 0)
        rc = gguf_writer_data_at(w, 1, 100, data_b + 100, sizeof data_b - 100, e);
    if (rc == 0)
        rc = gguf_writer_data_at(w, 1, 0, data_b, 100, e);
    return rc == 0 ? gguf_writer_data_at(w, 0, 0, data_a, sizeof data_a, e) : rc;
}

/* piece 0: in any order. */
static int write_file(size_t piece, struct err *e)
{
    struct gguf_writer *w;
    int rc = gguf_writer_open(&w, path, e);

    if (rc < 0)
        return rc;
    rc = write_keys(w, e);
    if (rc == 0)
        rc = piece ? write_sequential(w, piece, e) : write_any_order(w, e);
    if (rc < 0) {
        gguf_writer_abort(w);
        return rc;
    }
    return gguf_writer_commit(w, e);
}

static void check_file(void)
{
    const struct gguf_tensor *t;
    struct gguf *g;
    struct err e;
    uint64_t u;
    float f;
    bool b;
    int64_t v;
    struct sv sv;

    if (gguf_open(&g, path, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(gguf_version(g), 3);
    assert_int_equal(gguf_n_kv(g), 9);
    assert_int_equal(gguf_get_u64(g, "u64", &u, &e), 0);
    assert_true(u == UINT64_MAX);
    assert_int_equal(gguf_get_u64(g, "u32", &u, &e), 0);
    assert_true(u == UINT32_MAX);
    assert_true(gguf_elem_i64(gguf_find(g, "i32"), 0, &v) && v == -5);
    assert_true(gguf_elem_i64(gguf_find(g, "i32s"), 1, &v) && v == -7);
    assert_int_equal(gguf_get_f32(g, "f32", &f, &e), 0);
    assert_true(f == 0.25f);
    assert_int_equal(gguf_get_bool(g, "bool", &b, &e), 0);
    assert_true(b);
    assert_int_equal(gguf_find(g, "none")->n, 0);
    assert_true(gguf_elem_str(g, gguf_find(g, "strs"), 2, &sv) && sv.len == 4 &&
                memcmp(sv.data, "dr\0i", 4) == 0);
    t = gguf_find_tensor(g, "a");
    assert_memory_equal(t->t.data, data_a, sizeof data_a);
    t = gguf_find_tensor(g, "b");
    assert_int_equal(t->t.n_dims, 3);
    assert_int_equal(t->t.shape[0], 5);
    assert_int_equal(t->t.shape[2], 32);
    assert_int_equal(t->file_offset % 32, 0);
    assert_memory_equal(t->t.data, data_b, sizeof data_b);
    t = gguf_find_tensor(g, "c");
    assert_memory_equal(t->t.data, data_c, sizeof data_c);
    assert_int_equal(gguf_file_bytes(g) % 32, 0);
    gguf_close(g);
}

static void test_round_trip(void **state)
{
    static const size_t pieces[] = { 0, 1, 7, 24, 100, 1000 };
    struct err e;

    (void)state;
    for (size_t i = 0; i < sizeof data_b; i++)
        data_b[i] = (uint8_t)(i * 37 + 11);
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        if (write_file(pieces[i], &e) < 0)
            fail_msg("%s", e.msg);
        check_file();
        assert_int_equal(files_there(), 1);
        assert_int_equal(remove(path), 0);
    }
}

static void test_same_bytes(void **state)
{
    char *first, *second;
    size_t n_first, n_second;
    struct err e;

    (void)state;
    assert_int_equal(write_file(13, &e), 0);
    assert_int_equal(file_read(path, 1 << 20, &first, &n_first, &e), 0);
    assert_int_equal(write_file(0, &e), 0);
    assert_int_equal(file_read(path, 1 << 20, &second, &n_second, &e), 0);
    assert_int_equal(n_first, n_second);
    assert_memory_equal(first, second, n_first);
    mem_free(first);
    mem_free(second);
    assert_int_equal(remove(path), 0);
}

static void test_refusals(void **state)
{
    static const int64_t zero[] = { 0 }, huge[] = { INT64_MAX, 2 }, odd[] = { 33 };
    static const uint8_t two = 2;
    struct gguf_writer *w;
    struct err e;

    (void)state;
    assert_int_equal(gguf_writer_open(&w, path, &e), 0);
    assert_int_equal(gguf_writer_u32(w, "a", 1, &e), 0);
    assert_int_equal(gguf_writer_u32(w, "a", 1, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "out.gguf: key 'a' is given twice"));
    assert_int_equal(gguf_writer_u32(w, "", 1, &e), WATT_EINVAL);
    assert_int_equal(gguf_writer_u32(w, "x\xff", 1, &e), WATT_EINVAL);
    assert_int_equal(gguf_writer_array(w, "s", GGUF_STRING, NULL, 0, &e), WATT_EINVAL);
    assert_int_equal(gguf_writer_array(w, "s", GGUF_BOOL, &two, 1, &e), WATT_EINVAL);
    assert_int_equal(gguf_writer_array(w, "s", GGUF_U8, NULL, GGUF_MAX_ARRAY + 1, &e), WATT_ELIMIT);
    assert_int_equal(gguf_writer_u32(w, "general.alignment", 48, &e), WATT_EINVAL);
    assert_int_equal(gguf_writer_u64(w, "general.alignment", 64, &e), WATT_EINVAL);
    assert_int_equal(gguf_writer_tensor(w, "t", DTYPE_F32, 1, zero, &e), WATT_EINVAL);
    assert_int_equal(gguf_writer_tensor(w, "t", DTYPE_F32, 2, huge, &e), WATT_EINVAL);
    assert_int_equal(gguf_writer_tensor(w, "t", DTYPE_Q4_0, 1, odd, &e), WATT_EINVAL);
    assert_int_equal(gguf_writer_tensor(w, "t", (enum dtype)77, 1, odd, &e), WATT_EINVAL);
    assert_int_equal(gguf_writer_tensor(w, "t", DTYPE_F32, 5, huge, &e), WATT_EINVAL);
    assert_int_equal(gguf_writer_tensor(w, "t", DTYPE_F32, 1, odd, &e), 0);
    assert_int_equal(gguf_writer_tensor(w, "t", DTYPE_F32, 1, odd, &e), WATT_EINVAL);
    assert_int_equal(gguf_writer_u32(w, "general.alignment", 64, &e), WATT_EINVAL);
    assert_int_equal(gguf_writer_data(w, &two, 1, &e), WATT_EINVAL);
    assert_int_equal(gguf_writer_data_at(w, 0, 0, &two, 1, &e), WATT_EINVAL);
    assert_int_equal(gguf_writer_begin(w, &e), 0);
    assert_int_equal(gguf_writer_begin(w, &e), WATT_EINVAL);
    assert_int_equal(gguf_writer_u32(w, "late", 1, &e), WATT_EINVAL);
    assert_int_equal(gguf_writer_tensor(w, "late", DTYPE_F32, 1, odd, &e), WATT_EINVAL);
    assert_int_equal(gguf_writer_data_at(w, 0, 132, &two, 1, &e), WATT_EINVAL);
    assert_int_equal(gguf_writer_data_at(w, 0, UINT64_MAX, &two, 1, &e), WATT_EINVAL);
    assert_int_equal(gguf_writer_data_at(w, 1, 0, &two, 1, &e), WATT_EINVAL);
    assert_int_equal(gguf_writer_commit(w, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "0 bytes of tensor data were written, expected 132"));
    assert_int_equal(files_there(), 0);
}

static void test_too_much_data(void **state)
{
    struct gguf_writer *w;
    struct err e;

    (void)state;
    assert_int_equal(gguf_writer_open(&w, path, &e), 0);
    assert_int_equal(gguf_writer_begin(w, &e), 0);
    assert_int_equal(gguf_writer_data(w, data_c, 4, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "4 bytes more than the tensors take"));
    gguf_writer_abort(w);
    gguf_writer_abort(NULL);
    assert_int_equal(files_there(), 0);
}

static void test_alignment(void **state)
{
    struct gguf_writer *w;
    struct gguf *g;
    struct err e;

    (void)state;
    assert_int_equal(gguf_writer_open(&w, path, &e), 0);
    assert_int_equal(gguf_writer_u32(w, "general.alignment", 4096, &e), 0);
    assert_int_equal(gguf_writer_tensor(w, "c", DTYPE_F32, 1, shape_c, &e), 0);
    assert_int_equal(gguf_writer_tensor(w, "d", DTYPE_F32, 1, shape_c, &e), 0);
    assert_int_equal(gguf_writer_begin(w, &e), 0);
    assert_int_equal(gguf_writer_data(w, data_c, 4, &e), 0);
    assert_int_equal(gguf_writer_data(w, data_c, 4, &e), 0);
    assert_int_equal(gguf_writer_commit(w, &e), 0);
    assert_int_equal(gguf_open(&g, path, &e), 0);
    assert_int_equal(gguf_find_tensor(g, "d")->file_offset, 8192);
    assert_true(*(const float *)gguf_find_tensor(g, "d")->t.data == 9.0f);
    gguf_close(g);
    assert_int_equal(remove(path), 0);
}

static void test_many_names(void **state)
{
    struct gguf_writer *w;
    struct gguf *g;
    struct err e;
    char name[32];

    (void)state;
    assert_int_equal(gguf_writer_open(&w, path, &e), 0);
    for (uint32_t i = 0; i < 1000; i++) {
        (void)snprintf(name, sizeof name, "key.%u", i);
        assert_int_equal(gguf_writer_u32(w, name, i, &e), 0);
    }
    assert_int_equal(gguf_writer_u32(w, "key.3", 3, &e), WATT_EINVAL);
    assert_int_equal(gguf_writer_begin(w, &e), 0);
    assert_int_equal(gguf_writer_commit(w, &e), 0);
    assert_int_equal(gguf_open(&g, path, &e), 0);
    for (uint32_t i = 0; i < 1000; i++) {
        uint32_t v;

        (void)snprintf(name, sizeof name, "key.%u", i);
        assert_int_equal(gguf_get_u32(g, name, &v, &e), 0);
        assert_int_equal(v, i);
    }
    gguf_close(g);
    assert_int_equal(remove(path), 0);
}

static int copy_file(const struct gguf *g, struct err *e)
{
    struct gguf_writer *w;
    int rc = gguf_writer_open(&w, path, e);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < gguf_n_kv(g) && rc == 0; i++)
        rc = gguf_writer_copy(w, gguf_kv_at(g, i), e);
    for (size_t i = 0; i < gguf_n_tensors(g) && rc == 0; i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        char name[256];

        (void)snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.data);
        rc = gguf_writer_tensor(w, name, t->t.dtype, t->t.n_dims, t->t.shape, e);
    }
    if (rc == 0)
        rc = gguf_writer_begin(w, e);
    for (size_t i = 0; i < gguf_n_tensors(g) && rc == 0; i++)
        rc = gguf_writer_data(w, gguf_tensor_at(g, i)->t.data,
                              gguf_tensor_at(g, i)->t.size_bytes, e);
    if (rc < 0) {
        gguf_writer_abort(w);
        return rc;
    }
    return gguf_writer_commit(w, e);
}

/* A real file, key by key and tensor by tensor, comes out with the same bytes. */
static void test_copies_real_files(void **state)
{
    static const char *const names[] = { "models/stories260K-f32.gguf", "golden/llama-moe.gguf",
                                         "tokenizers/ggml-vocab-gpt-2.gguf" };

    (void)state;
    SHARED_OR_SKIP("golden");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct file_map was, is;
        struct gguf *g;
        struct err e;

        assert_int_equal(gguf_open(&g, shared_path(names[i]), &e), 0);
        if (copy_file(g, &e) < 0)
            fail_msg("%s", e.msg);
        assert_int_equal(file_map_open(&was, shared_path(names[i]), &e), 0);
        assert_int_equal(file_map_open(&is, path, &e), 0);
        assert_true(is.size >= was.size && is.size - was.size < 32);
        assert_memory_equal(is.data + 8, was.data + 8, was.size - 8);
        file_map_close(&was);
        file_map_close(&is);
        gguf_close(g);
        assert_int_equal(remove(path), 0);
    }
}

static void test_unwritable(void **state)
{
    struct gguf_writer *w = NULL;
    char nowhere[96];
    struct err e;

    (void)state;
    (void)snprintf(nowhere, sizeof nowhere, "%s/absent/out.gguf", dir);
    assert_int_equal(gguf_writer_open(&w, nowhere, &e), WATT_EIO);
    assert_null(w);
}

#ifdef WATT_FAULTS
static void test_torture(void **state)
{
    static const enum fault_kind kinds[] = { FAULT_ALLOC, FAULT_WRITE };
    struct err e;
    int rc;

    (void)state;
    for (size_t k = 0; k < 2; k++) {
        for (size_t piece = 0; piece <= 40; piece += 40) {
            for (unsigned long n = 1;; n++) {
                (void)fault_arm(kinds[k], n);
                rc = write_file(piece, &e);
                (void)fault_arm(kinds[k], 0);
                if (rc == 0)
                    break;
                assert_int_equal(rc, kinds[k] == FAULT_ALLOC ? WATT_ENOMEM : WATT_EIO);
                assert_non_null(strstr(e.msg, "out.gguf: "));
                assert_int_equal(files_there(), 0);
                assert_true(n < 200);
            }
            check_file();
            assert_int_equal(remove(path), 0);
        }
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_too_much_data),
        cmocka_unit_test(test_alignment),
        cmocka_unit_test(test_many_names),
        cmocka_unit_test(test_copies_real_files),
        cmocka_unit_test(test_unwritable),
#ifdef WATT_FAULTS
        cmocka_unit_test(test_torture),
#endif
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
