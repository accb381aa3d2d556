/* tool_parser.c: an answer as a stream of content and calls; see tool_parser.h.
 *
 * Text that is not understood yet is held; a state takes from its front what is certain. Until a
 * call's name is known nothing is given away, so that what turns out to be no call can still be
 * told as content. */
#include "models/tool_parser.h"

#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "models/json_scan.h"
#include "models/tool_args.h"
#include "models/tool_literal.h"

#define HOLD_BLANKS   256u      /* white space that may stand before a call */
#define HEADER_MAX    1024u     /* bytes of a channel's header */

enum state {
    AT_START,           /* bare calls: only here */
    TEXT, TEXT_ONLY,
    CALL,               /* a call must begin */
    HEAD, ENVELOPE, JSON_ARGS, PARAMS, KEY, VALUE, CODE,
    BROKEN,             /* arguments that are none */
    CLOSE, BETWEEN,
    HEADER, BODY        /* of channels */
};

/* What an envelope's current value is. */
enum member { M_OTHER, M_NAME, M_ARGS, M_ID, M_TEXT_ARGS };

struct tool_parser {
    const struct tool_format *f;
    json_t           *tools;
    const struct tool_sink *sink;
    void             *ctx;
    struct str        held;
    size_t            pos;          /* before it: kept only while a call has no name */
    size_t            seen;         /* of held: looked at in vain */
    enum state        state;
    bool              final, failed;
    bool              content;      /* some was told since the last call, or no call yet */
    bool              blank_start;  /* drop white space: behind a call */
    uint32_t          n_calls;
    bool              begun, any_param;
    struct str        name, id, key, out, value;
    size_t            piece;
    /* JSON */
    struct json_scan  scan;
    uint32_t          level;        /* depth of the members of an envelope */
    enum member       member;
    bool              has_args, html_string;
    /* a tagged value */
    const json_t     *parameters;
    enum tool_type    type;
    bool              value_begun;
    /* code */
    uint32_t          depth;
    bool              in_quote;
    char              quote;
    bool              reasoning;    /* the channel is */
};

int tool_parser_open(struct tool_parser **out, const struct tool_format *f, const json_t *tools,
                     const struct tool_sink *sink, void *ctx, struct err *e)
{
    struct tool_parser *p = mem_calloc(1, sizeof *p);
    struct str opening;

    if (!p)
        return err_set(e, WATT_ENOMEM, "tool calls: parser");
    p->f = f;
    p->tools = json_incref((json_t *)(uintptr_t)tools);
    p->sink = sink;
    p->ctx = ctx;
    str_init(&p->held, 0);
    str_init(&p->name, 0);
    str_init(&p->id, 0);
    str_init(&p->key, 0);
    str_init(&p->out, 0);
    str_init(&p->value, 0);
    str_init(&opening, 0);
    tool_format_opening(f, &opening);
    p->state = f->shape == TOOL_NONE ? TEXT_ONLY : f->shape == TOOL_CHANNELS ? HEADER
             : literal_solid(str_cstr(&opening)) ? TEXT : AT_START;
    str_deinit(&opening);
    *out = p;
    return 0;
}

void tool_parser_close(struct tool_parser *p)
{
    if (!p)
        return;
    str_deinit(&p->held);
    str_deinit(&p->name);
    str_deinit(&p->id);
    str_deinit(&p->key);
    str_deinit(&p->out);
    str_deinit(&p->value);
    json_decref(p->tools);
    mem_free(p);
}

bool tool_parser_ok(const struct tool_parser *p)
{
    return !p->failed && str_ok(&p->held) && str_ok(&p->name) && str_ok(&p->id) &&
           str_ok(&p->key) && str_ok(&p->out) && str_ok(&p->value);
}

/* ---- giving away ---- */

static struct sv ahead(const struct tool_parser *p)
{
    return (struct sv){ p->held.len ? p->held.data + p->pos : "", p->held.len - p->pos };
}

/* Everything before pos is done with. */
static void settle(struct tool_parser *p)
{
    if (p->pos == 0)
        return;
    memmove(p->held.data, p->held.data + p->pos, p->held.len - p->pos);
    p->held.len -= p->pos;
    p->held.data[p->held.len] = '\0';
    p->pos = 0;
    p->seen = 0;
}

static void tell(struct tool_parser *p, struct sv s)
{
    if (p->blank_start) {
        while (s.len && literal_blank(s.data[0])) {
            s.data++;
            s.len--;
        }
        p->blank_start = s.len == 0;
    }
    if (s.len == 0)
        return;
    p->content = true;
    if (p->reasoning && p->sink->reasoning)
        p->sink->reasoning(p->ctx, s);
    else
        p->sink->content(p->ctx, s);
}

