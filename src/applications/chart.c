/* chart.c: draws charts as SVG; see chart.h. */
#include "applications/chart_scale.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

/* Room around the plot, sizes of text, in pixels. */
#define LEFT   74.0
#define RIGHT  24.0
#define BOTTOM 54.0
#define TEXT   12.0
#define CHAR_WIDTH 0.56         /* of the text's size: what a mean letter of a sans-serif takes */
#define LEGEND_ROW 18.0
#define MAX_BOXES 512           /* labels that are kept apart */
#define RADIUS 4.0

struct box { double x0, y0, x1, y1; };

struct drawing {
    const struct chart *c;
    struct str *out;
    struct chart_scale x, y;
    double width, height;
    struct box boxes[MAX_BOXES];
    size_t n_boxes;
};

static void text(struct str *s, const char *z)
{
    for (; *z; z++) {
        switch (*z) {
        case '&': str_puts(s, "&amp;"); break;
        case '<': str_puts(s, "&lt;"); break;
        case '>': str_puts(s, "&gt;"); break;
        case '"': str_puts(s, "&quot;"); break;
        default:
            str_putc(s, (unsigned char)*z < 0x20 ? ' ' : *z);
        }
    }
}

static double text_width(const char *z)
{
    size_t n = 0;

    for (; *z; z++)
        n += ((unsigned char)*z & 0xC0) != 0x80;
    return (double)n * TEXT * CHAR_WIDTH;
}

/* anchor: "start", "middle" or "end". */
static void put_text(struct drawing *d, double x, double y, const char *class, const char *anchor,
                     const char *z)
{
    str_printf(d->out, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", class, x, y,
               anchor);
    text(d->out, z);
    str_puts(d->out, "</text>\n");
}

/* Okabe and Ito's colours, which differ for colour-blind eyes too, darker on light ground and
 * lighter on dark. */
static const char style[] =
    "<style>\n"
    "text{font:12px system-ui,-apple-system,\"Segoe UI\",\"DejaVu Sans\",sans-serif;fill:#24292f}\n"
    ".t{font-size:16px;font-weight:600}.s,.k,.n{fill:#57606a}\n"
    ".bg{fill:#fff}.g{stroke:#d8dee4;stroke-width:1}.m{stroke:#eef1f4;stroke-width:1}\n"
    ".f{stroke:#8c959f;fill:none}.l{fill:none;stroke-width:2;stroke-linejoin:round}\n"
    ".d{stroke-dasharray:6 4}.p{fill-opacity:.75;stroke:#fff;stroke-width:1}\n"
    ".h{paint-order:stroke;stroke:#fff;stroke-width:3px;stroke-linejoin:round}\n"
    ".c0{stroke:#0072b2}.c1{stroke:#d55e00}.c2{stroke:#007a5a}.c3{stroke:#b0437f}\n"
    ".c4{stroke:#8a6d00}.c5{stroke:#3b8fc4}.c6{stroke:#6f42c1}.c7{stroke:#24292f}"
    ".c8{stroke:#6e7781}\n"
    ".p0{fill:#0072b2}.p1{fill:#d55e00}.p2{fill:#007a5a}.p3{fill:#b0437f}\n"
    ".p4{fill:#8a6d00}.p5{fill:#3b8fc4}.p6{fill:#6f42c1}.p7{fill:#24292f}.p8{fill:#6e7781}\n"
    "@media (prefers-color-scheme:dark){\n"
    "text{fill:#e6edf3}.s,.k,.n{fill:#9da7b3}.bg{fill:#0d1117}\n"
    ".g{stroke:#30363d}.m{stroke:#1c2128}.f{stroke:#6e7681}.p{stroke:#0d1117}\n"
    ".h{stroke:#0d1117}\n"
    ".c0{stroke:#56b4e9}.c1{stroke:#ff8c42}.c2{stroke:#3fd0a4}.c3{stroke:#e68ab8}\n"
    ".c4{stroke:#f0c94a}.c5{stroke:#8cc8f2}.c6{stroke:#b392f0}.c7{stroke:#e6edf3}"
    ".c8{stroke:#8b949e}\n"
    ".p0{fill:#56b4e9}.p1{fill:#ff8c42}.p2{fill:#3fd0a4}.p3{fill:#e68ab8}\n"
    ".p4{fill:#f0c94a}.p5{fill:#8cc8f2}.p6{fill:#b392f0}.p7{fill:#e6edf3}.p8{fill:#8b949e}\n"
    "}\n</style>\n";

