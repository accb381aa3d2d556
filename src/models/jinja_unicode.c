/* jinja_unicode.c: classes and case of characters as Python's str has them:
 * utf8proc's categories and simple case mappings, with what Unicode adds to them
 * (DerivedCoreProperties, SpecialCasing; version 14) in the tables here. */
#include <utf8proc.h>

#include "base/utf8.h"
#include "models/jinja_text.h"

struct range { uint32_t first, last; };
struct special { uint32_t cp, to[3]; };

static const struct range other_lower[] = {
    { 0xAA, 0xAA }, { 0xBA, 0xBA }, { 0x2B0, 0x2B8 }, { 0x2C0, 0x2C1 }, { 0x2E0, 0x2E4 },
    { 0x345, 0x345 }, { 0x37A, 0x37A }, { 0x1D2C, 0x1D6A }, { 0x1D78, 0x1D78 },
    { 0x1D9B, 0x1DBF }, { 0x2071, 0x2071 }, { 0x207F, 0x207F }, { 0x2090, 0x209C },
    { 0x2170, 0x217F }, { 0x24D0, 0x24E9 }, { 0x2C7C, 0x2C7D }, { 0xA69C, 0xA69D },
    { 0xA770, 0xA770 }, { 0xA7F8, 0xA7F9 }, { 0xAB5C, 0xAB5F }, { 0x10780, 0x10780 },
    { 0x10783, 0x10785 }, { 0x10787, 0x107B0 }, { 0x107B2, 0x107BA },
};

static const struct range other_upper[] = {
    { 0x2160, 0x216F }, { 0x24B6, 0x24CF }, { 0x1F130, 0x1F149 }, { 0x1F150, 0x1F169 },
    { 0x1F170, 0x1F189 },
};

static const struct range other_digit[] = {
    { 0xB2, 0xB3 }, { 0xB9, 0xB9 }, { 0x1369, 0x1371 }, { 0x19DA, 0x19DA }, { 0x2070, 0x2070 },
    { 0x2074, 0x2079 }, { 0x2080, 0x2089 }, { 0x2460, 0x2468 }, { 0x2474, 0x247C },
    { 0x2488, 0x2490 }, { 0x24EA, 0x24EA }, { 0x24F5, 0x24FD }, { 0x24FF, 0x24FF },
    { 0x2776, 0x277E }, { 0x2780, 0x2788 }, { 0x278A, 0x2792 }, { 0x10A40, 0x10A43 },
    { 0x10E60, 0x10E68 }, { 0x11052, 0x1105A }, { 0x1F100, 0x1F10A },
};

static const struct range other_numeric[] = {
    { 0x3405, 0x3405 }, { 0x3483, 0x3483 }, { 0x382A, 0x382A }, { 0x3B4D, 0x3B4D },
    { 0x4E00, 0x4E00 }, { 0x4E03, 0x4E03 }, { 0x4E07, 0x4E07 }, { 0x4E09, 0x4E09 },
    { 0x4E5D, 0x4E5D }, { 0x4E8C, 0x4E8C }, { 0x4E94, 0x4E94 }, { 0x4E96, 0x4E96 },
    { 0x4EBF, 0x4EC0 }, { 0x4EDF, 0x4EDF }, { 0x4EE8, 0x4EE8 }, { 0x4F0D, 0x4F0D },
    { 0x4F70, 0x4F70 }, { 0x5104, 0x5104 }, { 0x5146, 0x5146 }, { 0x5169, 0x5169 },
    { 0x516B, 0x516B }, { 0x516D, 0x516D }, { 0x5341, 0x5341 }, { 0x5343, 0x5345 },
    { 0x534C, 0x534C }, { 0x53C1, 0x53C4 }, { 0x56DB, 0x56DB }, { 0x58F1, 0x58F1 },
    { 0x58F9, 0x58F9 }, { 0x5E7A, 0x5E7A }, { 0x5EFE, 0x5EFF }, { 0x5F0C, 0x5F0E },
    { 0x5F10, 0x5F10 }, { 0x62FE, 0x62FE }, { 0x634C, 0x634C }, { 0x67D2, 0x67D2 },
    { 0x6F06, 0x6F06 }, { 0x7396, 0x7396 }, { 0x767E, 0x767E }, { 0x8086, 0x8086 },
    { 0x842C, 0x842C }, { 0x8CAE, 0x8CAE }, { 0x8CB3, 0x8CB3 }, { 0x8D30, 0x8D30 },
    { 0x9621, 0x9621 }, { 0x9646, 0x9646 }, { 0x964C, 0x964C }, { 0x9678, 0x9678 },
    { 0x96F6, 0x96F6 }, { 0xF96B, 0xF96B }, { 0xF973, 0xF973 }, { 0xF978, 0xF978 },
    { 0xF9B2, 0xF9B2 }, { 0xF9D1, 0xF9D1 }, { 0xF9D3, 0xF9D3 }, { 0xF9FD, 0xF9FD },
    { 0x20001, 0x20001 }, { 0x20064, 0x20064 }, { 0x200E2, 0x200E2 }, { 0x20121, 0x20121 },
    { 0x2092A, 0x2092A }, { 0x20983, 0x20983 }, { 0x2098C, 0x2098C }, { 0x2099C, 0x2099C },
    { 0x20AEA, 0x20AEA }, { 0x20AFD, 0x20AFD }, { 0x20B19, 0x20B19 }, { 0x22390, 0x22390 },
    { 0x22998, 0x22998 }, { 0x23B1B, 0x23B1B }, { 0x2626D, 0x2626D }, { 0x2F890, 0x2F890 },
};

