/* tool_detect.c: learns formats of calls and reasoning by comparing renderings; see tool_format.h.
 *
 * Two renderings that differ in one known part show what belongs to that part. Texts are compared
 * by their longest common beginning or end, which is then moved to the edge of a marker: "<a>" and
 * "</a>" share a ">" that is neither's end. */
#include "models/tool_detect.h"

#include <string.h>

#include "base/mem.h"
#include "models/tool_literal.h"
#include "models/tool_probe.h"

#define MAX_TRIES 64u           /* places at which JSON may begin */

struct renders {
    struct probe p;
    struct str   gen;           /* what an answer begins after */
    struct str   plain;         /* an answer of PROBE_CONTENT */
    struct str   one, one_content, two;     /* calls */
    bool         has_plain, has_content, has_two;
};

/* ---- texts ---- */

static struct sv from_to(struct sv s, size_t from, size_t to)
{
    if (to > s.len)
        to = s.len;
    return from < to ? (struct sv){ s.data + from, to - from } : (struct sv){ "", 0 };
}

static size_t find(struct sv s, const char *what, size_t from)
{
    const char *p = from <= s.len && s.len ? memmem(s.data + from, s.len - from, what, strlen(what))
                                           : NULL;

    return p ? (size_t)(p - s.data) : s.len;
}

static bool has(struct sv s, const char *what)
{
    return find(s, what, 0) < s.len;
}

static struct sv trim(struct sv s)
{
    while (s.len && literal_blank(s.data[0]))
        s = from_to(s, 1, s.len);
    while (s.len && literal_blank(s.data[s.len - 1]))
        s.len--;
    return s;
}

static bool opens_marker(char c) { return c == '<' || c == '[' || c == '{' || c == '('; }
static bool closes_marker(char c) { return c == '>' || c == ']' || c == '}' || c == ')'; }

static bool word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == ':' || c == ' ' || c == '-';
}

/* The longest common end of both, from the first edge in it on. */
static struct sv common_end(struct sv a, struct sv b)
{
    size_t n = 0;

    while (n < a.len && n < b.len && a.data[a.len - 1 - n] == b.data[b.len - 1 - n])
        n++;
    a = from_to(a, a.len - n, a.len);
    if (n == b.len || n == 0)
        return a;
    while (a.len && !literal_blank(a.data[0]) && !opens_marker(a.data[0]))
        a = from_to(a, 1, a.len);
    return a;
}

/* The longest common beginning of both, up to the last edge in it. */
static size_t common_start(struct sv a, struct sv b)
{
    size_t n = 0;

    while (n < a.len && n < b.len && a.data[n] == b.data[n])
        n++;
    if (n == a.len || n == b.len)
        return n;
    while (n > 0 && !literal_blank(a.data[n - 1]) && !closes_marker(a.data[n - 1]))
        n--;
    return n;
}

/* What follows `end` is not the answer's any more. */
static struct sv without_end(struct sv s, struct sv end)
{
    const struct sv t = trim(end);

    if (end.len && sv_ends(s, end))
        return from_to(s, 0, s.len - end.len);
    if (t.len && sv_ends(trim(s), t))
        return from_to(s, 0, (size_t)(trim(s).data - s.data) + trim(s).len - t.len);
    return from_to(s, 0, s.len - common_end(s, end).len);
}

static void unescape_quotes(struct str *s)
{
    size_t to = 0;

    for (size_t i = 0; i < s->len; to++) {
        const bool quote = s->len - i >= 5 && memcmp(s->data + i, "&#34;", 5) == 0;

        s->data[to] = quote ? '"' : s->data[i];
        i += quote ? 5 : 1;
    }
    s->len = to;
}

/* ---- where calls stand ---- */

struct place {                  /* of a call in a text */
    size_t start;               /* of its first known part, or of its JSON */
    size_t args, end;           /* of the arguments; of the JSON */
};

