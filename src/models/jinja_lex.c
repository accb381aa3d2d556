/* jinja_lex.c: template text into tokens, as Jinja2's lexer does with
 * trim_blocks, lstrip_blocks and no kept trailing newline: the whitespace rules
 * of -, +, block ends and line starts are applied here, so that data tokens
 * hold exactly what is output. */
#include <string.h>

#include "base/utf8.h"
#include "models/jinja_ast.h"
#include "models/jinja_text.h"

struct lexer {
    struct jrt *rt;
    const char *s;           /* newlines normalised */
    size_t      n, at;
    uint32_t    line;
    bool        line_start;  /* the last match ended in a newline */
    struct jtoken *v;
    uint32_t    n_tokens, cap;
    struct jbuf brackets;    /* the closers we wait for */
};

static struct jtoken *push(struct lexer *x, enum jtok type)
{
    if (x->n_tokens == x->cap) {
        const uint32_t cap = x->cap ? x->cap * 2 : 64;
        struct jtoken *v = jalloc_array(x->rt, cap, sizeof *v);

        if (x->n_tokens)
            memcpy(v, x->v, x->n_tokens * sizeof *v);
        x->v = v;
        x->cap = cap;
    }
    x->v[x->n_tokens] = (struct jtoken){ .type = type, .line = x->line };
    return &x->v[x->n_tokens++];
}

static void NORETURN syntax(struct lexer *x, const char *what)
{
    x->rt->line = x->line;
    jfail(x->rt, WATT_EFORMAT, "%s", what);
}

static bool at_text(const struct lexer *x, size_t at, const char *z)
{
    const size_t n = strlen(z);

    return n <= x->n - at && memcmp(x->s + at, z, n) == 0;
}

static uint32_t count_lines(const char *p, size_t n)
{
    uint32_t lines = 0;

    for (size_t i = 0; i < n; i++)
        lines += p[i] == '\n';
    return lines;
}

/* Bytes of white space (Unicode's, as Python's \s) from `at`. */
static size_t skip_space(const struct lexer *x, size_t at)
{
    uint32_t cp;

    while (at < x->n) {
        const size_t n = utf8_decode(x->s + at, x->n - at, &cp, NULL);

        if (!ju_space(cp))
            break;
        at += n;
    }
    return at;
}

static size_t rstrip(const char *p, size_t n)
{
    while (n > 0) {
        size_t at = n - 1;
        uint32_t cp;

        while (at > 0 && ((unsigned char)p[at] & 0xC0) == 0x80)
            at--;
        utf8_decode(p + at, n - at, &cp, NULL);
        if (!ju_space(cp))
            break;
        n = at;
    }
    return n;
}

/* \r\n and \r become \n; one newline at the very end goes. */
static void normalise(struct lexer *x, const char *source, size_t n)
{
    char *p = jalloc(x->rt, n + 1);
    size_t len = 0;

    for (size_t i = 0; i < n; i++) {
        if (source[i] == '\r') {
            p[len++] = '\n';
            if (i + 1 < n && source[i + 1] == '\n')
                i++;
        } else {
            p[len++] = source[i];
        }
    }
    if (len > 0 && p[len - 1] == '\n')
        len--;
    x->s = p;
    x->n = len;
}

/* Emits text up to a tag whose sign and kind decide what is stripped. */
static void emit_data(struct lexer *x, size_t from, size_t to, char sign, bool is_variable)
{
    const size_t whole = to - from;
    size_t len = whole;

    if (sign == '-') {
        len = rstrip(x->s + from, len);
    } else if (sign != '+' && !is_variable) {
        size_t line = len;

        while (line > 0 && x->s[from + line - 1] != '\n')
            line--;
        /* Only white space between the line's start and the tag. */
        if ((line > 0 || x->line_start) && len > line) {
            size_t at = from + line;
            uint32_t cp;

            while (at < to) {
                const size_t n = utf8_decode(x->s + at, to - at, &cp, NULL);

                if (!ju_space(cp))
                    break;
                at += n;
            }
            if (at == to)
                len = line;
        }
    }
    if (len)
        push(x, T_DATA)->u.s = jstr_view(x->rt, x->s + from, len);
    x->line += count_lines(x->s + from, whole);
}

/* The end of a block or comment at `at` ("%}", "-%}", "+%}"): its end and what
 * it swallows after it, or 0 when there is none. */
