/* pg_rig.h: a PostgreSQL server of the test's own, on a socket in a folder of its own. Include after
 * cmocka.h. */
#ifndef TESTS_PG_RIG_H
#define TESTS_PG_RIG_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "remove_tree.h"

/* Starts a program and waits for it; its exit code, 127 when it is not there. */
static inline int pg_run_program(const char *const argv[])
{
    int status = 0;
    const pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        const int null = open("/dev/null", O_RDWR);

        (void)dup2(null, 0);
        (void)dup2(null, 1);
        (void)dup2(null, 2);
        if (geteuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))  /* it refuses root */
            _exit(126);
        (void)execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 126;
}

/* initdb and pg_ctl are rarely on the PATH. */
static inline bool pg_find_program(const char *name, char out[128])
{
    for (int version = 20; version >= 9; version--) {
        (void)snprintf(out, 128, "/usr/lib/postgresql/%d/bin/%s", version, name);
        if (access(out, X_OK) == 0)
            return true;
    }
    for (const char *const *p = (const char *const[]){ "/usr/bin", "/usr/local/bin",
                                                        "/usr/pgsql/bin", NULL }; *p; p++) {
        (void)snprintf(out, 128, "%s/%s", *p, name);
        if (access(out, X_OK) == 0)
            return true;
    }
    return false;
}

struct pg_server { char data[128], pg_ctl[128], url[256]; };

static struct pg_server pg_left;        /* the one that runs; url "": none */

static inline void pg_stop(struct pg_server *s)
{
    char top[128];

    (void)pg_run_program((const char *const[]){ s->pg_ctl, "-D", s->data, "-m", "immediate", "-w",
                                             "stop", NULL });
    (void)snprintf(top, sizeof top, "%.*s", (int)(strlen(s->data) - 5), s->data);
    (void)remove_tree(top);
    pg_left = (struct pg_server){ .url = "" };
}

/* A test that failed leaves its server; the program's end does not. */
static inline void pg_stop_left(void)
{
    if (pg_left.url[0])
        pg_stop(&pg_left);
}

static inline bool pg_start(struct pg_server *s)
{
    char initdb[128], options[192], cwd[64], log[160];

    if (!pg_find_program("initdb", initdb) || !pg_find_program("pg_ctl", s->pg_ctl))
        return false;
    /* a socket's path is short: a folder of its own */
    (void)snprintf(cwd, sizeof cwd, "%s/watt-pg-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : P_tmpdir);
    if (!mkdtemp(cwd))
        return false;
    (void)chmod(cwd, 0777);
    (void)snprintf(s->data, sizeof s->data, "%s/data", cwd);
    (void)snprintf(log, sizeof log, "%s/log", cwd);
    (void)snprintf(options, sizeof options, "-k %s -c listen_addresses= -c fsync=off", cwd);
    (void)snprintf(s->url, sizeof s->url, "postgresql:///postgres?host=%s&user=watt", cwd);
    pg_left = *s;
    (void)atexit(pg_stop_left);
    return pg_run_program((const char *const[]){ initdb, "-D", s->data, "-U", "watt", "-A", "trust",
                                              "-E", "UTF8", "--locale=C", NULL }) == 0 &&
           pg_run_program((const char *const[]){ s->pg_ctl, "-D", s->data, "-l", log, "-o", options,
                                              "-w", "-t", "30", "start", NULL }) == 0;
}

#endif
