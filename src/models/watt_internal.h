/* watt_internal.h: what the files of the public API (include/watt.h) share. */
#ifndef MODELS_WATT_INTERNAL_H
#define MODELS_WATT_INTERNAL_H

#include <stdint.h>

#include "base/err.h"
#include "watt.h"

/* Copies why to e (may be NULL) when rc < 0. Returns rc. */
int watt_told(struct watt_error_info *e, int rc, const struct err *why);
/* The same with a message of our own. Returns code. */
int watt_refuse(struct watt_error_info *e, int code, const char *what);
/* Names of instruction sets as session_opts.isa_mask; NULL leaves *mask. WATT_EINVAL. */
int watt_read_isa(const char *isa, uint32_t *mask, struct err *e) MUST_CHECK;

#endif