static bool is_args(const json_t *v)
{
    const char *text = json_string_value(json_object_get(v, PROBE_KEY1));

    return text && strcmp(text, PROBE_VALUE1) == 0;
}

/* The members of an object that is a call. */
static bool read_members(struct tool_format *f, const json_t *object, const char *name,
                         const char *id)
{
    const char *key, *args = NULL, *name_key = NULL, *id_key = NULL;
    bool first = false, counts = false;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)object, key, v) {
        const char *s = json_string_value(v);

        if (is_args(v))
            args = key;
        else if (s && strcmp(s, name) == 0)
            name_key = key;
        else if (s && (strcmp(s, id) == 0 || strcmp(s, "0") == 0 || strcmp(s, "1") == 0)) {
            id_key = key;
            counts = strcmp(s, id) != 0;
            first = !name_key;
        }
    }
    if (!args)
        return false;
    if (!name_key) {
        f->name_is_key = strcmp(args, name) == 0;
        return f->name_is_key;
    }
    f->id_first = first;
    f->id_counts = counts;
    return tool_set(&f->name_key, sv_cstr(name_key)) && tool_set(&f->args_key, sv_cstr(args)) &&
           tool_set(&f->id_key, sv_cstr(id_key ? id_key : ""));
}

static bool read_envelope(struct tool_format *f, const json_t *v, const char *name, const char *id)
{
    const char *key;
    json_t *inner;

    f->array = json_is_array(v);
    if (f->array)
        v = json_array_get(v, 0);
    if (!json_is_object(v))
        return false;
    if (read_members(f, v, name, id))
        return true;
    json_object_foreach((json_t *)(uintptr_t)v, key, inner)
        if (json_is_object(inner) && read_members(f, inner, name, id) && !f->name_is_key)
            return tool_set(&f->wrap_key, sv_cstr(key));
    return false;
}

/* JSON that begins in text[from..to) and is a call. */
static bool find_envelope(struct tool_format *f, struct sv text, size_t from, const char *name,
                          const char *id, struct place *at)
{
    const size_t to = find(text, name, from);
    unsigned n_tries = 0;

    if (to == text.len)
        return false;
    for (size_t i = from; i < to && n_tries < MAX_TRIES; i++) {
        json_error_t err;
        json_t *v;
        bool ok;

        if (text.data[i] != '{' && text.data[i] != '[')
            continue;
        n_tries++;
        v = json_loadb(text.data + i, text.len - i, JSON_DISABLE_EOF_CHECK, &err);
        ok = v && read_envelope(f, v, name, id);
        json_decref(v);
        if (ok) {
            *at = (struct place){ i, i, i + (size_t)err.position };
            return true;
        }
    }
    return false;
}

/* The arguments as JSON between the name and the first key. */
static bool json_args(struct sv text, size_t from, size_t key, struct place *at)
{
    for (size_t i = from; i < key; i++) {
        json_error_t err;
        json_t *v;
        bool ok;

        if (text.data[i] != '{')
            continue;
        v = json_loadb(text.data + i, text.len - i, JSON_DISABLE_EOF_CHECK, &err);
        ok = v && is_args(v);
        json_decref(v);
        if (ok) {
            at->args = i;
            at->end = i + (size_t)err.position;
            return true;
        }
    }
    return false;
}

struct parts {                  /* of arguments: where their known parts begin and end */
    size_t key1, key1_end, value1, value1_end, key2, key2_end, value2, value2_end;
};

static bool find_parts(struct sv text, size_t from, struct parts *p)
{
    p->key1 = find(text, PROBE_KEY1, from);
    p->key1_end = p->key1 + strlen(PROBE_KEY1);
    p->value1 = find(text, PROBE_VALUE1, p->key1);
    p->value1_end = p->value1 + strlen(PROBE_VALUE1);
    p->key2 = find(text, PROBE_KEY2, p->value1);
    p->key2_end = p->key2 + strlen(PROBE_KEY2);
    p->value2 = find(text, PROBE_VALUE2_TEXT, p->key2);
    p->value2_end = p->value2 + strlen(PROBE_VALUE2_TEXT);
    return p->value2 < text.len;
}

