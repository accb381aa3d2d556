/* fuzz_grammar.c: the first byte says what follows: GBNF, a regular expression, a schema, or a structural tag,
 * up to a NUL; the rest is a text that is walked under it. The mask must say what the matcher says, and
 * no step may lead to a dead end. */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "models/grammar/grammar.h"
#include "models/grammar/matcher.h"
#include "models/grammar/structural.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every byte, and pieces of several: words, characters and parts of them, ends of strings. */
static const char *const pieces[] = { "ab", "aab", "abcabc", "a-", "--", "0123", "12", "\",", "\"}", "\": \"",
    "{\"", "a\"", "abab\"", "\\n", "\\u00", "\\\"", "\xC3\xA9", "\xC3\xA9\xC3\xA9\xC3", "\xA9x",
    "\xF0\x9F\x98", "\x80\x80", "  ", "xyz\xE6", "[[", "]}" };
#define N_PIECES (sizeof pieces / sizeof *pieces)
#define END      (256 + N_PIECES)

static struct token_trie *vocabulary(void)
{
    static struct token_trie *t;
    static char bytes[256];
    struct sv texts[END + 1];

    for (unsigned i = 0; i < 256; i++) {
        bytes[i] = (char)i;
        texts[i] = (struct sv){ &bytes[i], 1 };
    }
    for (size_t i = 0; i < N_PIECES; i++)
        texts[256 + i] = sv_cstr(pieces[i]);
    texts[END] = (struct sv){ "", 0 };
    if (!t && token_trie_from(&t, texts, END + 1, END, NULL) < 0)
        abort();
    return t;
}

static struct grammar *compile(uint8_t kind, struct sv text)
{
    struct grammar *g = NULL;
    struct err e;
    json_t *schema;

    switch (kind % 4) {
    case 0:
        return grammar_from_gbnf(&g, text, &e) < 0 ? NULL : g;
    case 1:
        return grammar_from_regex(&g, text, &e) < 0 ? NULL : g;
    default:
        schema = json_loadb(text.data, text.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        if (schema && (kind % 4 == 2 ? grammar_from_schema(&g, schema, NULL, &e)
                                     : grammar_from_structure(&g, schema, &e)) < 0)
            g = NULL;
        json_decref(schema);
        return g;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size > 1 ? memchr(data + 1, 0, size - 1) : NULL;
    const size_t n = nul ? (size_t)(nul - data) - 1 : size ? size - 1 : 0;
    struct grammar *g;
    struct grammar_masks *masks;
    struct matcher *m;
    uint64_t bits[5];
    struct err e;

    if (size < 2 || n > 4096)
        return 0;
    g = compile(data[0], (struct sv){ (const char *)data + 1, n });
    if (!g)
        return 0;
    if (grammar_masks_open(&masks, g, vocabulary(), &e) < 0)
        abort();
    if (matcher_open(&m, masks, &e) == 0) {
        for (size_t i = n + 2; i <= size && i < n + 256; i++) {
            const int32_t token = i < size ? data[i] : (int32_t)END;
            bool any = false;

            if (matcher_mask(m, bits, &e) < 0)
                break;
            for (int k = 0; k < 5; k++)
                any |= bits[k] != 0;
            for (int32_t k = 256; k < (int32_t)END; k++)
                if ((bits[k / 64] >> k % 64 & 1) != matcher_allows(m, k))
                    abort();
            if (!any || (bits[token / 64] >> token % 64 & 1) != matcher_allows(m, token))
                abort();
            if (matcher_accept(m, token, &e) < 0)
                break;
        }
        matcher_close(m);
    }
    grammar_masks_close(masks);
    grammar_close(g);
    return 0;
}
