/* test_gguf.c: the GGUF reader: files made in memory byte by byte, every refusal,
 * every truncation and bit flip of a header, split models, failing allocations. */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <dirent.h>

#include "base/bytes.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "models/gguf.h"
#include "models/name_table.h"
#include "shared.h"

/* ---- a writer of its own, so that the reader is not tested against ours ---- */

static void b_u16(struct str *s, uint16_t v) { uint8_t b[2]; store_le16(b, v); str_append(s, b, 2); }
static void b_u32(struct str *s, uint32_t v) { uint8_t b[4]; store_le32(b, v); str_append(s, b, 4); }
static void b_u64(struct str *s, uint64_t v) { uint8_t b[8]; store_le64(b, v); str_append(s, b, 8); }
static void b_f32(struct str *s, float v) { uint8_t b[4]; store_le_f32(b, v); str_append(s, b, 4); }

static void b_str(struct str *s, const char *z)
{
    b_u64(s, strlen(z));
    str_puts(s, z);
}

static void b_head(struct str *s, uint32_t version, uint64_t n_tensors, uint64_t n_kv)
{
    str_puts(s, "GGUF");
    b_u32(s, version);
    b_u64(s, n_tensors);
    b_u64(s, n_kv);
}

static void b_key(struct str *s, const char *key, uint32_t type)
{
    b_str(s, key);
    b_u32(s, type);
}

static void b_key_u32(struct str *s, const char *key, uint32_t v)
{
    b_key(s, key, GGUF_U32);
    b_u32(s, v);
}

static void b_array(struct str *s, const char *key, uint32_t type, uint64_t n)
{
    b_key(s, key, GGUF_ARRAY);
    b_u32(s, type);
    b_u64(s, n);
}

static void b_tensor(struct str *s, const char *name, uint32_t type, uint64_t ne0, uint64_t ne1,
                     uint64_t offset)
{
    b_str(s, name);
    b_u32(s, 2);
    b_u64(s, ne0);
    b_u64(s, ne1);
    b_u32(s, type);
    b_u64(s, offset);
}

static void b_pad(struct str *s, size_t alignment)
{
    while (s->len % alignment)
        str_putc(s, '\0');
}

static void b_zeros(struct str *s, size_t n)
{
    while (n--)
        str_putc(s, '\0');
}

/* One of everything: 16 keys, 2 tensors (F32 2x3 at 0, Q8_0 2x32 at 32). Returns
 * the length of the header. */
static size_t b_full(struct str *s)
{
    size_t header;

    b_head(s, 3, 2, 16);
    b_key(s, "general.architecture", GGUF_STRING);
    b_str(s, "llama");
    b_key(s, "k.u8", GGUF_U8), str_putc(s, (char)200);
    b_key(s, "k.i8", GGUF_I8), str_putc(s, (char)-3);
    b_key(s, "k.u16", GGUF_U16), b_u16(s, 65535);
    b_key(s, "k.i16", GGUF_I16), b_u16(s, (uint16_t)-300);
    b_key_u32(s, "k.u32", 4000000000u);
    b_key(s, "k.i32", GGUF_I32), b_u32(s, (uint32_t)-70000);
    b_key(s, "k.f32", GGUF_F32), b_f32(s, 1.5f);
    b_key(s, "k.bool", GGUF_BOOL), str_putc(s, 1);
    b_key(s, "k.u64", GGUF_U64), b_u64(s, UINT64_MAX);
    b_key(s, "k.i64", GGUF_I64), b_u64(s, (uint64_t)INT64_MIN);
    b_key(s, "k.f64", GGUF_F64), b_u64(s, 0x3fe0000000000000u);     /* 0.5 */
    b_array(s, "a.strings", GGUF_STRING, 3);
    b_str(s, "one"), b_str(s, ""), b_str(s, "drei");
    b_array(s, "a.i32", GGUF_I32, 2);
    b_u32(s, 7), b_u32(s, (uint32_t)-7);
    b_array(s, "a.empty", GGUF_STRING, 0);
    b_array(s, "a.bools", GGUF_BOOL, 2);
    str_append(s, "\1\0", 2);
    b_tensor(s, "a.weight", DTYPE_F32, 3, 2, 0);
    b_tensor(s, "b.weight", DTYPE_Q8_0, 32, 2, 32);
    header = s->len;
    b_pad(s, 32);
    for (int i = 0; i < 6; i++)
        b_f32(s, (float)i);
    b_pad(s, 32);
    b_zeros(s, 68);
    return header;
}

/* Opens bytes from memory of exactly their size, so that reads past the end are
 * seen by AddressSanitizer. Frees the copy when opening fails. */
static int open_bytes(struct gguf **g, const void *bytes, size_t n, void **copy, struct err *e)
{
    int rc;

    *copy = malloc(n ? n : 1);
    assert_non_null(*copy);
    if (n)
        memcpy(*copy, bytes, n);
    rc = gguf_open_memory(g, *copy, n, "made.gguf", e);
    if (rc < 0) {
        free(*copy);
        *copy = NULL;
    }
    return rc;
}

