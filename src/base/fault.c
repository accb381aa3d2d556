/* fault.c: n-th-failure injection; see fault.h. Empty in release builds. */
#include "base/fault.h"

#ifdef WATT_FAULTS
#include <stdatomic.h>

static atomic_ulong armed[FAULT_KINDS], seen[FAULT_KINDS];

unsigned long fault_arm(enum fault_kind kind, unsigned long n)
{
    atomic_store(&armed[kind], n);
    return atomic_exchange(&seen[kind], 0);
}

bool fault_hit(enum fault_kind kind)
{
    unsigned long n = atomic_load_explicit(&armed[kind], memory_order_relaxed);

    return n != 0 && atomic_fetch_add(&seen[kind], 1) + 1 == n;
}
#else
typedef int fault_unused;   /* ISO C wants a declaration in every file */
#endif
