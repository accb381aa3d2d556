/* meter_internal.h: shared by meter.c and the files of its sources (meter_sysfs.c, …). */
#ifndef ENERGY_METER_INTERNAL_H
#define ENERGY_METER_INTERNAL_H

#include <pthread.h>

#include "energy/meter.h"

#define METER_MAX_NOTES 16u
#define METER_NOTE_BYTES 320u

struct channel {
    char        name[METER_NAME_BYTES], path[256];
    const char *source, *device;
    bool        counted, power;         /* power: read() gives µW, else µJ */
    bool        slow;                   /* only the thread reads it */
    bool        lasting;                /* a power that holds without limit */
    char        apart[128];             /* why it is not counted */
    double      max_w, slack_s;         /* a counter may be that much behind */
    uint64_t    range_uj;               /* wraps there; 0: never */
    uint64_t    hold_ns;                /* a power is good for so long */
    int  (*read)(struct channel *c, double *value, struct err *e);
    void (*close)(struct channel *c);   /* NULL: nothing to do */
    void        *own;                   /* the source's */
    int          fd;                    /* of a file; -1: none is open */
    double       unit;                  /* factor from the file's number to µJ or µW */
    /* under mu */
    bool     ok, has_last;
    uint64_t sampled_ns;                /* the thread's */
    unsigned bad;                       /* readings in a row that can't be */
    double   last, watts;               /* µJ; W of a power, or lately of a counter */
    double   sum_uj, mark_uj;           /* mark: where watts was last taken */
    uint64_t last_ns, mark_ns, retry_ns, skipped, gaps;
    char     why[256];
};

struct meter {
    struct meter_opts opts;
    char   *root, *external;            /* copies */
    char    source[METER_NAME_BYTES], none_why[512];
    struct channel channels[METER_MAX_CHANNELS];
    uint32_t n, n_counted, counted[METER_MAX_CHANNELS];
    char     notes[METER_MAX_NOTES][METER_NOTE_BYTES];
    uint32_t n_notes;
    struct channel *work;               /* of the estimate, whose coefficients are k */
    struct meter_coefficients k;
    void    *nvml;
    pthread_mutex_t mu;
    pthread_cond_t  wake;
    pthread_t thread;
    bool     started, stop;             /* stop: under mu */
    uint64_t cost_ns, n_reads;          /* under mu */
};

/* A new channel with the defaults; NULL: there are too many, which is noted. */
struct channel *meter_add(struct meter *m, const char *source, const char *device,
                          const char *name);
void meter_note_add(struct meter *m, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Each looks for its channels, notes what is missing, and returns how many of them can be read;
 * *e says why the last one could not. None is counted yet. */
unsigned meter_find_rapl(struct meter *m, struct err *e);
unsigned meter_find_hwmon(struct meter *m, const char *chip, bool acpi, struct err *e);
unsigned meter_find_battery(struct meter *m, struct err *e);
unsigned meter_find_nvml(struct meter *m, struct err *e);
void     meter_close_nvml(struct meter *m);
int      meter_add_external(struct meter *m, struct err *e) MUST_CHECK;

/* ---- files of sysfs ---- */

/* Reads a number from the channel's path, kept open; WATT_ENOENT,
 * WATT_EFORMAT, WATT_EIO. */
int  meter_file_read(struct channel *c, double *value, struct err *e) MUST_CHECK;
void meter_file_close(struct channel *c);
/* A short file into text, without the newline at its end; false: can't be read. */
bool meter_text(const char *path, char *text, size_t n);
bool meter_number(const char *path, double *out);
/* Tries the channel once. */
bool meter_try(struct channel *c, struct err *e);

/* ---- external answers ---- */

/* A number out of what a meter answered. pointer (RFC 6901, "/Power/Watts"): into JSON, where a
 * string that is a number will do; NULL or "": the text is the number, a unit may stand behind. */
int  meter_answer(const char *bytes, size_t n, const char *pointer, double *out, struct err *e)
    MUST_CHECK;
/* "W", "kWh", …: *power, and the factor to µW or µJ. False: no such unit. */
bool meter_unit(const char *unit, bool *power, double *factor);

#endif
