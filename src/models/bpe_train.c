/* bpe_train.c: the merging half of bpe_train.h; bpe_words.c counts.
 *
 * Words are runs of token ids in one array. Every pair of neighbours has an entry
 * with its count (weighted by the words') and a list of the words it was seen in; a
 * heap holds the pairs, best on top. An entry's count is right at all times, a
 * heap item's only when it was put there: an item that has aged goes back with its
 * true count when it comes up. Merging a pair walks its list, rewrites those words
 * in place and corrects the counts of the neighbours. */
#include "models/bpe_train.h"

#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "models/bpe_words.h"
#include "models/gguf.h"
#include "models/tok_impl.h"

#define N_BYTES 256u
#define NONE    UINT32_MAX

struct word {
    uint64_t count;
    uint32_t at, n;         /* its ids */
};

struct pair {
    uint32_t left, right;
    uint64_t count;
    uint32_t list;          /* first node, NONE */
    bool     touched;       /* grew in this merge */
};

struct node {               /* a word that a pair was seen in */
    uint32_t word, next;
};

struct candidate {
    uint64_t count;
    uint32_t left, right, pair;
};

struct rule { uint32_t left, right; };

struct bpe_train {
    uint32_t             n_vocab, n_added, max_words;
    uint64_t             min_count, bytes, n_words;
    char                *pre;
    struct bpe_added    *added;     /* their texts in added_texts */
    char                *added_texts;
    int                (*progress)(void *ctx, uint64_t done, uint64_t total);
    void                *ctx;
    struct bpe_words    *counter;
    bool                 done;

    struct word         *words;
    uint32_t            *ids;
    struct pair         *pairs;
    uint32_t            *slots;     /* pair + 1; 0: empty */
    uint32_t             n_slots, n_pairs, free_node;
    size_t               cap_pairs, n_nodes, cap_nodes;
    struct node         *nodes;
    struct candidate    *heap;
    size_t               n_heap, cap_heap;
    uint32_t            *touched;
    size_t               n_touched, cap_touched;

    /* The result. Texts in the alphabet of files, one after another. */
    struct str           texts, rule_texts;
    uint32_t            *ends;      /* [n_tokens] in texts */
    uint32_t            *lengths;   /* [n_tokens] bytes they stand for */
    uint32_t             n_tokens, n_rules;
    struct rule         *rules;
    size_t               cap_rules, cap_tokens, cap_lengths;
    uint32_t            *by_text;   /* open addressing: token + 1 */
    uint32_t             n_by_text;
    struct sv           *tokens, *merges;
    int32_t             *kinds;
};

static int nomem(struct err *e)
{
    return err_set(e, WATT_ENOMEM, "BPE training: out of memory");
}

/* ---- options ---- */

static int check_added(const struct bpe_train_opts *o, struct err *e)
{
    if (o->n_added > BPE_TRAIN_MAX_ADDED)
        return err_set(e, WATT_ELIMIT, "BPE training: %" PRIu32 " added tokens, more than %u", o->n_added,
                       BPE_TRAIN_MAX_ADDED);
    for (uint32_t i = 0; i < o->n_added; i++) {
        const struct sv t = o->added[i].text;
        const int show = t.len > 80 ? 80 : (int)t.len;

        if (t.len < 2 || t.len > BPE_TRAIN_TOKEN_BYTES || !utf8_valid(t.data, t.len) || memchr(t.data, '\0', t.len))
            return err_set(e, WATT_EINVAL, "BPE training: added token %" PRIu32 " \"%.*s\": expected 2 to %u "
                           "bytes of text", i, show, t.data, BPE_TRAIN_TOKEN_BYTES);
        if (o->added[i].kind != TOKEN_CONTROL && o->added[i].kind != TOKEN_USER_DEFINED)
            return err_set(e, WATT_EINVAL, "BPE training: added token \"%.*s\": kind %d, expected control or "
                           "user defined", show, t.data, (int)o->added[i].kind);
        for (uint32_t k = 0; k < i; k++)
            if (sv_eq(o->added[k].text, t))
                return err_set(e, WATT_EINVAL, "BPE training: added token \"%.*s\" is given twice", show, t.data);
    }
    return 0;
}

