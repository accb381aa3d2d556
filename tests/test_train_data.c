/* test_train_data.c: shards of tokens and what is made of them: written and read, damaged ones
 * refused, texts and conversations tokenized the same by any number of threads, batches in a
 * seeded order that can be taken up again anywhere. */
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

#include "base/bytes.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "models/model.h"
#include "models/train/create.h"
#include "models/train/dataset.h"
#include "models/train/prepare.h"
#include "models/train/shard.h"
#include "models/train/vocab.h"

static char dir[] = "test_train_data.XXXXXX";
static char path[64], other[64], text_path[64];

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(path, sizeof path, "%s/a.shard", dir);
    (void)snprintf(other, sizeof other, "%s/b.shard", dir);
    (void)snprintf(text_path, sizeof text_path, "%s/t.txt", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    (void)remove(path);
    (void)remove(other);
    (void)remove(text_path);
    return rmdir(dir);
}

static void write_file(const char *to, const void *data, size_t n)
{
    FILE *f = fopen(to, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* A shard of documents of the given lengths; token i of the shard is i modulo n_vocab. marks: odd
 * tokens are to be learned. */
static void make_shard(const char *to, const uint32_t *lengths, size_t n_docs, uint64_t n_vocab,
                       bool marks)
{
    struct shard_writer *w;
    struct err e;
    uint64_t at = 0;

    assert_int_equal(shard_writer_open(&w, to, n_vocab, 77, marks, &e), 0);
    for (size_t d = 0; d < n_docs; d++) {
        int32_t ids[512];
        uint8_t learn[512];

        assert_true(lengths[d] <= 512);
        for (uint32_t i = 0; i < lengths[d]; i++, at++) {
            ids[i] = (int32_t)(at % n_vocab);
            learn[i] = at & 1;
        }
        assert_int_equal(shard_writer_add(w, ids, learn, lengths[d], true, &e), 0);
    }
    if (shard_writer_commit(w, &e) < 0)
        fail_msg("%s", e.msg);
}

static struct shard *opened(const char *from)
{
    struct shard *s;
    struct err e;

    if (shard_open(&s, from, &e) < 0)
        fail_msg("%s", e.msg);
    return s;
}

/* ---- shards ---- */

static void check_shard(uint64_t n_vocab, bool marks)
{
    static const uint32_t lengths[] = { 1, 500, 3, 77, 512, 9 };
    struct shard *s;
    struct err e;
    int32_t ids[1102];
    uint8_t learn[1102];
    uint64_t first, end;

    make_shard(path, lengths, 6, n_vocab, marks);
    assert_true(shard_is(path));
    s = opened(path);
    assert_int_equal(shard_n_tokens(s), 1102);
    assert_int_equal(shard_n_docs(s), 6);
    assert_int_equal(shard_n_vocab(s), n_vocab);
    assert_int_equal(shard_vocab(s), 77);
    assert_int_equal(shard_has_marks(s), marks);
    assert_int_equal(shard_read(s, 0, 1102, ids, learn, &e), 0);
    for (uint32_t i = 0; i < 1102; i++) {
        assert_int_equal(ids[i], i % n_vocab);
        assert_int_equal(learn[i], marks ? i & 1 : 1);
    }
    assert_int_equal(shard_read(s, 503, 20, ids, learn, &e), 0);
    for (uint32_t i = 0; i < 20; i++) {
        assert_int_equal(ids[i], (i + 503) % n_vocab);
        assert_int_equal(learn[i], marks ? (i + 503) & 1 : 1);
    }
    assert_int_equal(shard_doc(s, 0, &first, &end, &e), 0);
    assert_int_equal(first, 0);
    assert_int_equal(end, 1);
    assert_int_equal(shard_doc(s, 3, &first, &end, &e), 0);
    assert_int_equal(first, 504);
    assert_int_equal(end, 581);
    shard_close(s);
}

static void test_shard_round_trip(void **state)
{
    (void)state;
    check_shard(65, false);
    check_shard(65536, true);
    check_shard(65537, true);
    check_shard(1 << 20, false);
}

/* Every byte of a small shard changed, and every length: refused, never a crash. */
static void test_shard_damaged(void **state)
{
    static const uint32_t lengths[] = { 5, 11, 3 };
    char *data;
    size_t size;
    struct shard *s;
    struct err e;

    (void)state;
    make_shard(path, lengths, 3, 300, true);
    assert_int_equal(file_read(path, 1 << 20, &data, &size, &e), 0);
    for (size_t i = 0; i < size; i++) {
        data[i] = (char)(data[i] ^ 0x41);
        write_file(other, data, size);
        if (shard_open(&s, other, &e) != WATT_EFORMAT)
            fail_msg("byte %zu changed: accepted", i);
        assert_non_null(strstr(e.msg, other));
        data[i] = (char)(data[i] ^ 0x41);
    }
    for (size_t n = 0; n < size; n++) {
        write_file(other, data, n);
        assert_true(shard_open(&s, other, &e) < 0);
    }
    mem_free(data);
    assert_int_equal(shard_open(&s, "no-such-file.shard", &e), WATT_ENOENT);
    assert_non_null(strstr(e.msg, "no-such-file.shard"));
    assert_true(shard_open(&s, dir, &e) < 0);
}

/* A shard that becomes shorter while it is read. */
static void test_shard_shrinks(void **state)
{
    static const uint32_t lengths[] = { 400, 400 };
    struct shard *s;
    struct err e;
    int32_t ids[800];

    (void)state;
    make_shard(path, lengths, 2, 300, false);
    s = opened(path);
    assert_int_equal(truncate(path, 600), 0);
    assert_int_equal(shard_read(s, 0, 100, ids, NULL, &e), 0);
    assert_int_equal(shard_read(s, 0, 800, ids, NULL, &e), WATT_EIO);
    assert_non_null(strstr(e.msg, "a.shard"));
    shard_close(s);
}

static void test_shard_writer_refuses(void **state)
{
    struct shard_writer *w;
    struct err e;
    const int32_t bad[] = { 3, 300 };

    (void)state;
    (void)remove(other);
    assert_int_equal(shard_writer_open(&w, other, 300, 0, false, &e), 0);
    assert_int_equal(shard_writer_add(w, bad, NULL, 2, true, &e), WATT_EINVAL);
    shard_writer_abort(w);
    assert_int_equal(shard_writer_open(&w, other, 300, 0, false, &e), 0);
    assert_int_equal(shard_writer_commit(w, &e), WATT_EINVAL);
    assert_int_not_equal(access(other, F_OK), 0);
    assert_int_equal(shard_writer_open(&w, other, 0, 0, false, &e), WATT_EINVAL);
}

/* ---- batches ---- */

static struct dataset_opts options(uint32_t ctx, uint32_t batch)
{
    return (struct dataset_opts){ .ctx = ctx, .max_rows = ctx * batch, .max_streams = batch,
                                  .seed = 5 };
}

static struct dataset *dataset(const struct dataset_source *s, size_t n,
                               const struct dataset_opts *o)
{
    struct dataset *d;
    struct err e;

    if (dataset_open(&d, s, n, o, &e) < 0)
        fail_msg("%s", e.msg);
    return d;
}

static const struct dataset_batch *next(struct dataset *d)
{
    const struct dataset_batch *b;
    struct err e;

    if (dataset_next(d, &b, &e) < 0)
        fail_msg("%s", e.msg);
    return b;
}

/* Windows: in each epoch every token but those at the ends is seen once, in another order. */
static void test_windows(void **state)
{
    static const uint32_t lengths[] = { 500, 500, 24 };
    const struct dataset_opts o = options(16, 4);
    struct dataset_source src;
    struct shard *s;
    struct dataset *d;
    uint32_t seen[1024], first_order[4], again[4];
    unsigned n = 0;

    (void)state;
    make_shard(path, lengths, 3, 2000, false);
    s = opened(path);
    src = (struct dataset_source){ s, 0 };
    d = dataset(&src, 1, &o);
    for (unsigned epoch = 0; epoch < 3; epoch++) {
        memset(seen, 0, sizeof seen);
        /* windows per epoch: 62 or 63, so that 15 whole batches lie in each */
        for (unsigned k = 0; k < 15; k++, n++) {
            const struct dataset_batch *b = next(d);

            assert_int_equal(b->n_streams, 4);
            assert_int_equal(b->n_rows, 64);
            assert_int_equal(b->n_targets, 64);
            for (uint32_t i = 0; i < b->n_rows; i++) {
                assert_int_equal(b->target[i], b->token[i] + 1);
                assert_true(b->weight[i] == 1.0f);
                seen[b->token[i]]++;
            }
            if (k == 0)
                for (unsigned j = 0; j < 4; j++)
                    (epoch ? again : first_order)[j] = (uint32_t)b->token[16 * j];
        }
        if (epoch == 0)
            for (unsigned i = 0; i < 1024; i++)
                assert_true(seen[i] <= 1);
        if (epoch > 0)
            assert_memory_not_equal(first_order, again, sizeof again);
        dataset_rewind(d);
        if (epoch < 2) {        /* to the beginning of the next epoch */
            struct dataset_state st;
            struct err e;

            dataset_state(d, &st);
            st.place[0].epoch = epoch + 1;
            assert_int_equal(dataset_seek(d, &st, &e), 0);
        }
    }
    dataset_close(d);
    shard_close(s);
}

/* Any position taken up again gives the batches that would have come. */
static void check_resume(const struct dataset_source *src, size_t n_src,
                         const struct dataset_opts *o)
{
    enum { BATCHES = 40 };
    struct dataset *d = dataset(src, n_src, o);
    struct dataset_state states[BATCHES];
    int32_t *all = mem_array((size_t)BATCHES * o->max_rows, sizeof *all);
    uint32_t rows[BATCHES];
    struct err e;

    for (unsigned k = 0; k < BATCHES; k++) {
        const struct dataset_batch *b;

        dataset_state(d, &states[k]);
        b = next(d);
        rows[k] = b->n_rows;
        memcpy(all + (size_t)k * o->max_rows, b->token, b->n_rows * sizeof *all);
    }
    dataset_close(d);
    for (unsigned k = 0; k < BATCHES; k += 7) {
        d = dataset(src, n_src, o);
        assert_int_equal(dataset_seek(d, &states[k], &e), 0);
        for (unsigned j = k; j < BATCHES; j++) {
            const struct dataset_batch *b = next(d);

            assert_int_equal(b->n_rows, rows[j]);
            assert_memory_equal(b->token, all + (size_t)j * o->max_rows, b->n_rows * sizeof *all);
        }
        dataset_close(d);
    }
    mem_free(all);
}

static void test_resume(void **state)
{
    static const uint32_t long_docs[] = { 512, 512, 300 }, short_docs[] = { 3, 40, 1, 17, 90, 2, 5 };
    struct dataset_opts o = options(16, 4);
    struct dataset_source src[2];

    (void)state;
    make_shard(path, long_docs, 3, 2000, false);
    make_shard(other, short_docs, 7, 2000, true);
    src[0] = (struct dataset_source){ opened(path), 3 };
    src[1] = (struct dataset_source){ opened(other), 1 };
    check_resume(src, 2, &o);
    o.documents = true;
    o.max_streams = 9;
    check_resume(src, 2, &o);
    check_resume(src + 1, 1, &o);
    shard_close(src[0].shard);
    shard_close(src[1].shard);
}

/* Documents: each is a sequence of its own, long ones in pieces; nothing crosses a border. */
static void test_documents(void **state)
{
    static const uint32_t lengths[] = { 3, 40, 1, 17, 90, 2, 5, 16, 33 };
    struct dataset_opts o = options(16, 4);
    struct dataset_source src;
    struct dataset *d;
    uint32_t ends[9], at = 0, targets = 0;
    const struct dataset_batch *b;
    struct err e;

    (void)state;
    make_shard(path, lengths, 9, 2000, false);
    for (unsigned i = 0; i < 9; i++)
        ends[i] = at += lengths[i];
    src = (struct dataset_source){ opened(path), 0 };
    o.documents = true;
    o.in_order = true;
    o.max_streams = 32;
    d = dataset(&src, 1, &o);
    while (dataset_next(d, &b, &e) == 0) {
        uint32_t row = 0;

        assert_true(b->n_rows <= o.max_rows);
        for (uint32_t s = 0; s < b->n_streams; s++) {
            assert_in_range(b->stream_rows[s], 1, 16);
            for (uint32_t i = 0; i < b->stream_rows[s]; i++, row++) {
                unsigned doc = 0;

                while ((uint32_t)b->token[row] >= ends[doc])
                    doc++;
                assert_int_equal(b->target[row], b->token[row] + 1);
                assert_true((uint32_t)b->target[row] < ends[doc]);
                if (i > 0)
                    assert_int_equal(b->token[row], b->token[row - 1] + 1);
            }
        }
        assert_int_equal(row, b->n_rows);
        targets += (uint32_t)b->n_targets;
    }
    assert_int_equal(e.code, WATT_ENOENT);
    assert_int_equal(targets, at - 9);      /* every token but each document's first */
    dataset_close(d);
    shard_close(src.shard);
}

/* Marks become weights; sequences without any are left out. */
static void test_marks(void **state)
{
    struct dataset_opts o = options(8, 2);
    struct shard_writer *w;
    struct dataset_source src;
    struct dataset *d;
    const struct dataset_batch *b;
    const int32_t ids[] = { 1, 2, 3, 4, 5 };
    const uint8_t none[5] = { 0 }, some[] = { 1, 0, 0, 1, 1 };
    struct err e;

    (void)state;
    assert_int_equal(shard_writer_open(&w, path, 10, 0, true, &e), 0);
    assert_int_equal(shard_writer_add(w, ids, none, 5, true, &e), 0);
    assert_int_equal(shard_writer_add(w, ids, some, 5, true, &e), 0);
    assert_int_equal(shard_writer_commit(w, &e), 0);
    src = (struct dataset_source){ opened(path), 0 };
    o.documents = o.in_order = true;
    d = dataset(&src, 1, &o);
    b = next(d);
    assert_int_equal(b->n_streams, 1);
    assert_int_equal(b->n_rows, 4);
    assert_int_equal(b->n_targets, 2);
    for (unsigned i = 0; i < 4; i++)
        assert_true(b->weight[i] == (float)some[i + 1]);
    dataset_close(d);
    shard_close(src.shard);
}

/* The part held back and the rest share no token; a mixture draws by its weights. */
static void test_parts_and_mixture(void **state)
{
    static const uint32_t lengths[] = { 500, 500 };
    struct dataset_opts o = options(16, 4);
    struct dataset_source src[2];
    struct dataset *d;
    const struct dataset_batch *b;
    unsigned from_second = 0;
    struct err e;

    (void)state;
    make_shard(path, lengths, 2, 2000, false);
    src[0] = (struct dataset_source){ opened(path), 0 };
    o.held = 0.1;
    o.part = DATASET_HELD;
    o.in_order = true;
    d = dataset(src, 1, &o);
    while (dataset_next(d, &b, &e) == 0)
        for (uint32_t i = 0; i < b->n_rows; i++)
            assert_true(b->token[i] >= 900);
    dataset_close(d);
    o.part = DATASET_TRAIN;
    o.in_order = false;
    d = dataset(src, 1, &o);
    for (unsigned k = 0; k < 50; k++) {
        b = next(d);
        for (uint32_t i = 0; i < b->n_rows; i++)
            assert_true(b->target[i] < 900);
    }
    dataset_close(d);
    o.held = 0.999;
    assert_int_equal(dataset_open(&d, src, 1, &o, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "a.shard"));

    {   /* a second shard whose tokens are all 7 */
        struct shard_writer *w;
        int32_t sevens[512];

        for (unsigned i = 0; i < 512; i++)
            sevens[i] = 7;
        assert_int_equal(shard_writer_open(&w, other, 2000, 77, false, &e), 0);
        assert_int_equal(shard_writer_add(w, sevens, NULL, 512, true, &e), 0);
        assert_int_equal(shard_writer_commit(w, &e), 0);
    }
    src[1] = (struct dataset_source){ opened(other), 1 };
    src[0].weight = 3;
    o.held = 0;
    o.part = DATASET_ALL;
    d = dataset(src, 2, &o);
    for (unsigned k = 0; k < 500; k++) {
        b = next(d);
        for (unsigned s = 0; s < 4; s++)
            from_second += b->token[16 * s] == 7 && b->token[16 * s + 1] == 7;
    }
    assert_in_range(from_second, 420, 580);     /* a quarter of 2000, 4 deviations are 77 */
    dataset_close(d);
    shard_close(src[0].shard);
    shard_close(src[1].shard);
}

/* ---- texts ---- */

static struct tokenizer *byte_tokenizer(bool chars, const char *file)
{
    struct create_opts c = { .shape = { .name = "t", .pre = "gpt-2", .n_layers = 1, .n_embd = 32,
                                        .n_ff = 32, .n_heads = 1, .n_kv_heads = 1, .head_dim = 32,
                                        .n_vocab = 1, .n_ctx = 64, .norm_eps = 1e-5f,
                                        .rope_base = 10000, .tied = true } };
    char model_path[64];
    struct char_vocab *v;
    struct tokenizer *tok = NULL;
    struct gguf *g;
    struct err e;

    (void)snprintf(model_path, sizeof model_path, "%s/m.gguf", dir);
    assert_int_equal(shape_set_arch(&c.shape, "llama", &e), 0);
    assert_int_equal(char_vocab_open(&v, !chars, &e), 0);
    if (chars)
        assert_int_equal(char_vocab_add_file(v, file, &e), 0);
    else
        char_vocab_add_bytes(v);
    assert_int_equal(char_vocab_finish(v, &c.n_chars, &e), 0);
    c.chars = v;
    if (create_model(model_path, &c, &e) < 0 || gguf_open(&g, model_path, &e) < 0 ||
        tokenizer_open(&tok, g, &e) < 0)
        fail_msg("%s", e.msg);
    (void)remove(model_path);
    gguf_close(g);
    char_vocab_close(v);
    return tok;
}

static void test_chars(void **state)
{
    static const char text[] = "ba\xc3\xa9 \xe2\x82\xac\nab";      /* two characters beyond ASCII */
    struct tokenizer *tok;
    struct tokens ids = { 0 };
    struct str back;
    struct err e;

    (void)state;
    write_file(text_path, text, sizeof text - 1);
    tok = byte_tokenizer(true, text_path);
    assert_int_equal(tokenizer_encode(tok, NULL, text, sizeof text - 1, 0, &ids, &e), 0);
    assert_int_equal(ids.n, 8);         /* one token a character */
    str_init(&back, 0);
    assert_int_equal(tokenizer_decode(tok, ids.ids, ids.n, 0, &back, &e), 0);
    assert_string_equal(str_cstr(&back), text);
    /* in ASCII: the place in the sorted set */
    assert_int_equal(tokenizer_find(tok, (struct sv){ "a", 1 }), 2);
    assert_int_equal(tokenizer_find(tok, (struct sv){ "b", 1 }), 3);
    str_deinit(&back);
    tokens_deinit(&ids);
    tokenizer_close(tok);
}

static void prepare(const char *from, const char *to, const struct tokenizer *tok,
                    const struct template *tmpl, enum prepare_split split, unsigned threads,
                    struct prepare_result *r)
{
    struct prepare_opts o = { .tok = tok, .tmpl = tmpl, .split = split };
    struct err e;

    assert_int_equal(team_open(&o.team, threads, &e), 0);
    if (prepare_shard(from, to, &o, r, &e) < 0)
        fail_msg("%s", e.msg);
    team_close(o.team);
}

/* A megabyte of lines: one, two and three threads write the same bytes, and reading gives the
 * text back. */
static void test_prepare_text(void **state)
{
    struct tokenizer *tok = byte_tokenizer(false, NULL);
    struct str text;
    struct rng rng;

    (void)state;
    str_init(&text, 0);
    rng_init(&rng, 9);
    while (text.len < 1000000) {
        for (uint32_t n = rng_below(&rng, 90); n > 0; n--)
            str_putc(&text, (char)('a' + rng_below(&rng, 26)));
        str_puts(&text, rng_below(&rng, 8) ? "\n" : "\n\n");
    }
    write_file(text_path, text.data, text.len);
    for (int split = PREPARE_FILE; split <= PREPARE_PARAGRAPHS; split++) {
        struct prepare_result r, r2;
        struct shard *s;
        char *a, *b;
        size_t n_a, n_b;
        struct err e;

        prepare(text_path, path, tok, NULL, (enum prepare_split)split, 1, &r);
        for (unsigned threads = 2; threads <= 3; threads++) {
            prepare(text_path, other, tok, NULL, (enum prepare_split)split, threads, &r2);
            assert_int_equal(file_read(path, 1 << 30, &a, &n_a, &e), 0);
            assert_int_equal(file_read(other, 1 << 30, &b, &n_b, &e), 0);
            assert_int_equal(n_a, n_b);
            assert_memory_equal(a, b, n_a);
            mem_free(a);
            mem_free(b);
        }
        s = opened(path);
        if (split == PREPARE_FILE) {
            int32_t *ids = mem_array(text.len + 1, sizeof *ids);
            struct str back;

            assert_int_equal(shard_n_tokens(s), text.len + 1);
            assert_int_equal(shard_n_docs(s), 1);
            assert_int_equal(shard_read(s, 0, (uint32_t)text.len + 1, ids, NULL, &e), 0);
            assert_int_equal(ids[text.len], tokenizer_eos(tok));
            str_init(&back, 0);
            assert_int_equal(tokenizer_decode(tok, ids, text.len, 0, &back, &e), 0);
            assert_int_equal(back.len, text.len);
            assert_memory_equal(back.data, text.data, text.len);
            str_deinit(&back);
            mem_free(ids);
        } else {
            assert_true(shard_n_docs(s) > 1000);
            assert_int_equal(shard_n_docs(s), r.n_docs);
        }
        shard_close(s);
    }
    str_deinit(&text);
    tokenizer_close(tok);
}

/* ---- conversations ---- */

static const char chat[] =
    "{%- for m in messages -%}[{{ m.role }}]{{ m.content }}<|endoftext|>\n{%- endfor -%}"
    "{%- if add_generation_prompt -%}[assistant]{%- endif -%}";

/* The learned tokens of each document as text, documents separated by '|'. */
static void learned_text(const struct shard *s, const struct tokenizer *tok, struct str *out)
{
    struct err e;

    for (uint64_t d = 0; d < shard_n_docs(s); d++) {
        uint64_t first, end;
        int32_t ids[4096];
        uint8_t marks[4096];

        assert_int_equal(shard_doc(s, d, &first, &end, &e), 0);
        assert_true(end - first <= 4096);
        assert_int_equal(shard_read(s, first, (uint32_t)(end - first), ids, marks, &e), 0);
        for (uint64_t i = 0; i < end - first; i++)
            if (marks[i])
                assert_int_equal(tokenizer_decode(tok, ids + i, 1, DETOKENIZE_SPECIAL, out, &e), 0);
        str_putc(out, '|');
    }
}

static void test_prepare_chat(void **state)
{
    static const char records[] =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, "
        "{\"role\": \"assistant\", \"content\": \"hello\"}, {\"role\": \"user\", \"content\": \"x\"}, "
        "{\"role\": \"assistant\", \"content\": \"bye\"}]}\n"
        "\n"
        "{\"prompt\": \"2+2=\", \"completion\": \"4\"}\n"
        "{\"text\": \"plain\"}\r\n"
        "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}, "
        "{\"role\": \"assistant\", \"content\": \"no\", \"learn\": false}, "
        "{\"role\": \"assistant\", \"content\": \"yes\"}]}";
    struct tokenizer *tok = byte_tokenizer(false, NULL);
    struct template *tmpl;
    struct prepare_result r;
    struct shard *s;
    struct str got;
    struct err e;
    char jsonl[64];

    (void)state;
    (void)snprintf(jsonl, sizeof jsonl, "%s/c.jsonl", dir);
    write_file(jsonl, records, sizeof records - 1);
    assert_int_equal(template_open(&tmpl, chat, sizeof chat - 1, "chat", &e), 0);
    prepare(jsonl, path, tok, tmpl, PREPARE_FILE, 2, &r);
    assert_int_equal(r.n_docs, 4);
    assert_int_equal(r.n_hidden, 0);
    s = opened(path);
    assert_true(shard_has_marks(s));
    str_init(&got, 0);
    learned_text(s, tok, &got);
    assert_string_equal(str_cstr(&got),
                        "hello<|endoftext|>bye<|endoftext|>|4<|endoftext|>|plain<|endoftext|>|"
                        "yes<|endoftext|>|");
    str_deinit(&got);
    shard_close(s);

    {   /* errors name file and line */
        static const char *const bad[] = {
            "{\"text\": \"fine\"}\n{\"text\": 3}\n", "{\"text\": \"fine\"}\n{broken\n",
            "{\"text\": \"fine\"}\n{\"other\": 1}\n", "{\"text\": \"fine\"}\n[]\n",
            "{\"text\": \"fine\"}\n{\"messages\": 4}\n", "{\"text\": \"fine\"}\n{\"prompt\": \"a\"}\n",
        };
        struct prepare_opts o = { .tok = tok, .tmpl = tmpl };

        assert_int_equal(team_open(&o.team, 2, &e), 0);
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            write_file(jsonl, bad[i], strlen(bad[i]));
            (void)remove(other);
            assert_int_equal(prepare_shard(jsonl, other, &o, &r, &e), WATT_EFORMAT);
            assert_non_null(strstr(e.msg, "c.jsonl"));
            assert_non_null(strstr(e.msg, "line 2"));
            assert_int_not_equal(access(other, F_OK), 0);
        }
        assert_int_equal(prepare_shard("missing.jsonl", other, &o, &r, &e), WATT_ENOENT);
        write_file(jsonl, "", 0);
        assert_int_equal(prepare_shard(jsonl, other, &o, &r, &e), WATT_EINVAL);
        o.tmpl = NULL;
        write_file(jsonl, records, sizeof records - 1);
        assert_int_equal(prepare_shard(jsonl, other, &o, &r, &e), WATT_ENOTSUP);
        team_close(o.team);
    }
    (void)remove(jsonl);
    template_close(tmpl);
    tokenizer_close(tok);
}

#ifdef WATT_FAULTS
/* Every write and allocation failing in turn: an error, and no file. */
static void test_prepare_faults(void **state)
{
    static const char text[] = "one\ntwo\n";
    static const enum fault_kind kinds[] = { FAULT_WRITE, FAULT_ALLOC };
    struct tokenizer *tok = byte_tokenizer(false, NULL);
    struct prepare_opts o = { .tok = tok };
    struct prepare_result r;
    struct err e;

    (void)state;
    write_file(text_path, text, sizeof text - 1);
    assert_int_equal(team_open(&o.team, 1, &e), 0);
    for (size_t k = 0; k < 2; k++) {
        for (unsigned long n = 1;; n++) {
            int rc;

            (void)remove(other);
            (void)fault_arm(kinds[k], n);
            rc = prepare_shard(text_path, other, &o, &r, &e);
            (void)fault_arm(kinds[k], 0);
            assert_int_equal(access(other, F_OK) == 0, rc == 0);
            if (rc == 0)
                break;
            assert_true(rc == WATT_ENOMEM || rc == WATT_EIO);
            assert_true(n < 10000);
        }
    }
    team_close(o.team);
    tokenizer_close(tok);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shard_round_trip),
        cmocka_unit_test(test_shard_damaged),
        cmocka_unit_test(test_shard_shrinks),
        cmocka_unit_test(test_shard_writer_refuses),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_documents),
        cmocka_unit_test(test_marks),
        cmocka_unit_test(test_parts_and_mixture),
        cmocka_unit_test(test_chars),
        cmocka_unit_test(test_prepare_text),
        cmocka_unit_test(test_prepare_chat),
#ifdef WATT_FAULTS
        cmocka_unit_test(test_prepare_faults),
#endif
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