static const struct special special_upper[] = {
    { 0xDF, { 0x53, 0x53 } }, { 0x149, { 0x2BC, 0x4E } }, { 0x1F0, { 0x4A, 0x30C } },
    { 0x390, { 0x399, 0x308, 0x301 } }, { 0x3B0, { 0x3A5, 0x308, 0x301 } },
    { 0x587, { 0x535, 0x552 } }, { 0x1E96, { 0x48, 0x331 } }, { 0x1E97, { 0x54, 0x308 } },
    { 0x1E98, { 0x57, 0x30A } }, { 0x1E99, { 0x59, 0x30A } }, { 0x1E9A, { 0x41, 0x2BE } },
    { 0x1F50, { 0x3A5, 0x313 } }, { 0x1F52, { 0x3A5, 0x313, 0x300 } },
    { 0x1F54, { 0x3A5, 0x313, 0x301 } }, { 0x1F56, { 0x3A5, 0x313, 0x342 } },
    { 0x1F80, { 0x1F08, 0x399 } }, { 0x1F81, { 0x1F09, 0x399 } }, { 0x1F82, { 0x1F0A, 0x399 } },
    { 0x1F83, { 0x1F0B, 0x399 } }, { 0x1F84, { 0x1F0C, 0x399 } }, { 0x1F85, { 0x1F0D, 0x399 } },
    { 0x1F86, { 0x1F0E, 0x399 } }, { 0x1F87, { 0x1F0F, 0x399 } }, { 0x1F88, { 0x1F08, 0x399 } },
    { 0x1F89, { 0x1F09, 0x399 } }, { 0x1F8A, { 0x1F0A, 0x399 } }, { 0x1F8B, { 0x1F0B, 0x399 } },
    { 0x1F8C, { 0x1F0C, 0x399 } }, { 0x1F8D, { 0x1F0D, 0x399 } }, { 0x1F8E, { 0x1F0E, 0x399 } },
    { 0x1F8F, { 0x1F0F, 0x399 } }, { 0x1F90, { 0x1F28, 0x399 } }, { 0x1F91, { 0x1F29, 0x399 } },
    { 0x1F92, { 0x1F2A, 0x399 } }, { 0x1F93, { 0x1F2B, 0x399 } }, { 0x1F94, { 0x1F2C, 0x399 } },
    { 0x1F95, { 0x1F2D, 0x399 } }, { 0x1F96, { 0x1F2E, 0x399 } }, { 0x1F97, { 0x1F2F, 0x399 } },
    { 0x1F98, { 0x1F28, 0x399 } }, { 0x1F99, { 0x1F29, 0x399 } }, { 0x1F9A, { 0x1F2A, 0x399 } },
    { 0x1F9B, { 0x1F2B, 0x399 } }, { 0x1F9C, { 0x1F2C, 0x399 } }, { 0x1F9D, { 0x1F2D, 0x399 } },
    { 0x1F9E, { 0x1F2E, 0x399 } }, { 0x1F9F, { 0x1F2F, 0x399 } }, { 0x1FA0, { 0x1F68, 0x399 } },
    { 0x1FA1, { 0x1F69, 0x399 } }, { 0x1FA2, { 0x1F6A, 0x399 } }, { 0x1FA3, { 0x1F6B, 0x399 } },
    { 0x1FA4, { 0x1F6C, 0x399 } }, { 0x1FA5, { 0x1F6D, 0x399 } }, { 0x1FA6, { 0x1F6E, 0x399 } },
    { 0x1FA7, { 0x1F6F, 0x399 } }, { 0x1FA8, { 0x1F68, 0x399 } }, { 0x1FA9, { 0x1F69, 0x399 } },
    { 0x1FAA, { 0x1F6A, 0x399 } }, { 0x1FAB, { 0x1F6B, 0x399 } }, { 0x1FAC, { 0x1F6C, 0x399 } },
    { 0x1FAD, { 0x1F6D, 0x399 } }, { 0x1FAE, { 0x1F6E, 0x399 } }, { 0x1FAF, { 0x1F6F, 0x399 } },
    { 0x1FB2, { 0x1FBA, 0x399 } }, { 0x1FB3, { 0x391, 0x399 } }, { 0x1FB4, { 0x386, 0x399 } },
    { 0x1FB6, { 0x391, 0x342 } }, { 0x1FB7, { 0x391, 0x342, 0x399 } },
    { 0x1FBC, { 0x391, 0x399 } }, { 0x1FC2, { 0x1FCA, 0x399 } }, { 0x1FC3, { 0x397, 0x399 } },
    { 0x1FC4, { 0x389, 0x399 } }, { 0x1FC6, { 0x397, 0x342 } },
    { 0x1FC7, { 0x397, 0x342, 0x399 } }, { 0x1FCC, { 0x397, 0x399 } },
    { 0x1FD2, { 0x399, 0x308, 0x300 } }, { 0x1FD3, { 0x399, 0x308, 0x301 } },
    { 0x1FD6, { 0x399, 0x342 } }, { 0x1FD7, { 0x399, 0x308, 0x342 } },
    { 0x1FE2, { 0x3A5, 0x308, 0x300 } }, { 0x1FE3, { 0x3A5, 0x308, 0x301 } },
    { 0x1FE4, { 0x3A1, 0x313 } }, { 0x1FE6, { 0x3A5, 0x342 } },
    { 0x1FE7, { 0x3A5, 0x308, 0x342 } }, { 0x1FF2, { 0x1FFA, 0x399 } },
    { 0x1FF3, { 0x3A9, 0x399 } }, { 0x1FF4, { 0x38F, 0x399 } }, { 0x1FF6, { 0x3A9, 0x342 } },
    { 0x1FF7, { 0x3A9, 0x342, 0x399 } }, { 0x1FFC, { 0x3A9, 0x399 } },
    { 0xFB00, { 0x46, 0x46 } }, { 0xFB01, { 0x46, 0x49 } }, { 0xFB02, { 0x46, 0x4C } },
    { 0xFB03, { 0x46, 0x46, 0x49 } }, { 0xFB04, { 0x46, 0x46, 0x4C } },
    { 0xFB05, { 0x53, 0x54 } }, { 0xFB06, { 0x53, 0x54 } }, { 0xFB13, { 0x544, 0x546 } },
    { 0xFB14, { 0x544, 0x535 } }, { 0xFB15, { 0x544, 0x53B } }, { 0xFB16, { 0x54E, 0x546 } },
    { 0xFB17, { 0x544, 0x53D } },
};