/* (a='x', b=1) */
static bool python_args(struct sv text, size_t from, const struct parts *p, struct place *at)
{
    const size_t open = find(text, "(", from), close = find(text, ")", p->value2_end);

    if (open >= p->key1 || close == text.len || text.data[p->key1_end] != '=')
        return false;
    at->args = open;
    at->end = close + 1;
    return true;
}

/* {a:"x",b:1}, with whatever stands for quotes. */
static bool loose_args(struct tool_format *f, struct sv text, size_t from, const struct parts *p,
                       struct place *at, bool *ok)
{
    const struct sv quote = trim(from_to(text, p->key1_end + 1, p->value1));
    const size_t open = find(text, "{", from), close = find(text, "}", p->value2_end);

    if (open >= p->key1 || close == text.len || text.data[p->key1_end] != ':' || quote.len == 0 ||
        !sv_starts(from_to(text, p->value1_end, text.len), quote))
        return false;
    at->args = open;
    at->end = close + 1;
    *ok = tool_set(&f->quote, quote);
    return true;
}

static bool tagged_args(struct tool_format *f, struct sv text, size_t from, const struct parts *p,
                        struct place *at, bool *ok)
{
    const struct sv before = from_to(text, from, p->key1);
    const struct sv between = from_to(text, p->value1_end, p->key2);
    const struct sv open = common_end(before, between);
    const struct sv close = from_to(between, 0, between.len - open.len);
    const struct sv key_end = from_to(text, p->key1_end, p->value1);
    const struct sv other = from_to(text, p->key2_end, p->value2);
    const struct sv after = from_to(text, p->value2_end, text.len);

    if (trim(open).len == 0 || trim(key_end).len == 0 || trim(close).len == 0 ||
        has(close, PROBE_KEY1) || !sv_starts(trim(after), trim(close)))
        return false;
    at->args = p->key1 - open.len;
    at->end = p->value2_end + (sv_starts(after, close)
                                   ? close.len
                                   : (size_t)(trim(after).data - after.data) + trim(close).len);
    *ok = tool_set(&f->param_open, open) && tool_set(&f->key_end, key_end) &&
          tool_set(&f->value_end, close) &&
          tool_set(&f->key_end_other, sv_eq(key_end, other) ? (struct sv){ "", 0 } : other);
    return true;
}

static bool find_named(struct tool_format *f, struct sv text, size_t from, const char *name,
                       const char *id, struct place *at, bool *ok)
{
    const size_t at_name = find(text, name, from), at_id = find(text, id, from);
    struct parts p;
    size_t after;

    *ok = true;
    if (at_name == text.len || !find_parts(text, at_name, &p))
        return false;
    after = at_name + strlen(name);
    while (find(text, name, after) < p.key1)
        after = find(text, name, after) + strlen(name);
    at->start = at_id < at_name ? at_id : at_name;
    if (json_args(text, after, p.key1, at))
        f->args = TOOL_ARGS_JSON;
    else if (python_args(text, after, &p, at))
        f->args = TOOL_ARGS_PYTHON;
    else if (loose_args(f, text, after, &p, at, ok))
        f->args = TOOL_ARGS_LOOSE;
    else if (tagged_args(f, text, after, &p, at, ok))
        f->args = TOOL_ARGS_TAGGED;
    else
        return false;
    return true;
}

/* Finds a call and sets what it shows of the shape. */
static bool find_call(struct tool_format *f, struct sv text, size_t from, const char *name,
                      const char *id, struct place *at, bool *ok)
{
    *ok = true;
    if (find_envelope(f, text, from, name, id, at)) {
        f->shape = TOOL_ENVELOPE;
        return true;
    }
    if (find_named(f, text, from, name, id, at, ok)) {
        f->shape = TOOL_NAMED;
        return true;
    }
    return false;
}

/* ---- what stands around them ---- */