/* ---- what a good file says ---- */

static void test_values(void **state)
{
    struct gguf *g;
    struct err e;
    struct str s;
    void *copy;
    uint32_t u;
    uint64_t u64;
    float f;
    bool b;
    struct sv sv;

    (void)state;
    str_init(&s, 0);
    (void)b_full(&s);
    assert_int_equal(open_bytes(&g, s.data, s.len, &copy, &e), 0);
    assert_int_equal(gguf_version(g), 3);
    assert_int_equal(gguf_n_kv(g), 16);
    assert_int_equal(gguf_n_parts(g), 1);
    assert_int_equal(gguf_file_bytes(g), s.len);
    assert_int_equal(gguf_part_fd(g, 0), -1);
    assert_string_equal(gguf_path(g), "made.gguf");
    assert_true(sv_eq_cstr(gguf_kv_at(g, 1)->key, "k.u8"));

    assert_int_equal(gguf_get_str(g, "general.architecture", &sv, &e), 0);
    assert_true(sv_eq_cstr(sv, "llama"));
    assert_int_equal(gguf_get_u32(g, "k.u8", &u, &e), 0);
    assert_int_equal(u, 200);
    assert_int_equal(gguf_get_u32(g, "k.u16", &u, &e), 0);
    assert_int_equal(u, 65535);
    assert_int_equal(gguf_get_u32(g, "k.u32", &u, &e), 0);
    assert_int_equal(u, 4000000000u);
    assert_int_equal(gguf_get_u64(g, "k.u64", &u64, &e), 0);
    assert_true(u64 == UINT64_MAX);
    assert_int_equal(gguf_get_f32(g, "k.f32", &f, &e), 0);
    assert_true(f == 1.5f);
    assert_int_equal(gguf_get_f32(g, "k.f64", &f, &e), 0);
    assert_true(f == 0.5f);
    assert_int_equal(gguf_get_f32(g, "k.i16", &f, &e), 0);
    assert_true(f == -300.0f);
    assert_int_equal(gguf_get_bool(g, "k.bool", &b, &e), 0);
    assert_true(b);
    gguf_close(g);
    free(copy);
    str_deinit(&s);
}

static void test_wrong_values(void **state)
{
    static const struct { const char *key, *says; } bad[] = {
        { "k.i8", "key 'k.i8' is the i8 '-3', expected an integer" },
        { "k.i32", "key 'k.i32' is the i32 '-70000'" },
        { "k.i64", "'-9223372036854775808'" },
        { "k.u64", "'18446744073709551615'" },
        { "k.f32", "key 'k.f32' is the f32 '1.5'" },
        { "general.architecture", "is the string 'llama'" },
        { "a.i32", "is an array of 2 i32" },
    };
    struct gguf *g;
    struct err e;
    struct str s;
    void *copy;
    uint32_t u = 77;
    bool b = true;
    float f = 3.0f;
    struct sv sv = { NULL, 0 };

    (void)state;
    str_init(&s, 0);
    (void)b_full(&s);
    assert_int_equal(open_bytes(&g, s.data, s.len, &copy, &e), 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(gguf_get_u32(g, bad[i].key, &u, &e), WATT_EFORMAT);
        assert_non_null(strstr(e.msg, bad[i].says));
        assert_non_null(strstr(e.msg, "made.gguf"));
    }
    assert_int_equal(gguf_get_u32(g, "absent", &u, &e), WATT_ENOENT);
    assert_string_equal(e.msg, "made.gguf: key 'absent' is missing, expected an integer of 0 to "
                               "2^32-1");
    assert_int_equal(gguf_get_bool(g, "k.u8", &b, &e), WATT_EFORMAT);
    assert_int_equal(gguf_get_f32(g, "k.u64", &f, &e), WATT_EFORMAT);
    assert_int_equal(gguf_get_f32(g, "a.strings", &f, &e), WATT_EFORMAT);
    assert_int_equal(gguf_get_str(g, "k.u8", &sv, &e), WATT_EFORMAT);
    assert_int_equal(gguf_get_str(g, "a.strings", &sv, NULL), WATT_EFORMAT);
    assert_int_equal(u, 77);
    assert_true(b && f == 3.0f && !sv.data);
    assert_null(gguf_find(g, "absent"));
    gguf_close(g);
    free(copy);
    str_deinit(&s);
}