/* ---- axes ---- */

static void draw_x_axis(struct drawing *d)
{
    const struct chart_ticks t = chart_ticks_of(&d->x);
    char buf[64];

    for (int i = 0; i < t.n; i++) {
        const double x = chart_at(&d->x, t.v[i]);

        str_printf(d->out, "<path class=\"%s\" d=\"M%.1f %.1fV%.1f\"/>\n", t.major[i] ? "g" : "m", x,
                   d->y.from, d->y.to);
        chart_number(buf, sizeof buf, t.v[i], d->c->x.unit);
        if (t.major[i])
            put_text(d, x, d->y.from + 17, "k", "middle", buf);
    }
    if (d->c->x.title)
        put_text(d, (d->x.from + d->x.to) / 2, d->y.from + 40, "k", "middle", d->c->x.title);
}

static void draw_y_axis(struct drawing *d)
{
    const struct chart_ticks t = chart_ticks_of(&d->y);
    const double mid = (d->y.from + d->y.to) / 2;
    char buf[64];

    for (int i = 0; i < t.n; i++) {
        const double y = chart_at(&d->y, t.v[i]);

        str_printf(d->out, "<path class=\"%s\" d=\"M%.1f %.1fH%.1f\"/>\n", t.major[i] ? "g" : "m",
                   d->x.from, y, d->x.to);
        chart_number(buf, sizeof buf, t.v[i], d->c->y.unit);
        if (t.major[i])
            put_text(d, d->x.from - 8, y + 4, "k", "end", buf);
    }
    if (!d->c->y.title)
        return;
    str_printf(d->out, "<text class=\"k\" text-anchor=\"middle\" transform=\"translate(16 %.1f) "
               "rotate(-90)\">", mid);
    text(d->out, d->c->y.title);
    str_puts(d->out, "</text>\n");
}

/* ---- labels ---- */

static bool overlap(const struct box *a, const struct box *b)
{
    return a->x0 < b->x1 && b->x0 < a->x1 && a->y0 < b->y1 && b->y0 < a->y1;
}

static bool is_free(const struct drawing *d, const struct box *b)
{
    if (b->x0 < d->x.from || b->x1 > d->x.to || b->y0 < d->y.to || b->y1 > d->y.from)
        return false;
    for (size_t i = 0; i < d->n_boxes; i++)
        if (overlap(b, &d->boxes[i]))
            return false;
    return true;
}

static void take(struct drawing *d, struct box b)
{
    if (d->n_boxes < MAX_BOXES)
        d->boxes[d->n_boxes++] = b;
}

/* Beside the point where there is room: right, left, above, below, then further off with a line
 * to the point. A label without room anywhere is left out; its hint still says it. */
static void put_label(struct drawing *d, double x, double y, double r, const char *z)
{
    const double w = text_width(z), h = TEXT + 2;

    for (int ring = 0; ring < 6; ring++)
        for (int side = 0; side < 8; side++) {
            const double angle = (double[]){ 0, 180, -90, 90, -40, -140, 40, 140 }[side] *
                                 3.14159265358979 / 180;
            const double gap = r + 3 + 16.0 * ring, dx = cos(angle) * gap, dy = sin(angle) * gap;
            const double left = x + dx + (cos(angle) > 0.1 ? 0 : cos(angle) < -0.1 ? -w : -w / 2);
            const double mid = y + dy + (sin(angle) > 0.9 ? h / 2 : sin(angle) < -0.9 ? -h / 2 : 0);
            const struct box b = { left, mid - h / 2, left + w, mid + h / 2 };

            if (!is_free(d, &b))
                continue;
            take(d, b);
            if (ring > 0)
                str_printf(d->out, "<path class=\"f\" d=\"M%.1f %.1fL%.1f %.1f\"/>\n",
                           x + cos(angle) * r, y + sin(angle) * r, x + dx, y + dy);
            put_text(d, left, mid + 4, "h", "start", z);
            return;
        }
}

/* ---- series ---- */

static bool point_of(const struct drawing *d, const struct chart_series *s, size_t i, double *x,
                     double *y)
{
    if (!chart_usable(&d->c->x, s->x[i]) || !chart_usable(&d->c->y, s->y[i]))
        return false;
    *x = chart_at(&d->x, s->x[i]);
    *y = chart_at(&d->y, s->y[i]);
    return true;
}

