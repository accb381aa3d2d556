/* vocab.c: vocabularies of bytes and characters; see vocab.h. */
#include "models/train/vocab.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/utf8.h"

#define N_CODES 0x110000u
#define END_TEXT "<|endoftext|>"

struct char_vocab {
    uint8_t   *seen;            /* [N_CODES] */
    bool       bytes[256];      /* taken by themselves, or part of a character */
    bool       end;
    uint32_t   n_chars;
    struct map tokens;          /* raw bytes of a token -> its number */
    struct map merges;          /* "left right" in raw bytes, the length of left as value */
};

int char_vocab_open(struct char_vocab **out, bool end, struct err *e)
{
    struct char_vocab *v = mem_calloc(1, sizeof *v);
    int rc;

    if (!v)
        return err_set(e, WATT_ENOMEM, "out of memory for a vocabulary");
    v->end = end;
    v->seen = mem_calloc(N_CODES, 1);
    rc = v->seen ? map_init(&v->tokens, 4 * VOCAB_MAX_CHARS, e)
                 : err_set(e, WATT_ENOMEM, "out of memory for a vocabulary");
    if (rc == 0)
        rc = map_init(&v->merges, 4 * VOCAB_MAX_CHARS, e);
    if (rc < 0) {
        char_vocab_close(v);
        return rc;
    }
    *out = v;
    return 0;
}

void char_vocab_close(struct char_vocab *v)
{
    if (!v)
        return;
    map_deinit(&v->tokens);
    map_deinit(&v->merges);
    mem_free(v->seen);
    mem_free(v);
}

void char_vocab_add_bytes(struct char_vocab *v)
{
    memset(v->bytes, true, sizeof v->bytes);
}

/* One character or stray byte; returns the bytes it takes. */
static size_t take(struct char_vocab *v, const char *s, size_t n)
{
    bool valid = true;
    uint32_t cp;
    const size_t len = utf8_decode(s, n, &cp, &valid);

    if (!valid) {
        v->bytes[(uint8_t)*s] = true;
        return 1;
    }
    if (!v->seen[cp]) {
        v->seen[cp] = 1;
        v->n_chars++;
    }
    return len;
}

int char_vocab_add_file(struct char_vocab *v, const char *path, struct err *e)
{
    enum { BLOCK = 1 << 16, LONGEST = 4 };
    FILE *f = fopen(path, "rbe");
    size_t have = 0, got, used;
    char *buf;
    int rc = 0;

    if (!f)
        return err_errno(e, errno == ENOENT ? WATT_ENOENT : WATT_EIO, errno, "%s", path);
    buf = mem_alloc(BLOCK);
    if (!buf)
        rc = err_set(e, WATT_ENOMEM, "%s: out of memory", path);
    while (rc == 0) {
        got = fault_hit(FAULT_READ) ? 0 : fread(buf + have, 1, BLOCK - have, f);
        have += got;
        /* a character that the block cuts waits for the rest of it */
        for (used = 0; used < have && (got == 0 || have - used >= LONGEST);)
            used += take(v, buf + used, have - used);
        memmove(buf, buf + used, have - used);
        have -= used;
        if (v->n_chars > VOCAB_MAX_CHARS)
            rc = err_set(e, WATT_ELIMIT, "%s: more than %u characters for a vocabulary", path,
                         VOCAB_MAX_CHARS);
        else if (ferror(f))
            rc = err_set(e, WATT_EIO, "%s: can't be read", path);
        if (got == 0)
            break;
    }
    mem_free(buf);
    (void)fclose(f);
    return rc;
}

/* ---- tokens ---- */

static int add_token(struct char_vocab *v, const char *bytes, size_t n, struct err *e)
{
    const struct sv key = { bytes, n };

    return map_get(&v->tokens, key, NULL) ? 0 : map_put(&v->tokens, key, map_count(&v->tokens), e);
}

/* The bytes of a character from left to right: each beginning is a token and a merge. */
static int add_char(struct char_vocab *v, uint32_t cp, struct err *e)
{
    char s[4];
    const size_t n = utf8_encode(cp, s);
    int rc = 0;

    for (size_t i = 2; rc == 0 && i <= n; i++) {
        const struct sv key = { s, i };

        rc = add_token(v, s, i, e);
        if (rc == 0 && !map_get(&v->merges, key, NULL))
            rc = map_put(&v->merges, key, i - 1, e);
    }
    return rc;
}

int char_vocab_finish(struct char_vocab *v, uint32_t *n_vocab, struct err *e)
{
    int rc = 0;

    for (uint32_t cp = 0; cp < N_CODES; cp++) {
        char s[4];

        if (!v->seen[cp])
            continue;
        for (size_t i = 0, n = utf8_encode(cp, s); i < n; i++)
            v->bytes[(uint8_t)s[i]] = true;
    }
    for (unsigned b = 0; rc == 0 && b < 256; b++) {
        const char byte = (char)b;

        if (v->bytes[b])
            rc = add_token(v, &byte, 1, e);
    }
    for (uint32_t cp = 0x80; rc == 0 && cp < N_CODES; cp++)
        if (v->seen[cp])
            rc = add_char(v, cp, e);
    if (rc == 0 && map_count(&v->tokens) == 0)
        rc = err_set(e, WATT_EINVAL, "a vocabulary of no characters");
    if (rc == 0)
        *n_vocab = (uint32_t)map_count(&v->tokens) + (v->end ? 1 : 0);
    return rc;
}