static int check_options(const struct bpe_train_opts *o, struct err *e)
{
    const char *name = o->pre ? o->pre : "gpt-2";
    const struct pretok *p = pretok_find(sv_cstr(name));

    if (!p)
        return err_set(e, WATT_ENOTSUP, "BPE training: no pre-tokenizer has the name \"%.80s\"", name);
    if (p->raw)
        return err_set(e, WATT_ENOTSUP, "BPE training: pre-tokenizer \"%s\" is not one over bytes", name);
    if (o->n_vocab > TOKENIZER_MAX_VOCAB)
        return err_set(e, WATT_EINVAL, "BPE training: a vocabulary of %" PRIu32 ", more than %u", o->n_vocab,
                       TOKENIZER_MAX_VOCAB);
    if (o->max_words > BPE_TRAIN_MAX_WORDS)
        return err_set(e, WATT_EINVAL, "BPE training: max_words %" PRIu32 ", more than %u", o->max_words,
                       BPE_TRAIN_MAX_WORDS);
    if (o->n_vocab < N_BYTES || o->n_vocab - N_BYTES < o->n_added)
        return err_set(e, WATT_EINVAL, "BPE training: a vocabulary of %" PRIu32 ", but bytes and added tokens are "
                       "%" PRIu32, o->n_vocab, N_BYTES + o->n_added);
    return check_added(o, e);
}

static int copy_added(struct bpe_train *b, const struct bpe_train_opts *o, struct err *e)
{
    size_t all = 0, at = 0;

    for (uint32_t i = 0; i < o->n_added; i++)
        all += o->added[i].text.len;
    b->added = mem_array(o->n_added, sizeof *b->added);
    b->added_texts = mem_alloc(all);
    if (!b->added || !b->added_texts)
        return nomem(e);
    for (uint32_t i = 0; i < o->n_added; i++) {
        const struct sv t = o->added[i].text;

        memcpy(b->added_texts + at, t.data, t.len);
        b->added[i] = (struct bpe_added){ { b->added_texts + at, t.len }, o->added[i].kind };
        at += t.len;
    }
    b->n_added = o->n_added;
    return 0;
}

int bpe_train_open(struct bpe_train **out, const struct bpe_train_opts *o, struct err *e)
{
    struct bpe_train_opts own = *o;
    struct bpe_train *b;
    int rc = check_options(o, e);

    if (rc < 0)
        return rc;
    b = mem_calloc(1, sizeof *b);
    if (!b)
        return nomem(e);
    str_init(&b->texts, 0);
    str_init(&b->rule_texts, 0);
    b->n_vocab = o->n_vocab;
    b->min_count = o->min_count ? o->min_count : 2;
    b->progress = o->progress;
    b->ctx = o->ctx;
    b->free_node = NONE;
    b->pre = mem_strdup(o->pre ? o->pre : "gpt-2");
    rc = b->pre ? copy_added(b, o, e) : nomem(e);
    if (rc == 0) {
        own.pre = b->pre;
        own.added = b->added;
        own.max_words = o->max_words ? o->max_words : BPE_TRAIN_MAX_WORDS;
        rc = bpe_words_open(&b->counter, &own, e);
    }
    if (rc < 0) {
        bpe_train_close(b);
        return rc;
    }
    *out = b;
    return 0;
}

/* What merging needed and the result does not. */
static void drop_work(struct bpe_train *b)
{
    mem_free(b->words);
    mem_free(b->ids);
    mem_free(b->pairs);
    mem_free(b->slots);
    mem_free(b->nodes);
    mem_free(b->heap);
    mem_free(b->touched);
    mem_free(b->by_text);
    b->words = NULL;
    b->ids = NULL;
    b->pairs = NULL;
    b->slots = NULL;
    b->nodes = NULL;
    b->heap = NULL;
    b->touched = NULL;
    b->by_text = NULL;
}

void bpe_train_close(struct bpe_train *b)
{
    if (!b)
        return;
    drop_work(b);
    bpe_words_close(b->counter);
    mem_free(b->pre);
    mem_free(b->added);
    mem_free(b->added_texts);
    str_deinit(&b->texts);
    str_deinit(&b->rule_texts);
    mem_free(b->ends);
    mem_free(b->lengths);
    mem_free(b->rules);
    mem_free(b->tokens);
    mem_free(b->merges);
    mem_free(b->kinds);
    mem_free(b);
}

int bpe_train_add(struct bpe_train *b, const char *text, size_t len, struct err *e)
{
    CHECK(!b->done);
    b->bytes += len;
    return bpe_words_add(b->counter, text, len, e);
}

/* ---- tokens ---- */

static struct sv token_text(const struct bpe_train *b, uint32_t id)
{
    const uint32_t from = id ? b->ends[id - 1] : 0;

