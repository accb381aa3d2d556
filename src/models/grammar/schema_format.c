/* schema_format.c: the formats of JSON Schema 2020-12 (Validation, 7.3) as regular expressions.
 * Where a format is not regular, or its rule needs tables (internationalised names), the
 * expression describes a part of it, which is safe for what is generated. */
#include <string.h>

#include "models/grammar/regex.h"
#include "models/grammar/schema.h"

#define DATE \
    "(?:\\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])" \
    "|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8]))" \
    "|(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
#define TIME \
    "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d+)?(?:[Zz]|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)"
/* At most 4 labels of 61 characters, no two hyphens in a row: neither too long nor punycode. */
#define LABEL "[A-Za-z0-9](?:-?[A-Za-z0-9]){0,30}"
#define HOST LABEL "(?:\\." LABEL "){0,3}"
#define ATEXT "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
#define MAIL ATEXT "+(?:\\." ATEXT "+)*@" HOST
#define MAX_LOCAL 64u           /* RFC 5321, 4.5.3.1.1 */
#define OCTET "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
#define IPV4 OCTET "(?:\\." OCTET "){3}"
#define H16 "[0-9A-Fa-f]{1,4}"
#define LS32 "(?:" H16 ":" H16 "|" IPV4 ")"
#define HEX2 "%[0-9A-Fa-f]{2}"
#define PCHAR "(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|" HEX2 ")"
#define NCCHAR "(?:[A-Za-z0-9._~!$&'()*+,;=@-]|" HEX2 ")"
#define AUTHORITY "(?:(?:[A-Za-z0-9._~!$&'()*+,;=:-]|" HEX2 ")*@)?" \
    "(?:[A-Za-z0-9._~!$&'()*+,;=-]|" HEX2 ")*(?::\\d*)?"
#define TAIL "(?:\\?(?:" PCHAR "|[/?])*)?(?:#(?:" PCHAR "|[/?])*)?"
#define URI "[A-Za-z][A-Za-z0-9+.-]*:(?://" AUTHORITY "(?:/" PCHAR "*)*" \
    "|/(?:" PCHAR "+(?:/" PCHAR "*)*)?|" PCHAR "+(?:/" PCHAR "*)*|)" TAIL
#define RELATIVE "(?://" AUTHORITY "(?:/" PCHAR "*)*|/(?:" PCHAR "+(?:/" PCHAR "*)*)?" \
    "|" NCCHAR "+(?:/" PCHAR "*)*|)" TAIL
#define VARIABLE "(?:[A-Za-z0-9_]|" HEX2 ")+(?::[1-9]\\d{0,3}|\\*)?"

static const struct format {
    const char *name, *regex;   /* NULL: known, not supported */
    bool        inexact;
} formats[] = {
    { "date", DATE, false },
    { "time", TIME, true },     /* without leap seconds */
    { "date-time", DATE "[Tt]" TIME, true },
    { "duration", "P(?:(?:\\d+D|\\d+M(?:\\d+D)?|\\d+Y(?:\\d+M(?:\\d+D)?)?)"
                  "(?:T(?:\\d+H(?:\\d+M(?:\\d+S)?)?|\\d+M(?:\\d+S)?|\\d+S))?"
                  "|T(?:\\d+H(?:\\d+M(?:\\d+S)?)?|\\d+M(?:\\d+S)?|\\d+S)|\\d+W)", false },
    { "email", MAIL, true },    /* with at most MAX_LOCAL characters before the @ */
    { "idn-email", MAIL, true },
    { "hostname", HOST, true },
    { "idn-hostname", HOST, true },
    { "ipv4", IPV4, false },
    { "ipv6", "(?:(?:" H16 ":){6}" LS32 "|::(?:" H16 ":){5}" LS32
              "|(?:" H16 ")?::(?:" H16 ":){4}" LS32
              "|(?:(?:" H16 ":){0,1}" H16 ")?::(?:" H16 ":){3}" LS32
              "|(?:(?:" H16 ":){0,2}" H16 ")?::(?:" H16 ":){2}" LS32
              "|(?:(?:" H16 ":){0,3}" H16 ")?::" H16 ":" LS32
              "|(?:(?:" H16 ":){0,4}" H16 ")?::" LS32
              "|(?:(?:" H16 ":){0,5}" H16 ")?::" H16
              "|(?:(?:" H16 ":){0,6}" H16 ")?::)", false },
    { "uuid", "[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}", false },
    { "uri", URI, true },
    { "uri-reference", "(?:" URI "|" RELATIVE ")", true },
    { "iri", URI, true },
    { "iri-reference", "(?:" URI "|" RELATIVE ")", true },
    { "uri-template", "(?:[A-Za-z0-9._~!$&()*+,;=:@/?#-]|" HEX2
                      "|\\{[+#./;?&]?" VARIABLE "(?:," VARIABLE ")*\\})*", true },
    { "json-pointer", "(?:/(?:[^~/]|~[01]|[\\n\\r\\u2028\\u2029])*)*", false },
    { "relative-json-pointer", "(?:0|[1-9]\\d*)(?:#|(?:/(?:[^~/]|~[01])*)*)", false },
    { "regex", NULL, false },
};

int format_lang(struct schema *s, const json_t *at, const char *name, struct lang *out)
{
    *out = (struct lang){ .all = true };
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        static const struct cfg_count local = { 1, MAX_LOCAL, '@' };
        struct lang l = { .inexact = formats[i].inexact };
        struct dfa *d;
        int rc;

        if (strcmp(formats[i].name, name) != 0)
            continue;
        if (!formats[i].regex)
            return schema_refuse(s, at, WATT_ENOTSUP, "format '%s' can't be enforced", name);
        rc = regex_compile(&d, sv_cstr(formats[i].regex), REGEX_WHOLE, "format", s->e);
        if (rc == 0)
            rc = schema_own(s, d);
        if (rc == 0)
            l.d = d;
        if (rc == 0 && strcmp(formats[i].regex, MAIL) == 0)
            rc = lang_limit(s, &l, &local);
        if (rc == 0)
            *out = l;
        return rc;
    }
    return 0;
}