/* The next n bytes are content. */
static void tell_ahead(struct tool_parser *p, size_t n)
{
    tell(p, (struct sv){ ahead(p).data, n });
    p->pos += n;
    settle(p);
}

static void put_args(struct tool_parser *p, struct sv s)
{
    if (s.len)
        p->sink->arguments(p->ctx, p->n_calls, s);
}

static void put_args_z(struct tool_parser *p, const char *z)
{
    put_args(p, sv_cstr(z));
}

static void put_out(struct tool_parser *p)
{
    put_args(p, sv_of(&p->out));
    str_reset(&p->out);
}

static void begin_call(struct tool_parser *p)
{
    p->begun = true;
    p->any_param = false;
    p->has_args = false;
    p->parameters = tool_parameters(p->tools, sv_of(&p->name));
    p->sink->begin(p->ctx, p->n_calls, sv_of(&p->name),
                   (struct sv){ p->id.len ? p->id.data : "", p->id.len });
}

static void end_call(struct tool_parser *p, bool complete)
{
    p->sink->end(p->ctx, p->n_calls++, complete);
    p->begun = false;
    p->content = false;
    p->blank_start = true;
    settle(p);
}

static void go(struct tool_parser *p, enum state s)
{
    p->state = s;
    p->seen = 0;
}

static void begin_text(struct tool_parser *p)
{
    go(p, p->f->shape == TOOL_CHANNELS ? HEADER : TEXT);
}

/* It was no call: all that was held of it is content. */
static bool no_call(struct tool_parser *p)
{
    const size_t n = p->pos;

    p->pos = 0;
    str_reset(&p->name);
    str_reset(&p->id);
    if (n == 0 && p->held.len > 0)
        tell_ahead(p, 1);
    else
        tell_ahead(p, n);
    go(p, p->f->shape == TOOL_CHANNELS ? BODY : TEXT);
    return true;
}

/* ---- text ---- */

static const char *call_opening(const struct tool_format *f)
{
    if (f->shape == TOOL_ENVELOPE)
        return f->call_open;
    return f->n_head > 0 && f->head[0].kind == TOOL_LITERAL ? f->head[0].text : "";
}

static void new_call(struct tool_parser *p)
{
    str_reset(&p->name);
    str_reset(&p->id);
    str_reset(&p->key);
    str_reset(&p->out);
    p->piece = 0;
    p->begun = false;
    p->level = 0;
    p->member = M_OTHER;
    p->html_string = false;
    json_scan_init(&p->scan);
    go(p, p->f->shape == TOOL_ENVELOPE ? ENVELOPE : HEAD);
}

/* The opening of a section or of a call, wherever it comes. */
static bool in_text(struct tool_parser *p)
{
    const bool section = literal_solid(p->f->section_open);
    const char *opening = section ? p->f->section_open : call_opening(p->f);
    const struct sv text = ahead(p);
    size_t n, blanks, at;

    if (text.len == 0)
        return false;
    at = p->n_calls < TOOL_MAX_CALLS ? literal_find(opening, text, 0, &n) : text.len;
    if (at < text.len && n == 0 && p->final)
        at = text.len;
    for (blanks = at; blanks > 0 && literal_blank(text.data[blanks - 1]);)
        blanks--;
    if (at == text.len && p->final)
        blanks = at;
    else if (at - blanks > HOLD_BLANKS)
        blanks = at - HOLD_BLANKS;
    tell(p, (struct sv){ text.data, blanks });
    p->pos += blanks;
    settle(p);
    if (at == text.len || n == 0)
        return false;
    at -= blanks;
    if (section) {
        p->pos = at + n;
        go(p, CALL);
    } else {
        p->pos = at;
        new_call(p);
    }
    return true;
}

static bool in_start(struct tool_parser *p)
{
    const struct sv text = ahead(p);
    size_t at = 0;

    while (at < text.len && literal_blank(text.data[at]))
        at++;
    if (at == text.len && !p->final)
        return false;
    if (at < text.len && (text.data[at] == '{' || text.data[at] == '[')) {
        p->pos = at;
        new_call(p);
    } else {
        go(p, TEXT_ONLY);
    }
    return true;
}

static bool only_text(struct tool_parser *p)
{
    if (ahead(p).len > 0)
        tell_ahead(p, ahead(p).len);
    return false;
}

/* Behind a section's opening. */
static bool at_call(struct tool_parser *p)
{
    new_call(p);
    return true;
}

/* ---- named calls ---- */