static void test_elements(void **state)
{
    const struct gguf_kv *kv;
    struct gguf *g;
    struct err e;
    struct str s;
    void *copy;
    int64_t v;
    double d;
    struct sv sv;

    (void)state;
    str_init(&s, 0);
    (void)b_full(&s);
    assert_int_equal(open_bytes(&g, s.data, s.len, &copy, &e), 0);
    kv = gguf_find(g, "a.strings");
    assert_non_null(kv);
    assert_true(kv->is_array && kv->type == GGUF_STRING && kv->n == 3);
    assert_true(gguf_elem_str(g, kv, 0, &sv) && sv_eq_cstr(sv, "one"));
    assert_true(gguf_elem_str(g, kv, 1, &sv) && sv.len == 0);
    assert_true(gguf_elem_str(g, kv, 2, &sv) && sv_eq_cstr(sv, "drei"));
    assert_false(gguf_elem_str(g, kv, 3, &sv));
    assert_false(gguf_elem_i64(kv, 0, &v));
    assert_false(gguf_elem_f64(kv, 0, &d));
    kv = gguf_find(g, "a.i32");
    assert_true(gguf_elem_i64(kv, 1, &v) && v == -7);
    assert_true(gguf_elem_f64(kv, 0, &d) && d == 7.0);
    assert_false(gguf_elem_i64(kv, 2, &v));
    assert_false(gguf_elem_f64(kv, UINT64_MAX, &d));
    assert_false(gguf_elem_str(g, kv, 0, &sv));
    assert_int_equal(gguf_find(g, "a.empty")->n, 0);
    assert_true(gguf_elem_i64(gguf_find(g, "a.bools"), 0, &v) && v == 1);
    assert_true(gguf_elem_i64(gguf_find(g, "k.i64"), 0, &v) && v == INT64_MIN);
    assert_false(gguf_elem_i64(gguf_find(g, "k.u64"), 0, &v));
    assert_false(gguf_elem_i64(gguf_find(g, "k.f64"), 0, &v));
    gguf_close(g);
    free(copy);
    str_deinit(&s);
}

static void test_tensors(void **state)
{
    const struct gguf_tensor *t;
    struct gguf *g;
    struct err e;
    struct str s;
    void *copy;

    (void)state;
    str_init(&s, 0);
    (void)b_full(&s);
    assert_int_equal(open_bytes(&g, s.data, s.len, &copy, &e), 0);
    assert_int_equal(gguf_n_tensors(g), 2);
    t = gguf_find_tensor(g, "a.weight");
    assert_non_null(t);
    assert_ptr_equal(t, gguf_tensor_at(g, 0));
    assert_int_equal(t->t.n_dims, 2);
    assert_int_equal(t->t.shape[0], 2);
    assert_int_equal(t->t.shape[1], 3);
    assert_int_equal(t->t.size_bytes, 24);
    assert_true(((const float *)t->t.data)[5] == 5.0f);
    assert_ptr_equal(t->t.data, (const uint8_t *)copy + t->file_offset);
    t = gguf_find_tensor(g, "b.weight");
    assert_int_equal(t->t.dtype, DTYPE_Q8_0);
    assert_int_equal(t->t.size_bytes, 68);
    assert_int_equal(t->part, 0);
    assert_null(gguf_find_tensor(g, "c.weight"));
    gguf_close(g);
    free(copy);
    str_deinit(&s);
}

/* ---- refusals ---- */

static void refused(const struct str *s, int code, const char *says)
{
    struct gguf *g = NULL;
    struct err e = { 0 };
    void *copy;
    int rc = open_bytes(&g, s->data, s->len, &copy, &e);

    if (rc != code || !strstr(e.msg, says) || strncmp(e.msg, "made.gguf: ", 11) != 0)
        fail_msg("got %d '%s', expected %d '%s'", rc, e.msg, code, says);
    assert_null(g);
}

static void test_refuses_heads(void **state)
{
    struct str s;

    (void)state;
    str_init(&s, 0);
    refused(&s, WATT_EFORMAT, "is no GGUF file: it starts with ''");
    str_puts(&s, "PK\3\4 something");
    refused(&s, WATT_EFORMAT, "starts with 'PK\\x03\\x04', expected 'GGUF'");
    str_reset(&s);
    b_head(&s, 1, 0, 0);
    refused(&s, WATT_ENOTSUP, "is GGUF version 1; versions 2 and 3 are read");
    str_reset(&s);
    b_head(&s, 4, 0, 0);
    refused(&s, WATT_ENOTSUP, "version 4");
    str_reset(&s);
    b_head(&s, 0x03000000, 0, 0);
    refused(&s, WATT_ENOTSUP, "big-endian");
    str_reset(&s);
    b_head(&s, 3, 0, 65537);
    refused(&s, WATT_ELIMIT, "65537 keys, at most 65536");
    str_reset(&s);
    b_head(&s, 3, 0, 60000);
    refused(&s, WATT_EFORMAT, "60000 keys, but is only 24 bytes");
    str_reset(&s);
    b_head(&s, 3, UINT64_MAX, 0);
    refused(&s, WATT_ELIMIT, "tensors, at most 1048576");
    str_reset(&s);
    b_head(&s, 3, 1000, 0);
    refused(&s, WATT_EFORMAT, "1000 tensors, but is only 24 bytes");
    str_deinit(&s);
}

