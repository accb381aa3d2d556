/* detok.c: ids back to text: whole, and streaming without ever emitting half a
 * character. See tokenizer.h for the rules about leading spaces. */
#include <inttypes.h>

#include "base/utf8.h"
#include "models/tok_impl.h"

/* Did encoding put a space in front of the text, to be taken away again? */
static bool prefixes(const struct tokenizer *t)
{
    return t->type == TOKENIZER_WPM ||
           ((t->type == TOKENIZER_SPM || t->type == TOKENIZER_UGM) && t->add_space_prefix);
}

/* The bytes of one token in its place. *start: text begins here; updated. */
static struct sv piece_in_place(const struct tokenizer *t, int32_t id, unsigned flags,
                                bool *start)
{
    struct sv p = tokenizer_piece(t, id);
    const enum token_kind kind = tokenizer_kind(t, id);

    if (kind == TOKEN_CONTROL || kind == TOKEN_UNKNOWN) {
        *start = true;
        return flags & DETOKENIZE_SPECIAL ? p : (struct sv){ "", 0 };
    }
    if (p.len > 0 && p.data[0] == ' ' && prefixes(t)) {
        const bool mark = t->type == TOKENIZER_WPM && (flags & DETOKENIZE_CLEAN) && p.len == 2 &&
                          strchr(".?!,", p.data[1]);

        if (mark || *start) {
            p.data++;
            p.len--;
        }
    }
    /* After an added token encoding puts a space again. */
    *start = kind == TOKEN_USER_DEFINED;
    return p;
}

int tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n, unsigned flags,
                     struct str *out, struct err *e)
{
    bool start = !(flags & DETOKENIZE_CONTINUE);

    for (size_t i = 0; i < n; i++) {
        struct sv p;

        if (ids[i] < 0 || (uint32_t)ids[i] >= t->n_vocab)
            return err_set(e, WATT_EINVAL, "tokenizer: id %" PRId32 " at %zu, the vocabulary has %"
                           PRIu32 " tokens", ids[i], i, t->n_vocab);
        p = piece_in_place(t, ids[i], flags, &start);
        str_append(out, p.data, p.len);
    }
    return str_ok(out) ? 0 : tok_nomem(e);
}

/* ---- streaming ---- */

void detok_init(struct detok *d, const struct tokenizer *t, unsigned flags)
{
    *d = (struct detok){ .t = t, .at_start = !(flags & DETOKENIZE_CONTINUE), .flags = flags };
}

static void put_bad(struct str *out) { str_puts(out, "\xEF\xBF\xBD"); }

/* One byte more. While bytes are held, they begin a character: this one ends it,
 * goes on with it, or shows that it was none, and is looked at anew then. */
static void feed_byte(struct detok *d, unsigned char byte, struct str *out)
{
    const char *held = (const char *)d->held;
    uint32_t cp;
    bool ok;

    d->held[d->n_held++] = byte;
    if (utf8_complete(held, d->n_held) == 0)
        return;
    if (utf8_decode(held, d->n_held, &cp, &ok) == d->n_held && ok) {
        str_append(out, d->held, d->n_held);
        d->n_held = 0;
        return;
    }
    put_bad(out);
    if (d->n_held == 1) {
        d->n_held = 0;
        return;
    }
    d->n_held = 0;
    feed_byte(d, byte, out);    /* alone now: at most once more */
}

static void feed(struct detok *d, struct sv p, struct str *out)
{
    size_t i = 0;

    while (i < p.len) {
        size_t end = i;
        bool ok = true;
        uint32_t cp;

        while (d->n_held == 0 && end < p.len) {
            const size_t len = utf8_decode(p.data + end, p.len - end, &cp, &ok);

            if (!ok)
                break;
            end += len;
        }
        str_append(out, p.data + i, end - i);
        i = end;
        if (i < p.len)
            feed_byte(d, (unsigned char)p.data[i++], out);
    }
}

static bool is_shown(const struct detok *d, int32_t id)
{
    for (size_t i = 0; i < d->n_shown; i++)
        if (d->shown[i] == id)
            return true;
    return false;
}

void detok_push(struct detok *d, int32_t id, struct str *out)
{
    const unsigned flags = is_shown(d, id) ? d->flags | DETOKENIZE_SPECIAL : d->flags;

    if (id < 0 || (uint32_t)id >= d->t->n_vocab)
        return;
    feed(d, piece_in_place(d->t, id, flags, &d->at_start), out);
}

void detok_finish(struct detok *d, struct str *out)
{
    const int32_t *shown = d->shown;
    const size_t n_shown = d->n_shown;

    if (d->n_held > 0)
        put_bad(out);
    detok_init(d, d->t, d->flags);
    d->shown = shown;
    d->n_shown = n_shown;
}
