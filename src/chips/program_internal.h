/* program_internal.h: what the recorder (program.c) and the passes that change a
 * program (passes/rows.c, passes/dead.c) share. Nobody else includes it. */
#ifndef CHIPS_PROGRAM_INTERNAL_H
#define CHIPS_PROGRAM_INTERNAL_H

#include "chips/program.h"

struct program {
    struct instr       *instr;      /* [n_instr] */
    struct prog_value  *value;      /* [n_values + 1], 0 unused */
    struct prog_weight *weight;     /* [n_weights + 1], 0 unused */
    struct prog_state  *state;      /* [n_states + 1], 0 unused */
    uint32_t n_instr, n_values, n_weights, n_states;
    uint32_t cap_instr, cap_values, cap_weights, cap_states;
    uint32_t *names;                /* open hash of weight names; size a power of two */
    uint32_t n_names;
    uint32_t layer;
    val      result;
    bool     finished;
    struct err err;                 /* code 0: none yet */
};

/* 0 (and prog_fail) when there are too many or memory is short. */
val  program_add_value(struct program *p, const struct prog_value *v);
bool program_add_instr(struct program *p, const struct instr *in);

/* passes/rows.c */
int  pass_rows(struct program *p, struct err *e) MUST_CHECK;
/* passes/dead.c: drops dead instructions, then sets lifetimes and weight uses. */
int  pass_dead(struct program *p, struct err *e) MUST_CHECK;

#endif
