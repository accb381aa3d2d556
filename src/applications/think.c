/* think.c: splits reasoning from answers; see think.h. */
#include "applications/think.h"

#include <string.h>

static const struct { const char *open, *close; } tags[] = {
    { "<think>", "</think>" },
    { "<thinking>", "</thinking>" },
    { "<reasoning>", "</reasoning>" },
    { "<thought>", "</thought>" },
    { "<seed:think>", "</seed:think>" },
    { "[THINK]", "[/THINK]" },
    { "<|begin_of_thought|>", "<|end_of_thought|>" },
    { "<|START_THINKING|>", "<|END_THINKING|>" },
};
#define N_KNOWN (sizeof tags / sizeof *tags)
#define N_TAGS  (N_KNOWN + 1)       /* the last pair is the model's own */

static struct sv open_tag(const struct think *t, size_t i)
{
    return sv_cstr(i < N_KNOWN ? tags[i].open : t->open ? t->open : "");
}

static struct sv close_tag(const struct think *t)
{
    return sv_cstr(t->tag < N_KNOWN ? tags[t->tag].close : t->close);
}

static bool blank(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

void think_init(struct think *t)
{
    *t = (struct think){ .state = THINK_BEFORE };
    str_init(&t->held, 0);
}

void think_deinit(struct think *t)
{
    str_deinit(&t->held);
}

void think_learn(struct think *t, const char *open, const char *close)
{
    t->open = *close ? open : NULL;
    t->close = *close ? close : NULL;
}

void think_begin(struct think *t, const char *prompt, size_t len)
{
    str_reset(&t->held);
    t->state = THINK_BEFORE;
    t->at_start = true;
    while (len > 0 && blank(prompt[len - 1]))
        len--;
    for (size_t i = 0; i < N_TAGS; i++)
        if (open_tag(t, i).len && sv_ends((struct sv){ prompt, len }, open_tag(t, i))) {
            t->state = THINK_INSIDE;
            t->tag = i;
        }
}

/* Where the last `tag` of a text begins; len: nowhere. */
static size_t last_tag(const char *text, size_t len, struct sv tag)
{
    for (size_t i = len; tag.len && i-- > 0;)
        if (sv_starts((struct sv){ text + i, len - i }, tag))
            return i;
    return len;
}

void think_continue(struct think *t, const char *text, size_t len)
{
    str_reset(&t->held);
    t->state = THINK_AFTER;
    t->at_start = false;
    for (size_t i = 0; i < N_TAGS && t->state == THINK_AFTER; i++) {
        const size_t open = last_tag(text, len, open_tag(t, i));

        t->tag = i;
        if (open < len && last_tag(text + open, len - open, close_tag(t)) == len - open)
            t->state = THINK_INSIDE;
    }
}

static void drop(struct str *s, size_t n)
{
    if (n == 0)
        return;
    memmove(s->data, s->data + n, s->len - n);
    s->len -= n;
    s->data[s->len] = '\0';
}

static void drop_blanks(struct think *t)
{
    size_t n = 0;

    while (n < t->held.len && blank(t->held.data[n]))
        n++;
    drop(&t->held, n);
}

/* Shows the first n held bytes. */
static void show(struct think *t, size_t n, struct str *out)
{
    if (n > 0) {
        str_append(out, t->held.data, n);
        t->at_start = false;
    }
    drop(&t->held, n);
}

/* At the beginning: an opening tag, something that may become one, or text. True
 * when the state changed. */
static bool look_for_open(struct think *t)
{
    size_t n = 0;
    bool may_be = false;

    while (n < t->held.len && blank(t->held.data[n]))
        n++;
    for (size_t i = 0; i < N_TAGS; i++) {
        const struct sv rest = { t->held.data + n, t->held.len - n };
        const struct sv open = open_tag(t, i);

        if (open.len == 0)
            continue;
        if (sv_starts(rest, open)) {
            drop(&t->held, n + open.len);
            t->state = THINK_INSIDE;
            t->tag = i;
            t->at_start = true;
            return true;
        }
        may_be |= sv_starts(open, rest);
    }
    if (may_be)
        return false;
    t->state = THINK_AFTER;
    t->at_start = false;        /* no tag: the blanks are the answer's own */
    return true;
}

/* Inside: shows reasoning up to the closing tag. True when it came. */
static bool look_for_close(struct think *t, struct str *reasoning)
{
    const struct sv close = close_tag(t);
    size_t at = 0;

    if (t->at_start)
        drop_blanks(t);
    for (; at < t->held.len; at++) {
        const struct sv rest = { t->held.data + at, t->held.len - at };

        if (sv_starts(rest, close)) {
            size_t end = at;

            while (end > 0 && blank(t->held.data[end - 1]))
                end--;
            str_append(reasoning, t->held.data, end);
            drop(&t->held, at + close.len);
            t->state = THINK_AFTER;
            t->at_start = true;
            return true;
        }
        if (sv_starts(close, rest))
            break;              /* may be the tag */
    }
    while (at > 0 && blank(t->held.data[at - 1]))
        at--;                   /* blanks before the tag are not shown */
    show(t, at, reasoning);
    return false;
}

static void after(struct think *t, struct str *answer)
{
    if (t->at_start)
        drop_blanks(t);
    show(t, t->held.len, answer);
}

void think_push(struct think *t, const char *text, size_t len, struct str *reasoning,
                struct str *answer)
{
    str_append(&t->held, text, len);
    answer->failed |= !str_ok(&t->held);
    if (t->held.len == 0)
        return;
    if (t->state == THINK_BEFORE && !look_for_open(t))
        return;
    if (t->state == THINK_INSIDE && !look_for_close(t, reasoning))
        return;
    after(t, answer);
}

void think_finish(struct think *t, struct str *reasoning, struct str *answer)
{
    show(t, t->held.len, t->state == THINK_INSIDE ? reasoning : answer);
    t->state = THINK_AFTER;
}
