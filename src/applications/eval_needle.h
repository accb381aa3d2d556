/* eval_needle.h: needles in haystacks (Kamradt, "Needle In A Haystack", 2023): a sentence hidden in a
 * long text at several depths, and a question about it. */
#ifndef APPLICATIONS_EVAL_NEEDLE_H
#define APPLICATIONS_EVAL_NEEDLE_H

#include "applications/eval_task.h"
#include "models/tokenizer.h"

#define EVAL_NEEDLE_DEPTHS 5u       /* 0, 25, 50, 75 and 100 % */
#define EVAL_NEEDLES_EACH  4u       /* questions per length and depth, hay from different places */

/* Appends items, a task per length and depth. hay: text, repeated where it is too short. length: of
 * the haystack, in tokens of tok, or with tok NULL in units of four bytes. Names and numbers come
 * from the seed. WATT_EINVAL: no hay. */
int eval_needle_add(struct eval_items *items, const struct tokenizer *tok, struct sv hay, uint32_t length,
                    uint64_t seed, struct err *e) MUST_CHECK;

#endif
