/* test_base_file.c: reading whole, mapping, replacing; every failure leaves the
 * old file and nothing beside it. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"

static char folder[256];

static int setup(void **state)
{
    const char *tmp = getenv("TMPDIR");

    (void)state;
    (void)snprintf(folder, sizeof folder, "%s/watt-file.XXXXXX", tmp && *tmp ? tmp : P_tmpdir);
    return mkdtemp(folder) ? 0 : -1;
}

static const char *in_folder(const char *name)
{
    static char path[32][512];
    static unsigned turn;
    char *p = path[turn++ % 32];

    (void)snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

static unsigned n_files(void)
{
    DIR *d = opendir(folder);
    struct dirent *x;
    unsigned n = 0;

    assert_non_null(d);
    while ((x = readdir(d)))
        n += x->d_name[0] != '.';
    (void)closedir(d);
    return n;
}

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

static void holds(const char *path, const char *text)
{
    struct err e;
    char *data;
    size_t n;

    if (file_read(path, 1 << 20, &data, &n, &e) < 0)
        fail_msg("%s", e.msg);
    assert_string_equal(data, text);
    assert_int_equal(n, strlen(text));
    mem_free(data);
}

static int teardown(void **state)
{
    DIR *d = opendir(folder);
    struct dirent *x;

    (void)state;
    while (d && (x = readdir(d)))
        (void)unlink(in_folder(x->d_name));
    if (d)
        (void)closedir(d);
    return rmdir(folder);
}

static void reads_whole_files(void **state)
{
    const char *path = in_folder("a");
    const size_t big = 3 * 65536 + 17;
    char *text = mem_alloc(big + 1), *data = NULL;
    struct err e;
    size_t n;

    (void)state;
    assert_non_null(text);
    put(path, "");
    holds(path, "");
    put(path, "hello");
    holds(path, "hello");
    memset(text, 'x', big);
    text[big] = '\0';
    put(path, text);
    holds(path, text);
    assert_int_equal(file_read(path, big, &data, &n, &e), 0);
    mem_free(data);
    data = NULL;
    assert_int_equal(file_read(path, big - 1, &data, &n, &e), WATT_ELIMIT);
    assert_non_null(strstr(e.msg, path));
    assert_null(data);
    mem_free(text);
    assert_int_equal(unlink(path), 0);
    /* a file of unknown size: the kernel says 0 and gives more */
    assert_int_equal(file_read("/proc/self/status", 1 << 16, &data, &n, &e), 0);
    assert_true(n > 100);
    mem_free(data);
    assert_int_equal(file_read("/proc/self/status", 10, &data, &n, &e), WATT_ELIMIT);
}

static void refuses_what_is_no_file(void **state)
{
    struct file_map m;
    struct err e;
    char *data;
    size_t n;

    (void)state;
    assert_int_equal(file_read(in_folder("none"), 10, &data, &n, &e), WATT_ENOENT);
    assert_non_null(strstr(e.msg, "none: No such file or directory"));
    assert_int_equal(file_map_open(&m, in_folder("none"), &e), WATT_ENOENT);
    assert_int_equal(file_read(folder, 10, &data, &n, &e), WATT_EINVAL);
    assert_non_null(strstr(e.msg, "is a directory"));
    assert_int_equal(file_map_open(&m, folder, &e), WATT_EINVAL);
    assert_int_equal(file_map_open(&m, "/dev/null", &e), WATT_EINVAL);
    assert_int_equal(mkfifo(in_folder("pipe"), 0600), 0);
    assert_int_equal(file_map_open(&m, in_folder("pipe"), &e), WATT_EINVAL);   /* and does not hang */
    assert_int_equal(unlink(in_folder("pipe")), 0);
}

static void maps(void **state)
{
    const char *path = in_folder("m");
    struct file_map m;
    struct err e;

    (void)state;
    put(path, "mapped");
    assert_int_equal(file_map_open(&m, path, &e), 0);
    assert_int_equal(m.size, 6);
    assert_memory_equal(m.data, "mapped", 6);
    file_map_forget(&m, 0, 6);
    file_map_forget(&m, 4, 6);            /* beyond the end: ignored */
    file_map_forget(&m, SIZE_MAX, 2);
    assert_memory_equal(m.data, "mapped", 6);
    file_map_close(&m);
    file_map_close(&m);
    put(path, "");
    assert_int_equal(file_map_open(&m, path, &e), 0);
    assert_null(m.data);
    assert_int_equal(m.size, 0);
    file_map_close(&m);
    m = (struct file_map){ 0 };
    file_map_close(&m);
    assert_int_equal(fcntl(0, F_GETFD) == -1 ? 1 : 0, 0);   /* and did not close standard input */
    assert_int_equal(unlink(path), 0);
}