static void test_refuses_keys(void **state)
{
    struct str s;

    (void)state;
    str_init(&s, 0);
    b_head(&s, 3, 0, 2);
    b_key_u32(&s, "same", 1);
    b_key_u32(&s, "same", 1);
    refused(&s, WATT_EFORMAT, "key 'same' appears twice");

    str_reset(&s);
    b_head(&s, 3, 0, 1);
    b_key_u32(&s, "bad\xff", 1);
    refused(&s, WATT_EFORMAT, "key 0 of 1: the name 'bad\\xff' of 4 bytes");

    str_reset(&s);
    b_head(&s, 3, 0, 1);
    b_key_u32(&s, "", 1);
    refused(&s, WATT_EFORMAT, "the name '' of 0 bytes");

    str_reset(&s);
    b_head(&s, 3, 0, 1);
    b_key_u32(&s, "line\nbreak", 1);
    refused(&s, WATT_EFORMAT, "line\\x0abreak");

    str_reset(&s);
    b_head(&s, 3, 0, 1);
    b_u64(&s, UINT64_MAX);
    b_zeros(&s, 64);
    refused(&s, WATT_EFORMAT, "key 0 of 1: its name at byte 32 takes 18446744073709551615 bytes");

    str_reset(&s);
    b_head(&s, 3, 0, 1);
    b_key(&s, "k", 13);
    b_zeros(&s, 8);
    refused(&s, WATT_EFORMAT, "key 'k': has type 13, known are 0 to 12");

    str_reset(&s);
    b_head(&s, 3, 0, 1);
    b_key(&s, "k", GGUF_BOOL);
    str_putc(&s, 2);
    b_zeros(&s, 8);
    refused(&s, WATT_EFORMAT, "key 'k': bool 0 has the value 2");
    str_deinit(&s);
}

static void test_refuses_arrays(void **state)
{
    struct str s;

    (void)state;
    str_init(&s, 0);
    b_head(&s, 3, 0, 1);
    b_array(&s, "k", GGUF_ARRAY, 1);
    b_zeros(&s, 64);
    refused(&s, WATT_ENOTSUP, "key 'k': is an array of arrays");

    str_reset(&s);
    b_head(&s, 3, 0, 1);
    b_array(&s, "k", GGUF_U8, (1u << 26) + 1);
    refused(&s, WATT_ELIMIT, "key 'k': has 67108865 elements");

    str_reset(&s);
    b_head(&s, 3, 0, 1);
    b_array(&s, "k", GGUF_F64, 1u << 26);
    refused(&s, WATT_EFORMAT, "key 'k': its array at byte 49 takes 536870912 bytes");

    str_reset(&s);
    b_head(&s, 3, 0, 1);
    b_array(&s, "k", GGUF_STRING, 1u << 26);
    refused(&s, WATT_EFORMAT, "key 'k': its array of strings at byte");

    str_reset(&s);
    b_head(&s, 3, 0, 1);
    b_array(&s, "k", GGUF_STRING, 2);
    b_str(&s, "x");
    b_u64(&s, 9);
    refused(&s, WATT_EFORMAT, "key 'k': element 1 of 2: a string of its array at byte");

    str_reset(&s);
    b_head(&s, 3, 0, 1);
    b_array(&s, "k", 77, 0);
    refused(&s, WATT_EFORMAT, "key 'k': has type 77");
    str_deinit(&s);
}

static void one_tensor(struct str *s, uint32_t type, uint64_t ne0, uint64_t ne1, uint64_t offset)
{
    str_reset(s);
    b_head(s, 3, 1, 0);
    b_tensor(s, "t", type, ne0, ne1, offset);
    b_pad(s, 32);
    b_zeros(s, 256);
}

static void test_refuses_tensors(void **state)
{
    struct str s;

    (void)state;
    str_init(&s, 0);
    one_tensor(&s, 77, 32, 2, 0);
    refused(&s, WATT_EFORMAT, "tensor 't': has element type 77");
    one_tensor(&s, 4, 32, 2, 0);
    refused(&s, WATT_EFORMAT, "tensor 't': has element type 4");
    one_tensor(&s, DTYPE_Q4_0, 33, 2, 0);
    refused(&s, WATT_EFORMAT, "tensor 't': has rows of 33 elements, Q4_0 needs a multiple of 32");
    one_tensor(&s, DTYPE_F32, 0, 2, 0);
    refused(&s, WATT_EFORMAT, "tensor 't': dimension 0 is 0");
    one_tensor(&s, DTYPE_F32, 1ull << 40, 1ull << 23, 0);
    refused(&s, WATT_EFORMAT, "tensor 't': dimension 1 is 8388608");
    one_tensor(&s, DTYPE_F32, 2, UINT64_MAX, 0);
    refused(&s, WATT_EFORMAT, "tensor 't': dimension 1 is 18446744073709551615");
    one_tensor(&s, DTYPE_F32, 1ull << 62, 1, 0);
    refused(&s, WATT_EFORMAT, "tensor 't': its size overflows");
    one_tensor(&s, DTYPE_F32, 8, 1, 16);
    refused(&s, WATT_EFORMAT, "tensor 't': offset 16 is not a multiple of the alignment 32");
    one_tensor(&s, DTYPE_F32, 8, 8, 32);
    refused(&s, WATT_EFORMAT, "tensor 't': 256 bytes at offset 32 of the tensor data");
    one_tensor(&s, DTYPE_F32, 8, 1, UINT64_MAX - 31);
    refused(&s, WATT_EFORMAT, "go past the end of the file");
    one_tensor(&s, DTYPE_F32, 8, 8, 0);
    s.len--;
    refused(&s, WATT_EFORMAT, "go past the end of the file at");
    str_deinit(&s);
}

