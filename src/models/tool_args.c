/* tool_args.c: notations of arguments; see tool_args.h. A reader of literals as Python, JSON and
 * their relatives write them, strict enough to refuse prose. */
#include "models/tool_args.h"

#include <string.h>

#include "base/json.h"
#include "models/tool_literal.h"

#define MAX_HOPS 16u            /* of references in a schema */

/* ---- schemas ---- */

static const json_t *function_of(const json_t *tool)
{
    const json_t *fn = json_object_get(tool, "function");

    return fn ? fn : tool;
}

static const json_t *find_tool(const json_t *tools, struct sv name)
{
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *fn = function_of(json_array_get(tools, i));
        const json_t *n = json_object_get(fn, "name");

        if (json_is_string(n) &&
            sv_eq(name, (struct sv){ json_string_value(n), json_string_length(n) }))
            return fn;
    }
    return NULL;
}

bool tool_declared(const json_t *tools, struct sv name)
{
    return find_tool(tools, name) != NULL;
}

const json_t *tool_parameters(const json_t *tools, struct sv name)
{
    const json_t *fn = find_tool(tools, name), *p = json_object_get(fn, "parameters");

    if (!p)
        p = json_object_get(fn, "input_schema");
    return json_is_object(p) ? p : NULL;
}

const json_t *tool_schema_at(const json_t *root, const char *ref)
{
    const json_t *at = root;
    char key[128];

    if (strncmp(ref, "#/", 2) != 0)
        return NULL;
    for (ref += 2; *ref && at;) {
        const size_t n = strcspn(ref, "/");

        if (n >= sizeof key)
            return NULL;
        memcpy(key, ref, n);
        key[n] = '\0';
        at = json_object_get(at, key);
        ref += n + (ref[n] == '/');
    }
    return at;
}

#define MAY_STRING 1u
#define MAY_OTHER  2u

static unsigned of_name(const json_t *type)
{
    const char *s = json_string_value(type);

    return s && strcmp(s, "string") == 0 ? MAY_STRING : MAY_OTHER;
}

static unsigned may_be(const json_t *root, const json_t *schema, unsigned hops)
{
    static const char *const lists[] = { "anyOf", "oneOf", "allOf" };
    const json_t *v = json_object_get(schema, "type");
    unsigned found = 0;

    if (hops == 0 || !json_is_object(schema))
        return MAY_STRING | MAY_OTHER;
    if (json_is_string(v))
        return of_name(v);
    for (size_t i = 0; i < json_array_size(v); i++)
        found |= of_name(json_array_get(v, i));
    if (found)
        return found;
    v = json_object_get(schema, "enum");
    for (size_t i = 0; i < json_array_size(v); i++)
        found |= json_is_string(json_array_get(v, i)) ? MAY_STRING : MAY_OTHER;
    v = json_object_get(schema, "const");
    if (v)
        found |= json_is_string(v) ? MAY_STRING : MAY_OTHER;
    v = json_object_get(schema, "$ref");
    if (json_is_string(v))
        found |= may_be(root, tool_schema_at(root, json_string_value(v)), hops - 1);
    for (size_t k = 0; k < sizeof lists / sizeof *lists && !found; k++) {
        v = json_object_get(schema, lists[k]);
        for (size_t i = 0; i < json_array_size(v) && i < 64; i++)
            found |= may_be(root, json_array_get(v, i), hops / 2);
    }
    return found ? found : MAY_STRING | MAY_OTHER;
}

enum tool_type tool_type_of(const json_t *parameters, struct sv key)
{
    const json_t *props = json_object_get(parameters, "properties");
    const json_t *schema = json_is_object(props) ? json_object_getn(props, key.data, key.len) : NULL;

    if (!schema)
        return TOOL_TYPE_ANY;
    switch (may_be(parameters, schema, MAX_HOPS)) {
    case MAY_STRING: return TOOL_TYPE_STRING;
    case MAY_OTHER:  return TOOL_TYPE_OTHER;
    default:         return TOOL_TYPE_ANY;
    }
}

/* ---- literals ---- */

struct reader {
    const char *p, *end;
    const char *quote;          /* NULL: ' and " */
    struct str *out;
    unsigned    depth;
};

static bool put(struct reader *r);

static void skip(struct reader *r)
{
    while (r->p < r->end && literal_blank(*r->p))
        r->p++;
}

static bool at(struct reader *r, char c)
{
    skip(r);
    return r->p < r->end && *r->p == c;
}

static bool take(struct reader *r, char c)
{
    if (!at(r, c))
        return false;
    r->p++;
    return true;
}

static struct sv rest(const struct reader *r)
{
    return (struct sv){ r->p, (size_t)(r->end - r->p) };
}

static bool letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A name: letters, digits, and what names of parameters hold. */
static struct sv name_of(struct reader *r)
{
    const char *from;

