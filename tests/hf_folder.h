/* hf_folder.h: writes small Hugging Face folders. Include after cmocka.h. */
#ifndef TESTS_HF_FOLDER_H
#define TESTS_HF_FOLDER_H

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/rng.h"
#include "base/str.h"
#include "chips/dtype.h"

static char hf_dir[] = "watt-hf-XXXXXX";
static char hf_path_buf[160];

static inline const char *hf_in(const char *name)
{
    (void)snprintf(hf_path_buf, sizeof hf_path_buf, "%s/%.100s", hf_dir, name);
    return hf_path_buf;
}

static inline int hf_make_dir(void **state)
{
    (void)state;
    return mkdtemp(hf_dir) ? 0 : -1;
}

static inline int hf_clean(void **state)
{
    struct dirent *d;
    DIR *all = opendir(hf_dir);

    (void)state;
    while (all && (d = readdir(all)) != NULL)
        if (d->d_name[0] != '.')
            (void)remove(hf_in(d->d_name));
    if (all)
        (void)closedir(all);
    return 0;
}

static inline int hf_remove_dir(void **state)
{
    (void)hf_clean(state);
    return rmdir(hf_dir);
}

static inline void hf_put(const char *name, const void *bytes, size_t n)
{
    FILE *f = fopen(hf_in(name), "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static inline void hf_puts(const char *name, const char *text)
{
    hf_put(name, text, strlen(text));
}

/* ---- safetensors ---- */

struct hf_shard {
    struct str header, data;
    struct rng rng;
};

static inline void shard_begin(struct hf_shard *s, uint64_t seed)
{
    str_init(&s->header, 0);
    str_init(&s->data, 0);
    rng_init(&s->rng, seed);
}

/* shape: "[2,3]"; bytes: n of them. */
static inline void shard_add(struct hf_shard *s, const char *name, const char *type,
                             const char *shape, const void *bytes, size_t n)
{
    str_printf(&s->header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
               s->header.len ? "," : "", name, type, shape, s->data.len, s->data.len + n);
    str_append(&s->data, bytes, n);
}

/* n random numbers in F32 or BF16. */
static inline void shard_random(struct hf_shard *s, const char *name, const char *type,
                                const char *shape, size_t n)
{
    struct str bytes;
    uint8_t four[4];

    str_init(&bytes, 0);
    for (size_t i = 0; i < n; i++) {
        const float x = (float)(rng_normal(&s->rng) * 0.2);

        if (strcmp(type, "F32") == 0)
            store_le_f32(four, x);
        else
            store_le16(four, f32_to_bf16(x));
        str_append(&bytes, four, strcmp(type, "F32") == 0 ? 4 : 2);
    }
    shard_add(s, name, type, shape, bytes.data, bytes.len);
    str_deinit(&bytes);
}

static inline void shard_end(struct hf_shard *s, const char *file)
{
    struct str all;
    uint8_t n[8];

    str_init(&all, 0);
    while ((s->header.len + 2) % 8 != 0)
        str_putc(&s->header, ' ');
    store_le64(n, s->header.len + 2);
    str_append(&all, n, 8);
    str_putc(&all, '{');
    str_append(&all, s->header.data, s->header.len);
    str_putc(&all, '}');
    str_append(&all, s->data.data, s->data.len);
    assert_true(str_ok(&all));
    hf_put(file, all.data, all.len);
    str_deinit(&all);
    str_deinit(&s->header);
    str_deinit(&s->data);
}

#endif
