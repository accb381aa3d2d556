/* fuzz_bpe_train.c: vocabularies made from any bytes. The first bytes choose size,
 * pre-tokenizer and an added token; the rest is the text. What comes out must open as a
 * tokenizer and give the text back. */
#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "models/bpe_train.h"
#include "models/tok_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct bpe_train *b, const char *text, size_t len)
{
    struct tokenizer *t = NULL;
    struct tokens v = { 0 };
    struct vocab_spec s;
    struct str back;
    struct err e = { 0 };

    bpe_train_spec(b, &s);
    s.nfc = 0;
    str_init(&back, 0);
    CHECK(tokenizer_open_spec(&t, &s, &e) == 0);
    if (tokenizer_encode(t, NULL, text, len, 0, &v, &e) == 0) {
        CHECK(tokenizer_decode(t, v.ids, v.n, DETOKENIZE_SPECIAL, &back, &e) == 0);
        CHECK(back.len == len && (len == 0 || memcmp(back.data, text, len) == 0));
    }
    str_deinit(&back);
    tokens_deinit(&v);
    tokenizer_close(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bpe_added added = { .kind = TOKEN_USER_DEFINED };
    struct bpe_train_opts o = { .n_threads = 1, .added = &added };
    struct bpe_train *b = NULL;
    struct err e = { 0 };
    const char *text;

    if (size < 4 || size > 1 << 16)
        return 0;
    text = (const char *)data + 4;
    size -= 4;
    o.n_vocab = 256 + data[0];
    o.pre = pretok_at(data[1] % pretok_count())->name;
    o.min_count = data[2] % 4;
    o.max_words = data[2] / 4;
    added.text = (struct sv){ text, data[3] % 8 < size ? data[3] % 8 : size };
    o.n_added = added.text.len > 0;
    if (bpe_train_open(&b, &o, &e) < 0)
        return 0;
    if (bpe_train_add(b, text, size, &e) == 0 && bpe_train_run(b, &e) == 0)
        check(b, text, size);
    bpe_train_close(b);
    return 0;
}