/* What may follow the last piece of a head. */
static size_t find_args(const struct tool_parser *p, struct sv text, size_t *n)
{
    const struct tool_format *f = p->f;
    size_t a, b = text.len, m = 0;

    if (f->args == TOOL_ARGS_JSON)
        return literal_find("{", text, 0, n);
    if (f->args == TOOL_ARGS_LOOSE)
        return literal_find("{", text, 0, n);
    if (f->args == TOOL_ARGS_PYTHON)
        return literal_find("(", text, 0, n);
    a = literal_find(f->param_open, text, 0, n);
    if (literal_solid(f->call_close))
        b = literal_find(f->call_close, text, 0, &m);
    if (b < a) {
        *n = m;
        return b;
    }
    return a;
}

static bool good_name(struct sv s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.data[i] < 0x20 || strchr("\"'<>{}()[]", s.data[i]))
            return false;
    return s.len > 0 && s.len <= TOOL_NAME_MAX_BYTES;
}

static struct sv trimmed(struct sv s)
{
    while (s.len && literal_blank(s.data[0])) {
        s.data++;
        s.len--;
    }
    while (s.len && literal_blank(s.data[s.len - 1]))
        s.len--;
    return s;
}

static bool begin_args(struct tool_parser *p)
{
    begin_call(p);
    settle(p);
    p->depth = 0;
    p->in_quote = false;
    switch (p->f->args) {
    case TOOL_ARGS_JSON:
        json_scan_init(&p->scan);
        go(p, JSON_ARGS);
        break;
    case TOOL_ARGS_TAGGED:
        put_args_z(p, "{");
        go(p, PARAMS);
        break;
    case TOOL_ARGS_PYTHON:
    case TOOL_ARGS_LOOSE:
        go(p, CODE);
        break;
    }
    return true;
}

/* functions.NAME:0 is the whole id. */
static void id_of_head(struct tool_parser *p, struct sv before, struct sv count)
{
    const char *dot = memrchr(before.data, '.', before.len);
    const char *from = dot;

    if (!dot)
        return;
    while (from > before.data && (from[-1] == '_' || (from[-1] | 32) >= 'a') &&
           (from[-1] | 32) <= 'z')
        from--;
    str_reset(&p->id);
    str_append(&p->id, from, (size_t)(before.data + before.len - from));
    str_append(&p->id, p->name.data, p->name.len);
    str_putc(&p->id, ':');
    str_append(&p->id, count.data, count.len);
}

static bool in_hole(struct tool_parser *p, enum tool_hole kind)
{
    const struct tool_format *f = p->f;
    const struct sv text = ahead(p);
    const bool last = p->piece + 1 == f->n_head;
    size_t n, at = last ? find_args(p, text, &n)
                        : literal_find(f->head[p->piece + 1].text, text, 0, &n);
    struct sv s;

    if (at == text.len || n == 0) {
        if (text.len > TOOL_NAME_MAX_BYTES || p->final)
            return no_call(p);
        return false;
    }
    s = trimmed((struct sv){ text.data, at });
    if (!good_name(s))
        return no_call(p);
    if (kind == TOOL_NAME && p->name.len == 0)
        str_append(&p->name, s.data, s.len);
    else if (kind == TOOL_ID)
        str_append(&p->id, s.data, s.len);
    else if (kind == TOOL_COUNT && f->ids_from_head)
        id_of_head(p, sv_cstr(f->head[0].text), s);
    p->pos += at;
    p->piece++;
    return true;
}

static bool in_head(struct tool_parser *p)
{
    const struct tool_piece *piece;
    long n;

    if (p->piece == p->f->n_head)
        return p->name.len ? begin_args(p) : no_call(p);
    piece = &p->f->head[p->piece];
    if (piece->kind != TOOL_LITERAL)
        return in_hole(p, piece->kind);
    n = literal_match(piece->text, ahead(p));
    if (n == LITERAL_MORE && !p->final)
        return false;
    if (n < 0)
        return no_call(p);
    p->pos += (size_t)n;
    p->piece++;
    return true;
}

/* ---- JSON ---- */

static bool close_after(struct tool_parser *p)
{
    end_call(p, true);
    go(p, CLOSE);
    return true;
}