static const struct special special_title[] = {
    { 0xDF, { 0x53, 0x73 } }, { 0x149, { 0x2BC, 0x4E } }, { 0x1F0, { 0x4A, 0x30C } },
    { 0x390, { 0x399, 0x308, 0x301 } }, { 0x3B0, { 0x3A5, 0x308, 0x301 } },
    { 0x587, { 0x535, 0x582 } }, { 0x1E96, { 0x48, 0x331 } }, { 0x1E97, { 0x54, 0x308 } },
    { 0x1E98, { 0x57, 0x30A } }, { 0x1E99, { 0x59, 0x30A } }, { 0x1E9A, { 0x41, 0x2BE } },
    { 0x1F50, { 0x3A5, 0x313 } }, { 0x1F52, { 0x3A5, 0x313, 0x300 } },
    { 0x1F54, { 0x3A5, 0x313, 0x301 } }, { 0x1F56, { 0x3A5, 0x313, 0x342 } },
    { 0x1FB2, { 0x1FBA, 0x345 } }, { 0x1FB4, { 0x386, 0x345 } }, { 0x1FB6, { 0x391, 0x342 } },
    { 0x1FB7, { 0x391, 0x342, 0x345 } }, { 0x1FC2, { 0x1FCA, 0x345 } },
    { 0x1FC4, { 0x389, 0x345 } }, { 0x1FC6, { 0x397, 0x342 } },
    { 0x1FC7, { 0x397, 0x342, 0x345 } }, { 0x1FD2, { 0x399, 0x308, 0x300 } },
    { 0x1FD3, { 0x399, 0x308, 0x301 } }, { 0x1FD6, { 0x399, 0x342 } },
    { 0x1FD7, { 0x399, 0x308, 0x342 } }, { 0x1FE2, { 0x3A5, 0x308, 0x300 } },
    { 0x1FE3, { 0x3A5, 0x308, 0x301 } }, { 0x1FE4, { 0x3A1, 0x313 } },
    { 0x1FE6, { 0x3A5, 0x342 } }, { 0x1FE7, { 0x3A5, 0x308, 0x342 } },
    { 0x1FF2, { 0x1FFA, 0x345 } }, { 0x1FF4, { 0x38F, 0x345 } }, { 0x1FF6, { 0x3A9, 0x342 } },
    { 0x1FF7, { 0x3A9, 0x342, 0x345 } }, { 0xFB00, { 0x46, 0x66 } }, { 0xFB01, { 0x46, 0x69 } },
    { 0xFB02, { 0x46, 0x6C } }, { 0xFB03, { 0x46, 0x66, 0x69 } },
    { 0xFB04, { 0x46, 0x66, 0x6C } }, { 0xFB05, { 0x53, 0x74 } }, { 0xFB06, { 0x53, 0x74 } },
    { 0xFB13, { 0x544, 0x576 } }, { 0xFB14, { 0x544, 0x565 } }, { 0xFB15, { 0x544, 0x56B } },
    { 0xFB16, { 0x54E, 0x576 } }, { 0xFB17, { 0x544, 0x56D } },
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static bool in_ranges(const struct range *r, size_t n, uint32_t cp)
{
    size_t low = 0;

    while (low < n) {
        const size_t mid = (low + n) / 2;

        if (cp > r[mid].last)
            low = mid + 1;
        else if (cp < r[mid].first)
            n = mid;
        else
            return true;
    }
    return false;
}

static utf8proc_category_t category(uint32_t cp)
{
    return utf8proc_category((utf8proc_int32_t)cp);
}

bool ju_space(uint32_t cp)
{
    if (cp < 0x80)
        return cp == ' ' || (cp >= 9 && cp <= 13) || (cp >= 28 && cp <= 31);
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

bool ju_line_break(uint32_t cp)
{
    return (cp >= 10 && cp <= 13) || (cp >= 28 && cp <= 30) || cp == 0x85 || cp == 0x2028 ||
           cp == 0x2029;
}

bool ju_alpha(uint32_t cp)
{
    if (cp < 0x80)
        return (cp | 0x20) >= 'a' && (cp | 0x20) <= 'z';
    return category(cp) >= UTF8PROC_CATEGORY_LU && category(cp) <= UTF8PROC_CATEGORY_LO;
}

bool ju_decimal(uint32_t cp)
{
    if (cp < 0x80)
        return cp >= '0' && cp <= '9';
    return category(cp) == UTF8PROC_CATEGORY_ND;
}

int ju_digit_value(uint32_t cp)
{
    uint32_t zero = cp;

    if (cp < 0x80)
        return cp >= '0' && cp <= '9' ? (int)(cp - '0') : -1;
    if (category(cp) != UTF8PROC_CATEGORY_ND)
        return -1;
    if (cp >= 0x1D7CE && cp <= 0x1D7FF)         /* mathematical digits: runs of ten */
        return (int)((cp - 0x1D7CE) % 10);
    while (cp - zero < 9 && category(zero - 1) == UTF8PROC_CATEGORY_ND)
        zero--;
    return (int)(cp - zero);
}

bool ju_digit(uint32_t cp)
{
    return ju_decimal(cp) || (cp >= 0x80 && in_ranges(other_digit, COUNT(other_digit), cp));
}

bool ju_numeric(uint32_t cp)
{
    if (ju_decimal(cp))
        return true;
    return cp >= 0x80 && (category(cp) == UTF8PROC_CATEGORY_NL ||
                          category(cp) == UTF8PROC_CATEGORY_NO ||
                          in_ranges(other_numeric, COUNT(other_numeric), cp));
}

bool ju_upper(uint32_t cp)
{
    if (cp < 0x80)
        return cp >= 'A' && cp <= 'Z';
    return category(cp) == UTF8PROC_CATEGORY_LU || in_ranges(other_upper, COUNT(other_upper), cp);
}

bool ju_lower(uint32_t cp)
{
    if (cp < 0x80)
        return cp >= 'a' && cp <= 'z';
    return category(cp) == UTF8PROC_CATEGORY_LL || in_ranges(other_lower, COUNT(other_lower), cp);
}

bool ju_title(uint32_t cp)
{
    return cp >= 0x80 && category(cp) == UTF8PROC_CATEGORY_LT;
}

bool ju_printable(uint32_t cp)
{
    if (cp < 0x80)
        return cp >= 32 && cp < 127;
    switch (category(cp)) {
    case UTF8PROC_CATEGORY_CN: case UTF8PROC_CATEGORY_CC: case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS: case UTF8PROC_CATEGORY_CO: case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL: case UTF8PROC_CATEGORY_ZP:
        return false;
    default:
        return true;
    }
}

bool ju_identifier_start(uint32_t cp)
{
    return cp == '_' || ju_alpha(cp) ||
           (cp >= 0x80 && category(cp) == UTF8PROC_CATEGORY_NL);
}

bool ju_identifier(uint32_t cp)
{
    utf8proc_category_t c;

    if (ju_identifier_start(cp) || ju_decimal(cp))
        return true;
    c = cp >= 0x80 ? category(cp) : UTF8PROC_CATEGORY_CN;
    return c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_MC || c == UTF8PROC_CATEGORY_PC;
}

/* ---- case ---- */

static bool cased(uint32_t cp)
{
    return ju_lower(cp) || ju_upper(cp) || ju_title(cp);
}

static bool case_ignorable(uint32_t cp)
{
    switch (category(cp)) {
    case UTF8PROC_CATEGORY_MN: case UTF8PROC_CATEGORY_ME: case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM: case UTF8PROC_CATEGORY_SK:
        return true;
    default:
        return cp == '\'' || cp == '.' || cp == ':' || cp == 0xB7 || cp == 0x387 ||
               cp == 0x55F || cp == 0x5F4 || cp == 0x2018 || cp == 0x2019 || cp == 0x2024 ||
               cp == 0x2027 || cp == 0xFE13 || cp == 0xFE52 || cp == 0xFE55 || cp == 0xFF07 ||
               cp == 0xFF0E || cp == 0xFF1A;
    }
}

static bool put_special(struct jrt *rt, struct jbuf *b, const struct special *t, size_t n,
                        uint32_t cp)
{
    size_t low = 0;

    while (low < n) {
        const size_t mid = (low + n) / 2;

        if (t[mid].cp == cp) {
            for (int i = 0; i < 3 && t[mid].to[i]; i++)
                jbuf_cp(rt, b, t[mid].to[i]);
            return true;
        }
        if (t[mid].cp < cp)
            low = mid + 1;
        else
            n = mid;
    }
    return false;
}

static uint32_t before(const char *p, size_t *at)
{
    uint32_t cp;
    const size_t end = *at;

    do
        --*at;
    while (*at > 0 && ((unsigned char)p[*at] & 0xC0) == 0x80);
    utf8_decode(p + *at, end - *at, &cp, NULL);
    return cp;
}

/* Is the sigma at p[at..at+2) the last letter of a word? */
static bool final_sigma(const struct jstr *s, size_t at)
{
    size_t i = at;
    uint32_t cp = 0;

    while (i > 0) {
        cp = before(s->p, &i);
        if (!case_ignorable(cp))
            break;
        cp = 0;
    }
    if (!cased(cp))
        return false;
    i = at + 2;
    while (i < s->len) {
        i += utf8_decode(s->p + i, s->len - i, &cp, NULL);
        if (!case_ignorable(cp))
            return !cased(cp);
    }
    return true;
}

static void put_lower(struct jrt *rt, struct jbuf *b, const struct jstr *s, size_t at, uint32_t cp)
{
    if (cp == 0x3A3)
        jbuf_cp(rt, b, final_sigma(s, at) ? 0x3C2 : 0x3C3);
    else if (cp == 0x130)
        jbuf_put(rt, b, "i\xCC\x87", 3);
    else
        jbuf_cp(rt, b, (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp));
}

static void put_upper(struct jrt *rt, struct jbuf *b, uint32_t cp)
{
    if (!put_special(rt, b, special_upper, COUNT(special_upper), cp))
        jbuf_cp(rt, b, (uint32_t)utf8proc_toupper((utf8proc_int32_t)cp));
}

static void put_title(struct jrt *rt, struct jbuf *b, uint32_t cp)
{
    if (!put_special(rt, b, special_title, COUNT(special_title), cp))
        jbuf_cp(rt, b, (uint32_t)utf8proc_totitle((utf8proc_int32_t)cp));
}

static void put_fold(struct jrt *rt, struct jbuf *b, uint32_t cp)
{
    utf8proc_int32_t out[4];
    int boundary = 0;
    const utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)cp, out, 4,
                                                       UTF8PROC_CASEFOLD, &boundary);

    if (n < 1 || n > 4)
        jbuf_cp(rt, b, cp);
    for (utf8proc_ssize_t i = 0; i < n && n <= 4; i++)
        jbuf_cp(rt, b, (uint32_t)out[i]);
}