static void replaces_at_once(void **state)
{
    const char *path = in_folder("out");
    struct file_new n;
    struct stat st;
    struct err e;
    mode_t mask;

    (void)state;
    mask = umask(027);
    assert_int_equal(file_new_open(&n, path, &e), 0);
    assert_int_equal(file_new_write(&n, "one", 3, &e), 0);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(file_new_commit(&n, &e), 0);
    (void)umask(mask);
    holds(path, "one");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    /* the second version; then one that is given up */
    assert_int_equal(file_new_open(&n, path, &e), 0);
    assert_true(fprintf(n.f, "%s", "second") == 6);
    holds(path, "one");
    assert_int_equal(file_new_commit(&n, &e), 0);
    file_new_abort(&n);
    holds(path, "second");
    assert_int_equal(file_new_open(&n, path, &e), 0);
    assert_int_equal(file_new_write(&n, "third", 5, &e), 0);
    file_new_abort(&n);
    file_new_abort(&n);
    holds(path, "second");
    assert_int_equal(n_files(), 1);
    /* a link stays a link */
    assert_int_equal(symlink("out", in_folder("link")), 0);
    assert_int_equal(file_new_open(&n, in_folder("link"), &e), 0);
    assert_int_equal(file_new_write(&n, "fourth", 6, &e), 0);
    assert_int_equal(file_new_commit(&n, &e), 0);
    assert_int_equal(lstat(in_folder("link"), &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    holds(path, "fourth");
    assert_int_equal(unlink(in_folder("link")), 0);
    assert_int_equal(unlink(path), 0);
}

static void killed_writer_leaves_nothing(void **state)
{
    const char *path = in_folder("victim");
    struct file_new n;
    struct err e;
    int status;
    pid_t pid;

    (void)state;
    put(path, "old");
    pid = fork();
    if (pid == 0) {
        if (file_new_open(&n, path, &e) == 0 && file_new_write(&n, "new", 3, &e) == 0 &&
            fflush(n.f) == 0 && !n.temp)
            (void)raise(SIGKILL);
        _exit(n.temp ? 77 : 1);           /* 77: this file system has no nameless files */
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        (void)unlink(path);
        skip();
    }
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    holds(path, "old");
    assert_int_equal(n_files(), 1);
    assert_int_equal(unlink(path), 0);
}

/* What /dev/stdout leads to may be a file that has lost its name: the link is no name of it. */
static void writes_into_files_without_names(void **state)
{
    const char *path = in_folder("gone");
    char link[256], fd_path[64], text[8] = "";
    struct stat st;
    struct err e;
    int fd;

    (void)state;
    if (access("/proc/self/fd", F_OK) != 0)
        skip();
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(unlink(path), 0);
    (void)snprintf(link, sizeof link, "%s", in_folder("stdout"));
    (void)snprintf(fd_path, sizeof fd_path, "/proc/self/fd/%d", fd);
    assert_int_equal(symlink(fd_path, link), 0);
    assert_int_equal(file_write(link, "hello", 5, &e), 0);
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(pread(fd, text, 5, 0), 5);
    assert_string_equal(text, "hello");
    assert_int_equal(unlink(link), 0);
    assert_int_equal(close(fd), 0);
}

static void writes_into_devices(void **state)
{
    struct file_new n;
    struct stat st;
    struct err e;
    char big[20000] = { 0 };

    (void)state;
    assert_int_equal(file_new_open(&n, "/dev/null", &e), 0);
    assert_int_equal(file_new_write(&n, "x", 1, &e), 0);
    assert_int_equal(file_new_commit(&n, &e), 0);
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_true(S_ISCHR(st.st_mode));
    if (access("/dev/full", W_OK) != 0)
        return;
    /* a full disk shows when the buffer is written: at once, or at commit */
    assert_int_equal(file_new_open(&n, "/dev/full", &e), 0);
    assert_int_equal(file_new_write(&n, "x", 1, &e), 0);
    assert_int_equal(file_new_commit(&n, &e), WATT_EIO);
    assert_string_equal(e.msg, "/dev/full: cannot write: No space left on device");
    assert_int_equal(file_new_open(&n, "/dev/full", &e), 0);
    assert_int_equal(file_new_write(&n, big, sizeof big, &e), WATT_EIO);
    file_new_abort(&n);
    /* stdio's error must not be lost though the flush after it has nothing to do */
    assert_int_equal(file_new_open(&n, "/dev/full", &e), 0);
    (void)fwrite(big, 1, sizeof big, n.f);
    assert_int_equal(file_new_commit(&n, &e), WATT_EIO);
}

static void says_where_it_cannot_write(void **state)
{
    struct file_new n;
    struct err e;

    (void)state;
    assert_int_equal(file_new_open(&n, in_folder("no/such/place"), &e), WATT_EIO);
    assert_non_null(strstr(e.msg, "no/such/place"));
    assert_int_equal(file_new_open(&n, folder, &e), WATT_EINVAL);
    assert_null(n.f);
    assert_int_equal(n_files(), 0);
}

#ifdef WATT_FAULTS
static int rewrite(const char *path, struct err *e)
{
    struct file_new n;
    int rc = file_new_open(&n, path, e);

    if (rc == 0)
        rc = file_new_write(&n, "new", 3, e);
    if (rc == 0)
        return file_new_commit(&n, e);
    file_new_abort(&n);
    return rc;
}

static void torture_each(enum fault_kind kind)
{
    const char *path = in_folder("t");

    for (unsigned long n = 1;; n++) {
        struct err e = { 0 };
        int rc;

        put(path, "old");
        (void)fault_arm(kind, n);
        rc = rewrite(path, &e);
        (void)fault_arm(kind, 0);
        assert_int_equal(n_files(), 1);
        holds(path, rc == 0 ? "new" : "old");
        if (rc == 0) {
            assert_true(n > 1);
            break;
        }
        assert_true(e.code == rc && strlen(e.msg) > 0);
    }
    assert_int_equal(unlink(path), 0);
}

static void fails_whole_or_not_at_all(void **state)
{
    (void)state;
    torture_each(FAULT_ALLOC);
    torture_each(FAULT_WRITE);
}

static void reading_fails_cleanly(void **state)
{
    static const enum fault_kind kinds[] = { FAULT_READ, FAULT_ALLOC };
    const char *path = in_folder("r");
    struct err e;

    (void)state;
    put(path, "text");
    for (size_t k = 0; k < 2; k++)
        for (unsigned long n = 1;; n++) {
            char *data = NULL;
            size_t size;
            int rc;

            (void)fault_arm(kinds[k], n);
            rc = file_read(path, 100, &data, &size, &e);
            (void)fault_arm(kinds[k], 0);
            assert_true((rc == 0) == (data != NULL));
            mem_free(data);
            if (rc == 0)
                break;
        }
    for (unsigned long n = 1;; n++) {
        struct file_map m;
        int rc;

        (void)fault_arm(FAULT_READ, n);
        rc = file_map_open(&m, path, &e);
        (void)fault_arm(FAULT_READ, 0);
        if (rc == 0) {
            file_map_close(&m);
            break;
        }
        assert_null(strstr(e.msg, "Success"));
    }
    assert_int_equal(unlink(path), 0);
}
#endif

static void writes_in_one(void **state)
{
    const char *path = in_folder("whole");
    struct err e;
    char *data;
    size_t n;

    (void)state;
    assert_int_equal(file_write(path, "first", 5, &e), 0);
    assert_int_equal(file_write(path, "second", 6, &e), 0);
    assert_int_equal(file_read(path, 100, &data, &n, &e), 0);
    assert_int_equal(n, 6);
    assert_memory_equal(data, "second", 6);
    mem_free(data);
    assert_true(file_write(in_folder("none/whole"), "x", 1, &e) < 0);
    assert_non_null(strstr(e.msg, "none/whole"));
#ifdef WATT_FAULTS
    (void)fault_arm(FAULT_WRITE, 1);
    assert_true(file_write(path, "third", 5, &e) < 0);
    (void)fault_arm(FAULT_WRITE, 0);
    assert_int_equal(file_read(path, 100, &data, &n, &e), 0);
    assert_memory_equal(data, "second", 6);
    mem_free(data);
#endif
    assert_int_equal(remove(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_whole_files),
        cmocka_unit_test(refuses_what_is_no_file),
        cmocka_unit_test(maps),
        cmocka_unit_test(writes_in_one),
        cmocka_unit_test(replaces_at_once),
        cmocka_unit_test(killed_writer_leaves_nothing),
        cmocka_unit_test(writes_into_devices),
        cmocka_unit_test(writes_into_files_without_names),
        cmocka_unit_test(says_where_it_cannot_write),
#ifdef WATT_FAULTS
        cmocka_unit_test(fails_whole_or_not_at_all),
        cmocka_unit_test(reading_fails_cleanly),
#endif
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
