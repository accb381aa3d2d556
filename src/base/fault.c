/* fault.c: n-th-failure injection; see fault.h. Empty in release builds. */
#include "base/fault.h"

#ifdef WATT_FAULTS
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static atomic_ulong armed[FAULT_KINDS], seen[FAULT_KINDS];
static bool kills[FAULT_KINDS];     /* set before there are threads */

unsigned long fault_arm(enum fault_kind kind, unsigned long n)
{
    atomic_store(&armed[kind], n);
    return atomic_exchange(&seen[kind], 0);
}

bool fault_hit(enum fault_kind kind)
{
    unsigned long n = atomic_load_explicit(&armed[kind], memory_order_relaxed);

    if (n == 0 || atomic_fetch_add(&seen[kind], 1) + 1 != n)
        return false;
    if (kills[kind])
        (void)raise(SIGKILL);
    return true;
}

void fault_env(void)
{
    const char *env = getenv("WATT_FAULT_KILL"), *colon = env ? strchr(env, ':') : NULL;
    const enum fault_kind kind = env && env[0] == 'r' ? FAULT_READ : FAULT_WRITE;

    if (!colon)
        return;
    kills[kind] = true;
    (void)fault_arm(kind, strtoul(colon + 1, NULL, 10));
}
#else
typedef int fault_unused;   /* ISO C wants a declaration in every file */
#endif