    return (struct sv){ b->texts.data + from, b->ends[id] - from };
}

static void index_token(struct bpe_train *b, uint32_t id)
{
    const struct sv t = token_text(b, id);
    uint32_t at = (uint32_t)tok_hash(t.data, t.len) & (b->n_by_text - 1);

    while (b->by_text[at])
        at = (at + 1) & (b->n_by_text - 1);
    b->by_text[at] = id + 1;
}

static uint32_t find_token(const struct bpe_train *b, const char *s, size_t n)
{
    for (uint32_t at = (uint32_t)tok_hash(s, n) & (b->n_by_text - 1); b->by_text[at];
         at = (at + 1) & (b->n_by_text - 1)) {
        const struct sv t = token_text(b, b->by_text[at] - 1);

        if (t.len == n && memcmp(t.data, s, n) == 0)
            return b->by_text[at] - 1;
    }
    return NONE;
}

/* Ends the token whose text was appended. */
static bool end_token(struct bpe_train *b, uint32_t length)
{
    if (!str_ok(&b->texts) || b->texts.len > UINT32_MAX ||
        !tok_room(&b->ends, &b->cap_tokens, b->n_tokens + 1, sizeof *b->ends) ||
        !tok_room(&b->lengths, &b->cap_lengths, b->n_tokens + 1, sizeof *b->lengths))
        return false;
    b->ends[b->n_tokens] = (uint32_t)b->texts.len;
    b->lengths[b->n_tokens] = length;
    index_token(b, b->n_tokens++);
    return true;
}

/* The alphabet, in the order of its letters; byte_ids[byte] is the id. */
static int put_bytes(struct bpe_train *b, uint32_t *byte_ids, struct err *e)
{
    b->n_by_text = 1024;
    while (b->n_by_text / 2 < b->n_vocab)
        b->n_by_text *= 2;
    b->by_text = mem_calloc(b->n_by_text, sizeof *b->by_text);
    if (!b->by_text)
        return nomem(e);
    for (uint32_t letter = 0; letter < 0x200; letter++) {
        const int byte = gpt2_byte(letter);
        char utf8[4];

        if (byte < 0)
            continue;
        str_append(&b->texts, utf8, utf8_encode(letter, utf8));
        byte_ids[byte] = b->n_tokens;
        if (!end_token(b, 1))
            return nomem(e);
    }
    CHECK(b->n_tokens == N_BYTES);
    return 0;
}

/* The token of left and right together, new or there already; NONE when it may not be. */
static int join(struct bpe_train *b, uint32_t left, uint32_t right, uint32_t *out, struct err *e)
{
    struct sv x = token_text(b, left), y = token_text(b, right);
    char text[4 * BPE_TRAIN_TOKEN_BYTES];
    const uint32_t length = b->lengths[left] + b->lengths[right];
    const size_t n = x.len + y.len;

    *out = NONE;
    if (length > BPE_TRAIN_TOKEN_BYTES)
        return 0;
    memcpy(text, x.data, x.len);
    memcpy(text + x.len, y.data, y.len);
    for (uint32_t i = 0; i < b->n_added; i++)
        if (b->added[i].text.len == n && memcmp(b->added[i].text.data, text, n) == 0)
            return 0;
    *out = find_token(b, text, n);
    if (*out != NONE)
        return 0;
    str_append(&b->texts, text, n);
    *out = b->n_tokens;
    return end_token(b, length) ? 0 : nomem(e);
}

/* ---- pairs ---- */

static uint32_t pair_slot(const struct bpe_train *b, uint32_t left, uint32_t right)
{
    uint32_t at = pair_hash(left, right) & (b->n_slots - 1);

    while (b->slots[at]) {
        const struct pair *p = &b->pairs[b->slots[at] - 1];

        if (p->left == left && p->right == right)
            break;
        at = (at + 1) & (b->n_slots - 1);
    }
    return at;
}

static bool grow_slots(struct bpe_train *b)
{
    const uint32_t n = b->n_slots ? b->n_slots * 2 : 4096;
    uint32_t *slots = b->n_slots > UINT32_MAX / 4 ? NULL : mem_calloc(n, sizeof *slots);

    if (!slots)
        return false;
    mem_free(b->slots);
    b->slots = slots;
    b->n_slots = n;
    for (uint32_t i = 0; i < b->n_pairs; i++)
        b->slots[pair_slot(b, b->pairs[i].left, b->pairs[i].right)] = i + 1;
    return true;
}