static bool in_json_args(struct tool_parser *p)
{
    const struct sv text = ahead(p);
    size_t at = 0, from;

    if (p->scan.depth == 0)
        while (at < text.len && literal_blank(text.data[at]))
            at++;
    if (p->scan.depth == 0 && at < text.len && text.data[at] != '{') {
        const long n = literal_match(p->f->call_close, text);

        if (n == LITERAL_MORE && !p->final)
            return false;
        if (n > 0) {
            put_args_z(p, "{}");
            return close_after(p);
        }
        p->pos += at;
        settle(p);
        go(p, BROKEN);
        return true;
    }
    from = at;
    for (; at < text.len; at++) {
        const unsigned flags = json_scan_push(&p->scan, (unsigned char)text.data[at]);

        if (flags & JSON_SCAN_BAD) {
            put_args(p, (struct sv){ text.data + from, at - from });
            p->pos += at;
            settle(p);
            go(p, BROKEN);
            return true;
        }
        if (flags & JSON_SCAN_DONE) {
            put_args(p, (struct sv){ text.data + from, at + 1 - from });
            p->pos += at + 1;
            return close_after(p);
        }
    }
    put_args(p, (struct sv){ text.data + from, at - from });
    p->pos += at;
    settle(p);
    return false;
}

/* Whatever it is up to the end of the call. */
static bool in_broken(struct tool_parser *p)
{
    const struct sv text = ahead(p);
    const char *close = literal_solid(p->f->call_close) ? p->f->call_close
                        : literal_solid(p->f->section_close) ? p->f->section_close : NULL;
    size_t n = 0, at = close ? literal_find(close, text, 0, &n) : text.len;

    if (at < text.len && n == 0 && p->final)
        at = text.len;
    put_args(p, (struct sv){ text.data, at });
    p->pos += at;
    settle(p);
    if (n == 0)
        return false;
    end_call(p, false);
    go(p, CLOSE);
    return true;
}

/* ---- envelopes ---- */

static void begin_value(struct tool_parser *p, char c)
{
    const struct tool_format *f = p->f;
    const struct sv key = sv_of(&p->key);

    p->member = M_OTHER;
    str_reset(&p->value);
    if (f->name_is_key && p->name.len == 0) {
        str_append(&p->name, key.data, key.len);
        p->member = M_ARGS;
    } else if (sv_eq_cstr(key, f->name_key)) {
        p->member = M_NAME;
    } else if (sv_eq_cstr(key, f->args_key)) {
        p->member = M_ARGS;
    } else if (*f->id_key && sv_eq_cstr(key, f->id_key)) {
        p->member = M_ID;
    } else if (*f->wrap_key && sv_eq_cstr(key, f->wrap_key) && c == '{') {
        p->level++;
    }
    if (p->member == M_ARGS && c != '{')
        p->member = M_TEXT_ARGS;
    p->has_args |= p->member == M_ARGS || p->member == M_TEXT_ARGS;
}

static bool known(const struct tool_parser *p)
{
    return literal_solid(call_opening(p->f)) || literal_solid(p->f->section_open) ||
           tool_declared(p->tools, sv_of(&p->name));
}

/* A string value that was collected with its quotes. */
static void take_text(struct str *to, const struct str *value)
{
    json_t *v = value->len ? json_loadb(value->data, value->len, JSON_DECODE_ANY, NULL) : NULL;

    if (json_is_string(v))
        str_append(to, json_string_value(v), json_string_length(v));
    else if (json_is_integer(v))
        str_append(to, value->data, value->len);
    json_decref(v);
}

/* Arguments that are text: the JSON in it, when it is an object. */
static void text_args(struct tool_parser *p)
{
    json_t *v = json_loadb(str_cstr(&p->value), p->value.len, JSON_DECODE_ANY, NULL), *o;

    o = json_is_string(v) ? json_loadb(json_string_value(v), json_string_length(v), 0, NULL) : NULL;
    if (json_is_object(o))
        str_append(&p->out, json_string_value(v), json_string_length(v));
    else
        str_puts(&p->out, "{}");
    json_decref(o);
    json_decref(v);
}

/* False: no call. */
static bool end_value(struct tool_parser *p)
{
    const bool had = p->has_args;

    if (p->member == M_NAME)
        take_text(&p->name, &p->value);
    else if (p->member == M_ID)
        take_text(&p->id, &p->value);
    else if (p->member == M_TEXT_ARGS)
        text_args(p);
    if (p->member == M_NAME && !p->begun) {
        if (!good_name(sv_of(&p->name)) || !known(p))
            return false;
        begin_call(p);
        p->has_args = had;
    }
    p->member = M_OTHER;
    str_reset(&p->value);
    return true;
}