static void put_case(struct jrt *rt, struct jbuf *b, const struct jstr *s, size_t at, uint32_t cp,
                     enum ju_case how)
{
    if (cp < 0x80) {
        const bool up = cp >= 'A' && cp <= 'Z', low = cp >= 'a' && cp <= 'z';
        const bool raise = how == JU_UPPER || how == JU_TITLE || how == JU_SWAP;

        jbuf_putc(rt, b, (char)(low && raise ? cp - 32
                              : up && how != JU_UPPER && how != JU_TITLE ? cp + 32 : cp));
        return;
    }
    if (how == JU_SWAP)
        how = ju_upper(cp) ? JU_LOWER : ju_lower(cp) ? JU_UPPER : JU_SWAP;
    switch (how) {
    case JU_UPPER: put_upper(rt, b, cp); break;
    case JU_LOWER: put_lower(rt, b, s, at, cp); break;
    case JU_TITLE: put_title(rt, b, cp); break;
    case JU_FOLD:  put_fold(rt, b, cp); break;
    default:       jbuf_cp(rt, b, cp);
    }
}

struct jval ju_map(struct jrt *rt, struct jval s, enum ju_case how)
{
    struct jbuf b = { 0 };
    uint32_t cp;

    jcharge(rt, s.u.s->len / 8);
    for (size_t at = 0, n; at < s.u.s->len; at += n) {
        n = utf8_decode(s.u.s->p + at, s.u.s->len - at, &cp, NULL);
        put_case(rt, &b, s.u.s, at, cp, how);
    }
    return jv_like(s, jbuf_str(rt, &b).u.s);
}

struct jval ju_capitalize(struct jrt *rt, struct jval s)
{
    struct jbuf b = { 0 };
    uint32_t cp;

    jcharge(rt, s.u.s->len / 8);
    for (size_t at = 0, n; at < s.u.s->len; at += n) {
        n = utf8_decode(s.u.s->p + at, s.u.s->len - at, &cp, NULL);
        put_case(rt, &b, s.u.s, at, cp, at == 0 ? JU_TITLE : JU_LOWER);
    }
    return jv_like(s, jbuf_str(rt, &b).u.s);
}

struct jval ju_titlecase(struct jrt *rt, struct jval s)
{
    struct jbuf b = { 0 };
    bool inside = false;
    uint32_t cp;

    jcharge(rt, s.u.s->len / 8);
    for (size_t at = 0, n; at < s.u.s->len; at += n) {
        n = utf8_decode(s.u.s->p + at, s.u.s->len - at, &cp, NULL);
        put_case(rt, &b, s.u.s, at, cp, inside ? JU_LOWER : JU_TITLE);
        inside = cased(cp);
    }
    return jv_like(s, jbuf_str(rt, &b).u.s);
}