static void test_refuses_tensor_names(void **state)
{
    char longest[258];
    struct str s;

    (void)state;
    str_init(&s, 0);
    b_head(&s, 3, 2, 0);
    b_tensor(&s, "t", DTYPE_F32, 8, 1, 0);
    b_tensor(&s, "t", DTYPE_F32, 8, 1, 32);
    b_pad(&s, 32);
    b_zeros(&s, 64);
    refused(&s, WATT_EFORMAT, "tensor 't' appears twice");

    memset(longest, 'n', 256);
    longest[256] = '\0';
    str_reset(&s);
    b_head(&s, 3, 1, 0);
    b_tensor(&s, longest, DTYPE_F32, 8, 1, 0);
    b_pad(&s, 32);
    b_zeros(&s, 64);
    refused(&s, WATT_EFORMAT, "of 256 bytes, expected 1 to 255");

    str_reset(&s);
    b_head(&s, 3, 1, 0);
    b_str(&s, "t");
    b_u32(&s, 5);
    b_zeros(&s, 64);
    refused(&s, WATT_EFORMAT, "tensor 't': has 5 dimensions, expected 1 to 4");

    str_reset(&s);
    b_head(&s, 3, 1, 0);
    b_str(&s, "t");
    b_u32(&s, 0);
    b_zeros(&s, 64);
    refused(&s, WATT_EFORMAT, "tensor 't': has 0 dimensions");
    str_deinit(&s);
}

static void test_overlaps(void **state)
{
    struct gguf *g;
    struct err e;
    struct str s;
    void *copy;

    (void)state;
    str_init(&s, 0);
    b_head(&s, 3, 3, 0);    /* out of order, one inside another */
    b_tensor(&s, "x", DTYPE_F32, 8, 1, 96);
    b_tensor(&s, "y", DTYPE_F32, 8, 4, 0);
    b_tensor(&s, "z", DTYPE_F32, 8, 1, 160);
    b_pad(&s, 32);
    b_zeros(&s, 256);
    refused(&s, WATT_EFORMAT, "tensor 'x' at byte");

    str_reset(&s);          /* out of order, but apart */
    b_head(&s, 3, 3, 0);
    b_tensor(&s, "x", DTYPE_F32, 8, 1, 96);
    b_tensor(&s, "y", DTYPE_F32, 8, 3, 0);
    b_tensor(&s, "z", DTYPE_F32, 8, 1, 160);
    b_pad(&s, 32);
    b_zeros(&s, 256);
    assert_int_equal(open_bytes(&g, s.data, s.len, &copy, &e), 0);
    gguf_close(g);
    free(copy);
    str_deinit(&s);
}

static void test_alignment(void **state)
{
    static const uint32_t bad[] = { 0, 1, 4, 24, 33, 1u << 21, UINT32_MAX };
    struct gguf *g;
    struct err e;
    struct str s;
    void *copy;

    (void)state;
    str_init(&s, 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        str_reset(&s);
        b_head(&s, 3, 0, 1);
        b_key_u32(&s, "general.alignment", bad[i]);
        refused(&s, WATT_EFORMAT, "key 'general.alignment' is");
    }
    str_reset(&s);
    b_head(&s, 3, 0, 1);
    b_key(&s, "general.alignment", GGUF_STRING);
    b_str(&s, "32");
    refused(&s, WATT_EFORMAT, "key 'general.alignment' is");

    str_reset(&s);
    b_head(&s, 2, 2, 1);
    b_key_u32(&s, "general.alignment", 8);
    b_tensor(&s, "t", DTYPE_F32, 2, 1, 0);
    b_tensor(&s, "u", DTYPE_F32, 2, 1, 8);
    b_pad(&s, 8);
    b_zeros(&s, 16);
    assert_int_equal(open_bytes(&g, s.data, s.len, &copy, &e), 0);
    assert_int_equal(gguf_version(g), 2);
    assert_int_equal(gguf_find_tensor(g, "u")->file_offset, s.len - 8);
    gguf_close(g);
    free(copy);
    copy = malloc(s.len + 1);
    assert_non_null(copy);
    assert_int_equal(gguf_open_memory(&g, (char *)copy + 1, s.len, "made.gguf", &e), WATT_EINVAL);
    free(copy);
    str_deinit(&s);
}

/* ---- damage ---- */

/* Whatever happens, no crash; a refusal names the file and says something. */
static void survive(const struct str *s, size_t n)
{
    struct gguf *g;
    struct err e = { 0 };
    void *copy;
    int rc = open_bytes(&g, s->data, n, &copy, &e);

    if (rc == 0) {
        for (size_t i = 0; i < gguf_n_tensors(g); i++) {
            const struct tensor *t = &gguf_tensor_at(g, i)->t;
            volatile uint8_t last = ((const uint8_t *)t->data)[t->size_bytes - 1];

            (void)last;
        }
        gguf_close(g);
        free(copy);
        return;
    }
    assert_int_equal(rc, e.code);
    assert_int_equal(strncmp(e.msg, "made.gguf: ", 11), 0);
    assert_true(strlen(e.msg) > 20);
}