/* ---- writing ---- */

/* GPT-2's alphabet: a byte that is no printable character is a letter from U+0100 on. */
static void spell(struct str *out, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned b = (uint8_t)bytes[i];
        uint32_t cp = b, next = 0x100;
        char utf8[4];

        for (unsigned x = 0; x <= b; x++) {
            const bool plain = (x >= 0x21 && x <= 0x7e) || (x >= 0xa1 && x <= 0xac) || x >= 0xae;

            if (x == b && !plain)
                cp = next;
            next += !plain;
        }
        str_append(out, utf8, utf8_encode(cp, utf8));
    }
}

/* Spelled tokens or merges as views into text, which must not move any more. */
static int spell_all(const struct map *m, bool merges, struct str *text, struct sv *v)
{
    size_t cursor = 0, i = 0, start;
    uint64_t value;
    struct sv key;

    for (unsigned pass = 0; pass < 2; pass++, cursor = 0, i = 0) {
        start = 0;
        if (pass == 0) {
            while (map_next(m, &cursor, &key, &value)) {
                spell(text, key.data, merges ? (size_t)value : key.len);
                if (merges) {
                    str_putc(text, ' ');
                    spell(text, key.data + value, key.len - (size_t)value);
                }
                str_putc(text, '\0');
            }
            if (!str_ok(text))
                return WATT_ENOMEM;
        } else {
            while (map_next(m, &cursor, &key, &value)) {
                v[i] = sv_cstr(text->data + start);
                start += v[i++].len + 1;
            }
        }
    }
    return 0;
}

/* Everything that a vocabulary is written as. */
struct lists {
    struct sv *tokens, *merges;
    int32_t   *kinds;
    size_t     n, n_merges;
    struct str token_text, merge_text;
};

static void lists_deinit(struct lists *l)
{
    str_deinit(&l->token_text);
    str_deinit(&l->merge_text);
    mem_free(l->tokens);
    mem_free(l->merges);
    mem_free(l->kinds);
}

static int lists_make(struct lists *l, const struct char_vocab *v, struct err *e)
{
    const size_t n = map_count(&v->tokens);

    *l = (struct lists){ .n = n + (v->end ? 1 : 0), .n_merges = map_count(&v->merges) };
    str_init(&l->token_text, 0);
    str_init(&l->merge_text, 0);
    l->tokens = mem_array(n + 1, sizeof *l->tokens);
    l->merges = mem_array(l->n_merges + 1, sizeof *l->merges);
    l->kinds = mem_array(n + 1, sizeof *l->kinds);
    if (!l->tokens || !l->merges || !l->kinds ||
        spell_all(&v->tokens, false, &l->token_text, l->tokens) < 0 ||
        spell_all(&v->merges, true, &l->merge_text, l->merges) < 0) {
        lists_deinit(l);
        return err_set(e, WATT_ENOMEM, "out of memory for a vocabulary");
    }
    for (size_t i = 0; i <= n; i++)
        l->kinds[i] = i < n ? 1 : 3;        /* normal, control */
    l->tokens[n] = SV(END_TEXT);
    return 0;
}

int char_vocab_write(const struct char_vocab *v, struct gguf_writer *w, struct err *e)
{
    struct lists l;
    int rc = lists_make(&l, v, e);

    if (rc < 0)
        return rc;
    rc = gguf_writer_str(w, "tokenizer.ggml.model", SV("gpt2"), e);
    if (rc == 0)
        rc = gguf_writer_str(w, "tokenizer.ggml.pre", SV("gpt-2"), e);
    if (rc == 0)
        rc = gguf_writer_strs(w, "tokenizer.ggml.tokens", l.tokens, l.n, e);
    if (rc == 0)
        rc = gguf_writer_array(w, "tokenizer.ggml.token_type", GGUF_I32, l.kinds, l.n, e);
    if (rc == 0)
        rc = gguf_writer_strs(w, "tokenizer.ggml.merges", l.merges, l.n_merges, e);
    if (rc == 0)
        rc = gguf_writer_bool(w, "tokenizer.ggml.add_bos_token", false, e);
    if (rc == 0 && v->end)
        rc = gguf_writer_u32(w, "tokenizer.ggml.eos_token_id", (uint32_t)l.n - 1, e);
    lists_deinit(&l);
    return rc;
}

int char_vocab_tokenizer(const struct char_vocab *v, struct tokenizer **out, struct err *e)
{
    struct vocab_spec s;
    struct lists l;
    int rc = lists_make(&l, v, e);

    if (rc < 0)
        return rc;
    vocab_spec_init(&s);
    s.model = "gpt2";
    s.pre = "gpt-2";
    s.n_tokens = (uint32_t)l.n;
    s.tokens = l.tokens;
    s.kinds = l.kinds;
    s.n_merges = (uint32_t)l.n_merges;
    s.merges = l.merges;
    s.add_bos = 0;
    if (v->end)
        s.roles[TOKEN_EOS] = (int32_t)l.n - 1;
    rc = tokenizer_open_spec(out, &s, e);
    lists_deinit(&l);
    return rc;
}