/* One byte of an envelope; false: it is no call. *over: the JSON is complete. */
static bool envelope_byte(struct tool_parser *p, char c, bool *over)
{
    const uint32_t depth = p->scan.depth;
    const unsigned flags = json_scan_push(&p->scan, (unsigned char)c);
    const bool array = p->scan.objects[0] % 2 == 0 && (depth > 0 || c == '[');

    *over = flags & JSON_SCAN_DONE;
    if (flags & JSON_SCAN_BAD)
        return false;
    if (p->level == 0 && !literal_blank(c))
        p->level = array ? 2 : 1;
    if ((flags & JSON_SCAN_BEFORE) && depth == p->level && !end_value(p))
        return false;
    if ((flags & JSON_SCAN_KEY) && depth == p->level) {
        str_putc(&p->value, c);
        if (flags & JSON_SCAN_KEY_END) {
            str_reset(&p->key);
            take_text(&p->key, &p->value);
            str_reset(&p->value);
        }
        return true;
    }
    if ((flags & JSON_SCAN_BEGIN) && depth == p->level) {
        begin_value(p, c);
        if (p->f->name_is_key && p->member == M_ARGS && !p->begun) {
            if (!good_name(sv_of(&p->name)) || !known(p))
                return false;
            begin_call(p);
            p->has_args = true;
        }
    }
    if (p->member == M_ARGS)
        str_putc(&p->out, c);
    else if (p->member != M_OTHER)
        str_putc(&p->value, c);
    if ((flags & JSON_SCAN_END) && p->scan.depth == p->level && !end_value(p))
        return false;
    if (c == '}' && !p->scan.text && p->scan.depth < depth && p->scan.depth + 1 == p->level) {
        const uint32_t members = array ? 2 : 1;

        if (p->level > members) {
            p->level--;         /* of the wrapping object's value */
        } else {
            if (!p->begun)
                return false;
            if (!p->has_args)
                str_puts(&p->out, "{}");
            put_out(p);
            end_call(p, true);
            str_reset(&p->name);
            str_reset(&p->id);
        }
    }
    return true;
}

/* &#34; as a quote, where the template writes it so; how many bytes, 0: more are needed. */
static size_t next_char(struct tool_parser *p, struct sv text, char *c)
{
    static const char entity[] = "&#34;";
    const size_t n = text.len < 5 ? text.len : 5;

    *c = text.data[0];
    if (!p->f->html_quotes || *c != '&' || memcmp(text.data, entity, n) != 0 ||
        (p->scan.text && !p->html_string))
        return 1;
    if (n < 5)
        return p->final ? 1 : 0;
    *c = '"';
    p->html_string = !p->html_string;
    return 5;
}

static bool in_envelope(struct tool_parser *p)
{
    const char *opening = call_opening(p->f);

    if (p->piece == 0) {
        const long n = literal_match(opening, ahead(p));

        if (n == LITERAL_MORE && !p->final)
            return false;
        if (n < 0)
            return no_call(p);
        p->pos += (size_t)n;
        p->piece = 1;
    }
    while (p->pos < p->held.len) {
        bool over;
        char c;
        const size_t n = next_char(p, ahead(p), &c);

        if (n == 0)
            break;
        if (p->scan.depth == 0 && !literal_blank(c) && c != '{' && c != '[')
            return no_call(p);
        if (!envelope_byte(p, c, &over)) {
            put_out(p);
            if (!p->begun)
                return no_call(p);
            settle(p);
            go(p, BROKEN);
            return true;
        }
        p->pos += n;
        if (over) {
            settle(p);
            go(p, CLOSE);
            return true;
        }
    }
    if (p->begun) {
        put_out(p);
        settle(p);
    }
    return false;
}

/* ---- tagged parameters ---- */

static bool end_params(struct tool_parser *p, bool complete)
{
    put_args_z(p, "}");
    end_call(p, complete);
    go(p, CLOSE);
    return true;
}

static bool in_params(struct tool_parser *p)
{
    const struct sv text = ahead(p);
    const long open = literal_match(p->f->param_open, text);
    const long close = literal_solid(p->f->call_close) ? literal_match(p->f->call_close, text)
                                                       : LITERAL_NO;

    if (open >= 0) {
        p->pos += (size_t)open;
        settle(p);
        go(p, KEY);
        return true;
    }
    if (close >= 0)
        return end_params(p, true);
    if ((open == LITERAL_MORE || close == LITERAL_MORE) && !p->final)
        return false;
    return end_params(p, !literal_solid(p->f->call_close));
}

/* The end of a key: like key_end, but for what stands where it differs from key_end_other. *mid is
 * that part of the text. */