/* The entry of a pair, made if need be; NULL when memory is short. */
static struct pair *pair_get(struct bpe_train *b, uint32_t left, uint32_t right)
{
    uint32_t at;

    if (b->n_pairs + 1 > b->n_slots / 2 && !grow_slots(b))
        return NULL;
    at = pair_slot(b, left, right);
    if (!b->slots[at]) {
        if (!tok_room(&b->pairs, &b->cap_pairs, b->n_pairs + 1, sizeof *b->pairs))
            return NULL;
        b->pairs[b->n_pairs] = (struct pair){ .left = left, .right = right, .list = NONE };
        b->slots[at] = ++b->n_pairs;
    }
    return &b->pairs[b->slots[at] - 1];
}

/* One more occurrence in a word. */
static bool pair_grow(struct bpe_train *b, uint32_t left, uint32_t right, uint32_t word)
{
    struct pair *p = pair_get(b, left, right);
    uint32_t node = b->free_node;

    if (!p)
        return false;
    p->count += b->words[word].count;
    if (!p->touched) {
        if (!tok_room(&b->touched, &b->cap_touched, b->n_touched + 1, sizeof *b->touched))
            return false;
        b->touched[b->n_touched++] = (uint32_t)(p - b->pairs);
        p->touched = true;
    }
    if (p->list != NONE && b->nodes[p->list].word == word)
        return true;
    if (node != NONE) {
        b->free_node = b->nodes[node].next;
    } else {
        if (b->n_nodes >= NONE || !tok_room(&b->nodes, &b->cap_nodes, b->n_nodes + 1, sizeof *b->nodes))
            return false;
        node = (uint32_t)b->n_nodes++;
    }
    b->nodes[node] = (struct node){ word, p->list };
    p->list = node;
    return true;
}

static void pair_shrink(struct bpe_train *b, uint32_t left, uint32_t right, uint64_t count)
{
    struct pair *p = &b->pairs[b->slots[pair_slot(b, left, right)] - 1];

    CHECK(p->count >= count);
    p->count -= count;
}

/* ---- the heap ---- */

static bool better(const struct candidate *a, const struct candidate *b)
{
    if (a->count != b->count)
        return a->count > b->count;
    return a->left != b->left ? a->left < b->left : a->right < b->right;
}

static void sift_down(struct bpe_train *b, size_t i)
{
    const struct candidate x = b->heap[i];

    for (size_t k; (k = 2 * i + 1) < b->n_heap; i = k) {
        if (k + 1 < b->n_heap && better(&b->heap[k + 1], &b->heap[k]))
            k++;
        if (!better(&b->heap[k], &x))
            break;
        b->heap[i] = b->heap[k];
    }
    b->heap[i] = x;
}

static bool heap_push(struct bpe_train *b, uint32_t pair)
{
    const struct pair *p = &b->pairs[pair];
    const struct candidate x = { p->count, p->left, p->right, pair };
    size_t i = b->n_heap;

    if (!tok_room(&b->heap, &b->cap_heap, i + 1, sizeof *b->heap))
        return false;
    b->n_heap++;
    for (; i > 0 && better(&x, &b->heap[(i - 1) / 2]); i = (i - 1) / 2)
        b->heap[i] = b->heap[(i - 1) / 2];
    b->heap[i] = x;
    return true;
}

/* The most frequent pair; NONE when none reaches min_count. */
static uint32_t best_pair(struct bpe_train *b)
{
    while (b->n_heap > 0) {
        struct candidate *top = &b->heap[0];
        const uint64_t now = b->pairs[top->pair].count;
        const uint32_t pair = top->pair;

        if (now == top->count && now >= b->min_count) {
            *top = b->heap[--b->n_heap];
            if (b->n_heap > 0)
                sift_down(b, 0);
            return pair;
        }
        if (now >= b->min_count)
            top->count = now;
        else
            *top = b->heap[--b->n_heap];
        if (b->n_heap > 0)
            sift_down(b, 0);
    }
    return NONE;
}

/* Pairs that grew go on the heap. An older item of such a pair, with a smaller count, does
 * no harm: when it comes up its pair has another count or has been merged. */
static bool push_touched(struct bpe_train *b)
{
    for (size_t i = 0; i < b->n_touched; i++) {
        b->pairs[b->touched[i]].touched = false;
        if (b->pairs[b->touched[i]].count >= b->min_count && !heap_push(b, b->touched[i]))
            return false;
    }
    b->n_touched = 0;
    return true;
}