static size_t match_end(const struct lexer *x, size_t at, const char *close, bool trim)
{
    if (x->s[at] == '-' && at_text(x, at + 1, close))
        return skip_space(x, at + 3);
    if (trim && x->s[at] == '+' && at_text(x, at + 1, close))
        return at + 3;
    if (!at_text(x, at, close))
        return 0;
    at += 2;
    return trim && at < x->n && x->s[at] == '\n' ? at + 1 : at;
}

/* "{% raw %}" at `at`: the byte after it, or 0. */
static size_t match_raw(const struct lexer *x, size_t at)
{
    at += 2;
    if (at < x->n && (x->s[at] == '-' || x->s[at] == '+'))
        at++;
    at = skip_space(x, at);
    if (!at_text(x, at, "raw"))
        return 0;
    at = skip_space(x, at + 3);
    if (at < x->n && x->s[at] == '-' && at_text(x, at + 1, "%}"))
        return skip_space(x, at + 3);
    return at_text(x, at, "%}") ? at + 2 : 0;
}

static void lex_raw(struct lexer *x)
{
    for (size_t p = x->at; p + 1 < x->n; p++) {
        size_t at, end;
        char sign = 0;

        if (!at_text(x, p, "{%"))
            continue;
        at = p + 2;
        if (at < x->n && (x->s[at] == '-' || x->s[at] == '+'))
            sign = x->s[at++];
        at = skip_space(x, at);
        if (!at_text(x, at, "endraw"))
            continue;
        at = skip_space(x, at + 6);
        end = at < x->n ? match_end(x, at, "%}", true) : 0;
        if (!end)
            continue;
        emit_data(x, x->at, p, sign, false);
        x->line += count_lines(x->s + p, end - p);
        x->line_start = x->s[end - 1] == '\n';
        x->at = end;
        return;
    }
    syntax(x, "missing end of raw directive");
}

static void lex_comment(struct lexer *x)
{
    for (size_t p = x->at; p < x->n; p++) {
        const size_t end = match_end(x, p, "#}", true);

        if (!end)
            continue;
        x->line += count_lines(x->s + x->at, end - x->at);
        x->line_start = x->s[end - 1] == '\n';
        x->at = end;
        return;
    }
    syntax(x, "missing end of comment tag");
}

/* ---- inside tags ---- */

static bool name_char(const struct lexer *x, size_t at, bool first, size_t *len)
{
    const unsigned char c = (unsigned char)x->s[at];
    uint32_t cp;

    *len = 1;
    if (c < 0x80)
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
               (!first && c >= '0' && c <= '9');
    *len = utf8_decode(x->s + at, x->n - at, &cp, NULL);
    return first ? ju_identifier_start(cp) : ju_identifier(cp);
}

static bool digit(const struct lexer *x, size_t at)
{
    return at < x->n && x->s[at] >= '0' && x->s[at] <= '9';
}

/* digits with single underscores between them; returns the end. */
static size_t digits(const struct lexer *x, size_t at)
{
    while (digit(x, at) || (at < x->n && x->s[at] == '_' && digit(x, at + 1)))
        at++;
    return at;
}

static size_t copy_number(struct lexer *x, size_t from, size_t to, char *out, size_t max)
{
    size_t n = 0;

    for (size_t i = from; i < to; i++) {
        if (x->s[i] == '_')
            continue;
        if (n + 1 >= max)
            syntax(x, "a number is too long");
        out[n++] = x->s[i];
    }
    out[n] = '\0';
    return n;
}

/* A fraction or an exponent makes a float; not right after a dot. */
static bool lex_float(struct lexer *x)
{
    size_t at = digits(x, x->at);
    bool is_float = false;
    char text[512];

    if (x->at > 0 && x->s[x->at - 1] == '.')
        return false;
    if (at < x->n && x->s[at] == '.' && digit(x, at + 1)) {
        at = digits(x, at + 1);
        is_float = true;
    }
    if (at < x->n && (x->s[at] == 'e' || x->s[at] == 'E')) {
        const size_t sign = at + 1 < x->n && (x->s[at + 1] == '+' || x->s[at + 1] == '-');

        if (digit(x, at + 1 + sign)) {
            at = digits(x, at + 1 + sign);
            is_float = true;
        }
    }
    if (!is_float)
        return false;
    copy_number(x, x->at, at, text, sizeof text);
    push(x, T_FLOAT)->u.f = jnum_parse(text);
    x->at = at;
    return true;
}

