/* watt_api.c: the public face (include/watt.h) over the modules of this floor. */
#include "watt.h"

#include "base/err.h"

const char *watt_version(void)
{
    return WATT_VERSION;
}

const char *watt_error_name(int code)
{
    return err_name(code);
}