/* ---- merging ---- */

/* Joins every left right of a word, from the left. */
static bool merge_in_word(struct bpe_train *b, uint32_t word, uint32_t left, uint32_t right, uint32_t out)
{
    struct word *w = &b->words[word];
    uint32_t *s = b->ids + w->at;
    uint32_t n = 0;

    for (uint32_t i = 0; i < w->n; n++) {
        if (i + 1 == w->n || s[i] != left || s[i + 1] != right) {
            s[n] = s[i++];
            continue;
        }
        if (n > 0)
            pair_shrink(b, s[n - 1], left, w->count);
        pair_shrink(b, left, right, w->count);
        if (i + 2 < w->n)
            pair_shrink(b, right, s[i + 2], w->count);
        if (n > 0 && !pair_grow(b, s[n - 1], out, word))
            return false;
        if (i + 2 < w->n && !pair_grow(b, out, s[i + 2], word))
            return false;
        s[n] = out;
        i += 2;
    }
    w->n = n;
    return true;
}

static bool merge_pair(struct bpe_train *b, uint32_t pair, uint32_t out)
{
    const uint32_t left = b->pairs[pair].left, right = b->pairs[pair].right;
    uint32_t at = b->pairs[pair].list;

    b->pairs[pair].list = NONE;
    while (at != NONE) {
        const struct node x = b->nodes[at];

        b->nodes[at].next = b->free_node;
        b->free_node = at;
        if (!merge_in_word(b, x.word, left, right, out))
            return false;
        at = x.next;
    }
    return push_touched(b);
}

/* The counted words as ids, and their pairs. */
static int load_words(struct bpe_train *b, const uint32_t *byte_ids, struct err *e)
{
    struct bpe_word *list = NULL;
    uint32_t n = 0;
    uint64_t n_ids = 0;
    int rc = bpe_words_finish(b->counter, &list, &n, e);

    if (rc < 0)
        return rc;
    b->n_words = n;
    for (uint32_t i = 0; i < n; i++)
        n_ids += list[i].len;
    b->words = mem_array(n, sizeof *b->words);
    b->ids = n_ids < UINT32_MAX ? mem_array(n_ids, sizeof *b->ids) : NULL;
    if (!b->words || !b->ids)
        rc = nomem(e);
    n_ids = 0;
    for (uint32_t i = 0; i < n && rc == 0; i++) {
        b->words[i] = (struct word){ list[i].count, (uint32_t)n_ids, list[i].len };
        for (uint32_t k = 0; k < list[i].len; k++)
            b->ids[n_ids + k] = byte_ids[(unsigned char)list[i].bytes[k]];
        for (uint32_t k = 0; k + 1 < list[i].len && rc == 0; k++)
            if (!pair_grow(b, b->ids[n_ids + k], b->ids[n_ids + k + 1], i))
                rc = nomem(e);
        n_ids += list[i].len;
    }
    mem_free(list);
    return rc;
}

static int merge_all(struct bpe_train *b, struct err *e)
{
    const uint32_t limit = b->n_vocab - b->n_added;
    uint32_t pair, out;

    if (!push_touched(b))
        return nomem(e);
    while (b->n_tokens < limit && (pair = best_pair(b)) != NONE) {
        const uint32_t left = b->pairs[pair].left, right = b->pairs[pair].right;
        const int rc = join(b, left, right, &out, e);

        if (rc < 0)
            return rc;
        if (out == NONE)
            continue;       /* off the heap, it does not come back unless it grows */
        if (b->n_rules >= TOKENIZER_MAX_MERGES)
            return err_set(e, WATT_ELIMIT, "BPE training: more than %u merges", TOKENIZER_MAX_MERGES);
        if (!tok_room(&b->rules, &b->cap_rules, b->n_rules + 1, sizeof *b->rules))
            return nomem(e);
        b->rules[b->n_rules++] = (struct rule){ left, right };
        if (!merge_pair(b, pair, out))
            return nomem(e);
        if (b->progress && b->n_rules % 64 == 0 && b->progress(b->ctx, b->n_tokens, limit))
            return err_set(e, WATT_ECANCEL, "BPE training: stopped");
    }
    return 0;
}

/* ---- the result ---- */