static size_t find_key_end(const struct tool_format *f, struct sv text, size_t *n, bool *string)
{
    const char *a = f->key_end, *b = f->key_end_other;
    char head[128];
    size_t same = 0, tail = 0, at, m, end, la = strlen(a), lb = strlen(b);

    *string = true;
    if (lb == 0)
        return literal_find(a, text, 0, n);
    while (same < la && same < lb && a[same] == b[same])
        same++;
    while (tail < la - same && tail < lb - same && a[la - 1 - tail] == b[lb - 1 - tail])
        tail++;
    if (same == 0 || same >= sizeof head || tail == 0)
        return literal_find(a, text, 0, n);
    memcpy(head, a, same);
    head[same] = '\0';
    at = literal_find(head, text, 0, n);
    if (*n == 0)
        return at;
    end = literal_find(a + la - tail, text, at + *n, &m);
    *string = end - at - *n == la - same - tail && memcmp(text.data + at + *n, a + same,
                                                          la - same - tail) == 0;
    *n = m == 0 || end == text.len ? 0 : end + m - at;
    return at;
}

static bool in_key(struct tool_parser *p)
{
    const struct sv text = ahead(p);
    bool string;
    size_t n, at = find_key_end(p->f, text, &n, &string);

    if (at == text.len || n == 0) {
        if (at <= TOOL_NAME_MAX_BYTES && text.len <= 2u * TOOL_NAME_MAX_BYTES && !p->final)
            return false;
        return end_params(p, false);
    }
    str_reset(&p->key);
    str_append(&p->key, text.data, at);
    p->type = tool_type_of(p->parameters, trimmed(sv_of(&p->key)));
    if (*p->f->key_end_other)
        p->type = string ? TOOL_TYPE_STRING : TOOL_TYPE_OTHER;
    p->value_begun = false;
    p->pos += at + n;
    settle(p);
    go(p, VALUE);
    return true;
}

static void begin_param(struct tool_parser *p)
{
    const struct sv key = trimmed(sv_of(&p->key));

    str_puts(&p->out, p->any_param ? ", " : "");
    json_put_str(&p->out, key);
    str_puts(&p->out, ": ");
    p->any_param = true;
    p->value_begun = true;
}

/* White space that the notation puts around values is not theirs. */
static struct sv without_frame(const struct tool_format *f, struct sv s, bool front, bool back)
{
    const size_t n = strlen(f->key_end);
    size_t blanks = 0;

    while (blanks < n && literal_blank(f->key_end[n - 1 - blanks]))
        blanks++;
    for (; front && blanks > 0 && s.len && literal_blank(s.data[0]); blanks--) {
        s.data++;
        s.len--;
    }
    for (const char *v = f->value_end; back && literal_blank(*v) && s.len &&
         literal_blank(s.data[s.len - 1]); v++)
        s.len--;
    return s;
}

/* A piece of a string whose end is not in sight. */
static void put_piece(struct tool_parser *p, struct sv s)
{
    json_put_str(&p->value, s);
    str_append(&p->out, p->value.data + 1, p->value.len - 2);
    str_reset(&p->value);
}

/* How much of a string can be told before its end is known: not half a character either, not the
 * white space that may belong to the end. */
static size_t certain(struct sv text, size_t at)
{
    while (at > 0 && literal_blank(text.data[at - 1]))
        at--;
    for (size_t n = 1; n < 4 && n <= at; n++) {
        const unsigned char c = (unsigned char)text.data[at - n];

        if (c < 0x80)
            break;
        if (c >= 0xC0)
            return n < (c >= 0xF0 ? 4u : c >= 0xE0 ? 3u : 2u) ? at - n : at;
    }
    return at;
}

static bool may_be_cdata(struct sv s)
{
    const struct sv open = sv_cstr(TOOL_CDATA);

    return sv_starts(s, open) || sv_starts(open, s);
}

static bool in_value(struct tool_parser *p)
{
    const struct sv text = ahead(p);
    size_t n, at = literal_find(p->f->value_end, text, p->seen, &n);
    struct sv s;

    if (at == text.len || n == 0) {
        p->seen = at;
        if (p->type != TOOL_TYPE_STRING)
            return false;
        at = certain(text, at);
        s = without_frame(p->f, (struct sv){ text.data, at }, !p->value_begun, false);
        if (s.len == 0 || (!p->value_begun && may_be_cdata(s)))
            return false;
        if (!p->value_begun) {
            begin_param(p);
            str_putc(&p->out, '"');
        }
        put_piece(p, s);
        put_out(p);
        p->pos += at;
        settle(p);
        return false;
    }
    s = without_frame(p->f, (struct sv){ text.data, at }, !p->value_begun, true);
    if (p->value_begun) {
        put_piece(p, s);
        str_putc(&p->out, '"');
    } else {
        begin_param(p);
        tool_put_value(&p->out, s, p->type);
    }
    put_out(p);
    p->pos += at + n;
    settle(p);
    go(p, PARAMS);
    return true;
}

