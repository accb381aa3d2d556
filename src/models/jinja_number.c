/* jinja_number.c: floats as text, in Python's form and in any locale. */
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/jinja_value.h"

static locale_t c_locale;
static pthread_once_t c_locale_once = PTHREAD_ONCE_INIT;

static void open_locale(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

double jnum_parse(const char *z)
{
    pthread_once(&c_locale_once, open_locale);
    return c_locale ? strtod_l(z, NULL, c_locale) : strtod(z, NULL);
}

/* Scientific digits of |f| with `digits` significant ones, the decimal sign
 * (whatever the locale says it is) left out. Returns the exponent. */
static int digits_of(double f, int digits, char *out)
{
    char text[64];
    size_t n = 0;
    const char *p = text;

    snprintf(text, sizeof text, "%.*e", digits - 1, f);
    for (; *p && *p != 'e'; p++)
        if (*p >= '0' && *p <= '9')
            out[n++] = *p;
    out[n] = '\0';
    return *p == 'e' ? (int)strtol(p + 1, NULL, 10) : 0;
}

size_t jnum_format(double f, char out[40])
{
    char d[40], check[64];
    char *o = out;
    int exp = 0, n;

    if (isnan(f))
        return (size_t)snprintf(out, 40, "nan");
    if (isinf(f))
        return (size_t)snprintf(out, 40, "%s", f < 0 ? "-inf" : "inf");
    if (signbit(f))
        *o++ = '-';
    f = fabs(f);
    if (f == 0.0) {
        memcpy(o, "0.0", 4);
        return (size_t)(o - out) + 3;
    }
    /* Up to 15 digits the shortest text is the 15-digit one without its zeros. */
    for (int digits = 15; digits <= 17; digits++) {
        exp = digits_of(f, digits, d);
        snprintf(check, sizeof check, "%c.%se%d", d[0], d + 1, exp);
        if (jnum_parse(check) == f)
            break;
    }
    n = (int)strlen(d);
    while (n > 1 && d[n - 1] == '0')
        n--;
    if (exp < -4 || exp >= 16) {
        *o++ = d[0];
        if (n > 1) {
            *o++ = '.';
            memcpy(o, d + 1, (size_t)n - 1);
            o += n - 1;
        }
        o += snprintf(o, (size_t)(out + 40 - o), "e%c%02d", exp < 0 ? '-' : '+', abs(exp));
    } else if (exp < 0) {
        *o++ = '0';
        *o++ = '.';
        for (int i = -1; i > exp; i--)
            *o++ = '0';
        memcpy(o, d, (size_t)n);
        o += n;
    } else {
        for (int i = 0; i <= exp; i++)
            *o++ = i < n ? d[i] : '0';
        *o++ = '.';
        if (n > exp + 1) {
            memcpy(o, d + exp + 1, (size_t)(n - exp - 1));
            o += n - exp - 1;
        } else {
            *o++ = '0';
        }
    }
    *o = '\0';
    return (size_t)(o - out);
}

void jput_float(struct jrt *rt, struct jbuf *b, double f)
{
    char text[40];

    jbuf_put(rt, b, text, jnum_format(f, text));
}