/* Where the answer begins in a rendering of one. */
static size_t header_end(const struct renders *r, struct sv text)
{
    const struct sv gen = sv_of(&r->gen), plain = sv_of(&r->plain);
    const struct sv before = from_to(plain, 0, r->has_plain ? find(plain, PROBE_CONTENT, 0) : 0);
    size_t best = 0, n;

    if (sv_starts(text, gen))
        best = gen.len;
    if (sv_starts(text, before) && before.len > best)
        best = before.len;
    if (best > 0)
        return best;
    n = common_start(text, gen);
    best = common_start(text, before);
    return n > best ? n : best;
}

static struct sv turn_end(const struct renders *r)
{
    const struct sv plain = sv_of(&r->plain);
    const size_t at = r->has_plain ? find(plain, PROBE_CONTENT, 0) : plain.len;

    return from_to(plain, at + strlen(PROBE_CONTENT), plain.len);
}

/* The text in front of the first call that belongs to the calls: what an answer without and one
 * with content have in common. */
static struct sv text_before(struct tool_format *f, const struct renders *r, struct sv one,
                             const struct place *at, const char *name, const char *id, bool *ok)
{
    const struct sv plain = from_to(one, header_end(r, one), at->start);
    const struct sv other = sv_of(&r->one_content);
    const size_t content = r->has_content ? find(other, PROBE_CONTENT, 0) : other.len;
    struct place there;
    struct sv both;

    if (content == other.len ||
        !find_call(f, other, content + strlen(PROBE_CONTENT), name, id, &there, ok))
        return plain;
    both = from_to(other, content + strlen(PROBE_CONTENT), there.start);
    if (sv_ends(both, trim(plain)) && plain.len)
        return plain;
    if (sv_ends(plain, trim(both)) && trim(both).len)
        return both;
    return common_end(plain, both);
}

/* The head of a call as pieces: `open` and then what stands between the known parts. */
static bool split_head(struct tool_format *f, struct sv open, struct sv head, const char *name,
                       const char *id)
{
    struct tool_piece *last;

    f->n_head = 0;
    if (trim(open).len) {
        f->head[f->n_head++] = (struct tool_piece){ TOOL_LITERAL, NULL };
        if (!tool_set(&f->head[0].text, open))
            return false;
    }
    while (head.len && f->n_head + 2 < TOOL_MAX_PIECES) {
        const size_t n = find(head, name, 0), i = find(head, id, 0), at = n < i ? n : i;

        if (at > 0) {
            last = &f->head[f->n_head++];
            *last = (struct tool_piece){ TOOL_LITERAL, NULL };
            if (!tool_set(&last->text, from_to(head, 0, at)))
                return false;
        }
        if (at == head.len)
            break;
        f->head[f->n_head++] = (struct tool_piece){ n <= i ? TOOL_NAME : TOOL_ID, NULL };
        head = from_to(head, at + strlen(n <= i ? name : id), head.len);
    }
    return true;
}

static size_t digits(const char *s)
{
    return strspn(s, "0123456789");
}

/* Literals in which the heads of two calls differ by a number: a counter. `other` is the second
 * call's. */
static bool find_counter(struct tool_format *f, const struct tool_piece *other, size_t n_other)
{
    if (f->n_head != n_other)
        return true;
    for (size_t i = 0; i < f->n_head; i++) {
        char *a = f->head[i].text;
        const char *b = other[i].text;
        size_t at = 0, na, nb;
        char *rest;

        if (f->head[i].kind != other[i].kind)
            return true;
        if (f->head[i].kind != TOOL_LITERAL || strcmp(a, b) == 0)
            continue;
        while (a[at] && a[at] == b[at])
            at++;
        na = digits(a + at);
        nb = digits(b + at);
        if (na == 0 || nb == 0 || strcmp(a + at + na, b + at + nb) != 0 ||
            f->n_head + 2 > TOOL_MAX_PIECES)
            continue;
        f->first_count = (int)(a[at] - '0');
        rest = mem_strdup(a + at + na);
        if (!rest)
            return false;
        memmove(&f->head[i + 3], &f->head[i + 1], (f->n_head - i - 1) * sizeof *f->head);
        a[at] = '\0';
        f->head[i + 1] = (struct tool_piece){ TOOL_COUNT, NULL };
        f->head[i + 2] = (struct tool_piece){ TOOL_LITERAL, rest };
        f->n_head += 2;
        return true;
    }
    return true;
}

