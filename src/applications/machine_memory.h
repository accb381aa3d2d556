/* machine_memory.h: how much memory there is to use. */
#ifndef APPLICATIONS_MACHINE_MEMORY_H
#define APPLICATIONS_MACHINE_MEMORY_H

#include <stdint.h>

/* Bytes of physical memory, or what the control group leaves of it; 0: not known. */
uint64_t machine_memory(void);

#endif
