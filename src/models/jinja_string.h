/* jinja_string.h: the string work that methods and filters share. Inside
 * models/template only. */
#ifndef MODELS_JINJA_STRING_H
#define MODELS_JINJA_STRING_H

#include "models/jinja_run.h"

enum { JS_LEFT = 1, JS_RIGHT = 2 };
/* str.strip(chars); chars NULL: white space. */
struct jval js_strip(struct jrt *rt, struct jval s, const struct jstr *chars, int sides);
/* str.replace; count < 0: all. Keeps s's markup flag. */
struct jval js_replace(struct jrt *rt, struct jval s, const struct jstr *old,
                       const struct jstr *with, int64_t count);
/* str.splitlines(keepends) */
struct jval js_splitlines(struct jrt *rt, struct jval s, bool keep_ends);
/* str.split(sep, max) and rsplit; sep NULL: white space; max < 0: no bound. */
struct jval js_split(struct jrt *rt, struct jval s, const struct jstr *sep, int64_t max,
                     bool from_right);
/* str.center and the like: align is one of < > ^ */
struct jval js_pad(struct jrt *rt, struct jval s, int64_t width, const struct jstr *fill,
                   char align);
/* sep.join(items); every item must be str. */
struct jval js_join(struct jrt *rt, struct jval sep, const struct jval *v, uint32_t n);

#endif