    skip(r);
    from = r->p;
    while (r->p < r->end && (letter(*r->p) || digit(*r->p) || *r->p == '-' || *r->p == '.' ||
                             *r->p == '$'))
        r->p++;
    return (struct sv){ from, (size_t)(r->p - from) };
}

static int hex_of(char c)
{
    return digit(c) ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

static void put_point(struct str *s, uint32_t c)
{
    if (c < 0x80) {
        str_putc(s, (char)c);
    } else if (c < 0x800) {
        str_putc(s, (char)(0xC0 | c >> 6));
        str_putc(s, (char)(0x80 | (c & 63)));
    } else if (c < 0x10000) {
        str_putc(s, (char)(0xE0 | c >> 12));
        str_putc(s, (char)(0x80 | (c >> 6 & 63)));
        str_putc(s, (char)(0x80 | (c & 63)));
    } else {
        str_putc(s, (char)(0xF0 | c >> 18));
        str_putc(s, (char)(0x80 | (c >> 12 & 63)));
        str_putc(s, (char)(0x80 | (c >> 6 & 63)));
        str_putc(s, (char)(0x80 | (c & 63)));
    }
}

static bool hex_digits(struct reader *r, unsigned n, uint32_t *v)
{
    *v = 0;
    for (; n > 0; n--) {
        const int h = r->p < r->end ? hex_of(*r->p) : -1;

        if (h < 0)
            return false;
        *v = *v << 4 | (uint32_t)h;
        r->p++;
    }
    return true;
}

static bool escape(struct reader *r, struct str *s)
{
    static const char from[] = "nrtbf0\\'\"/", to[] = "\n\r\t\b\f\0\\'\"/";
    const char c = *r->p++;
    const char *k = memchr(from, c, sizeof from - 1);
    uint32_t v, low;

    if (k) {
        str_putc(s, to[k - from]);
        return true;
    }
    if (c == '\n')
        return true;
    if (c != 'u' && c != 'x' && c != 'U') {
        str_putc(s, '\\');
        str_putc(s, c);
        return true;
    }
    if (!hex_digits(r, c == 'x' ? 2 : c == 'u' ? 4 : 8, &v))
        return false;
    if (v >= 0xD800 && v < 0xDC00 && r->end - r->p >= 6 && r->p[0] == '\\' && r->p[1] == 'u') {
        r->p += 2;
        if (!hex_digits(r, 4, &low))
            return false;
        v = low >= 0xDC00 && low < 0xE000 ? 0x10000 + ((v - 0xD800) << 10) + (low - 0xDC00) : 0xFFFD;
    }
    put_point(s, v > 0x10FFFF || (v >= 0xD800 && v < 0xE000) ? 0xFFFD : v);
    return true;
}

/* A string between the given quotes; escapes only where quotes are one character. */
static bool put_string(struct reader *r, struct sv quote)
{
    struct str s;
    bool ok = false;

    str_init(&s, 0);
    r->p += quote.len;
    while (r->p < r->end) {
        if (sv_starts(rest(r), quote)) {
            r->p += quote.len;
            ok = true;
            break;
        }
        if (*r->p == '\\' && quote.len == 1 && r->p + 1 < r->end) {
            r->p++;
            if (!escape(r, &s))
                break;
        } else {
            str_putc(&s, *r->p++);
        }
    }
    ok = ok && str_ok(&s);
    if (ok)
        json_put_str(r->out, (struct sv){ s.len ? s.data : "", s.len });
    str_deinit(&s);
    return ok;
}

static bool quote_at(struct reader *r, struct sv *quote)
{
    static const char *const triple[] = { "'''", "\"\"\"" };

    skip(r);
    if (r->quote && sv_starts(rest(r), sv_cstr(r->quote))) {
        *quote = sv_cstr(r->quote);
        return true;
    }
    for (size_t i = 0; i < 2; i++)
        if (sv_starts(rest(r), sv_cstr(triple[i]))) {
            *quote = sv_cstr(triple[i]);
            return true;
        }
    *quote = (struct sv){ r->p, 1 };
    return r->p < r->end && (*r->p == '"' || *r->p == '\'');
}

/* JSON's numbers, and those of Python that JSON lacks: 1_000, .5, 1., +1. */
static bool put_number(struct reader *r)
{
    char text[64];
    size_t n = 0;
    json_t *v;

    if (take(r, '-'))
        text[n++] = '-';
    else
        (void)take(r, '+');
    if (r->p < r->end && *r->p == '.')
        text[n++] = '0';
    for (; r->p < r->end && n + 2 < sizeof text; r->p++) {
        const char c = *r->p;

        if (c == '_')
            continue;
        if (!digit(c) && c != '.' && (c | 32) != 'e' && !((c == '-' || c == '+') && n > 0 &&
                                                          (text[n - 1] | 32) == 'e'))
            break;
        if (n > 0 && text[n - 1] == '.' && !digit(c))
            text[n++] = '0';
        text[n++] = c;
    }
    if (n > 0 && text[n - 1] == '.')
        text[n++] = '0';
    v = json_loadb(text, n, JSON_DECODE_ANY, NULL);
    json_decref(v);
    if (!v)
        return false;
    str_append(r->out, text, n);
    return true;
}

static bool put_word(struct reader *r)
{
    static const struct { const char *word, *json; } words[] = {
        { "True", "true" }, { "False", "false" }, { "None", "null" },
        { "true", "true" }, { "false", "false" }, { "null", "null" } };
    const struct sv name = name_of(r);

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (sv_eq_cstr(name, words[i].word)) {
            str_puts(r->out, words[i].json);
            return true;
        }
    return false;
}

static bool put_items(struct reader *r, char close)
{
    str_putc(r->out, '[');
    for (size_t n = 0; !at(r, close); n++) {
        if (n > 0) {
            if (!take(r, ','))
                return false;
            if (at(r, close))
                break;
            str_puts(r->out, ", ");
        }
        if (!put(r))
            return false;
    }
    str_putc(r->out, ']');
    return take(r, close);
}

/* Members up to `close`; `colon` between keys and values. */
static bool put_members(struct reader *r, char close, char colon)
{
    str_putc(r->out, '{');
    for (size_t n = 0; !at(r, close); n++) {
        struct sv quote, name;

        if (n > 0) {
            if (!take(r, ','))
                return false;
            if (at(r, close))
                break;
            str_puts(r->out, ", ");
        }
        if (colon == ':' && quote_at(r, &quote)) {
            if (!put_string(r, quote))
                return false;
        } else {
            name = name_of(r);
            if (name.len == 0)
                return false;
            json_put_str(r->out, name);
        }
        if (!take(r, colon))
            return false;
        str_puts(r->out, ": ");
        if (!put(r))
            return false;
    }
    str_putc(r->out, '}');
    return take(r, close);
}

static bool put(struct reader *r)
{
    struct sv quote;
    bool ok;

    if (++r->depth > TOOL_ARGS_MAX_DEPTH)
        return false;
    if (quote_at(r, &quote))
        ok = put_string(r, quote);
    else if (take(r, '['))
        ok = put_items(r, ']');
    else if (take(r, '('))
        ok = put_items(r, ')');
    else if (take(r, '{'))
        ok = put_members(r, '}', ':');
    else if (r->p < r->end && (digit(*r->p) || *r->p == '-' || *r->p == '+' || *r->p == '.'))
        ok = put_number(r);
    else
        ok = put_word(r);
    r->depth--;
    return ok;
}

static bool whole(struct reader *r, size_t before, bool ok)
{
    skip(r);
    if (ok && r->p == r->end && str_ok(r->out))
        return true;
    if (r->out->data)
        r->out->data[before] = '\0';
    r->out->len = before;
    return false;
}

bool tool_put_object(struct str *out, struct sv text, const char *quote)
{
    struct reader r = { text.data, text.data + text.len, quote, out, 0 };
    const size_t before = out->len;

    return whole(&r, before, take(&r, '{') && put_members(&r, '}', ':'));
}

bool tool_put_call(struct str *out, struct sv text)
{
    struct reader r = { text.data, text.data + text.len, NULL, out, 0 };
    const size_t before = out->len;

    return whole(&r, before, take(&r, '(') && put_members(&r, ')', '='));
}

void tool_put_value(struct str *out, struct sv raw, enum tool_type type)
{
    const size_t before = out->len;
    const struct sv open = sv_cstr(TOOL_CDATA), close = SV("]]>");
    json_t *v = NULL;

    if (sv_starts(raw, open) && sv_ends(raw, close) && raw.len >= open.len + close.len)
        raw = (struct sv){ raw.data + open.len, raw.len - open.len - close.len };

    if (type != TOOL_TYPE_STRING) {
        struct reader r = { raw.data, raw.data + raw.len, NULL, out, 0 };

        v = json_loadb(raw.data, raw.len, JSON_DECODE_ANY, NULL);
        if (v && (type == TOOL_TYPE_OTHER || !json_is_string(v))) {
            json_decref(v);
            while (raw.len && literal_blank(raw.data[0])) {
                raw.data++;
                raw.len--;
            }
            while (raw.len && literal_blank(raw.data[raw.len - 1]))
                raw.len--;
            str_append(out, raw.data, raw.len);
            return;
        }
        if (!v && raw.len > 0 && whole(&r, before, put(&r)) && out->data[before] != '"')
            return;
        json_decref(v);
        if (out->data)
            out->data[before] = '\0';
        out->len = before;
    }
    json_put_str(out, raw);
}