static void test_truncations(void **state)
{
    size_t header;
    struct str s;

    (void)state;
    str_init(&s, 0);
    header = b_full(&s);
    for (size_t n = 0; n < s.len; n++) {
        struct gguf *g = NULL;
        struct err e;
        void *copy;

        survive(&s, n);
        assert_true(open_bytes(&g, s.data, n, &copy, &e) < 0);
        assert_int_equal(e.code, WATT_EFORMAT);
    }
    assert_true(header < s.len);
    str_deinit(&s);
}

static void test_bit_flips(void **state)
{
    size_t header;
    struct str s;

    (void)state;
    str_init(&s, 0);
    header = b_full(&s);
    for (size_t at = 0; at < header; at++) {
        const char was = s.data[at];

        for (int bit = 0; bit < 8; bit++) {
            s.data[at] = (char)(was ^ (1 << bit));
            survive(&s, s.len);
        }
        s.data[at] = (char)0xff;
        survive(&s, s.len);
        s.data[at] = 0;
        survive(&s, s.len);
        s.data[at] = was;
    }
    str_deinit(&s);
}

static void test_random_damage(void **state)
{
    struct rng r;
    struct str s;
    size_t header;

    (void)state;
    rng_init(&r, 42);
    str_init(&s, 0);
    for (int round = 0; round < 3000; round++) {
        str_reset(&s);
        header = b_full(&s);
        for (uint32_t k = 1 + rng_below(&r, 6); k > 0; k--)
            s.data[rng_below(&r, (uint32_t)header)] = (char)rng_below(&r, 256);
        survive(&s, s.len);
    }
    str_deinit(&s);
}

#ifdef WATT_FAULTS
static void test_torture_allocations(void **state)
{
    struct gguf *g;
    struct err e;
    struct str s;
    void *copy;
    int rc;

    (void)state;
    str_init(&s, 0);
    (void)b_full(&s);
    for (unsigned long n = 1;; n++) {
        (void)fault_arm(FAULT_ALLOC, n);
        rc = open_bytes(&g, s.data, s.len, &copy, &e);
        (void)fault_arm(FAULT_ALLOC, 0);
        if (rc == 0)
            break;
        assert_int_equal(rc, WATT_ENOMEM);
        assert_int_equal(strncmp(e.msg, "made.gguf: ", 11), 0);
        assert_true(n < 100);
    }
    gguf_close(g);
    free(copy);
    str_deinit(&s);
}
#endif

/* ---- files and splits ---- */

static char dir[] = "test_gguf.XXXXXX";
static char path_buf[128];

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    struct dirent *d;
    DIR *open_dir = opendir(dir);

    (void)state;
    while (open_dir && (d = readdir(open_dir)) != NULL) {
        (void)snprintf(path_buf, sizeof path_buf, "%s/%.100s", dir, d->d_name);
        if (d->d_name[0] != '.')
            (void)remove(path_buf);
    }
    if (open_dir)
        (void)closedir(open_dir);
    return rmdir(dir);
}

static const char *in_dir(const char *name)
{
    (void)snprintf(path_buf, sizeof path_buf, "%s/%s", dir, name);
    return path_buf;
}