static void draw_line(struct drawing *d, const struct chart_series *s)
{
    bool pen_down = false;
    double x, y;

    str_printf(d->out, "<path class=\"l%s c%u\" clip-path=\"url(#plot)\" d=\"",
               s->kind == CHART_DASHED ? " d" : "", s->color);
    for (size_t i = 0; i < s->n; i++) {
        if (!point_of(d, s, i, &x, &y)) {
            pen_down = false;
            continue;
        }
        str_printf(d->out, "%c%.1f %.1f", pen_down ? 'L' : 'M', x, y);
        pen_down = true;
    }
    str_puts(d->out, "\"/>\n");
}

/* Labels keep off limits, which are read where they pass; data lines they may cross. */
static void take_line(struct drawing *d, const struct chart_series *s)
{
    double x0, y0, x1, y1;

    for (size_t i = 1; s->color == CHART_GREY && i < s->n; i++) {
        int n;

        if (!point_of(d, s, i - 1, &x0, &y0) || !point_of(d, s, i, &x1, &y1))
            continue;
        n = fabs(y1 - y0) < 1 ? 1 : 60;
        for (int k = 0; k < n; k++) {
            const double xa = x0 + (x1 - x0) * k / n, xb = x0 + (x1 - x0) * (k + 1) / n;
            const double ya = y0 + (y1 - y0) * k / n, yb = y0 + (y1 - y0) * (k + 1) / n;

            take(d, (struct box){ fmin(xa, xb) - 1, fmin(ya, yb) - 1, fmax(xa, xb) + 1,
                                  fmax(ya, yb) + 1 });
        }
    }
}

/* Along the last stretch of the line that lies in the plot. */
static void draw_note(struct drawing *d, const struct chart_series *s)
{
    double x0, y0, x1, y1, angle;

    if (!s->note || s->n < 2 || !point_of(d, s, s->n - 2, &x0, &y0) ||
        !point_of(d, s, s->n - 1, &x1, &y1) || !(x1 > x0))
        return;
    if (y1 < d->y.to) {             /* leaves through the top: stop there */
        x1 = x0 + (x1 - x0) * (d->y.to - y0) / (y1 - y0);
        y1 = d->y.to;
    }
    angle = atan2(y1 - y0, x1 - x0);
    x1 -= 8 * cos(angle);
    y1 -= 8 * sin(angle);
    str_printf(d->out, "<text class=\"n h\" text-anchor=\"end\" transform=\"translate(%.1f %.1f) "
               "rotate(%.2f) translate(0 -5)\">", x1, y1, angle * 180 / 3.14159265358979);
    text(d->out, s->note);
    str_puts(d->out, "</text>\n");
    for (double along = 0, w = text_width(s->note); along < w; along += TEXT) {
        const double x = x1 - along * cos(angle) + 9 * sin(angle);
        const double y = y1 - along * sin(angle) - 9 * cos(angle);

        take(d, (struct box){ x - 6, y - 6, x + 6, y + 6 });
    }
}

static void draw_points(struct drawing *d, const struct chart_series *s)
{
    double x, y;

    for (size_t i = 0; i < s->n; i++) {
        const double r = s->radius ? s->radius[i] : RADIUS;

        if (!point_of(d, s, i, &x, &y))
            continue;
        str_printf(d->out, "<circle class=\"p p%u\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\">", s->color,
                   x, y, r);
        if (s->hints && s->hints[i]) {
            str_puts(d->out, "<title>");
            text(d->out, s->hints[i]);
            str_puts(d->out, "</title>");
        }
        str_puts(d->out, "</circle>\n");
        take(d, (struct box){ x - r, y - r, x + r, y + r });
    }
}

static void draw_labels(struct drawing *d, const struct chart_series *s)
{
    double x, y;

    for (size_t i = 0; s->labels && i < s->n; i++)
        if (s->labels[i] && point_of(d, s, i, &x, &y))
            put_label(d, x, y, s->radius ? s->radius[i] : RADIUS, s->labels[i]);
}

/* A row of the legend per line of text; returns the height it took. */
static double draw_legend(struct drawing *d, double top, bool draw)
{
    double x = LEFT, y = top;
    bool any = false;

    for (size_t i = 0; i < d->c->n_series; i++) {
        const struct chart_series *s = &d->c->series[i];
        double w;

        if (!s->name)
            continue;
        w = 26 + text_width(s->name) + 18;
        if (any && x + w > d->width - RIGHT) {
            x = LEFT;
            y += LEGEND_ROW;
        }
        any = true;
        if (draw && s->kind == CHART_POINTS)
            str_printf(d->out, "<circle class=\"p p%u\" cx=\"%.1f\" cy=\"%.1f\" r=\"5\"/>\n",
                       s->color, x + 10, y - 4);
        else if (draw)
            str_printf(d->out, "<path class=\"l%s c%u\" d=\"M%.1f %.1fh20\"/>\n",
                       s->kind == CHART_DASHED ? " d" : "", s->color, x, y - 4);
        if (draw)
            put_text(d, x + 26, y, "s", "start", s->name);
        x += w;
    }
    return any ? y + LEGEND_ROW - top : 0;
}

