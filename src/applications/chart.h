/* chart.h: small pictures of numbers as SVG: axes, ticks, linear and logarithmic scales, lines,
 * points, legend, labels that don't cover each other.
 *
 * The file stands alone (no script, no font, no link) and follows the reader's light or dark
 * theme by a media query. Numbers that are not finite, or not positive on a logarithmic axis, are
 * left out; a line breaks there. */
#ifndef APPLICATIONS_CHART_H
#define APPLICATIONS_CHART_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/str.h"

#define CHART_COLORS 8u
#define CHART_GREY   CHART_COLORS       /* for limits and other lines behind the data */
#define CHART_MAX_SERIES 64u
#define CHART_MAX_POINTS 100000u        /* of one series */

enum chart_kind { CHART_LINE, CHART_DASHED, CHART_POINTS };

struct chart_series {
    const char *name;               /* in the legend; NULL: not there */
    enum chart_kind kind;
    unsigned    color;              /* 0 .. CHART_COLORS - 1, taken in this order; or CHART_GREY */
    size_t      n;
    const double *x, *y;            /* [n] */
    const char *const *labels;      /* [n], beside the points; NULL, or NULL entries: none */
    const char *const *hints;       /* [n], shown under the pointer; as above */
    const double *radius;           /* [n] of points, in pixels; NULL: 4 */
    const char *note;               /* written along a line, near its right end; NULL: nothing */
};

struct chart_axis {
    const char *title;              /* with its unit; NULL: none */
    const char *unit;               /* behind the SI prefix of each tick: "B/s"; NULL: none, and
                                     * small numbers stay as they are */
    bool   log;
    double min, max;                /* both 0: from the data */
    bool   zero;                    /* where it comes from the data, 0 lies on it; not with log */
};

struct chart {
    const char *title, *subtitle;   /* NULL: none */
    struct chart_axis x, y;
    const struct chart_series *series;
    size_t   n_series;
    unsigned width, height;         /* pixels; 0: 900 by 560 */
};

/* Appends the picture to out. WATT_EINVAL: nothing that can be drawn, or bounds that make no
 * axis; WATT_ELIMIT: too many series or points; WATT_ENOMEM. */
int chart_svg(const struct chart *c, struct str *out, struct err *e) MUST_CHECK;

/* The same chart in characters, `columns` wide (40 to 400) and `rows` high (8 to 100) without title
 * and legend; with colour, or letters for the series. utf8: lines of Braille dots, else letters
 * alone. Labels and hints are left out. */
struct chart_terminal { unsigned columns, rows; bool color, utf8; };
/* What standard output is: its width and colours, UTF-8 by LC_ALL, LC_CTYPE or LANG. */
struct chart_terminal chart_terminal_here(void);
int chart_text(const struct chart *c, const struct chart_terminal *t, struct str *out,
               struct err *e) MUST_CHECK;

#endif
