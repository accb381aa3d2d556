/* progress.c: a progress line; see progress.h. */
#include "applications/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define SHOW_AFTER_NS  UINT64_C(1000000000)
#define DRAW_EVERY_NS  UINT64_C(100000000)
#define BAR_CELLS      24

const char *format_bytes(char buf[32], uint64_t bytes)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double v = (double)bytes;
    size_t u = 0;

    for (; v >= 1023.95 && u < 6; u++)
        v /= 1024;
    (void)snprintf(buf, 32, u ? "%.1f %s" : "%.0f %s", v, units[u]);
    return buf;
}

const char *format_seconds(char buf[32], double seconds)
{
    if (seconds < 0.9995)
        (void)snprintf(buf, 32, "%.0f ms", seconds * 1e3);
    else if (seconds < 59.95)
        (void)snprintf(buf, 32, "%.1f s", seconds);
    else if (seconds < 1e9)
        (void)snprintf(buf, 32, "%llu min %02u s", (unsigned long long)(seconds / 60),
                       (unsigned)((unsigned long long)seconds % 60));
    else
        (void)snprintf(buf, 32, "very long");
    return buf;
}

void progress_init(struct progress *p, const char *label, const char *unit)
{
    *p = (struct progress){ .label = label, .unit = unit, .start_ns = clock_mono_ns(),
                            .terminal = isatty(STDERR_FILENO) };
}

static void draw_bar(char bar[BAR_CELLS * 3 + 1], double part)
{
    const int full = (int)(part * BAR_CELLS);
    char *p = bar;

    for (int i = 0; i < BAR_CELLS; i++) {
        memcpy(p, i < full ? "━" : "╌", 3);
        p += 3;
    }
    *p = '\0';
}

static void draw(struct progress *p, uint64_t done, uint64_t total, double elapsed)
{
    char bar[BAR_CELLS * 3 + 1], left[32], a[32], b[32];
    double part;

    if (strcmp(p->unit, "B") == 0) {
        (void)format_bytes(a, done);
        (void)format_bytes(b, total);
    } else {
        (void)snprintf(a, sizeof a, "%llu", (unsigned long long)done);
        (void)snprintf(b, sizeof b, "%llu %.8s", (unsigned long long)total, p->unit);
    }
    if (total == 0) {
        (void)fprintf(stderr, "\r\033[K%s %s %s", p->label, a, strcmp(p->unit, "B") ? p->unit : "");
        return;
    }
    if (done > total)
        done = total;
    part = (double)done / (double)total;
    draw_bar(bar, part);
    (void)fprintf(stderr, "\r\033[K%s %s %3.0f%%  %s of %s", p->label, bar, part * 100, a, b);
    if (part > 0.01)
        (void)fprintf(stderr, "  %s left", format_seconds(left, elapsed / part * (1 - part)));
}

void progress_update(struct progress *p, uint64_t done, uint64_t total)
{
    uint64_t now;

    if (!p->terminal)
        return;
    now = clock_mono_ns();
    if (now - p->start_ns < SHOW_AFTER_NS || now - p->drawn_ns < DRAW_EVERY_NS)
        return;
    p->drawn_ns = now;
    p->drawn = true;
    draw(p, done, total, clock_seconds(now - p->start_ns));
    (void)fflush(stderr);
}

void progress_callback(void *progress, uint64_t done, uint64_t total)
{
    progress_update(progress, done, total);
}

void progress_finish(struct progress *p)
{
    if (p->drawn)
        (void)fprintf(stderr, "\r\033[K");
    (void)fflush(stderr);
    p->drawn = false;
}
