/* tok_split.c: pre-tokenizers written out by hand. Each does what the pattern
 * beside it in tok_pretok.c does, character for character (test_pretok compares
 * them), at a multiple of a regular expression's speed and in linear time.
 *
 * Character classes come from utf8proc's Unicode tables; white space is the
 * property White_Space, as in Oniguruma and Rust. A byte that is no UTF-8 counts
 * as a control character of one byte. */
#include <utf8proc.h>

#include "models/tok_impl.h"

/* ---- classes ---- */

#define C UC_CONTROL
#define W (UC_CONTROL | UC_SPACE)
#define P UC_P
#define S UC_S
#define D (UC_N | UC_ND)
#define U UC_L_UPPER
#define L UC_L_LOWER
const uint16_t uc_ascii[128] = {
    C, C, C, C, C, C, C, C, C, W, W, W, W, W, C, C,
    C, C, C, C, C, C, C, C, C, C, C, C, C, C, C, C,
    UC_SPACE, P, P, P, S, P, P, P, P, P, P, S, P, P, P, P,
    D, D, D, D, D, D, D, D, D, D, P, P, S, S, S, P,
    P, U, U, U, U, U, U, U, U, U, U, U, U, U, U, U,
    U, U, U, U, U, U, U, U, U, U, U, P, P, P, S, P | UC_CONNECT,
    S, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L,
    L, L, L, L, L, L, L, L, L, L, L, P, S, P, S, C,
};
#undef C
#undef W
#undef P
#undef S
#undef D
#undef U
#undef L

unsigned uc_class_slow(uint32_t cp)
{
    static const uint16_t of_category[] = {
        [UTF8PROC_CATEGORY_CN] = 0,
        [UTF8PROC_CATEGORY_LU] = UC_L_UPPER, [UTF8PROC_CATEGORY_LT] = UC_L_UPPER,
        [UTF8PROC_CATEGORY_LL] = UC_L_LOWER,
        [UTF8PROC_CATEGORY_LM] = UC_L_OTHER, [UTF8PROC_CATEGORY_LO] = UC_L_OTHER,
        [UTF8PROC_CATEGORY_MN] = UC_M | UC_MN,
        [UTF8PROC_CATEGORY_MC] = UC_M, [UTF8PROC_CATEGORY_ME] = UC_M,
        [UTF8PROC_CATEGORY_ND] = UC_N | UC_ND,
        [UTF8PROC_CATEGORY_NL] = UC_N, [UTF8PROC_CATEGORY_NO] = UC_N,
        [UTF8PROC_CATEGORY_PC] = UC_P | UC_CONNECT,
        [UTF8PROC_CATEGORY_PD] = UC_P, [UTF8PROC_CATEGORY_PS] = UC_P,
        [UTF8PROC_CATEGORY_PE] = UC_P, [UTF8PROC_CATEGORY_PI] = UC_P,
        [UTF8PROC_CATEGORY_PF] = UC_P, [UTF8PROC_CATEGORY_PO] = UC_P,
        [UTF8PROC_CATEGORY_SM] = UC_S, [UTF8PROC_CATEGORY_SC] = UC_S,
        [UTF8PROC_CATEGORY_SK] = UC_S, [UTF8PROC_CATEGORY_SO] = UC_S,
        [UTF8PROC_CATEGORY_ZS] = UC_SPACE, [UTF8PROC_CATEGORY_ZL] = UC_SPACE,
        [UTF8PROC_CATEGORY_ZP] = UC_SPACE,
        [UTF8PROC_CATEGORY_CC] = UC_CONTROL, [UTF8PROC_CATEGORY_CF] = UC_CONTROL,
        [UTF8PROC_CATEGORY_CS] = UC_CONTROL, [UTF8PROC_CATEGORY_CO] = UC_CONTROL,
    };

    if (cp < 128)
        return uc_ascii[cp];
    if (cp == 0x85)     /* NEL: a control character that is white space */
        return UC_CONTROL | UC_SPACE;
    return of_category[utf8proc_category((utf8proc_int32_t)cp)];
}

