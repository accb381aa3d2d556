/* watt_error.h: the error codes of libwatt. Part of the public API; the engine
 * uses the same numbers inside, so that a cause travels up unchanged. */
#ifndef WATT_ERROR_H
#define WATT_ERROR_H

enum watt_error {
    WATT_OK = 0,
    WATT_EINVAL = -1,    /* an argument or a setting is wrong */
    WATT_ENOMEM = -2,    /* memory could not be had */
    WATT_EIO = -3,       /* reading or writing failed; message has errno's text */
    WATT_EFORMAT = -4,   /* a file or document is malformed; message names file and field */
    WATT_ELIMIT = -5,    /* a named maximum would be exceeded */
    WATT_ENOTSUP = -6,   /* well-formed, but not something this build can do */
    WATT_ENOENT = -7,    /* no such file, key, tensor or model */
    WATT_ECANCEL = -8,   /* stopped on request */
    WATT_EBUSY = -9,     /* could be had later, not now */
    WATT_ETIME = -10     /* a time limit ran out */
};

#endif