static void drop_head(struct tool_format *f)
{
    for (size_t i = 0; i < f->n_head; i++)
        mem_free(f->head[i].text);
    f->n_head = 0;
}

/* functions.NAME:0 is an id too: templates print it before results. */
static void find_ids_in_head(struct tool_format *f)
{
    for (size_t i = 1; i + 1 < f->n_head; i++) {
        const char *before = f->head[i - 1].text, *dot = before ? strrchr(before, '.') : NULL;

        if (f->head[i].kind == TOOL_NAME && dot && dot[1] == '\0' && i + 2 < f->n_head &&
            f->head[i + 2].kind == TOOL_COUNT)
            f->ids_from_head = true;
    }
}

/* One call, or all calls in one list: what surrounds it. */
static bool around_one(struct tool_format *f, struct sv before, struct sv one,
                       const struct place *at, struct sv end, const char *name, const char *id)
{
    const struct sv after = without_end(from_to(one, at->end, one.len), end);

    if (!tool_set(&f->call_close, after))
        return false;
    if (f->shape == TOOL_ENVELOPE)
        return tool_set(&f->call_open, before);
    return split_head(f, before, from_to(one, at->start, at->args), name, id);
}

/* Two calls: what is between them belongs to each, what is only around them to both. */
static bool around_two(struct tool_format *f, struct sv before, struct sv two,
                       const struct place *a, const struct place *b, struct sv end,
                       const struct probe *p)
{
    const struct sv between = from_to(two, a->end, b->start);
    const struct sv after = without_end(from_to(two, b->end, two.len), end);
    const struct sv open = common_end(before, between);
    const struct sv rest = from_to(between, 0, between.len - open.len);
    const size_t n_close = common_start(rest, after);
    const struct sv section = from_to(before, 0, before.len - open.len);
    struct tool_format second = { 0 };
    bool ok;

    ok = tool_set(&f->call_close, from_to(rest, 0, n_close)) &&
         tool_set(&f->sep, from_to(rest, n_close, rest.len)) &&
         tool_set(&f->section_open, section) &&
         tool_set(&f->section_close, trim(section).len ? from_to(after, n_close, after.len)
                                                       : (struct sv){ "", 0 });
    if (!ok || f->shape == TOOL_ENVELOPE)
        return ok && tool_set(&f->call_open, open);
    ok = split_head(f, open, from_to(two, a->start, a->args), PROBE_NAME1, probe_id(p, 0)) &&
         split_head(&second, open, from_to(two, b->start, b->args), PROBE_NAME2, probe_id(p, 1)) &&
         find_counter(f, second.head, second.n_head);
    drop_head(&second);
    return ok;
}

static bool learn_surroundings(struct tool_format *f, const struct renders *r, struct sv one,
                               const struct place *at, bool *ok)
{
    const char *id1 = probe_id(&r->p, 0), *id2 = probe_id(&r->p, 1);
    const struct sv end = turn_end(r), two = sv_of(&r->two);
    const struct sv before = text_before(f, r, one, at, PROBE_NAME1, id1, ok);
    struct place a, b;

    if (!*ok)
        return false;
    f->parallel = r->has_two && has(two, PROBE_NAME2);
    if (f->array || !f->parallel) {
        *ok = around_one(f, before, one, at, end, PROBE_NAME1, id1);
    } else if (find_call(f, two, header_end(r, two), PROBE_NAME1, id1, &a, ok) &&
               find_call(f, two, a.end, PROBE_NAME2, id2, &b, ok)) {
        *ok = around_two(f, before, two, &a, &b, end, &r->p);
    } else {
        f->parallel = false;
        *ok = *ok && around_one(f, before, one, at, end, PROBE_NAME1, id1);
    }
    find_ids_in_head(f);
    return *ok;
}