/* Script=Han, Unicode 15. */
bool uc_is_han(uint32_t cp)
{
    static const uint32_t ranges[][2] = {
        { 0x2E80, 0x2E99 }, { 0x2E9B, 0x2EF3 }, { 0x2F00, 0x2FD5 }, { 0x3005, 0x3005 },
        { 0x3007, 0x3007 }, { 0x3021, 0x3029 }, { 0x3038, 0x303B }, { 0x3400, 0x4DBF },
        { 0x4E00, 0x9FFF }, { 0xF900, 0xFA6D }, { 0xFA70, 0xFAD9 }, { 0x16FE2, 0x16FE3 },
        { 0x16FF0, 0x16FF1 }, { 0x20000, 0x2A6DF }, { 0x2A700, 0x2B739 }, { 0x2B740, 0x2B81D },
        { 0x2B820, 0x2CEA1 }, { 0x2CEB0, 0x2EBE0 }, { 0x2F800, 0x2FA1D }, { 0x30000, 0x3134A },
        { 0x31350, 0x323AF },
    };

    if (cp < 0x2E80)
        return false;
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (cp <= ranges[i][1])
            return cp >= ranges[i][0];
    return false;
}

static uint32_t char_at(const char *s, size_t i, size_t n)
{
    uint32_t cp;

    (void)utf8_decode(s + i, n - i, &cp, NULL);
    return cp;
}

/* \w: letters, marks, decimal digits, connectors, and what is Alphabetic besides. */
static bool is_word(unsigned cls, uint32_t cp)
{
    if (cls & (UC_L | UC_M | UC_ND | UC_CONNECT))
        return true;
    if (cls & UC_N)     /* Nl is alphabetic, No is not */
        return utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_NL;
    return (cp >= 0x24B6 && cp <= 0x24E9) || (cp >= 0x1F130 && cp <= 0x1F149) ||
           (cp >= 0x1F150 && cp <= 0x1F169) || (cp >= 0x1F170 && cp <= 0x1F189);
}

/* ---- pieces of patterns; each returns the end of what it took ---- */

/* Characters of any class in `want` and none in `avoid`. */
static size_t run_of(const char *s, size_t i, size_t n, unsigned want)
{
    size_t len;

    while (i < n && (uc_at(s, i, n, &len) & want))
        i += len;
    return i;
}

static size_t run_but(const char *s, size_t i, size_t n, unsigned avoid)
{
    size_t len;

    while (i < n && !(uc_at(s, i, n, &len) & avoid))
        i += len;
    return i;
}

static size_t numbers(const char *s, size_t i, size_t n, unsigned max)
{
    size_t len;

    for (unsigned k = 0; i < n && (max == 0 || k < max); k++) {
        if (!(uc_at(s, i, n, &len) & UC_N))
            break;
        i += len;
    }
    return i;
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d) at s[i]; i when there is none. Ignoring case, s
 * is also U+017F. */
static size_t contraction(const char *s, size_t i, size_t n)
{
    char a, b;

    if (n - i < 2 || s[i] != '\'')
        return i;
    a = (char)(s[i + 1] | 0x20);
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return i + 2;
    if (n - i < 3)
        return i;
    b = (char)(s[i + 2] | 0x20);
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l'))
        return i + 3;
    if (s[i + 1] == '\xC5' && s[i + 2] == '\xBF')
        return i + 3;
    return i;
}

/* The same with lower case only. */
static size_t contraction_lower(const char *s, size_t i, size_t n)
{
    if (n - i < 2 || s[i] != '\'')
        return i;
    switch (s[i + 1]) {
    case 's': case 't': case 'm': case 'd':
        return i + 2;
    case 'r': case 'v':
        return n - i >= 3 && s[i + 2] == 'e' ? i + 3 : i;
    case 'l':
        return n - i >= 3 && s[i + 2] == 'l' ? i + 3 : i;
    default:
        return i;
    }
}

/* \s+(?!\S)|\s+ where s[i] is white space. newlines: \s*[\r\n]+ comes first. */
static size_t spaces(const char *s, size_t i, size_t n, bool newlines)
{
    size_t j = i, last = i, after_newline = 0, len;

    while (j < n && (uc_at(s, j, n, &len) & UC_SPACE)) {
        last = j;
        j += len;
        if (s[last] == '\n' || s[last] == '\r')
            after_newline = j;
    }
    if (newlines && after_newline > 0)
        return after_newline;
    return j < n && last > i ? last : j;
}

/* As spaces() with newlines, but a run without line ends is cut into pieces of
 * 512, 256, … 4, 2, 1 characters that leave its last one out if text follows.
 * *free_to: up to there the run is known to hold no line end. */
