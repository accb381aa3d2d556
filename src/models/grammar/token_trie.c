/* token_trie.c: sorting a vocabulary into a tree. */
#include "models/grammar/token_trie.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"

struct entry {
    struct sv text;
    int32_t   id;
};

static int by_text(const void *x, const void *y)
{
    const struct entry *a = x, *b = y;
    const size_t n = a->text.len < b->text.len ? a->text.len : b->text.len;
    const int c = memcmp(a->text.data, b->text.data, n);

    if (c)
        return c;
    if (a->text.len != b->text.len)
        return a->text.len < b->text.len ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

static void close_open(struct token_trie *t, uint32_t *path, size_t *depth, size_t keep)
{
    while (*depth > keep)
        t->nodes[path[--*depth]].skip = t->n_nodes;
}

/* Appends the tree of a sorted list; there is room. */
static void build(struct token_trie *t, const struct entry *list, uint32_t n)
{
    uint32_t path[TRIE_MAX_DEPTH];
    size_t depth = 0;
    const struct entry *last = NULL;

    for (uint32_t i = 0; i < n; i++) {
        const struct sv s = list[i].text;
        size_t common = 0;

        if (last) {
            while (common < s.len && common < last->text.len &&
                   s.data[common] == last->text.data[common])
                common++;
        }
        if (last && common == s.len && common == last->text.len) {  /* the same bytes again */
            t->same[last->id] = list[i].id;
            last = &list[i];
            continue;
        }
        close_open(t, path, &depth, common);
        for (size_t k = common; k < s.len; k++) {
            t->nodes[t->n_nodes] = (struct trie_node){ 0, -1, (uint16_t)(k + 1), (uint8_t)s.data[k] };
            path[depth++] = t->n_nodes++;
        }
        t->nodes[path[depth - 1]].token = list[i].id;
        if (depth > t->max_depth)
            t->max_depth = (uint32_t)depth;
        last = &list[i];
    }
    close_open(t, path, &depth, 0);
}

/* The characters of a plain text, 0 where it is none. */
static uint32_t plain_chars(struct sv s)
{
    uint32_t n = 0, cp;
    bool valid = true;

    for (size_t i = 0; i < s.len; n++) {
        if ((unsigned char)s.data[i] < 0x80 && !trie_plain_byte((unsigned char)s.data[i]))
            return 0;
        i += utf8_decode(s.data + i, s.len - i, &cp, &valid);
        if (!valid || n == TRIE_MAX_PLAIN)
            return 0;
    }
    return n;
}

/* The tree of all, and behind it that of the tokens that aren't plain; the others as sets. The list
 * is spoilt. */
static bool build_all(struct token_trie *t, struct entry *list, uint32_t n)
{
    const size_t n_words = t->n_words ? t->n_words : 1;
    size_t total = 1;
    uint32_t n_rest = 0;

    for (uint32_t i = 0; i < n; i++)
        total += list[i].text.len * (plain_chars(list[i].text) ? 1 : 2);
    t->nodes = mem_array(total, sizeof *t->nodes);
    t->plain = mem_calloc(TRIE_MAX_PLAIN * n_words, sizeof *t->plain);
    if (!t->nodes || !t->plain)
        return false;
    build(t, list, n);
    t->end_rest = t->n_nodes;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t id = (uint32_t)list[i].id, n_chars = plain_chars(list[i].text);

        if (n_chars == 0)
            list[n_rest++] = list[i];
        else
            t->plain[(n_chars - 1) * t->n_words + id / 64] |= (uint64_t)1 << id % 64;
    }
    for (size_t i = t->n_words; i < TRIE_MAX_PLAIN * t->n_words; i++)
        t->plain[i] |= t->plain[i - t->n_words];
    build(t, list, n_rest);
    n = t->end_rest;
    t->end_rest = t->n_nodes;
    t->n_nodes = n;
    return true;
}