/* ---- channels ---- */

/* "<a>word<b>" into its parts. */
static bool two_markers(struct sv s, struct sv *first, struct sv *middle, struct sv *last)
{
    const size_t a = find(s, ">", 0), b = find(s, "<", a);

    if (s.len == 0 || s.data[0] != '<' || b >= s.len || s.data[s.len - 1] != '>' || b == a + 1)
        return false;
    *first = from_to(s, 0, a + 1);
    *middle = from_to(s, a + 1, b);
    *last = from_to(s, b, s.len);
    return true;
}

/* Answers whose text stands under a header of its own, as calls do. */
static bool learn_channels(struct tool_format *f, const struct renders *r, struct str *scratch)
{
    static const char *const keys[] = { "thinking", "reasoning_content", "reasoning" };
    const struct sv gen = sv_of(&r->gen), plain = sv_of(&r->plain);
    const struct sv before = from_to(plain, 0, find(plain, PROBE_CONTENT, 0));
    struct sv open, text, message, after, thought;

    if (f->shape != TOOL_NAMED || f->args != TOOL_ARGS_JSON || !sv_starts(before, gen) ||
        !two_markers(from_to(before, gen.len, before.len), &open, &text, &message) ||
        !sv_ends(sv_cstr(f->head[f->n_head - 1].text ? f->head[f->n_head - 1].text : ""), message))
        return true;
    f->shape = TOOL_CHANNELS;
    f->parallel = false;
    if (!tool_set(&f->channel_open, open) || !tool_set(&f->text_channel, text) ||
        !tool_set(&f->message_open, message))
        return false;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const struct probe_turn turn = { .content = PROBE_CONTENT, .thought_key = keys[i],
                                         .no_tools = true };
        size_t at, next;

        if (!probe_render(&r->p, &turn, scratch) || !has(sv_of(scratch), PROBE_THOUGHT))
            continue;
        at = find(sv_of(scratch), PROBE_THOUGHT, 0);
        next = find(sv_of(scratch), f->channel_open, at);
        after = from_to(sv_of(scratch), at + strlen(PROBE_THOUGHT), next);
        thought = from_to(sv_of(scratch), 0, at);
        if (!sv_starts(thought, gen) || after.len == 0 ||
            !two_markers(from_to(thought, gen.len, thought.len), &open, &text, &message))
            continue;
        next = find(after, ">", 0) + 1;
        return tool_set(&f->think_channel, text) &&
               tool_set(&f->channel_end, from_to(after, 0, next)) &&
               tool_set(&f->channel_next, from_to(after, next, after.len)) &&
               tool_set(&f->think_open, from_to(thought, gen.len, thought.len)) &&
               tool_set(&f->think_close, from_to(after, 0, next));
    }
    return true;
}

/* ---- reasoning ---- */

/* The marker at the beginning of s, with a word that goes on to the next one. */
static struct sv first_marker(struct sv s)
{
    size_t n = 0;

    s = trim(s);
    if (s.len == 0 || (s.data[0] != '<' && s.data[0] != '['))
        return s;
    while (n < s.len && !closes_marker(s.data[n]))
        n++;
    n += n < s.len;
    if (n < s.len && word(s.data[n]) && s.data[n] != ' ' && find(s, "<", n) < s.len &&
        find(s, ">", n) < s.len)
        n = find(s, ">", n) + 1;
    return from_to(s, 0, n);
}

/* The marker at the end of s, with a word behind it. */
static struct sv last_marker(struct sv s)
{
    size_t n;

