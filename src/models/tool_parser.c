/* tool_parser.c: an answer as a stream of content and calls; see tool_parser.h.
 *
 * Text that is not understood yet is held; a state takes from its front what is certain. Until a
 * call's name is known nothing is given away, so that what turns out to be no call can still be
 * told as content. */
#include "models/tool_parser_internal.h"

#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "models/tool_literal.h"

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

struct sv parser_ahead(const struct tool_parser *p)
{
    return (struct sv){ p->held.len ? p->held.data + p->pos : "", p->held.len - p->pos };
}

/* Everything before pos is done with. */
void parser_settle(struct tool_parser *p)
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
    tell(p, (struct sv){ parser_ahead(p).data, n });
    p->pos += n;
    parser_settle(p);
}

void parser_put_args(struct tool_parser *p, struct sv s)
{
    if (s.len)
        p->sink->arguments(p->ctx, p->n_calls, s);
}

void parser_put_args_z(struct tool_parser *p, const char *z)
{
    parser_put_args(p, sv_cstr(z));
}

void parser_put_out(struct tool_parser *p)
{
    parser_put_args(p, sv_of(&p->out));
    str_reset(&p->out);
}

void parser_begin_call(struct tool_parser *p)
{
    p->begun = true;
    p->any_param = false;
    p->has_args = false;
    p->parameters = tool_parameters(p->tools, sv_of(&p->name));
    p->sink->begin(p->ctx, p->n_calls, sv_of(&p->name),
                   (struct sv){ p->id.len ? p->id.data : "", p->id.len });
}

void parser_end_call(struct tool_parser *p, bool complete)
{
    p->sink->end(p->ctx, p->n_calls++, complete);
    p->begun = false;
    p->content = false;
    p->blank_start = true;
    parser_settle(p);
}

void parser_go(struct tool_parser *p, enum state s)
{
    p->state = s;
    p->seen = 0;
}

static void begin_text(struct tool_parser *p)
{
    parser_go(p, p->f->shape == TOOL_CHANNELS ? HEADER : TEXT);
}

/* It was no call: all that was held of it is content. */
bool parser_no_call(struct tool_parser *p)
{
    const size_t n = p->pos;

    p->pos = 0;
    str_reset(&p->name);
    str_reset(&p->id);
    if (n == 0 && p->held.len > 0)
        tell_ahead(p, 1);
    else
        tell_ahead(p, n);
    parser_go(p, p->f->shape == TOOL_CHANNELS ? BODY : TEXT);
    return true;
}

/* ---- text ---- */

const char *parser_call_opening(const struct tool_format *f)
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
    parser_go(p, p->f->shape == TOOL_ENVELOPE ? ENVELOPE : HEAD);
}

/* The opening of a section or of a call, wherever it comes. */
static bool in_text(struct tool_parser *p)
{
    const bool section = literal_solid(p->f->section_open);
    const char *opening = section ? p->f->section_open : parser_call_opening(p->f);
    const struct sv text = parser_ahead(p);
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
    parser_settle(p);
    if (at == text.len || n == 0)
        return false;
    at -= blanks;
    if (section) {
        p->pos = at + n;
        parser_go(p, CALL);
    } else {
        p->pos = at;
        new_call(p);
    }
    return true;
}

static bool in_start(struct tool_parser *p)
{
    const struct sv text = parser_ahead(p);
    size_t at = 0;

    while (at < text.len && literal_blank(text.data[at]))
        at++;
    if (at == text.len && !p->final)
        return false;
    if (at < text.len && (text.data[at] == '{' || text.data[at] == '[')) {
        p->pos = at;
        new_call(p);
    } else {
        parser_go(p, TEXT_ONLY);
    }
    return true;
}

static bool only_text(struct tool_parser *p)
{
    if (parser_ahead(p).len > 0)
        tell_ahead(p, parser_ahead(p).len);
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

bool parser_good_name(struct sv s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.data[i] < 0x20 || strchr("\"'<>{}()[]", s.data[i]))
            return false;
    return s.len > 0 && s.len <= TOOL_NAME_MAX_BYTES;
}

struct sv parser_trimmed(struct sv s)
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
    parser_begin_call(p);
    parser_settle(p);
    p->depth = 0;
    p->in_quote = false;
    switch (p->f->args) {
    case TOOL_ARGS_JSON:
        json_scan_init(&p->scan);
        parser_go(p, JSON_ARGS);
        break;
    case TOOL_ARGS_TAGGED:
        parser_put_args_z(p, "{");
        parser_go(p, PARAMS);
        break;
    case TOOL_ARGS_PYTHON:
    case TOOL_ARGS_LOOSE:
        parser_go(p, CODE);
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
    const struct sv text = parser_ahead(p);
    const bool last = p->piece + 1 == f->n_head;
    size_t n, at = last ? find_args(p, text, &n)
                        : literal_find(f->head[p->piece + 1].text, text, 0, &n);
    struct sv s;

    if (at == text.len || n == 0) {
        if (text.len > HOLE_MAX || p->final)
            return parser_no_call(p);
        return false;
    }
    s = parser_trimmed((struct sv){ text.data, at });
    if (at + n > HOLE_MAX || !parser_good_name(s))
        return parser_no_call(p);
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
        return p->name.len ? begin_args(p) : parser_no_call(p);
    piece = &p->f->head[p->piece];
    if (piece->kind != TOOL_LITERAL)
        return in_hole(p, piece->kind);
    n = literal_match(piece->text, parser_ahead(p));
    if (n == LITERAL_MORE && !p->final)
        return false;
    if (n < 0)
        return parser_no_call(p);
    p->pos += (size_t)n;
    p->piece++;
    return true;
}