/* ---- code ---- */

static bool in_quotes(struct tool_parser *p, struct sv text, size_t *at)
{
    const struct sv quote = sv_cstr(p->f->quote);
    const struct sv rest = { text.data + *at, text.len - *at };

    if (quote.len > 0) {
        if (sv_starts(rest, quote)) {
            p->in_quote = !p->in_quote;
            *at += quote.len;
            return true;
        }
        return p->in_quote;
    }
    if (p->in_quote) {
        if (*rest.data == '\\' && rest.len > 1)
            ++*at;
        else if (*rest.data == p->quote)
            p->in_quote = false;
    } else if (*rest.data == '"' || *rest.data == '\'') {
        p->in_quote = true;
        p->quote = *rest.data;
    } else {
        return false;
    }
    ++*at;
    return true;
}

static bool in_code(struct tool_parser *p)
{
    const struct sv text = ahead(p);
    const size_t n_quote = strlen(p->f->quote);
    const bool python = p->f->args == TOOL_ARGS_PYTHON;
    size_t at = p->seen;

    while (at < text.len) {
        const size_t before = at;

        if (n_quote > text.len - at && memcmp(text.data + at, p->f->quote, text.len - at) == 0 &&
            !p->final)
            break;              /* may be a quote */
        if (n_quote == 0 && text.data[at] == '\\' && at + 1 == text.len && !p->final)
            break;
        if (in_quotes(p, text, &at)) {
            at += at == before;
            continue;
        }
        if (strchr("([{", text.data[at]) && text.data[at])
            p->depth++;
        if (strchr(")]}", text.data[at]) && text.data[at] && --p->depth == 0) {
            const struct sv whole = trimmed((struct sv){ text.data, at + 1 });
            const bool ok = python ? tool_put_call(&p->out, whole)
                                   : tool_put_object(&p->out, whole, n_quote ? p->f->quote : NULL);

            if (!ok)
                str_append(&p->out, whole.data, whole.len);
            put_out(p);
            p->pos += at + 1;
            end_call(p, ok);
            go(p, CLOSE);
            return true;
        }
        at++;
    }
    p->seen = at;
    return false;
}

/* ---- behind a call ---- */

static bool at_close(struct tool_parser *p)
{
    const long n = literal_match(p->f->call_close, ahead(p));

    if (n == LITERAL_MORE && !p->final)
        return false;
    if (n > 0) {
        p->pos += (size_t)n;
        settle(p);
    }
    go(p, p->f->shape == TOOL_CHANNELS ? HEADER : p->f->array ? TEXT : BETWEEN);
    if (p->state == TEXT && !literal_solid(call_opening(p->f)) &&
        !literal_solid(p->f->section_open))
        go(p, TEXT_ONLY);
    return true;
}

/* The end of the section, the next call, or neither. */
static bool between(struct tool_parser *p)
{
    const struct tool_format *f = p->f;
    const struct sv text = ahead(p);
    const bool bare = !literal_solid(call_opening(f));
    long close = literal_solid(f->section_close) ? literal_match(f->section_close, text) : LITERAL_NO;
    long sep = literal_solid(f->sep) ? literal_match(f->sep, text) : 0;
    long next;
    size_t at = 0;

    while (at < text.len && literal_blank(text.data[at]))
        at++;
    if ((at == text.len || close == LITERAL_MORE || sep == LITERAL_MORE) && !p->final)
        return false;
    if (close > 0) {
        p->pos += (size_t)close;
        settle(p);
        begin_text(p);
        return true;
    }
    if (sep >= 0 && at < text.len && p->n_calls < TOOL_MAX_CALLS &&
        (!bare || literal_solid(f->section_open))) {
        const struct sv rest = { text.data + sep, text.len - (size_t)sep };

        next = bare ? (literal_solid(f->sep) || rest.data[at] == '{' ? 1 : LITERAL_NO)
                    : literal_match(call_opening(f), rest);
        if (next == LITERAL_MORE && !p->final)
            return false;
        if (next >= 0) {
            p->pos += (size_t)sep;
            settle(p);
            new_call(p);
            return true;
        }
    }
    if (bare && !literal_solid(f->section_open))
        go(p, TEXT_ONLY);
    else
        begin_text(p);
    return true;
}

/* ---- channels ---- */

static bool word_char(char c)
{
    return !literal_blank(c) && c != '<';
}

