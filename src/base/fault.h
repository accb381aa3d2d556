/* fault.h: makes the n-th call of a kind fail, in builds with -Dfaults=true
 * (the test builds); in others fault_hit() is a constant false.
 *
 * A torture test runs an operation with n = 1, 2, … until it succeeds, and
 * checks that each failure was an error and leaked nothing. [SQLite, curl] */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

#include <stdbool.h>

enum fault_kind { FAULT_ALLOC, FAULT_READ, FAULT_WRITE, FAULT_THREAD, FAULT_KINDS };

#ifdef WATT_FAULTS
/* From now on the n-th call of fault_hit(kind), counted over all threads,
 * returns true once; n = 0 switches off. Returns how many calls were counted
 * since the last fault_arm of that kind. */
unsigned long fault_arm(enum fault_kind kind, unsigned long n);
bool fault_hit(enum fault_kind kind);
/* For tests of whole commands: with $WATT_FAULT_KILL "read:N" or "write:N" the process dies at its
 * N-th read or write, as by kill -9. Called once, before threads. */
void fault_env(void);
#else
static inline bool fault_hit(enum fault_kind kind) { (void)kind; return false; }
static inline void fault_env(void) {}
#endif

#endif