/* pieces are filled with views of texts that the caller keeps until this returns. */
static int finish(struct token_trie *t, struct err *e)
{
    struct entry *list = mem_array(t->n_vocab ? t->n_vocab : 1, sizeof *list);
    size_t total = 0, at = 0;
    uint32_t n = 0;
    bool ok;

    for (uint32_t i = 0; i < t->n_vocab; i++)
        total += t->pieces[i].len;
    t->bytes = mem_alloc(total + 1);
    if (!list || !t->bytes) {
        mem_free(list);
        return err_set(e, WATT_ENOMEM, "grammar: vocabulary");
    }
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        if (t->pieces[i].len == 0 || t->pieces[i].len > TRIE_MAX_DEPTH) {
            t->pieces[i] = (struct sv){ NULL, 0 };
            continue;
        }
        memcpy(t->bytes + at, t->pieces[i].data, t->pieces[i].len);
        t->pieces[i].data = t->bytes + at;
        at += t->pieces[i].len;
        list[n++] = (struct entry){ t->pieces[i], (int32_t)i };
    }
    qsort(list, n, sizeof *list, by_text);
    ok = build_all(t, list, n);
    mem_free(list);
    return ok ? 0 : err_set(e, WATT_ENOMEM, "grammar: vocabulary");
}

static struct token_trie *empty_trie(uint32_t n)
{
    struct token_trie *t = mem_calloc(1, sizeof *t);

    if (!t)
        return NULL;
    t->n_vocab = n;
    t->n_words = ((size_t)n + 63) / 64;
    t->same = mem_array(n ? n : 1, sizeof *t->same);
    t->eog = mem_calloc(t->n_words ? t->n_words : 1, sizeof *t->eog);
    t->pieces = mem_calloc(n ? n : 1, sizeof *t->pieces);
    if (!t->same || !t->eog || !t->pieces) {
        token_trie_close(t);
        return NULL;
    }
    memset(t->same, 0xFF, n * sizeof *t->same);
    return t;
}

int token_trie_open(struct token_trie **out, const struct tokenizer *tk, const int32_t *also,
                    size_t n_also, struct err *e)
{
    struct token_trie *t;
    int rc;

    if (tokenizer_type(tk) == TOKENIZER_NONE)
        return err_set(e, WATT_ENOTSUP, "grammar: the model has no text vocabulary");
    t = empty_trie(tokenizer_n_vocab(tk));
    if (!t)
        return err_set(e, WATT_ENOMEM, "grammar: vocabulary");
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        const enum token_kind kind = tokenizer_kind(tk, (int32_t)i);
        bool in = kind == TOKEN_NORMAL || kind == TOKEN_USER_DEFINED || kind == TOKEN_BYTE;

        if (tokenizer_is_eog(tk, (int32_t)i)) {
            t->eog[i / 64] |= (uint64_t)1 << i % 64;
            in = false;
        }
        for (size_t k = 0; k < n_also; k++)
            in |= also[k] == (int32_t)i;
        if (in)
            t->pieces[i] = tokenizer_piece(tk, (int32_t)i);
    }
    rc = finish(t, e);
    if (rc < 0) {
        token_trie_close(t);
        return rc;
    }
    *out = t;
    return 0;
}

int token_trie_from(struct token_trie **out, const struct sv *texts, uint32_t n, int32_t eog,
                    struct err *e)
{
    struct token_trie *t = empty_trie(n);
    int rc;

    if (!t)
        return err_set(e, WATT_ENOMEM, "grammar: vocabulary");
    for (uint32_t i = 0; i < n; i++)
        if ((int32_t)i != eog)
            t->pieces[i] = texts[i];
    if (eog >= 0)
        t->eog[eog / 64] |= (uint64_t)1 << eog % 64;
    rc = finish(t, e);
    if (rc < 0) {
        token_trie_close(t);
        return rc;
    }
    *out = t;
    return 0;
}

void token_trie_close(struct token_trie *t)
{
    if (!t)
        return;
    mem_free(t->nodes);
    mem_free(t->same);
    mem_free(t->eog);
    mem_free(t->plain);
    mem_free(t->pieces);
    mem_free(t->bytes);
    mem_free(t);
}
