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

static uint16_t count_chars(struct sv s)
{
    uint16_t n = 0;

    for (size_t i = 0; i < s.len; i++)
        n = (uint16_t)(n + !trie_goes_on((uint8_t)s.data[i]));
    return n;
}

/* Appends the tree of a sorted list; there is room. */
static void build(struct token_trie *t, const struct entry *list, uint32_t n, uint32_t *n_order)
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
        close_open(t, path, &depth, common);    /* nothing where the same bytes come again */
        for (size_t k = common; k < s.len; k++) {
            t->nodes[t->n_nodes] = (struct trie_node){ 0, *n_order, (uint16_t)(k + 1),
                                                       (uint8_t)s.data[k], 0 };
            path[depth++] = t->n_nodes++;
        }
        t->chars[*n_order] = count_chars(s);
        t->order[(*n_order)++] = list[i].id;
        if (depth > t->max_depth)
            t->max_depth = (uint32_t)depth;
        last = &list[i];
    }
    close_open(t, path, &depth, 0);
    t->nodes[t->n_nodes] = (struct trie_node){ t->n_nodes + 1, *n_order, 0, 0, 0 };
}

/* ---- kinds of characters ---- */

/* White space of ECMA-262: what . and \S do not take. */
const uint16_t trie_blanks[TRIE_N_BLANKS] = { 0x85, 0xA0, 0x1680, 0x2000, 0x2001, 0x2002, 0x2003, 0x2004, 0x2005,
    0x2006, 0x2007, 0x2008, 0x2009, 0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000, 0xFEFF };

static bool is_blank(uint32_t c)
{
    for (size_t i = 0; i < TRIE_N_BLANKS; i++)
        if (trie_blanks[i] == c)
            return true;
    return false;
}

uint64_t trie_kinds_of(unsigned char c)
{
    static const char small[] = "abcdefghijklmnoprstuvwy";     /* q, x and z have one together */
    static const char others[] = "\t\n !\"#$%&'()*+,-./:;<=>?@[\\]_{}";
    const char *at = strchr(small, c ? c : ' ');
    unsigned bit = 59;          /* other controls */

    if (c >= 0x80)
        return TRIE_BEYOND;
    if (c >= '0' && c <= '9')
        bit = 0;
    else if (c >= 'A' && c <= 'Z')
        bit = c <= 'F' ? 1 : 2;
    else if (at)
        bit = 3 + (unsigned)(at - small);
    else if (c == 'q' || c == 'x' || c == 'z')
        bit = 26;
    else if (c == '^' || c == '`' || c == '~' || c == '|')
        bit = 58;
    else if (c && (at = strchr(others, c)))
        bit = 27 + (unsigned)(at - others);
    return (uint64_t)1 << bit;
}

/* What is missing of a character: so many bytes, the next one of lo..hi. */
struct missing {
    uint8_t  n, lo, hi;
    uint32_t so_far;
};

static struct missing after_lead(uint8_t c)
{
    if (c < 0xC2 || c > 0xF4)
        return (struct missing){ 0, 0, 0, 0 };
    if (c < 0xE0)
        return (struct missing){ 1, 0x80, 0xBF, c & 0x1Fu };
    if (c < 0xF0)
        return (struct missing){ 2, c == 0xE0 ? 0xA0 : 0x80, c == 0xED ? 0x9F : 0xBF, c & 0xFu };
    return (struct missing){ 3, c == 0xF0 ? 0x90 : 0x80, c == 0xF4 ? 0x8F : 0xBF, c & 7u };
}

/* The kinds of a byte after what was missing, which becomes what is missing after it. *wrong: it goes on with
 * no character. */
static uint64_t kinds_after(struct missing *r, uint8_t c, bool ends, bool *wrong)
{
    uint64_t kinds = 0;

    *wrong = trie_goes_on(c) && !(r->n > 0 && c >= r->lo && c <= r->hi);
    if (r->n > 0 && c >= r->lo && c <= r->hi) {
        *r = (struct missing){ (uint8_t)(r->n - 1), 0x80, 0xBF, r->so_far << 6 | (c & 0x3Fu) };
        if (r->n == 0 && is_blank(r->so_far))
            kinds |= TRIE_BLANK;
    } else {
        if (r->n > 0)
            kinds |= TRIE_BROKEN;
        *r = after_lead(c);
        kinds |= c < 0x80 ? trie_kinds_of(c) : r->n > 0 ? TRIE_MULTI : TRIE_BROKEN;
    }
    return ends && r->n > 0 ? kinds | TRIE_BROKEN : kinds;
}