static int make_lists(struct bpe_train *b, struct err *e)
{
    const uint32_t n = b->n_tokens + b->n_added;
    size_t at = 0;

    for (uint32_t i = 0; i < b->n_rules; i++) {
        const struct sv x = token_text(b, b->rules[i].left), y = token_text(b, b->rules[i].right);

        str_append(&b->rule_texts, x.data, x.len);
        str_putc(&b->rule_texts, ' ');
        str_append(&b->rule_texts, y.data, y.len);
    }
    b->tokens = mem_array(n, sizeof *b->tokens);
    b->kinds = mem_array(n, sizeof *b->kinds);
    b->merges = mem_array(b->n_rules, sizeof *b->merges);
    if (!str_ok(&b->rule_texts) || !b->tokens || !b->kinds || !b->merges)
        return nomem(e);
    for (uint32_t i = 0; i < n; i++) {
        const bool made = i < b->n_tokens;

        b->tokens[i] = made ? token_text(b, i) : b->added[i - b->n_tokens].text;
        b->kinds[i] = made ? TOKEN_NORMAL : (int32_t)b->added[i - b->n_tokens].kind;
    }
    for (uint32_t i = 0; i < b->n_rules; i++) {
        const size_t len = token_text(b, b->rules[i].left).len + token_text(b, b->rules[i].right).len + 1;

        b->merges[i] = (struct sv){ b->rule_texts.data + at, len };
        at += len;
    }
    return 0;
}

int bpe_train_run(struct bpe_train *b, struct err *e)
{
    uint32_t byte_ids[N_BYTES];
    int rc;

    CHECK(!b->done);
    if (b->bytes == 0)
        return err_set(e, WATT_EINVAL, "BPE training: there is no text");
    b->done = true;
    rc = put_bytes(b, byte_ids, e);
    if (rc == 0)
        rc = load_words(b, byte_ids, e);
    if (rc == 0)
        rc = merge_all(b, e);
    drop_work(b);
    return rc < 0 ? rc : make_lists(b, e);
}

void bpe_train_spec(const struct bpe_train *b, struct vocab_spec *out)
{
    CHECK(b->tokens);
    vocab_spec_init(out);
    out->name = "trained vocabulary";
    out->model = "gpt2";
    out->pre = b->pre;
    out->n_tokens = b->n_tokens + b->n_added;
    out->tokens = b->tokens;
    out->kinds = b->kinds;
    out->n_merges = b->n_rules;
    out->merges = b->merges;
}

uint64_t bpe_train_words(const struct bpe_train *b) { return b->n_words; }
uint64_t bpe_train_bytes(const struct bpe_train *b) { return b->bytes; }
uint64_t bpe_train_dropped(const struct bpe_train *b) { return bpe_words_dropped(b->counter); }

static int write_role(const struct bpe_train *b, struct gguf_writer *w, const char *key, struct sv text,
                      struct err *e)
{
    if (text.len == 0)
        return 0;
    for (uint32_t i = 0; i < b->n_added; i++)
        if (sv_eq(b->added[i].text, text))
            return gguf_writer_u32(w, key, b->n_tokens + i, e);
    return err_set(e, WATT_EINVAL, "%s: \"%.*s\" is no added token", key, text.len > 80 ? 80 : (int)text.len,
                   text.data);
}

int bpe_train_write(const struct bpe_train *b, struct gguf_writer *w, struct sv bos, struct sv eos, struct err *e)
{
    struct vocab_spec s;
    int rc;

    bpe_train_spec(b, &s);
    rc = gguf_writer_str(w, "tokenizer.ggml.model", sv_cstr(s.model), e);
    if (rc == 0)
        rc = gguf_writer_str(w, "tokenizer.ggml.pre", sv_cstr(s.pre), e);
    if (rc == 0)
        rc = gguf_writer_strs(w, "tokenizer.ggml.tokens", s.tokens, s.n_tokens, e);
    if (rc == 0)
        rc = gguf_writer_array(w, "tokenizer.ggml.token_type", GGUF_I32, s.kinds, s.n_tokens, e);
    if (rc == 0)
        rc = gguf_writer_strs(w, "tokenizer.ggml.merges", s.merges, s.n_merges, e);
    if (rc == 0)
        rc = write_role(b, w, "tokenizer.ggml.bos_token_id", bos, e);
    if (rc == 0)
        rc = write_role(b, w, "tokenizer.ggml.eos_token_id", eos, e);
    if (rc == 0)
        rc = gguf_writer_bool(w, "tokenizer.ggml.add_bos_token", bos.len > 0, e);
    return rc;
}