static size_t spaces_cascade(const char *s, size_t i, size_t n, size_t *free_to)
{
    size_t at[514], k = 0, j = i, len;
    size_t max = 512;

    if (i >= *free_to) {
        const size_t end = run_of(s, i, n, UC_SPACE);

        for (j = end; j > i && s[j - 1] != '\n' && s[j - 1] != '\r'; j--)
            ;
        if (j > i)
            return j;
        *free_to = end;
    }
    for (j = i; k <= max && j < *free_to; j += len) {
        at[k++] = j;
        (void)uc_at(s, j, n, &len);
    }
    at[k] = j;          /* k characters, at most 513 */
    if (k == 1)
        return j;
    while (max > 1 && !(max < k || (max == k && j == n)))
        max /= 2;
    return at[max];
}

static size_t gpt2_next(const char *s, size_t i, size_t n)
{
    size_t len, j = i;
    unsigned c;

    if (s[i] == '\'' && (j = contraction_lower(s, i, n)) > i)
        return j;
    c = uc_at(s, i, n, &len);
    if (s[i] == ' ' && i + 1 < n) {
        const unsigned d = uc_at(s, i + 1, n, &len);

        if (d & UC_SPACE)
            return spaces(s, i, n, false);
        i++;
        c = d;
    }
    if (c & UC_L)
        return run_of(s, i, n, UC_L);
    if (c & UC_N)
        return run_of(s, i, n, UC_N);
    if (c & UC_SPACE)
        return spaces(s, i, n, false);
    return run_but(s, i, n, UC_SPACE | UC_L | UC_N);
}

/* What GPT-4's pattern and its variations do after the letters: numbers,
 * punctuation, white space. */
static size_t tail_next(const struct split_stage *st, const char *s, size_t i, size_t n,
                        unsigned c, size_t *note)
{
    const unsigned not_punct = UC_SPACE | UC_L | UC_N | (st->flags & SPLIT_MARKS ? UC_M : 0);
    size_t len;

    if (c & UC_N)
        return numbers(s, i, n, st->max_digits);
    if (s[i] == ' ' && i + 1 < n && !(uc_at(s, i + 1, n, &len) & not_punct)) {
        i++;
        c = 0;
    }
    if (c & UC_SPACE)
        return st->flags & SPLIT_CASCADE ? spaces_cascade(s, i, n, note) : spaces(s, i, n, true);
    (void)uc_at(s, i, n, &len);
    i = run_but(s, i + len, n, not_punct);
    if (st->flags & SPLIT_NO_TAIL)
        return i;
    while (i < n && (s[i] == '\r' || s[i] == '\n' || (s[i] == '/' && (st->flags & SPLIT_SLASH))))
        i++;
    return i;
}

static size_t cl100k_next(const struct split_stage *st, const char *s, size_t i, size_t n,
                          size_t *note)
{
    const unsigned letters = UC_L | (st->flags & SPLIT_MARKS ? UC_M : 0);
    size_t len, j;
    unsigned c;

    if (s[i] == '\'' && (st->flags & SPLIT_CONTRACTION) && (j = contraction(s, i, n)) > i)
        return j;
    c = uc_at(s, i, n, &len);
    if (c & letters)
        return run_of(s, i + len, n, letters);
    /* one character that is no letter, number or line end may lead letters */
    if (!(c & UC_N) && s[i] != '\r' && s[i] != '\n') {
        j = run_of(s, i + len, n, letters);
        if (j > i + len)
            return j;
    }
    return tail_next(st, s, i, n, c, note);
}

/* ---- GPT-4o: words by letter case ---- */

static unsigned case_class(const struct split_stage *st, const char *s, size_t i, size_t n,
                           size_t *len)
{
    const unsigned c = uc_at(s, i, n, len);

    if ((st->flags & SPLIT_NO_HAN) && (c & (UC_L | UC_M)) && uc_is_han(char_at(s, i, n)))
        return 0;
    return c;
}

#define O_UPPER (UC_L_UPPER | UC_L_OTHER | UC_M)
#define O_LOWER (UC_L_LOWER | UC_L_OTHER | UC_M)

/* Upper*Lower+ from i: its end, or i. A greedy Upper run gives back characters
 * until one that is in both classes can start Lower. */
