/* chart_text.c: draws charts on terminals; see chart.h. A cell of the terminal is 2 by 4 dots of a
 * Braille character (U+2800 on); points stand over lines as a letter each. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "applications/chart_scale.h"
#include "applications/cli.h"
#include "base/mem.h"

#define DOTS_X 2
#define DOTS_Y 4
#define MARGIN 10u              /* columns of the numbers beside the y axis */

struct cell { uint8_t dots, letter, color; };

struct canvas {
    const struct chart *c;
    struct chart_terminal t;
    struct chart_scale x, y;
    struct cell *cells;         /* [rows][columns] */
    unsigned columns, rows;     /* of the plot */
};

/* ---- drawing ---- */

static void dot(struct canvas *v, double px, double py, unsigned color)
{
    static const uint8_t bit[DOTS_Y][DOTS_X] = { { 0x01, 0x08 }, { 0x02, 0x10 }, { 0x04, 0x20 },
                                                 { 0x40, 0x80 } };
    const long x = lround(px), y = lround(py);
    struct cell *at;

    if (x < 0 || y < 0 || x >= (long)(v->columns * DOTS_X) || y >= (long)(v->rows * DOTS_Y))
        return;
    at = &v->cells[(size_t)(y / DOTS_Y) * v->columns + (size_t)(x / DOTS_X)];
    at->dots |= bit[y % DOTS_Y][x % DOTS_X];
    at->color = (uint8_t)color;
}

static bool place_of(const struct canvas *v, const struct chart_series *s, size_t i, double *px,
                     double *py)
{
    if (!chart_usable(&v->c->x, s->x[i]) || !chart_usable(&v->c->y, s->y[i]))
        return false;
    *px = chart_at(&v->x, s->x[i]);
    *py = chart_at(&v->y, s->y[i]);
    return fabs(*px) < 1e6 && fabs(*py) < 1e6;
}

static void draw_line(struct canvas *v, const struct chart_series *s)
{
    for (size_t i = 1; i < s->n; i++) {
        double x0, y0, x1, y1;
        long n;

        if (!place_of(v, s, i - 1, &x0, &y0) || !place_of(v, s, i, &x1, &y1))
            continue;
        n = lround(fmin(fmax(fabs(x1 - x0), fabs(y1 - y0)), 4096)) + 1;
        for (long k = 0; k <= n; k++) {
            const double u = (double)k / (double)n;

            if (s->kind != CHART_DASHED || k / 3 % 2 == 0)
                dot(v, x0 + u * (x1 - x0), y0 + u * (y1 - y0), s->color);
        }
    }
}

static void draw_points(struct canvas *v, const struct chart_series *s, char letter)
{
    for (size_t i = 0; i < s->n; i++) {
        double x, y;
        long cx, cy;

        if (!place_of(v, s, i, &x, &y))
            continue;
        cx = lround(x) / DOTS_X;
        cy = lround(y) / DOTS_Y;
        if (cx < 0 || cy < 0 || cx >= (long)v->columns || cy >= (long)v->rows)
            continue;
        v->cells[(size_t)cy * v->columns + (size_t)cx].letter = (uint8_t)letter;
        v->cells[(size_t)cy * v->columns + (size_t)cx].color = (uint8_t)s->color;
    }
}

static char letter_of(size_t series)
{
    return "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"[series % 62];
}

/* ---- writing ---- */

static void paint(const struct canvas *v, unsigned color, bool on, struct str *out)
{
    static const int ansi[CHART_COLORS] = { 34, 33, 32, 31, 35, 36, 94, 93 };

    if (v->t.color && on)
        str_printf(out, "\033[%dm", color < CHART_COLORS ? ansi[color] : 90);
    else if (v->t.color)
        str_puts(out, "\033[0m");
}

static void put_cell(const struct canvas *v, const struct cell *c, struct str *out)
{
    if (!c->dots && !c->letter) {
        str_putc(out, ' ');
        return;
    }
    paint(v, c->color, true, out);
    if (c->letter) {
        str_putc(out, (char)c->letter);
    } else if (v->t.utf8) {
        const unsigned u = 0x2800u + c->dots;

        str_printf(out, "%c%c%c", (int)(0xE0 | u >> 12), (int)(0x80 | (u >> 6 & 0x3F)),
                   (int)(0x80 | (u & 0x3F)));
    } else {
        str_putc(out, '.');
    }
    paint(v, 0, false, out);
}

/* The number of the tick in this row of cells, if there is one. */
static void put_margin(const struct canvas *v, unsigned row, const struct chart_ticks *t,
                       struct str *out)
{
    char number[32] = "";

    for (int i = 0; i < t->n; i++)
        if (t->major[i] && lround(chart_at(&v->y, t->v[i])) / DOTS_Y == (long)row)
            chart_number(number, sizeof number, t->v[i], v->c->y.unit);
    str_printf(out, "%*.*s %s", (int)MARGIN - 2, (int)MARGIN - 2, number,
               v->t.utf8 ? (number[0] ? "\xe2\x94\xa4" : "\xe2\x94\x82") : number[0] ? "+" : "|");
}

