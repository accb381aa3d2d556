/* fuzz_tokenizer.c: hostile vocabularies and hostile texts. The first byte chooses:
 * a GGUF file as it is; or a vocabulary assembled from the bytes (so that most get
 * past the file format), whose rest is encoded and decoded. What comes back must
 * be the text where the vocabulary promises it, and streams must be UTF-8. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "models/gguf.h"
#include "models/tok_impl.h"
#include "models/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_TOKENS 700
#define MAX_MERGES 64

struct input { const uint8_t *p; size_t n; };

static uint8_t take(struct input *in)
{
    if (in->n == 0)
        return 0;
    in->n--;
    return *in->p++;
}

static struct sv take_text(struct input *in)
{
    const size_t want = take(in) % 24;
    const size_t n = want < in->n ? want : in->n;
    const struct sv s = { (const char *)in->p, n };

    in->p += n;
    in->n -= n;
    return s;
}

static void stream(const struct tokenizer *t, const struct tokens *v)
{
    struct detok d;
    struct str s;

    str_init(&s, 0);
    detok_init(&d, t, DETOKENIZE_SPECIAL);
    for (size_t i = 0; i < v->n; i++)
        detok_push(&d, v->ids[i], &s);
    detok_finish(&d, &s);
    CHECK(utf8_valid(str_cstr(&s), s.len));
    str_deinit(&s);
}

static void round_trip(const struct tokenizer *t, const char *text, size_t len, unsigned flags,
                       bool exact)
{
    struct tokens v = { 0 };
    struct str s;
    struct err e = { 0 };

    str_init(&s, 0);
    if (tokenizer_encode(t, NULL, text, len, flags, &v, &e) == 0) {
        for (size_t i = 0; i < v.n; i++)
            CHECK(v.ids[i] >= 0 && (uint32_t)v.ids[i] < tokenizer_n_vocab(t));
        CHECK(tokenizer_decode(t, v.ids, v.n, DETOKENIZE_SPECIAL, &s, &e) == 0);
        if (exact)
            CHECK(s.len == len && (len == 0 || memcmp(s.data, text, len) == 0));
        stream(t, &v);
    }
    str_deinit(&s);
    tokens_deinit(&v);
}

static void from_file(struct input in)
{
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;
    struct err e = { 0 };

    if (gguf_open_memory(&g, in.p, in.n, "fuzz", &e) < 0)
        return;
    if (tokenizer_open(&t, g, &e) == 0)
        round_trip(t, (const char *)in.p, in.n < 300 ? in.n : 300,
                   TOKENIZE_ADD_SPECIAL | TOKENIZE_PARSE_SPECIAL, false);
    tokenizer_close(t);
    gguf_close(g);
}

/* Arrays of one assembled vocabulary; made anew for each input. */
struct assembled {
    struct vocab_spec spec;
    struct sv         tokens[MAX_TOKENS], merges[MAX_MERGES];
    int32_t           kinds[MAX_TOKENS];
    float             scores[MAX_TOKENS];
    uint8_t           attrs[MAX_TOKENS];
    char              names[256][8];
};

/* The byte alphabet first, unless the input says otherwise. */
static void add_bytes(struct assembled *a, bool letters)
{
    for (unsigned b = 0; b < 256; b++) {
        char *z = a->names[b];
        size_t n = 6;

        if (letters) {
            n = utf8_encode(gpt2_letter((uint8_t)b), z);
        } else {
            memcpy(z, "<0x00>", 6);
            z[3] = "0123456789ABCDEF"[b >> 4];
            z[4] = "0123456789ABCDEF"[b & 15];
        }
        a->kinds[a->spec.n_tokens] = letters ? TOKEN_NORMAL : TOKEN_BYTE;
        a->tokens[a->spec.n_tokens++] = (struct sv){ z, n };
    }
}

static void assemble(struct assembled *a, struct input *in)
{
    static const char *const models[] = { "gpt2", "llama", "t5", "bert", "rwkv", "plamo2",
                                          "gemma4", "hybriddna", "whitespace" };
    struct vocab_spec *s = &a->spec;
    const uint8_t flags = take(in);
    const unsigned n_tokens = take(in) % 64, n_merges = take(in) % MAX_MERGES;

    vocab_spec_init(s);
    s->model = models[take(in) % (sizeof models / sizeof *models)];
    s->pre = pretok_at(take(in) % pretok_count())->name;
    s->tokens = a->tokens;
    s->merges = a->merges;
    s->kinds = flags & 1 ? NULL : a->kinds;
    s->scores = flags & 2 ? NULL : a->scores;
    s->attrs = flags & 4 ? NULL : a->attrs;
    s->nfc = 0;
    if (!(flags & 8))
        add_bytes(a, strcmp(s->model, "gpt2") == 0 || strcmp(s->model, "hybriddna") == 0);
    for (unsigned i = 0; i < n_tokens && in->n > 0; i++) {
        const uint8_t k = take(in);

        a->kinds[s->n_tokens] = k % 8;
        a->attrs[s->n_tokens] = k >> 5;
        a->scores[s->n_tokens] = (float)(int8_t)take(in) * (k & 16 ? 1e30f : 0.5f);
        a->tokens[s->n_tokens++] = take_text(in);
    }
    for (unsigned i = 0; i < n_merges && in->n > 0; i++)
        a->merges[s->n_merges++] = take_text(in);
    if (flags & 16)
        s->charsmap = take_text(in);
    if (flags & 32)
        s->roles[take(in) % TOKEN_ROLES] = take(in);
    s->remove_extra_whitespaces = flags & 64 ? 1 : -1;
    s->add_space_prefix = flags & 128 ? 0 : -1;
}

/* Vocabularies with all bytes and nothing that eats space promise every byte. */
static bool promises(const struct assembled *a)
{
    if (strcmp(a->spec.model, "gpt2") != 0 || a->spec.n_tokens < 256 ||
        a->tokens[0].data != a->names[0])
        return false;
    for (uint32_t i = 0; a->spec.attrs && i < a->spec.n_tokens; i++)
        if (a->attrs[i] & (TOKEN_LSTRIP | TOKEN_RSTRIP))
            return false;
    return strcmp(a->spec.pre, "whitespace") != 0;
}

static void from_parts(struct input in)
{
    struct assembled *a = calloc(1, sizeof *a);
    struct tokenizer *t = NULL;
    struct err e = { 0 };

    if (!a)
        return;
    assemble(a, &in);
    if (tokenizer_open_spec(&t, &a->spec, &e) == 0) {
        const bool exact = promises(a) && t->type == TOKENIZER_BPE && !t->raw;

        round_trip(t, (const char *)in.p, in.n, 0, exact);
        round_trip(t, (const char *)in.p, in.n, TOKENIZE_PARSE_SPECIAL, exact);
        round_trip(t, (const char *)in.p, in.n, TOKENIZE_ADD_SPECIAL, false);
    }
    tokenizer_close(t);
    free(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, size };

    if (size < 1 || size > 1 << 16)
        return 0;
    if (take(&in) == 'G')
        from_file(in);
    else
        from_parts(in);
    return 0;
}
