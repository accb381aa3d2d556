/* mem_guard.h: the allocation guard over libc itself, in test builds only.
 *
 * With -Dfaults=true malloc, calloc, realloc and the aligned ones are ours: they
 * abort, naming the size, when the calling thread is inside a step (see mem.h),
 * and otherwise are glibc's. With a sanitizer, which has its own malloc, the
 * sanitizer's hook does the same. Nothing of this is in release builds. */
#ifndef BASE_MEM_GUARD_H
#define BASE_MEM_GUARD_H

#ifdef WATT_FAULTS
/* Does nothing; calling it makes a static link take mem_guard.c. */
void mem_guard_link(void);
#endif

#endif