static void put_x_axis(const struct canvas *v, struct str *out)
{
    const struct chart_ticks t = chart_ticks_of(&v->x);
    char line[512];
    size_t end = 0;

    str_printf(out, "%*s%s", (int)MARGIN - 1, "", v->t.utf8 ? "\xe2\x94\x94" : "+");
    for (unsigned i = 0; i < v->columns; i++)
        str_puts(out, v->t.utf8 ? "\xe2\x94\x80" : "-");
    str_putc(out, '\n');
    memset(line, ' ', sizeof line);
    for (int i = 0; i < t.n; i++) {
        char number[32];
        size_t at, n;

        if (!t.major[i])
            continue;
        chart_number(number, sizeof number, t.v[i], v->c->x.unit);
        n = strlen(number);
        at = MARGIN + (size_t)fmax(0, chart_at(&v->x, t.v[i])) / DOTS_X;
        at = at > n / 2 ? at - n / 2 : 0;
        if ((end > 0 && at < end + 2) || at + n > sizeof line)
            continue;
        memcpy(line + at, number, n);
        end = at + n;
    }
    str_append(out, line, end);
    str_putc(out, '\n');
}

static void put_legend(const struct canvas *v, struct str *out)
{
    if (v->c->y.title || v->c->x.title)
        str_printf(out, "%*sy: %s, x: %s\n", (int)MARGIN, "", v->c->y.title ? v->c->y.title : "",
                   v->c->x.title ? v->c->x.title : "");
    for (size_t i = 0; i < v->c->n_series; i++) {
        const struct chart_series *s = &v->c->series[i];

        if (!s->name)
            continue;
        str_printf(out, "%*s", (int)MARGIN, "");
        paint(v, s->color, true, out);
        if (s->kind == CHART_POINTS)
            str_putc(out, letter_of(i));
        else
            str_puts(out, v->t.utf8 ? "\xe2\xa0\xa4" : ".");
        paint(v, 0, false, out);
        str_printf(out, " %s\n", s->name);
    }
}

static void write_all(const struct canvas *v, struct str *out)
{
    const struct chart_ticks ty = chart_ticks_of(&v->y);

    if (v->c->title)
        str_printf(out, "%*s%s\n", (int)MARGIN, "", v->c->title);
    if (v->c->subtitle)
        str_printf(out, "%*s%s\n", (int)MARGIN, "", v->c->subtitle);
    for (unsigned r = 0; r < v->rows; r++) {
        put_margin(v, r, &ty, out);
        for (unsigned k = 0; k < v->columns; k++)
            put_cell(v, &v->cells[(size_t)r * v->columns + k], out);
        while (out->len > 0 && out->data[out->len - 1] == ' ')
            out->len--;
        str_putc(out, '\n');
    }
    put_x_axis(v, out);
    put_legend(v, out);
}

int chart_text(const struct chart *c, const struct chart_terminal *t, struct str *out,
               struct err *e)
{
    struct canvas v = { .c = c, .t = *t };
    int rc;

    if (t->columns < 40 || t->columns > 400 || t->rows < 8 || t->rows > 100)
        return err_set(e, WATT_EINVAL, "chart: %u columns and %u rows, expected 40 to 400 and 8 to 100",
                       t->columns, t->rows);
    v.columns = t->columns - MARGIN;
    v.rows = t->rows;
    rc = chart_scale_init(&v.x, c, true, 0, v.columns * DOTS_X - 1, e);
    if (rc == 0)
        rc = chart_scale_init(&v.y, c, false, v.rows * DOTS_Y - 1, 0, e);
    if (rc < 0)
        return rc;
    v.cells = mem_calloc((size_t)v.rows * v.columns, sizeof *v.cells);
    if (!v.cells)
        return err_set(e, WATT_ENOMEM, "chart of %u by %u", v.columns, v.rows);
    for (size_t i = 0; i < c->n_series; i++)
        if (c->series[i].kind != CHART_POINTS)
            draw_line(&v, &c->series[i]);
    for (size_t i = 0; i < c->n_series; i++)
        if (c->series[i].kind == CHART_POINTS)
            draw_points(&v, &c->series[i], letter_of(i));
    write_all(&v, out);
    mem_free(v.cells);
    return str_ok(out) ? 0 : err_set(e, WATT_ENOMEM, "chart of %u by %u", v.columns, v.rows);
}

struct chart_terminal chart_terminal_here(void)
{
    static const char *const names[] = { "LC_ALL", "LC_CTYPE", "LANG" };
    struct chart_terminal t = { 80, 20, cli_color(stdout), false };
    struct winsize size;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        t.columns = size.ws_col < 40 ? 40 : size.ws_col > 120 ? 120 : size.ws_col;
    for (int i = 0; i < 3; i++) {
        const char *v = getenv(names[i]);

        if (!v || !*v)
            continue;
        t.utf8 = strcasestr(v, "utf-8") || strcasestr(v, "utf8");
        break;
    }
    return t;
}
