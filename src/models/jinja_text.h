/* jinja_text.h: characters and text: Unicode classes and case as Python's str has
 * them, formatting, JSON, dates. Inside models/template only. */
#ifndef MODELS_JINJA_TEXT_H
#define MODELS_JINJA_TEXT_H

#include "models/jinja_value.h"

/* Classes of characters, by the methods of Python's str. */
bool ju_space(uint32_t cp);
bool ju_alpha(uint32_t cp);
bool ju_decimal(uint32_t cp);
bool ju_digit(uint32_t cp);
bool ju_numeric(uint32_t cp);
bool ju_upper(uint32_t cp);
bool ju_lower(uint32_t cp);
bool ju_title(uint32_t cp);
bool ju_printable(uint32_t cp);
bool ju_identifier_start(uint32_t cp);
bool ju_identifier(uint32_t cp);
bool ju_line_break(uint32_t cp);     /* where splitlines() splits */
int  ju_digit_value(uint32_t cp);    /* of a decimal digit; -1 */

enum ju_case { JU_UPPER, JU_LOWER, JU_TITLE, JU_FOLD, JU_SWAP };
/* Full case mapping of the whole string (ß becomes SS, final sigma). */
struct jval ju_map(struct jrt *rt, struct jval s, enum ju_case how);
struct jval ju_capitalize(struct jrt *rt, struct jval s);
struct jval ju_titlecase(struct jrt *rt, struct jval s);   /* str.title() */

/* left % right */
struct jval jformat_percent(struct jrt *rt, struct jval left, struct jval right);
/* str.format() */
struct jval jformat_braces(struct jrt *rt, struct jval s, const struct jargs *args);

struct jjson_style { bool ascii, sort_keys; const struct jstr *indent, *item_sep, *key_sep; };
/* json.dumps */
struct jval jtojson(struct jrt *rt, struct jval v, const struct jjson_style *style);

/* What the run's clock says, through strftime. */
struct jval jstrftime(struct jrt *rt, struct jval format);

/* & < > ' " as markupsafe escapes them; the result is Markup. */
struct jval jescape(struct jrt *rt, struct jval v);

#endif