/* ---- behind a call ---- */

static bool at_close(struct tool_parser *p)
{
    const long n = literal_match(p->f->call_close, parser_ahead(p));

    if (n == LITERAL_MORE && !p->final)
        return false;
    if (n > 0) {
        p->pos += (size_t)n;
        parser_settle(p);
    }
    parser_go(p, p->f->shape == TOOL_CHANNELS ? HEADER : p->f->array ? TEXT : BETWEEN);
    if (p->state == TEXT && !literal_solid(parser_call_opening(p->f)) &&
        !literal_solid(p->f->section_open))
        parser_go(p, TEXT_ONLY);
    return true;
}

/* The end of the section, the next call, or neither. */
static bool between(struct tool_parser *p)
{
    const struct tool_format *f = p->f;
    const struct sv text = parser_ahead(p);
    const bool bare = !literal_solid(parser_call_opening(f));
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
        parser_settle(p);
        begin_text(p);
        return true;
    }
    if (sep >= 0 && at < text.len && p->n_calls < TOOL_MAX_CALLS &&
        (!bare || literal_solid(f->section_open))) {
        const struct sv rest = { text.data + sep, text.len - (size_t)sep };

        next = bare ? (literal_solid(f->sep) || rest.data[at] == '{' ? 1 : LITERAL_NO)
                    : literal_match(parser_call_opening(f), rest);
        if (next == LITERAL_MORE && !p->final)
            return false;
        if (next >= 0) {
            p->pos += (size_t)sep;
            parser_settle(p);
            new_call(p);
            return true;
        }
    }
    if (bare && !literal_solid(f->section_open))
        parser_go(p, TEXT_ONLY);
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
    const struct sv m = parser_trimmed(sv_cstr(mark));
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
    const struct sv text = parser_ahead(p);
    const struct sv next = parser_trimmed(sv_cstr(f->channel_next));
    size_t n, at = literal_find(f->message_open, text, 0, &n);
    struct sv header, to, name, channel;

    if (text.len == 0)
        return false;
    /* it begins with the next message's opening, a channel, or whom it is for */
    header = parser_trimmed(text);
    to = parser_trimmed(sv_cstr(f->head[0].text));
    if (header.len > 0 && header.data[0] != '<' && !sv_starts(header, to) &&
        (p->final || !sv_starts(to, header))) {
        p->reasoning = false;
        parser_go(p, BODY);
        return true;
    }
    if (at == text.len || n == 0 || at + n > HEADER_MAX) {
        if (text.len <= HEADER_MAX && !p->final)
            return false;
        p->reasoning = false;
        if (p->final && header.len) {
            p->pos = p->held.len;       /* cut in a header */
            parser_settle(p);
            return false;
        }
        parser_go(p, BODY);
        return true;
    }
    header = (struct sv){ text.data, at };
    if (sv_starts(parser_trimmed(header), next))
        header = (struct sv){ parser_trimmed(header).data + next.len, parser_trimmed(header).len - next.len };
    name = word_behind(header, f->head[0].text);
    channel = word_behind(header, f->channel_open);
    str_reset(&p->name);
    str_reset(&p->id);
    str_append(&p->name, name.data, name.len);
    p->reasoning = channel.len && sv_eq_cstr(channel, f->think_channel);
    p->pos += at + n;
    p->blank_start = false;
    parser_settle(p);
    if (parser_good_name(sv_of(&p->name)) && p->n_calls < TOOL_MAX_CALLS) {
        p->reasoning = false;
        return begin_args(p);
    }
    parser_go(p, BODY);
    return true;
}

static bool in_body(struct tool_parser *p)
{
    const struct tool_format *f = p->f;
    const struct sv text = parser_ahead(p);
    size_t n = 0, at = *f->channel_end ? literal_find(f->channel_end, text, 0, &n) : text.len;

    if (at < text.len && n == 0 && p->final)
        at = text.len;
    if (at > 0)
        tell_ahead(p, at);
    if (n == 0)
        return false;
    p->pos += n;
    parser_settle(p);
    p->reasoning = false;
    parser_go(p, HEADER);
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
    case ENVELOPE:  return parser_in_envelope(p);
    case JSON_ARGS: return parser_in_json_args(p);
    case PARAMS:    return parser_in_params(p);
    case KEY:       return parser_in_key(p);
    case VALUE:     return parser_in_value(p);
    case CODE:      return parser_in_code(p);
    case BROKEN:    return parser_in_broken(p);
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
    const bool marked = literal_solid(parser_call_opening(p->f)) || literal_solid(p->f->section_open);

    if (!tool_parser_ok(p))
        return;
    if ((p->state == HEAD || p->state == CALL || (p->state == ENVELOPE && !p->begun)) && marked &&
        p->pos > 0) {
        p->pos = p->held.len;           /* a call cut before its name: nothing to tell */
        parser_settle(p);
        parser_go(p, TEXT_ONLY);
    }
    p->final = true;
    while (step(p) && tool_parser_ok(p))
        continue;
    if (p->begun)
        parser_end_call(p, false);
    else if (p->state == ENVELOPE)
        parser_no_call(p);
    p->final = false;
}
