/* progress.h: one line of progress on stderr, for work that takes over a second
 * and only where stderr is a terminal. One owner thread. */
#ifndef APPLICATIONS_PROGRESS_H
#define APPLICATIONS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *label;      /* "quantising"; the caller's, must outlive this */
    const char *unit;       /* "tensors"; "B" shows sizes in KiB, MiB, … */
    uint64_t    start_ns, drawn_ns;
    bool        terminal, drawn;
};

void progress_init(struct progress *p, const char *label, const char *unit);
/* done of total so far; total 0: unknown. Cheap: draws ten times a second. */
void progress_update(struct progress *p, uint64_t done, uint64_t total);
/* The same with the shape that libraries call. */
void progress_callback(void *progress, uint64_t done, uint64_t total);
/* Wipes the line. */
void progress_finish(struct progress *p);

/* "1.5 GiB" into buf; returns buf. */
const char *format_bytes(char buf[32], uint64_t bytes);
/* "850 ms", "12.3 s", "4 min 05 s" */
const char *format_seconds(char buf[32], double seconds);

#endif