    s = trim(s);
    n = s.len;
    while (n > 0 && word(s.data[n - 1]))
        n--;
    if (n > 0 && closes_marker(s.data[n - 1])) {
        const char open = s.data[n - 1] == '>' ? '<' : '[';

        while (n > 0 && s.data[n - 1] != open)
            n--;
        n -= n > 0;
    }
    return from_to(s, n, s.len);
}

static bool set_thought(struct tool_format *f, const struct renders *r, struct sv text)
{
    const size_t at = find(text, PROBE_THOUGHT, 0), end = at + strlen(PROBE_THOUGHT);
    const struct sv gen = sv_of(&r->gen), plain = sv_of(&r->plain);
    const struct sv header = from_to(plain, 0, find(plain, PROBE_CONTENT, 0));
    const size_t content = find(text, PROBE_CONTENT, end), name = find(text, PROBE_NAME1, end);
    const struct sv close = first_marker(from_to(text, end, content < name ? content : name));
    struct sv open = last_marker(from_to(text, 0, at));

    if (close.len == 0)
        return true;
    if (open.len && sv_ends(trim(header), open)) {
        open = (struct sv){ "", 0 };
        if (sv_starts(gen, trim(header)))
            open = trim(from_to(gen, trim(header).len, gen.len));
    }
    return tool_set(&f->think_open, open) && tool_set(&f->think_close, close);
}

/* A prompt that ends with an opening tag, for templates that show no reasoning of theirs. */
static bool guess_thought(struct tool_format *f, const struct renders *r)
{
    const struct sv gen = trim(sv_of(&r->gen)), plain = sv_of(&r->plain);
    const struct sv header = trim(from_to(plain, 0, find(plain, PROBE_CONTENT, 0)));
    const struct sv tag = last_marker(gen);
    struct str close;
    bool ok;

    if (!r->has_plain || sv_ends(header, tag) || tag.len < 3 || has(tag, " ") || tag.data[1] == '/' ||
        !closes_marker(tag.data[tag.len - 1]) || has(tag, "|"))
        return true;
    str_init(&close, 0);
    str_putc(&close, tag.data[0]);
    str_putc(&close, '/');
    str_append(&close, tag.data + 1, tag.len - 1);
    ok = str_ok(&close) && tool_set(&f->think_open, tag) && tool_set(&f->think_close, sv_of(&close));
    str_deinit(&close);
    return ok;
}

static bool learn_thought(struct tool_format *f, const struct renders *r, struct str *scratch)
{
    static const char *const keys[] = { "reasoning_content", "reasoning", "thinking" };

    for (unsigned i = 0; i < 12; i++) {
        const struct probe_turn turn = {
            .content = PROBE_CONTENT, .thought_key = keys[i % 3], .n_calls = i >= 6,
            .thinking = i % 6 < 3 ? PROBE_THINK_UNSAID : PROBE_THINK_ON,
        };

        if (i < 6 && !r->has_plain)
            continue;
        if (probe_render(&r->p, &turn, scratch) && has(sv_of(scratch), PROBE_THOUGHT) &&
            !set_thought(f, r, sv_of(scratch)))
            return false;
        if (*f->think_close)
            return true;
    }
    return guess_thought(f, r);
}

static bool learn_switch(struct tool_format *f, const struct renders *r, struct str *scratch)
{
    struct probe_turn turn = { .prompt = true, .thinking = PROBE_THINK_ON };
    struct str other;
    const char *name = template_mentions(r->p.t, "enable_thinking") ? "enable_thinking"
                       : template_mentions(r->p.t, "thinking") ? "thinking" : "";

    str_init(&other, 0);
    if (*name && probe_render(&r->p, &turn, scratch)) {
        turn.thinking = PROBE_THINK_OFF;
        f->think_switch = probe_render(&r->p, &turn, &other) &&
                          !sv_eq(sv_of(scratch), sv_of(&other));
    }
    str_deinit(&other);
    if (f->think_switch || *name)
        memcpy(f->think_variable, name, strlen(name) + 1);
    return true;
}

/* ---- all of it ---- */

