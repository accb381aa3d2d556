/* tool_parser_args.c: arguments of calls as they are written: JSON, envelopes with the name in them,
 * tagged parameters, calls and objects of other languages. See tool_parser.h. */
#include "models/tool_parser_internal.h"

#include <string.h>

#include "base/json.h"
#include "models/tool_literal.h"

/* ---- JSON ---- */

static bool close_after(struct tool_parser *p)
{
    parser_end_call(p, true);
    parser_go(p, CLOSE);
    return true;
}

bool parser_in_json_args(struct tool_parser *p)
{
    const struct sv text = parser_ahead(p);
    size_t at = 0, from;

    if (p->scan.depth == 0)
        while (at < text.len && literal_blank(text.data[at]))
            at++;
    if (p->scan.depth == 0 && at < text.len && text.data[at] != '{') {
        long n;

        p->pos += at;       /* however much of the white space came at once */
        parser_settle(p);
        n = literal_match(p->f->call_close, parser_ahead(p));
        if (n == LITERAL_MORE && !p->final)
            return false;
        if (n > 0) {
            parser_put_args_z(p, "{}");
            return close_after(p);
        }
        parser_go(p, BROKEN);
        return true;
    }
    from = at;
    for (; at < text.len; at++) {
        const unsigned flags = json_scan_push(&p->scan, (unsigned char)text.data[at]);

        if (flags & JSON_SCAN_BAD) {
            parser_put_args(p, (struct sv){ text.data + from, at - from });
            p->pos += at;
            parser_settle(p);
            parser_go(p, BROKEN);
            return true;
        }
        if (flags & JSON_SCAN_DONE) {
            parser_put_args(p, (struct sv){ text.data + from, at + 1 - from });
            p->pos += at + 1;
            return close_after(p);
        }
    }
    parser_put_args(p, (struct sv){ text.data + from, at - from });
    p->pos += at;
    parser_settle(p);
    return false;
}

/* Whatever it is up to the end of the call. */
bool parser_in_broken(struct tool_parser *p)
{
    const struct sv text = parser_ahead(p);
    const char *close = literal_solid(p->f->call_close) ? p->f->call_close
                        : literal_solid(p->f->section_close) ? p->f->section_close : NULL;
    size_t n = 0, at = close ? literal_find(close, text, 0, &n) : text.len;

    if (at < text.len && n == 0 && p->final)
        at = text.len;
    parser_put_args(p, (struct sv){ text.data, at });
    p->pos += at;
    parser_settle(p);
    if (n == 0)
        return false;
    parser_end_call(p, false);
    parser_go(p, CLOSE);
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
    return literal_solid(parser_call_opening(p->f)) || literal_solid(p->f->section_open) ||
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
        if (!parser_good_name(sv_of(&p->name)) || !known(p))
            return false;
        parser_begin_call(p);
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
            if (!parser_good_name(sv_of(&p->name)) || !known(p))
                return false;
            parser_begin_call(p);
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
            parser_put_out(p);
            parser_end_call(p, true);
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

bool parser_in_envelope(struct tool_parser *p)
{
    const char *opening = parser_call_opening(p->f);

    if (p->piece == 0) {
        const long n = literal_match(opening, parser_ahead(p));

        if (n == LITERAL_MORE && !p->final)
            return false;
        if (n < 0)
            return parser_no_call(p);
        p->pos += (size_t)n;
        p->piece = 1;
    }
    while (p->pos < p->held.len) {
        bool over;
        char c;
        const size_t n = next_char(p, parser_ahead(p), &c);

        if (n == 0)
            break;
        if (p->scan.depth == 0 && !literal_blank(c) && c != '{' && c != '[')
            return parser_no_call(p);
        if (!envelope_byte(p, c, &over)) {
            if (!p->begun)
                return parser_no_call(p);
            parser_put_out(p);
            parser_settle(p);
            parser_go(p, BROKEN);
            return true;
        }
        p->pos += n;
        if (over) {
            parser_settle(p);
            parser_go(p, CLOSE);
            return true;
        }
    }
    if (p->begun) {
        parser_put_out(p);
        parser_settle(p);
    }
    return false;
}

/* ---- tagged parameters ---- */

static bool end_params(struct tool_parser *p, bool complete)
{
    parser_put_args_z(p, "}");
    parser_end_call(p, complete);
    parser_go(p, CLOSE);
    return true;
}

bool parser_in_params(struct tool_parser *p)
{
    const struct sv text = parser_ahead(p);
    const long open = literal_match(p->f->param_open, text);
    const long close = literal_solid(p->f->call_close) ? literal_match(p->f->call_close, text)
                                                       : LITERAL_NO;

    if (open >= 0) {
        p->pos += (size_t)open;
        parser_settle(p);
        parser_go(p, KEY);
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

bool parser_in_key(struct tool_parser *p)
{
    const struct sv text = parser_ahead(p);
    bool string;
    size_t n, at = find_key_end(p->f, text, &n, &string);

    if (at == text.len || n == 0) {
        if (at <= TOOL_NAME_MAX_BYTES && text.len <= HOLE_MAX && !p->final)
            return false;
        return end_params(p, false);
    }
    if (at > TOOL_NAME_MAX_BYTES || at + n > HOLE_MAX)   /* however much of it came at once */
        return end_params(p, false);
    str_reset(&p->key);
    str_append(&p->key, text.data, at);
    p->type = tool_type_of(p->parameters, parser_trimmed(sv_of(&p->key)));
    if (*p->f->key_end_other)
        p->type = string ? TOOL_TYPE_STRING : TOOL_TYPE_OTHER;
    p->value_begun = false;
    p->pos += at + n;
    parser_settle(p);
    parser_go(p, VALUE);
    return true;
}

static void begin_param(struct tool_parser *p)
{
    const struct sv key = parser_trimmed(sv_of(&p->key));

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

bool parser_in_value(struct tool_parser *p)
{
    const struct sv text = parser_ahead(p);
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
        parser_put_out(p);
        p->pos += at;
        parser_settle(p);
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
    parser_put_out(p);
    p->pos += at + n;
    parser_settle(p);
    parser_go(p, PARAMS);
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

bool parser_in_code(struct tool_parser *p)
{
    const struct sv text = parser_ahead(p);
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
            const struct sv whole = parser_trimmed((struct sv){ text.data, at + 1 });
            const bool ok = python ? tool_put_call(&p->out, whole)
                                   : tool_put_object(&p->out, whole, n_quote ? p->f->quote : NULL);

            if (!ok)
                str_append(&p->out, whole.data, whole.len);
            parser_put_out(p);
            p->pos += at + 1;
            parser_end_call(p, ok);
            parser_go(p, CLOSE);
            return true;
        }
        at++;
    }
    p->seen = at;
    return false;
}