/* ---- the whole ---- */

static int check(const struct chart *c, struct err *e)
{
    if (c->n_series > CHART_MAX_SERIES)
        return err_set(e, WATT_ELIMIT, "chart: %zu series, at most %u", c->n_series,
                       CHART_MAX_SERIES);
    for (size_t i = 0; i < c->n_series; i++) {
        if (c->series[i].n > CHART_MAX_POINTS)
            return err_set(e, WATT_ELIMIT, "chart: %zu points, at most %u", c->series[i].n,
                           CHART_MAX_POINTS);
        if (c->series[i].color > CHART_GREY)
            return err_set(e, WATT_EINVAL, "chart: colour %u", c->series[i].color);
    }
    return 0;
}

static void draw(struct drawing *d, double legend_at)
{
    const struct chart *c = d->c;

    str_printf(d->out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
               "width=\"%.0f\" height=\"%.0f\" role=\"img\">\n", d->width, d->height, d->width,
               d->height);
    if (c->title) {
        str_puts(d->out, "<title>");
        text(d->out, c->title);
        str_puts(d->out, "</title>\n");
    }
    str_puts(d->out, style);
    str_printf(d->out, "<clipPath id=\"plot\"><rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" "
               "height=\"%.1f\"/></clipPath>\n", d->x.from, d->y.to, d->x.to - d->x.from,
               d->y.from - d->y.to);
    str_puts(d->out, "<rect class=\"bg\" width=\"100%\" height=\"100%\"/>\n");
    if (c->title)
        put_text(d, LEFT, 28, "t", "start", c->title);
    if (c->subtitle)
        put_text(d, LEFT, c->title ? 48 : 24, "s", "start", c->subtitle);
    (void)draw_legend(d, legend_at, true);
    draw_x_axis(d);
    draw_y_axis(d);
    for (size_t i = 0; i < c->n_series; i++)
        if (c->series[i].kind != CHART_POINTS)
            draw_line(d, &c->series[i]);
    for (size_t i = 0; i < c->n_series; i++)
        if (c->series[i].kind == CHART_POINTS)
            draw_points(d, &c->series[i]);
    for (size_t i = 0; i < c->n_series; i++)
        if (c->series[i].kind != CHART_POINTS) {
            draw_note(d, &c->series[i]);
            take_line(d, &c->series[i]);
        }
    for (size_t i = 0; i < c->n_series; i++)
        draw_labels(d, &c->series[i]);
    str_printf(d->out, "<rect class=\"f\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>\n"
               "</svg>\n", d->x.from, d->y.to, d->x.to - d->x.from, d->y.from - d->y.to);
}

int chart_svg(const struct chart *c, struct str *out, struct err *e)
{
    struct drawing *d;
    double legend_at, top;
    int rc = check(c, e);

    if (rc < 0)
        return rc;
    d = mem_calloc(1, sizeof *d);
    if (!d)
        return err_set(e, WATT_ENOMEM, "chart: work space");
    d->c = c;
    d->out = out;
    d->width = c->width ? c->width : 900;
    d->height = c->height ? c->height : 560;
    legend_at = 20 + (c->title ? 24 : 0) + (c->subtitle ? 24 : 0);
    top = legend_at - 4 + draw_legend(d, legend_at, false);
    if (d->height < top + BOTTOM + 50 || d->width < LEFT + RIGHT + 50)
        rc = err_set(e, WATT_EINVAL, "chart: %.0f by %.0f pixels leave no room", d->width,
                     d->height);
    if (rc == 0)
        rc = chart_scale_init(&d->x, c, true, LEFT, d->width - RIGHT, e);
    if (rc == 0)
        rc = chart_scale_init(&d->y, c, false, d->height - BOTTOM, top, e);
    if (rc == 0) {
        draw(d, legend_at);
        if (!str_ok(out))
            rc = err_set(e, WATT_ENOMEM, "chart: text of the picture");
    }
    mem_free(d);
    return rc;
}