static int digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return 99;
}

static void lex_integer(struct lexer *x)
{
    size_t at = x->at;
    int base = 10;
    int64_t value = 0;

    if (x->s[at] == '0' && at + 1 < x->n) {
        const char c = x->s[at + 1] | 0x20;
        const int b = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 10;
        const size_t first = at + 2 < x->n && x->s[at + 2] == '_' ? at + 3 : at + 2;

        if (b != 10 && first < x->n && digit_value(x->s[first]) < b) {
            base = b;
            at = first;
        }
    }
    for (bool zero = base == 10 && x->s[at] == '0'; at < x->n; at++) {
        if (x->s[at] == '_' && at + 1 < x->n && digit_value(x->s[at + 1]) < (zero ? 1 : base))
            at++;
        if (digit_value(x->s[at]) >= (zero ? 1 : base))
            break;
        if (__builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, digit_value(x->s[at]), &value))
            syntax(x, "an integer does not fit in 64 bits");
    }
    push(x, T_INT)->u.i = value;
    x->at = at;
}

static int hex_digits(const char *p, size_t n, size_t want, uint32_t *cp)
{
    *cp = 0;
    if (n < want)
        return -1;
    for (size_t i = 0; i < want; i++) {
        if (digit_value(p[i]) > 15)
            return -1;
        *cp = *cp * 16 + (uint32_t)digit_value(p[i]);
    }
    return 0;
}

/* One escape at p[0] == '\\'; returns the bytes it took. */
static size_t unescape(struct lexer *x, struct jbuf *b, const char *p, size_t n)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    const char c = p[1];
    const char *simple = strchr(from, c);
    const size_t want = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    uint32_t cp = 0;
    size_t len = 1;

    if (c == '\n')
        return 2;
    if (simple && c) {
        jbuf_putc(x->rt, b, to[simple - from]);
        return 2;
    }
    if (want) {
        if (hex_digits(p + 2, n - 2, want, &cp) < 0 || cp > 0x10FFFF)
            syntax(x, "a truncated or illegal \\x, \\u or \\U escape");
        if (cp >= 0xD800 && cp < 0xE000)
            syntax(x, "a string escape makes a surrogate");
        jbuf_cp(x->rt, b, cp);
        return 2 + want;
    }
    if (c >= '0' && c <= '7') {
        while (len < 4 && len < n && p[len] >= '0' && p[len] <= '7')
            cp = cp * 8 + (uint32_t)(p[len++] - '0');
        jbuf_cp(x->rt, b, cp);
        return len;
    }
    if (c == 'N')
        syntax(x, "named \\N escapes are not supported");
    jbuf_putc(x->rt, b, '\\');      /* unknown: stays as it is */
    return 1;
}

static void lex_string(struct lexer *x)
{
    const char quote = x->s[x->at];
    const size_t from = x->at + 1;
    size_t end = from;
    bool escaped = false;
    struct jtoken *t;
    struct jbuf b = { 0 };

    while (end < x->n && x->s[end] != quote) {
        escaped |= x->s[end] == '\\';
        end += x->s[end] == '\\' ? 2 : 1;
    }
    if (end >= x->n)
        syntax(x, "a string is not closed");
    t = push(x, T_STRING);
    if (!escaped) {
        t->u.s = jstr_view(x->rt, x->s + from, end - from);
    } else {
        for (size_t i = from; i < end;) {
            if (x->s[i] == '\\') {
                i += unescape(x, &b, x->s + i, end - i);
            } else {
                jbuf_putc(x->rt, &b, x->s[i]);
                i++;
            }
        }
        x->v[x->n_tokens - 1].u.s = jbuf_str(x->rt, &b).u.s;
    }
    x->line += count_lines(x->s + x->at, end - x->at);
    x->at = end + 1;
}

static void brackets(struct lexer *x, char c)
{
    char want;

    if (c == '(' || c == '[' || c == '{') {
        jbuf_putc(x->rt, &x->brackets, c == '(' ? ')' : c == '[' ? ']' : '}');
        return;
    }
    if (c != ')' && c != ']' && c != '}')
        return;
    x->rt->line = x->line;
    if (x->brackets.len == 0)
        jfail(x->rt, WATT_EFORMAT, "unexpected '%c'", c);
    want = x->brackets.p[--x->brackets.len];
    if (want != c)
        jfail(x->rt, WATT_EFORMAT, "unexpected '%c', expected '%c'", c, want);
}