static size_t upper_lower(const struct split_stage *st, const char *s, size_t i, size_t n)
{
    size_t j = i, both_end = i, len;
    unsigned c = 0;

    while (j < n && ((c = case_class(st, s, j, n, &len)) & O_UPPER)) {
        j += len;
        if (c & O_LOWER)
            both_end = j;
    }
    if (j < n && (c & O_LOWER)) {
        while (j < n && (case_class(st, s, j, n, &len) & O_LOWER))
            j += len;
        return j;
    }
    return both_end;
}

static size_t upper_run(const struct split_stage *st, const char *s, size_t i, size_t n)
{
    size_t len;

    while (i < n && (case_class(st, s, i, n, &len) & O_UPPER))
        i += len;
    return i;
}

/* [prefix]?Upper*Lower+ and then [prefix]?Upper+Lower*: the prefix may be a mark,
 * so both ways of reading it are tried. Returns i when neither matches. */
static size_t cased_word(const struct split_stage *st, const char *s, size_t i, size_t n)
{
    size_t len, j;
    const unsigned c = uc_at(s, i, n, &len);
    const bool prefix = !(c & (UC_L | UC_N)) && s[i] != '\r' && s[i] != '\n';

    if (prefix && (j = upper_lower(st, s, i + len, n)) > i + len)
        return j;
    if ((j = upper_lower(st, s, i, n)) > i)
        return j;
    if (prefix && (j = upper_run(st, s, i + len, n)) > i + len)
        return j;
    return upper_run(st, s, i, n);
}

static size_t han_run(const char *s, size_t i, size_t n)
{
    while (i < n) {
        uint32_t cp;
        const size_t len = utf8_decode(s + i, n - i, &cp, NULL);

        if (!uc_is_han(cp))
            break;
        i += len;
    }
    return i;
}

static size_t o200k_next(const struct split_stage *st, const char *s, size_t i, size_t n)
{
    size_t len, j;

    if ((st->flags & SPLIT_NO_HAN) && (unsigned char)s[i] >= 0xE2 && (j = han_run(s, i, n)) > i)
        return j;
    j = cased_word(st, s, i, n);
    if (j > i) {
        if (j < n && s[j] == '\'' && (st->flags & SPLIT_CONTRACTION))
            j = contraction(s, j, n);
        return j;
    }
    return tail_next(st, s, i, n, uc_at(s, i, n, &len), NULL);
}

/* ---- digits ---- */

/* Takes what is no number, or up to max numbers. */
static size_t numbers_next(const char *s, size_t i, size_t n, unsigned max)
{
    size_t len;

    if (uc_at(s, i, n, &len) & UC_N)
        return numbers(s, i, n, max);
    return run_but(s, i, n, UC_N);
}

/* How many characters s[i..end) has. */
static size_t count_chars(const char *s, size_t i, size_t end)
{
    size_t k = 0, len;

    for (; i < end; i += len, k++)
        (void)uc_at(s, i, end, &len);
    return k;
}

static size_t skip_chars(const char *s, size_t i, size_t n, size_t k)
{
    size_t len;

    for (; k > 0 && i < n; k--, i += len)
        (void)uc_at(s, i, n, &len);
    return i;
}

/* A run of digits is cut in threes counted from its right end, so the first
 * group has what is left over. *grouped is the end of a run whose first group is
 * taken: the rest of it goes by threes without counting again, which keeps a
 * long run linear. */
static size_t lead_group(const char *s, size_t i, size_t end, size_t *grouped)
{
    const size_t k = count_chars(s, i, end) % 3;

    *grouped = end;
    return skip_chars(s, i, end, k == 0 ? 3 : k);
}

static size_t lead3_next(const char *s, size_t i, size_t n, size_t *grouped)
{
    size_t len;

    if (i < *grouped)
        return skip_chars(s, i, *grouped, 3);
    if (!(uc_at(s, i, n, &len) & UC_N))
        return run_but(s, i, n, UC_N);
    return lead_group(s, i, run_of(s, i, n, UC_N), grouped);
}

/* A run of digits counts only when a word ends with it. */
static size_t group3_next(const char *s, size_t i, size_t n, size_t *grouped)
{
    size_t j = i, len;

    if (i < *grouped)
        return skip_chars(s, i, *grouped, 3);
    while (j < n) {
        const size_t run = run_but(s, j, n, UC_ND);
        size_t end;

        if (run == n)
            return n;
        end = run_of(s, run, n, UC_ND);
        if (end == n || !is_word(uc_at(s, end, n, &len), char_at(s, end, n)))
            return run > i ? run : lead_group(s, i, end, grouped);
        j = end;
    }
    return n;
}

