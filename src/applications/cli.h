/* cli.h: what every verb of the watt command shares: a table row per verb, a
 * table row per option, parsing, help, exit codes, messages.
 *
 * A verb is one file cli_<verb>.c that defines `const struct cli_verb verb_x`
 * and is named once in verbs.c. Help, errors and shell completion are made from
 * these tables, so an option that works is an option that is documented. */
#ifndef APPLICATIONS_CLI_H
#define APPLICATIONS_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

enum cli_exit {
    CLI_OK = 0,
    CLI_FAILURE = 1,
    CLI_USAGE = 2,
    CLI_INTERRUPTED = 130
};

#define CLI_LIST_MAX 64

/* Target of a CLI_LIST option: each use adds one. Points into argv. */
struct cli_list {
    const char *v[CLI_LIST_MAX];
    size_t      n;
};

enum cli_type {
    CLI_FLAG,       /* no value; sets a bool to true */
    CLI_CLEAR,      /* no value; sets a bool to false */
    CLI_INT,        /* int64_t within min..max */
    CLI_REAL,       /* double within min..max; never NaN or infinite */
    CLI_BYTES,      /* uint64_t; 512, 64K, 4M, 2G, 1T (powers of 1,024; "iB" may follow) */
    CLI_TEXT,       /* const char *, points into argv */
    CLI_FILE,       /* as CLI_TEXT; completion offers files */
    CLI_CHOICE,     /* int: index in the choices of `arg`, "a|b|c" */
    CLI_LIST        /* struct cli_list */
};

/* One option. The table ends with a row whose name is NULL. */
struct cli_opt {
    const char   *name;     /* long form without dashes */
    char          letter;   /* short form, 0: none */
    enum cli_type type;
    size_t        offset;   /* of the target in the verb's options struct */
    const char   *arg;      /* the value as help shows it: "N", "FILE", "a|b|c" */
    const char   *help;     /* one sentence without a full stop; name the default */
    double        min, max; /* CLI_INT and CLI_REAL; both 0: no bounds */
};

/* How another program spells an option. The table ends with a row whose `given` is NULL. */
struct cli_alias {
    const char *given;      /* with its dashes: "-np", "--ctx-size" */
    const char *meant;      /* the option's long name; "": an argument of the verb; NULL: what is
                             * meant does not exist here and is left out, which a note says */
    bool        has_value;  /* of one that is left out */
};

struct cli {
    const struct cli_verb *verb;
    char  **args;           /* what is left once options are taken out */
    size_t  n_args;
};

struct cli_verb {
    const char           *name;
    const char           *summary;      /* one line, lower case, no full stop */
    const char           *usage;        /* "MODEL [PROMPT]": what follows the options */
    const char           *about;        /* paragraphs for --help, may be NULL */
    const char           *examples;     /* lines for --help, each "watt …", may be NULL */
    const struct cli_opt *options;
    const struct cli_alias *aliases;    /* not in help; may be NULL */
    const void           *defaults;     /* initial contents of the options struct; NULL: zeros */
    size_t                options_size; /* 0: the verb has no options struct */
    size_t                min_args, max_args;
    /* Returns an enum cli_exit. */
    int (*run)(const struct cli *c, const void *options);
};

/* ---- for verbs ---- */

/* "watt VERB: message" on stderr; returns CLI_FAILURE, or CLI_INTERRUPTED for
 * WATT_ECANCEL after Ctrl-C. */
int cli_fail(const struct cli *c, const struct err *e);
/* As above with a message of one's own. */
int cli_failf(const struct cli *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* For combinations that the table can't refuse; points at --help. CLI_USAGE. */
int cli_usage(const struct cli *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* "watt VERB: note: message" on stderr. */
void cli_note(const struct cli *c, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Is colour wanted on this stream: a terminal, TERM not "dumb", NO_COLOR unset
 * or empty, and cli_no_color() not called. */
bool cli_color(FILE *f);
void cli_no_color(void);

/* Until cli_catch_interrupt, Ctrl-C ends the process at once, as in any program.
 * After it Ctrl-C (or SIGTERM) only sets a flag, which the verb polls to clean up
 * and return CLI_INTERRUPTED; the third one before the flag was cleared ends the
 * process. System calls go on, except poll() and the like. */
void cli_catch_interrupt(void);
bool cli_interrupted(void);
bool cli_terminated(void);      /* by SIGTERM: leave, don't ask */
void cli_clear_interrupt(void);
/* Waits until fd has something to read (or has ended); false on Ctrl-C. */
bool cli_wait_for_input(int fd);

/* Flushes stdout; a failed write (full disk, closed) is reported once.
 * Returns CLI_OK or CLI_FAILURE. main() calls it after every verb. */
int cli_flush(const struct cli *c);

/* ---- for main() and tests ---- */

/* Every verb, ending with NULL. */
extern const struct cli_verb *const cli_verbs[];

/* The whole command: finds the verb, parses, runs; returns the exit code. */
int cli_main(int argc, char **argv);
const struct cli_verb *cli_find_verb(const char *name);
/* Fills options (already holding the defaults) from argv; the rest goes to
 * c->args, which must have room for argc pointers. *help is set when --help was
 * seen. WATT_EINVAL with a message that says what to do instead. */
int cli_parse(struct cli *c, int argc, char **argv, void *options, bool *help,
              struct err *e) MUST_CHECK;
/* Sets one option of a table by its long name, as "--name value" would. WATT_ENOENT:
 * there is no such option (the message suggests one). Text values are not copied. */
int  cli_set(const struct cli_opt *table, const char *name, const char *value, void *options,
             struct err *e) MUST_CHECK;
/* The word of the NULL-ended list that `word` was probably meant to be, or NULL. */
const char *cli_nearest(const char *word, const char *const *words);

#endif