static void lex_operator(struct lexer *x)
{
    static const struct { char text[3]; uint8_t type; } ops[] = {
        { "//", T_FLOORDIV }, { "**", T_POW }, { "==", T_EQ }, { "!=", T_NE },
        { ">=", T_GE }, { "<=", T_LE }, { "+", T_ADD }, { "-", T_SUB }, { "/", T_DIV },
        { "*", T_MUL }, { "%", T_MOD }, { "~", T_TILDE }, { "[", T_LBRACKET },
        { "]", T_RBRACKET }, { "(", T_LPAREN }, { ")", T_RPAREN }, { "{", T_LBRACE },
        { "}", T_RBRACE }, { ">", T_GT }, { "<", T_LT }, { "=", T_ASSIGN }, { ".", T_DOT },
        { ":", T_COLON }, { "|", T_PIPE }, { ",", T_COMMA }, { ";", T_SEMICOLON },
    };

    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        if (!at_text(x, x->at, ops[i].text))
            continue;
        brackets(x, x->s[x->at]);
        push(x, (enum jtok)ops[i].type);
        x->at += strlen(ops[i].text);
        return;
    }
    x->rt->line = x->line;
    jfail(x->rt, WATT_EFORMAT, "unexpected character '%c'", x->s[x->at]);
}

static void lex_tag(struct lexer *x, bool variable)
{
    const char *close = variable ? "}}" : "%}";

    x->brackets.len = 0;
    while (x->at < x->n) {
        const size_t space = skip_space(x, x->at);
        size_t end, len;

        jcharge(x->rt, 1);
        /* An end only counts where all brackets are closed. */
        end = x->brackets.len == 0 ? match_end(x, x->at, close, !variable) : 0;
        if (end) {
            push(x, variable ? T_VAR_END : T_BLOCK_END);
            x->line += count_lines(x->s + x->at, end - x->at);
            x->line_start = x->s[end - 1] == '\n';
            x->at = end;
            return;
        }
        if (space > x->at) {
            x->line += count_lines(x->s + x->at, space - x->at);
            x->at = space;
        } else if (digit(x, x->at)) {
            if (!lex_float(x))
                lex_integer(x);
        } else if (name_char(x, x->at, true, &len)) {
            const size_t from = x->at;

            do
                x->at += len;
            while (x->at < x->n && name_char(x, x->at, false, &len));
            push(x, T_NAME)->u.s = jstr_view(x->rt, x->s + from, x->at - from);
        } else if (x->s[x->at] == '"' || x->s[x->at] == '\'') {
            lex_string(x);
        } else {
            lex_operator(x);
        }
    }
}

struct jtoken *jlex(struct jrt *rt, const char *source, size_t n, uint32_t *n_tokens)
{
    struct lexer x = { .rt = rt, .line = 1, .line_start = true };

    normalise(&x, source, n);
    while (x.at < x.n) {
        const char *brace = x.s + x.at;
        size_t p, raw;
        char sign, c = 0;

        for (;; brace++) {
            brace = memchr(brace, '{', x.n - (size_t)(brace - x.s));
            if (!brace || (size_t)(brace - x.s) + 1 >= x.n) {
                brace = NULL;
                break;
            }
            c = brace[1];
            if (c == '%' || c == '{' || c == '#')
                break;
        }
        if (!brace) {
            push(&x, T_DATA)->u.s = jstr_view(rt, x.s + x.at, x.n - x.at);
            break;
        }
        p = (size_t)(brace - x.s);
        sign = p + 2 < x.n && (x.s[p + 2] == '-' || x.s[p + 2] == '+') ? x.s[p + 2] : '\0';
        emit_data(&x, x.at, p, sign, c == '{');
        raw = c == '%' ? match_raw(&x, p) : 0;
        if (raw) {
            x.line += count_lines(x.s + p, raw - p);
            x.line_start = x.s[raw - 1] == '\n';
            x.at = raw;
            lex_raw(&x);
            continue;
        }
        x.at = p + 2 + (sign != '\0');
        x.line_start = false;
        if (c == '#') {
            lex_comment(&x);
            continue;
        }
        push(&x, c == '{' ? T_VAR_BEGIN : T_BLOCK_BEGIN);
        lex_tag(&x, c == '{');
    }
    push(&x, T_EOF);
    *n_tokens = x.n_tokens;
    return x.v;
}