/* Cuts in front of every three digits counted from the end of their run. */
static size_t before3_next(const char *s, size_t i, size_t n, size_t *grouped)
{
    size_t end = i;

    if (i < *grouped) {
        const size_t j = skip_chars(s, i, *grouped, 3);

        if (j < *grouped)
            return j;
        end = j;
    }
    for (;;) {
        const size_t run = run_but(s, end, n, UC_ND);
        size_t j;

        if (run == n)
            return n;
        end = run_of(s, run, n, UC_ND);
        j = skip_chars(s, run, end, count_chars(s, run, end) % 3);
        if (j == i)
            j = skip_chars(s, j, end, 3);
        if (j < end) {
            *grouped = end;
            return j;
        }
    }
}

/* Does byte b look like a number once byte-level mapping made it a letter? Of
 * the bytes that stand for themselves, the digits and ², ³, ¹, ¼, ½, ¾ do. */
static bool byte_digit(unsigned char b)
{
    return (b >= '0' && b <= '9') || b == 0xB2 || b == 0xB3 || b == 0xB9 ||
           (b >= 0xBC && b <= 0xBE);
}

static size_t byte_digits_next(const char *s, size_t i, size_t n)
{
    const bool digit = byte_digit((unsigned char)s[i]);

    while (i < n && byte_digit((unsigned char)s[i]) == digit)
        i++;
    return i;
}

static bool ascii_digit(char c) { return c >= '0' && c <= '9'; }

static bool three_digits(const char *s, size_t i, size_t n)
{
    return n - i >= 3 && ascii_digit(s[i]) && ascii_digit(s[i + 1]) && ascii_digit(s[i + 2]);
}

static size_t ascii3_next(const char *s, size_t i, size_t n)
{
    if (three_digits(s, i, n))
        return i + 3;
    while (i < n && !three_digits(s, i, n))
        i++;
    return i;
}

/* ---- the rest ---- */

/* The text without its trailing white space, then that. */
static size_t trailing_next(const char *s, size_t i, size_t n)
{
    size_t start = i, j = i, len;

    while (j < n) {
        const unsigned c = uc_at(s, j, n, &len);

        j += len;
        if (!(c & UC_SPACE))
            start = j;
    }
    return start > i ? start : n;
}

static size_t punct_next(const char *s, size_t i, size_t n, unsigned max)
{
    bool first = true, punct = false;

    for (unsigned k = 0; i < n; k++) {
        uint32_t cp;
        const size_t len = utf8_decode(s + i, n - i, &cp, NULL);
        const bool p = hf_is_punctuation(cp);

        if (!first && (p != punct || (p && max > 0 && k == max)))
            break;
        first = false;
        punct = p;
        i += len;
    }
    return i;
}

static size_t lines_next(const char *s, size_t i, size_t n)
{
    const char *nl;

    if (s[i] != '\n') {
        nl = memchr(s + i, '\n', n - i);
        return nl ? (size_t)(nl - s) : n;
    }
    while (i < n && s[i] == '\n')
        i++;
    return i;
}

size_t split_next(const struct split_stage *st, const char *s, size_t i, size_t n,
                  size_t *note)
{
    switch (st->kind) {
    case SPLIT_GPT2:
        return gpt2_next(s, i, n);
    case SPLIT_CL100K:
        return cl100k_next(st, s, i, n, note);
    case SPLIT_O200K:
        return o200k_next(st, s, i, n);
    case SPLIT_NUMBERS:
        return numbers_next(s, i, n, st->max_digits);
    case SPLIT_PUNCT:
        return punct_next(s, i, n, st->max_digits);
    case SPLIT_TRAILING:
        return trailing_next(s, i, n);
    case SPLIT_BYTE_DIGITS:
        return byte_digits_next(s, i, n);
    case SPLIT_ASCII3:
        return ascii3_next(s, i, n);
    case SPLIT_GROUP3:
        return group3_next(s, i, n, note);
    case SPLIT_BEFORE3:
        return before3_next(s, i, n, note);
    case SPLIT_LEAD3:
        return lead3_next(s, i, n, note);
    case SPLIT_LINES:
        return lines_next(s, i, n);
    case SPLIT_REGEX:
        break;
    }
    return n;
}