static void put_file(const char *name, const struct str *s)
{
    FILE *f = fopen(in_dir(name), "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(s->data, 1, s->len, f), s->len);
    assert_int_equal(fclose(f), 0);
}

static void put_part(const char *name, uint16_t no, uint16_t count, int32_t n_tensors,
                     const char *tensor)
{
    struct str s;

    str_init(&s, 0);
    b_head(&s, 3, 1, no == 0 ? 4 : 3);
    b_key(&s, "split.no", GGUF_U16), b_u16(&s, no);
    b_key(&s, "split.count", GGUF_U16), b_u16(&s, count);
    b_key(&s, "split.tensors.count", GGUF_I32), b_u32(&s, (uint32_t)n_tensors);
    if (no == 0) {
        b_key(&s, "general.architecture", GGUF_STRING);
        b_str(&s, "llama");
    }
    b_tensor(&s, tensor, DTYPE_F32, 8, 1, 0);
    b_pad(&s, 32);
    for (int i = 0; i < 8; i++)
        b_f32(&s, (float)no);
    put_file(name, &s);
    str_deinit(&s);
}

static void file_refused(const char *name, int code, const char *says)
{
    struct gguf *g = NULL;
    struct err e = { 0 };
    int rc = gguf_open(&g, in_dir(name), &e);

    if (rc != code || !strstr(e.msg, says))
        fail_msg("got %d '%s', expected %d '%s'", rc, e.msg, code, says);
    assert_null(g);
}

static void test_split(void **state)
{
    struct gguf *g;
    struct err e;
    struct sv sv;

    (void)state;
    put_part("m-00001-of-00003.gguf", 0, 3, 3, "a");
    put_part("m-00002-of-00003.gguf", 1, 3, 3, "b");
    put_part("m-00003-of-00003.gguf", 2, 3, 3, "c");
    if (gguf_open(&g, in_dir("m-00001-of-00003.gguf"), &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(gguf_n_parts(g), 3);
    assert_int_equal(gguf_n_tensors(g), 3);
    assert_int_equal(gguf_n_kv(g), 4);
    assert_int_equal(gguf_get_str(g, "general.architecture", &sv, &e), 0);
    for (uint32_t i = 0; i < 3; i++) {
        const struct gguf_tensor *t = gguf_find_tensor(g, i == 0 ? "a" : i == 1 ? "b" : "c");
        float there = -1.0f;

        assert_non_null(t);
        assert_int_equal(t->part, i);
        assert_true(*(const float *)t->t.data == (float)i);
        assert_true(gguf_part_fd(g, i) >= 0);
        assert_int_equal(pread(gguf_part_fd(g, i), &there, 4, (off_t)t->file_offset), 4);
        assert_true(there == (float)i);
    }
    gguf_close(g);

    file_refused("m-00002-of-00003.gguf", WATT_EINVAL, "is part 2 of 3 of a split model; open the "
                 "first part");
    put_part("m-00003-of-00003.gguf", 1, 3, 3, "c");
    file_refused("m-00001-of-00003.gguf", WATT_EFORMAT,
                 "m-00003-of-00003.gguf: says it is part 2 of 3, expected part 3 of 3");
    put_part("m-00003-of-00003.gguf", 2, 3, 3, "b");
    file_refused("m-00001-of-00003.gguf", WATT_EFORMAT, "tensor 'b' appears twice");
    assert_int_equal(remove(in_dir("m-00003-of-00003.gguf")), 0);
    file_refused("m-00001-of-00003.gguf", WATT_ENOENT, "part 3 of 3: ");
    put_part("n-00001-of-00002.gguf", 0, 2, 3, "a");
    put_part("n-00002-of-00002.gguf", 1, 2, 3, "b");
    file_refused("n-00001-of-00002.gguf", WATT_EFORMAT,
                 "key 'split.tensors.count' is 3, but the parts have 2 tensors");
    put_part("odd.gguf", 0, 2, 2, "a");
    file_refused("odd.gguf", WATT_EINVAL, "its name should end in '-00001-of-00002.gguf'");
    put_part("p-00001-of-00002.gguf", 5, 2, 2, "a");
    file_refused("p-00001-of-00002.gguf", WATT_EFORMAT, "key 'split.no' is 5 of 2 parts");
    put_part("p-00001-of-00002.gguf", 0, 2000, 2, "a");
    file_refused("p-00001-of-00002.gguf", WATT_ELIMIT, "key 'split.count' is 2000");
}

static void test_split_in_memory(void **state)
{
    struct str s;

    (void)state;
    str_init(&s, 0);
    b_head(&s, 3, 0, 1);
    b_key_u32(&s, "split.count", 2);
    refused(&s, WATT_ENOTSUP, "is the first of 2 parts; a split model is opened from its files");
    str_reset(&s);
    b_head(&s, 3, 0, 1);
    b_key(&s, "split.count", GGUF_F32), b_f32(&s, 2.0f);
    refused(&s, WATT_EFORMAT, "key 'split.count' is");
    str_deinit(&s);
}

static void test_bad_files(void **state)
{
    struct str s;

    (void)state;
    file_refused("absent.gguf", WATT_ENOENT, "absent.gguf: ");
    assert_int_equal(mkdir(in_dir("folder.gguf"), 0700), 0);
    file_refused("folder.gguf", WATT_EINVAL, "is a directory");
    str_init(&s, 0);
    b_head(&s, 3, 0, 0);
    s.len = 0;
    put_file("empty.gguf", &s);
    file_refused("empty.gguf", WATT_EFORMAT, "is no GGUF file");
    str_deinit(&s);
}

#ifdef WATT_FAULTS
static void test_torture_files(void **state)
{
    struct gguf *g;
    struct err e;
    int rc;

    (void)state;
    put_part("t-00001-of-00002.gguf", 0, 2, 2, "a");
    put_part("t-00002-of-00002.gguf", 1, 2, 2, "b");
    for (int kind = FAULT_ALLOC; kind <= FAULT_READ; kind++) {
        for (unsigned long n = 1;; n++) {
            (void)fault_arm((enum fault_kind)kind, n);
            rc = gguf_open(&g, in_dir("t-00001-of-00002.gguf"), &e);
            (void)fault_arm((enum fault_kind)kind, 0);
            if (rc == 0)
                break;
            assert_int_equal(rc, kind == FAULT_ALLOC ? WATT_ENOMEM : WATT_EIO);
            assert_non_null(strstr(e.msg, "t-0000"));
            assert_true(n < 100);
        }
        gguf_close(g);
    }
}
#endif

/* ---- names ---- */

static void test_name_show(void **state)
{
    char buf[NAME_SHOWN], longest[400];

    (void)state;
    assert_string_equal(name_show(buf, SV("plain")), "plain");
    assert_string_equal(name_show(buf, SV("gr\xc3\xbc\xc3\x9f")), "gr\xc3\xbc\xc3\x9f");
    assert_string_equal(name_show(buf, SV("\x01\xff\x7f")), "\\x01\\xff\\x7f");
    assert_string_equal(name_show(buf, (struct sv){ NULL, 0 }), "");
    for (size_t lead = 0; lead < 8; lead++) {
        memset(longest, 'a', lead);
        for (size_t i = lead; i + 4 <= sizeof longest; i += 4)
            memcpy(longest + i, "\xf0\x9f\x98\x80", 4);
        (void)name_show(buf, (struct sv){ longest, 396 });
        assert_true(strlen(buf) < NAME_SHOWN);
        assert_string_equal(buf + strlen(buf) - 3, "...");
    }
}

/* ---- real files ---- */

static void open_folder(const char *folder, size_t at_least)
{
    char folder_path[4096], file_path[4400];
    struct dirent *d;
    size_t n = 0;
    DIR *open_dir;

    (void)snprintf(folder_path, sizeof folder_path, "%s", shared_path(folder));
    open_dir = opendir(folder_path);
    assert_non_null(open_dir);
    while ((d = readdir(open_dir)) != NULL) {
        const struct sv name = sv_cstr(d->d_name);
        struct gguf *g;
        struct err e;

        if (!sv_ends(name, SV(".gguf")))
            continue;
        (void)snprintf(file_path, sizeof file_path, "%s/%.255s", folder_path, d->d_name);
        if (gguf_open(&g, file_path, &e) < 0)
            fail_msg("%s", e.msg);
        assert_non_null(gguf_find(g, "general.architecture"));
        gguf_close(g);
        n++;
    }
    (void)closedir(open_dir);
    assert_true(n >= at_least);
}

static void test_shared_files(void **state)
{
    (void)state;
    SHARED_OR_SKIP("golden");
    open_folder("golden", 50);
    open_folder("models", 1);
    open_folder("tokenizers", 9);
}

/* Small files for fuzz/corpus/gguf: test_gguf --corpus FOLDER. */
static int write_corpus(const char *folder)
{
    struct { const char *name; struct str s; } files[5] = {
        { "full", { 0 } }, { "head", { 0 } }, { "split", { 0 } }, { "align8", { 0 } },
        { "shuffled", { 0 } }
    };
    int failed = 0;

    for (size_t i = 0; i < 5; i++)
        str_init(&files[i].s, 0);
    (void)b_full(&files[0].s);
    b_head(&files[1].s, 2, 0, 0);
    b_head(&files[2].s, 3, 0, 3);
    b_key(&files[2].s, "split.no", GGUF_U16), b_u16(&files[2].s, 0);
    b_key(&files[2].s, "split.count", GGUF_U16), b_u16(&files[2].s, 2);
    b_key(&files[2].s, "split.tensors.count", GGUF_I32), b_u32(&files[2].s, 0);
    b_head(&files[3].s, 3, 1, 1);
    b_key_u32(&files[3].s, "general.alignment", 8);
    b_tensor(&files[3].s, "t", DTYPE_Q4_K, 256, 1, 0);
    b_pad(&files[3].s, 8);
    b_zeros(&files[3].s, 144);
    b_head(&files[4].s, 3, 2, 0);
    b_tensor(&files[4].s, "x", DTYPE_F16, 16, 1, 32);
    b_tensor(&files[4].s, "y", DTYPE_I8, 32, 1, 0);
    b_pad(&files[4].s, 32);
    b_zeros(&files[4].s, 64);
    for (size_t i = 0; i < 5; i++) {
        char name[4096];
        FILE *f;

        (void)snprintf(name, sizeof name, "%s/%s.gguf", folder, files[i].name);
        f = fopen(name, "wb");
        failed |= !f || fwrite(files[i].s.data, 1, files[i].s.len, f) != files[i].s.len ||
                  fclose(f) != 0;
        str_deinit(&files[i].s);
    }
    return failed;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_wrong_values),
        cmocka_unit_test(test_elements),
        cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_refuses_heads),
        cmocka_unit_test(test_refuses_keys),
        cmocka_unit_test(test_refuses_arrays),
        cmocka_unit_test(test_refuses_tensors),
        cmocka_unit_test(test_refuses_tensor_names),
        cmocka_unit_test(test_overlaps),
        cmocka_unit_test(test_alignment),
        cmocka_unit_test(test_truncations),
        cmocka_unit_test(test_bit_flips),
        cmocka_unit_test(test_random_damage),
#ifdef WATT_FAULTS
        cmocka_unit_test(test_torture_allocations),
        cmocka_unit_test(test_torture_files),
#endif
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_split_in_memory),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_name_show),
        cmocka_unit_test(test_shared_files),
    };

    if (argc == 3 && strcmp(argv[1], "--corpus") == 0)
        return write_corpus(argv[2]);
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
