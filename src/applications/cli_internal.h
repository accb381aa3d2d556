/* cli_internal.h: shared by the files of the command's frame; not for verbs. */
#ifndef APPLICATIONS_CLI_INTERNAL_H
#define APPLICATIONS_CLI_INTERNAL_H

#include "applications/cli.h"

#define CLI_MAX_OPTIONS 128     /* rows of one verb's table */

bool cli_takes_value(const struct cli_opt *o);
size_t cli_count_options(const struct cli_verb *v);

void cli_help_all(FILE *f);
void cli_help_verb(FILE *f, const struct cli_verb *v);
/* The manual page watt(1) on stdout, in mdoc. */
void cli_man(void);

#endif
