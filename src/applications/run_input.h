/* run_input.h: what a person types: line editing with history where standard
 * input is a terminal, plain lines otherwise; messages of several lines. One
 * owner thread. */
#ifndef APPLICATIONS_RUN_INPUT_H
#define APPLICATIONS_RUN_INPUT_H

#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"

#define RUN_INPUT_MAX_BYTES ((size_t)16 << 20)     /* of one message */

enum run_input_result {
    RUN_INPUT_MESSAGE,      /* *out holds it, without the last newline */
    RUN_INPUT_END,          /* end of file, Ctrl-D */
    RUN_INPUT_INTERRUPTED,  /* Ctrl-C: what was typed is dropped */
    RUN_INPUT_FAILED        /* memory, or a message too long */
};

struct run_input;

/* history_path: where typed lines are kept between runs, NULL: nowhere. words:
 * NULL-ended, what Tab completes at the beginning of a line. Both must outlive
 * the input. WATT_ENOMEM. */
int  run_input_open(struct run_input **out, const char *history_path, const char *const *words,
                    struct err *e) MUST_CHECK;
/* Writes the history; failing to is no error. */
void run_input_close(struct run_input *in);     /* NULL is fine */

/* Reads a message into *out (emptied first). A line that ends with a backslash
 * goes on in the next line; a message that begins with three double quotes ends
 * with three. */
enum run_input_result run_input_read(struct run_input *in, const char *prompt, struct str *out);

#endif