/* The word behind `mark` in a header, empty when there is none. */
static struct sv word_behind(struct sv header, const char *mark)
{
    const struct sv m = trimmed(sv_cstr(mark));
    const char *at = m.len ? memmem(header.data, header.len, m.data, m.len) : NULL;
    struct sv s = { "", 0 };

    if (!at)
        return s;
    s.data = at + m.len;
    while (s.data + s.len < header.data + header.len && word_char(s.data[s.len]))
        s.len++;
    return s;
}

static bool in_header(struct tool_parser *p)
{
    const struct tool_format *f = p->f;
    const struct sv text = ahead(p);
    const struct sv next = trimmed(sv_cstr(f->channel_next));
    size_t n, at = literal_find(f->message_open, text, 0, &n);
    struct sv header, to, name, channel;

    if (text.len == 0)
        return false;
    /* it begins with the next message's opening, a channel, or whom it is for */
    header = trimmed(text);
    to = trimmed(sv_cstr(f->head[0].text));
    if (header.len > 0 && header.data[0] != '<' && !sv_starts(header, to) &&
        (p->final || !sv_starts(to, header))) {
        p->reasoning = false;
        go(p, BODY);
        return true;
    }
    if (at == text.len || n == 0) {
        if (text.len <= HEADER_MAX && !p->final)
            return false;
        p->reasoning = false;
        if (p->final && header.len) {
            p->pos = p->held.len;       /* cut in a header */
            settle(p);
            return false;
        }
        go(p, BODY);
        return true;
    }
    header = (struct sv){ text.data, at };
    if (sv_starts(trimmed(header), next))
        header = (struct sv){ trimmed(header).data + next.len, trimmed(header).len - next.len };
    name = word_behind(header, f->head[0].text);
    channel = word_behind(header, f->channel_open);
    str_reset(&p->name);
    str_reset(&p->id);
    str_append(&p->name, name.data, name.len);
    p->reasoning = channel.len && sv_eq_cstr(channel, f->think_channel);
    p->pos += at + n;
    p->blank_start = false;
    settle(p);
    if (good_name(sv_of(&p->name)) && p->n_calls < TOOL_MAX_CALLS) {
        p->reasoning = false;
        return begin_args(p);
    }
    go(p, BODY);
    return true;
}

static bool in_body(struct tool_parser *p)
{
    const struct tool_format *f = p->f;
    const struct sv text = ahead(p);
    size_t n = 0, at = *f->channel_end ? literal_find(f->channel_end, text, 0, &n) : text.len;

    if (at < text.len && n == 0 && p->final)
        at = text.len;
    if (at > 0)
        tell_ahead(p, at);
    if (n == 0)
        return false;
    p->pos += n;
    settle(p);
    p->reasoning = false;
    go(p, HEADER);
    return true;
}

/* ---- all of it ---- */

static bool step(struct tool_parser *p)
{
    switch (p->state) {
    case AT_START:  return in_start(p);
    case TEXT:      return in_text(p);
    case TEXT_ONLY: return only_text(p);
    case CALL:      return at_call(p);
    case HEAD:      return in_head(p);
    case ENVELOPE:  return in_envelope(p);
    case JSON_ARGS: return in_json_args(p);
    case PARAMS:    return in_params(p);
    case KEY:       return in_key(p);
    case VALUE:     return in_value(p);
    case CODE:      return in_code(p);
    case BROKEN:    return in_broken(p);
    case CLOSE:     return at_close(p);
    case BETWEEN:   return between(p);
    case HEADER:    return in_header(p);
    case BODY:      return in_body(p);
    }
    return false;
}

void tool_parser_push(struct tool_parser *p, struct sv text)
{
    str_append(&p->held, text.data, text.len);
    if (!tool_parser_ok(p)) {
        p->failed = true;
        return;
    }
    while (step(p) && tool_parser_ok(p))
        continue;
}

void tool_parser_finish(struct tool_parser *p)
{
    const bool marked = literal_solid(call_opening(p->f)) || literal_solid(p->f->section_open);

    if (!tool_parser_ok(p))
        return;
    if ((p->state == HEAD || p->state == CALL || (p->state == ENVELOPE && !p->begun)) && marked &&
        p->pos > 0) {
        p->pos = p->held.len;           /* a call cut before its name: nothing to tell */
        settle(p);
        go(p, TEXT_ONLY);
    }
    p->final = true;
    while (step(p) && tool_parser_ok(p))
        continue;
    if (p->begun)
        end_call(p, false);
    else if (p->state == ENVELOPE)
        no_call(p);
    p->final = false;
}