static bool find_kinds(struct token_trie *t)
{
    uint32_t above[TRIE_MAX_DEPTH + 1], *parent = mem_array((size_t)t->end_rest + 1, sizeof *parent);
    uint64_t *wrong = mem_calloc((size_t)t->end_rest / 64 + 1, sizeof *wrong);
    struct missing missing[TRIE_MAX_DEPTH + 1] = { 0 };

    t->kinds = mem_calloc((size_t)t->end_rest + 1, sizeof *t->kinds);
    if (!parent || !wrong || !t->kinds) {
        mem_free(parent);
        mem_free(wrong);
        return false;
    }
    above[0] = t->end_rest;     /* of nobody */
    for (uint32_t i = 0; i < t->end_rest; i++) {
        struct trie_node *node = &t->nodes[i];
        bool bad;

        if (node->depth == 0) {         /* where the first tree ends */
            parent[i] = t->end_rest;
            continue;
        }
        missing[node->depth] = missing[node->depth - 1];
        t->kinds[i] = kinds_after(&missing[node->depth], node->byte, node[1].first != node->first, &bad);
        wrong[i / 64] |= (uint64_t)bad << i % 64;
        parent[i] = above[node->depth - 1];
        above[node->depth] = i;
        if (node->depth > 1)
            node->above = (uint8_t)(t->nodes[parent[i]].above + !trie_goes_on(t->nodes[parent[i]].byte));
    }
    for (uint32_t i = t->end_rest; i-- > 0;) {
        t->kinds[parent[i]] |= t->kinds[i] & ~TRIE_INSIDE;
        if (wrong[i / 64] >> i % 64 & 1)
            t->kinds[i] = UINT64_MAX;
        else if (trie_goes_on(t->nodes[i].byte))
            t->kinds[i] |= TRIE_INSIDE;
    }
    mem_free(parent);
    mem_free(wrong);
    return true;
}

/* ---- building ---- */

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
    size_t total = 2;
    uint32_t n_rest = 0, n_order = 0;

    for (uint32_t i = 0; i < n; i++)
        total += list[i].text.len * (plain_chars(list[i].text) ? 1 : 2);
    t->nodes = total < UINT32_MAX / 2 ? mem_array(total, sizeof *t->nodes) : NULL;
    t->order = mem_array((size_t)n * 2 + 1, sizeof *t->order);
    t->chars = mem_array((size_t)n * 2 + 1, sizeof *t->chars);
    t->plain = mem_calloc(TRIE_MAX_PLAIN * n_words, sizeof *t->plain);
    if (!t->nodes || !t->order || !t->chars || !t->plain)
        return false;
    build(t, list, n, &n_order);
    t->end_rest = t->n_nodes++;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t id = (uint32_t)list[i].id, n_chars = plain_chars(list[i].text);

        if (n_chars == 0)
            list[n_rest++] = list[i];
        else
            t->plain[(n_chars - 1) * t->n_words + id / 64] |= (uint64_t)1 << id % 64;
    }
    for (size_t i = t->n_words; i < TRIE_MAX_PLAIN * t->n_words; i++)
        t->plain[i] |= t->plain[i - t->n_words];
    t->rest = t->n_nodes;
    build(t, list, n_rest, &n_order);
    n = t->end_rest;
    t->end_rest = t->n_nodes;
    t->n_nodes = n;
    return find_kinds(t);
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
    t->eog = mem_calloc(t->n_words ? t->n_words : 1, sizeof *t->eog);
    t->pieces = mem_calloc(n ? n : 1, sizeof *t->pieces);
    if (!t->eog || !t->pieces) {
        token_trie_close(t);
        return NULL;
    }
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
    mem_free(t->kinds);
    mem_free(t->order);
    mem_free(t->chars);
    mem_free(t->eog);
    mem_free(t->plain);
    mem_free(t->pieces);
    mem_free(t->bytes);
    mem_free(t);
}