static void render_all(struct renders *r)
{
    struct probe_turn turn = { .prompt = true };

    if (!probe_render(&r->p, &turn, &r->gen))
        str_reset(&r->gen);
    turn = (struct probe_turn){ .content = PROBE_CONTENT };
    r->has_plain = probe_render(&r->p, &turn, &r->plain) && has(sv_of(&r->plain), PROBE_CONTENT);
    turn.n_calls = 1;
    r->has_content = probe_render(&r->p, &turn, &r->one_content) &&
                     has(sv_of(&r->one_content), PROBE_CONTENT);
    turn = (struct probe_turn){ .n_calls = 2 };
    r->has_two = probe_render(&r->p, &turn, &r->two);
}

static void reset(struct tool_format *f)
{
    drop_head(f);
    f->shape = TOOL_NONE;
    f->parallel = f->ids_from_head = false;
    f->array = f->name_is_key = f->html_quotes = false;
}

/* Names that nothing stands in front of can't be told from text. */
static bool marked(const struct tool_format *f)
{
    return literal_solid(f->section_open) ||
           (f->n_head > 0 && f->head[0].kind == TOOL_LITERAL && literal_solid(f->head[0].text));
}

/* With one way to write ids and arguments. *ok false: no memory. */
static bool learn_calls(struct tool_format *f, struct renders *r, bool *ok)
{
    const struct probe_turn turn = { .n_calls = 1 };
    struct sv one;
    struct place at;

    *ok = true;
    if (!probe_render(&r->p, &turn, &r->one))
        return false;
    if (!has(sv_of(&r->one), PROBE_NAME1) || !has(sv_of(&r->one), PROBE_VALUE1))
        return false;
    render_all(r);
    f->html_quotes = has(sv_of(&r->one), "&#34;");
    if (f->html_quotes) {
        unescape_quotes(&r->one);
        unescape_quotes(&r->one_content);
        unescape_quotes(&r->two);
    }
    one = sv_of(&r->one);
    if (find_call(f, one, header_end(r, one), PROBE_NAME1, probe_id(&r->p, 0), &at, ok) && *ok &&
        learn_surroundings(f, r, one, &at, ok) && (f->shape != TOOL_NAMED || marked(f))) {
        f->string_arguments = r->p.string_arguments;
        f->null_content = r->p.null_content;
        f->short_ids = r->p.ids == PROBE_IDS_SHORT;
        return true;
    }
    reset(f);
    return false;
}

static bool learn(struct tool_format *f, struct renders *r, struct str *scratch)
{
    bool found = false, ok = true;

    for (unsigned i = 0; i < 4u * PROBE_N_IDS && !found && ok; i++) {
        r->p.null_content = i / (2 * PROBE_N_IDS);
        r->p.ids = i / 2 % PROBE_N_IDS;
        r->p.string_arguments = i % 2;
        found = learn_calls(f, r, &ok);
    }
    if (!found) {
        r->p.null_content = r->p.string_arguments = false;
        r->p.ids = PROBE_IDS_LONG;
        render_all(r);
    }
    ok = ok && (!found || learn_channels(f, r, scratch));
    if (ok && f->shape != TOOL_CHANNELS)
        ok = learn_thought(f, r, scratch);
    return ok && learn_switch(f, r, scratch);
}

bool tool_detect(struct tool_format *f, const struct template *t, struct sv bos, struct sv eos)
{
    struct renders r = { .p = { .t = t, .bos = bos, .eos = eos } };
    struct str scratch;
    bool ok;

    str_init(&scratch, 0);
    str_init(&r.gen, 0);
    str_init(&r.plain, 0);
    str_init(&r.one, 0);
    str_init(&r.one_content, 0);
    str_init(&r.two, 0);
    ok = learn(f, &r, &scratch);
    str_deinit(&scratch);
    str_deinit(&r.gen);
    str_deinit(&r.plain);
    str_deinit(&r.one);
    str_deinit(&r.one_content);
    str_deinit(&r.two);
    return ok;
}
