/* err.h: how a failure travels: a negative code and one message.
 *
 * Functions that can fail return 0 or a negative WATT_E… and take a
 * struct err last. The message is written once, where the cause is known, and
 * names the file, the field and the value. Callers may put context in front. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "watt_error.h"

#define ERR_MSG_MAX 512

struct err {
    int  code;              /* 0 or WATT_E… */
    char msg[ERR_MSG_MAX];  /* UTF-8, one line, no trailing newline */
};

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define NORETURN __attribute__((noreturn))

/* Writes code and message; returns code, so that `return err_set(…)` reads
 * well. e may be NULL (the code is still returned), and e->msg may be among the
 * arguments. Control characters and invalid UTF-8 in the result are replaced by
 * '?', since parts of it may come from hostile files; what is too long is cut
 * between characters and ends in "...". */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* As err_set with ": " and strerror(errnum) at the end. */
int err_errno(struct err *e, int code, int errnum, const char *fmt, ...) PRINTF_LIKE(4, 5);

/* Both return what they were given; said as an expression, so that the compiler
 * sees that `return err_set(e, WATT_EIO, …)` is negative and does not suspect
 * the caller of using results that were never stored. */
#define err_set(e, code, ...) \
    __extension__({ const int err_c = (code); (void)(err_set)(e, err_c, __VA_ARGS__); err_c; })
#define err_errno(e, code, errnum, ...) \
    __extension__({ const int err_c = (code); (void)(err_errno)(e, err_c, errnum, __VA_ARGS__); \
                    err_c; })

/* Puts "context: " in front of the message that e holds; returns e->code
 * (or WATT_EINVAL when e is NULL). */
int err_prefix(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* "invalid argument", "out of memory", …; never NULL. */
const char *err_name(int code);

/* Our own mistakes. Stays on in release builds: prints file, line and the
 * condition on stderr and aborts. */
void check_failed(const char *file, int line, const char *what) NORETURN;
#define CHECK(cond) ((cond) ? (void)0 : check_failed(__FILE__, __LINE__, #cond))

#endif
