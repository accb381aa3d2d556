/* test_base_topology.c: processors read from trees as machines show them: one socket with
 * siblings, two sockets with nodes, fast and slow cores, offline and forbidden processors,
 * containers with quotas, no sysfs at all; and a team bound to real ones. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/team.h"
#include "base/topology.h"
#include "remove_tree.h"

/* ---- trees ---- */

static char root[64];

static void put(const char *path, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ROOT + path with this content and a newline; folders are made. */
static void put(const char *path, const char *fmt, ...)
{
    char whole[512];
    va_list ap;
    FILE *f;

    (void)snprintf(whole, sizeof whole, "%s%s", root, path);
    for (char *slash = strchr(whole + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(whole, 0700);
        *slash = '/';
    }
    f = fopen(whole, "w");
    assert_non_null(f);
    va_start(ap, fmt);
    (void)vfprintf(f, fmt, ap);
    va_end(ap);
    (void)fputc('\n', f);
    (void)fclose(f);
}

static void tree(const char *allowed, const char *online)
{
    (void)snprintf(root, sizeof root, "watt-topo-XXXXXX");
    assert_non_null(mkdtemp(root));
    put("/proc/self/status", "Name:\twatt\nCpus_allowed:\tff\nCpus_allowed_list:\t%s\nMems_allowed_list:\t0",
        allowed);
    put("/sys/devices/system/cpu/online", "%s", online);
}

static void cpu(unsigned id, unsigned package, const char *siblings)
{
    char path[128];

    (void)snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/topology/physical_package_id", id);
    put(path, "%u", package);
    (void)snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/topology/%s", id,
                   id % 2 ? "thread_siblings_list" : "core_cpus_list");   /* old kernels, new kernels */
    put(path, "%s", siblings);
}

static void speed(unsigned id, const char *file, unsigned v)
{
    char path[128];

    (void)snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/%s", id, file);
    put(path, "%u", v);
}

static void clear(void)
{
    assert_int_equal(remove_tree(root), 0);
}

static struct topology read_tree(void)
{
    struct topology t;
    struct err e = { 0 };

    if (topology_read(&t, root, &e) < 0)
        fail_msg("%s", e.msg);
    clear();
    return t;
}

static struct topo_set set(const char *list)
{
    struct topo_set s;
    struct err e = { 0 };

    if (topo_set_parse(&s, list, &e) < 0)
        fail_msg("%s", e.msg);
    return s;
}

/* The processors chosen for n workers, as text. */
static const char *placed(const struct topology *t, const char *only, uint32_t n)
{
    static char text[512];
    struct topo_cpu out[64];
    struct topo_set s;
    struct err e = { 0 };
    size_t at = 0;

    if (only)
        s = set(only);
    if (topology_place(t, only ? &s : NULL, n, out, &e) < 0) {
        (void)snprintf(text, sizeof text, "%s", e.msg);
        return text;
    }
    for (uint32_t i = 0; i < n; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%u", i ? " " : "", out[i].id);
    return text;
}

/* ---- sets ---- */

static void lists_of_processors(void **state)
{
    static const char *const bad[] = { "x", "1-", "-3", "3-1", "1,,2", "4096", "0-99999999999", "1 2",
                                       "1;2", "0x3", ",1" };
    struct topo_set s = set("0-3,8,10-11\n");
    struct err e = { 0 };

    (void)state;
    assert_int_equal(topo_count(&s), 7);
    assert_true(topo_has(&s, 3) && topo_has(&s, 8) && topo_has(&s, 11));
    assert_false(topo_has(&s, 4) || topo_has(&s, 12) || topo_has(&s, 100000));
    s = set("");
    assert_int_equal(topo_count(&s), 0);
    s = set("4095");
    assert_int_equal(topo_count(&s), 1);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(topo_set_parse(&s, bad[i], &e), WATT_EINVAL);
        assert_non_null(strstr(e.msg, bad[i]));
    }
}

/* ---- machines ---- */

/* A desktop: 4 cores, each with a second sibling numbered 4 higher. */
static void siblings_come_last(void **state)
{
    struct topology t;
    char list[16];

    (void)state;
    tree("0-7", "0-7");
    for (unsigned i = 0; i < 8; i++) {
        (void)snprintf(list, sizeof list, "%u,%u", i % 4, i % 4 + 4);
        cpu(i, 0, list);
    }
    t = read_tree();
    assert_int_equal(t.n_cpus, 8);
    assert_int_equal(t.n_cores, 4);
    assert_int_equal(t.n_packages, 1);
    assert_int_equal(t.n_nodes, 1);
    assert_int_equal(t.quota, UINT32_MAX);
    assert_int_equal(topology_threads(&t, NULL), 4);
    assert_string_equal(placed(&t, NULL, 8), "0 1 2 3 4 5 6 7");
    assert_string_equal(placed(&t, NULL, 2), "0 1");
    /* who names processors means each of them */
    assert_string_equal(placed(&t, "0,4,1", 3), "0 1 4");
    assert_string_equal(placed(&t, "5", 2), "5 5");
    topology_deinit(&t);
}

/* Siblings side by side, as some kernels number them; and a container with the second halves only. */
static void cores_are_counted_by_what_is_permitted(void **state)
{
    struct topology t;
    char list[16];

    (void)state;
    for (int half = 0; half < 2; half++) {
        tree(half ? "1,3,5,7" : "0-7", "0-7");
        for (unsigned i = 0; i < 8; i++) {
            (void)snprintf(list, sizeof list, "%u-%u", i & ~1u, i | 1u);
            cpu(i, 0, list);
        }
        t = read_tree();
        assert_int_equal(t.n_cores, 4);
        assert_int_equal(topology_threads(&t, NULL), 4);
        assert_string_equal(placed(&t, NULL, 4), half ? "1 3 5 7" : "0 2 4 6");
        topology_deinit(&t);
    }
}

static void two_sockets(unsigned per_socket)
{
    char list[32];

    tree("0-15", "0-15");
    for (unsigned i = 0; i < 16; i++) {
        (void)snprintf(list, sizeof list, "%u", i);
        cpu(i, i / per_socket, list);
    }
    put("/sys/devices/system/node/online", "0-1");
    put("/sys/devices/system/node/node0/cpulist", "0-7");
    put("/sys/devices/system/node/node1/cpulist", "8-15");
}

static void nodes_take_turns(void **state)
{
    struct topology t;

    (void)state;
    two_sockets(8);
    t = read_tree();
    assert_int_equal(t.n_packages, 2);
    assert_int_equal(t.n_nodes, 2);
    assert_int_equal(t.n_cores, 16);
    assert_int_equal(topology_threads(&t, NULL), 16);
    assert_string_equal(placed(&t, NULL, 4), "0 8 1 9");
    assert_string_equal(placed(&t, "8-15", 3), "8 9 10");
    assert_string_equal(placed(&t, "6-9", 4), "6 8 7 9");
    assert_int_equal(t.cpus[9].node, 1);
    topology_deinit(&t);
}

/* 2 fast cores with siblings, 4 slow ones without; told by frequency, capacity or a list. */
static void fast_cores_come_first(void **state)
{
    static const char *const siblings[] = { "0-1", "0-1", "2-3", "2-3", "4", "5", "6", "7" };
    struct topology t;

    (void)state;
    for (int how = 0; how < 3; how++) {
        tree("0-7", "0-7");
        for (unsigned i = 0; i < 8; i++) {
            cpu(i, 0, siblings[i]);
            if (how == 0)       /* the best of the fast ones some percent above */
                speed(i, "cpufreq/cpuinfo_max_freq", i < 2 ? 5000000 : i < 4 ? 5200000 : 3800000);
            else if (how == 1)
                speed(i, "cpu_capacity", i < 4 ? 1024 : 446);
        }
        if (how == 2)
            put("/sys/devices/cpu_atom/cpus", "4-7");
        t = read_tree();
        assert_int_equal(t.n_cores, 6);
        assert_int_equal(topology_threads(&t, NULL), 6);
        assert_string_equal(placed(&t, NULL, 8), "0 2 4 5 6 7 1 3");
        assert_true(t.cpus[4].capacity < t.cpus[0].capacity);
        assert_in_range(t.cpus[0].capacity, 900, 1024);
        topology_deinit(&t);
    }
}

static void offline_and_forbidden(void **state)
{
    struct topology t;

    (void)state;
    two_sockets(8);
    put("/sys/devices/system/cpu/online", "0-2,9-15");
    put("/proc/self/status", "Cpus_allowed_list:\t2-10");
    t = read_tree();
    assert_int_equal(t.n_cpus, 3);      /* 2, 9 and 10 */
    assert_int_equal(t.cpus[0].id, 2);
    assert_int_equal(t.n_nodes, 2);
    assert_string_equal(placed(&t, NULL, 4), "2 9 10 2");
    assert_non_null(strstr(placed(&t, "2,3", 1), "processor 3 is not among the 3"));
    assert_non_null(strstr(placed(&t, "", 1), "empty"));
    topology_deinit(&t);
}

static void containers_have_quotas(void **state)
{
    static const struct { const char *group, *file, *text; uint32_t quota; } v2[] = {
        { "0::/pod/c1", "/sys/fs/cgroup/pod/c1/cpu.max", "350000 100000", 4 },      /* rounded up */
        { "0::/pod/c1", "/sys/fs/cgroup/pod/cpu.max", "200000 100000", 2 },         /* a parent's */
        { "0::/", "/sys/fs/cgroup/cpu.max", "50000 100000", 1 },
        { "0::/not/mounted/here", "/sys/fs/cgroup/cpu.max", "300000 100000", 3 },
        { "0::/pod", "/sys/fs/cgroup/pod/cpu.max", "max 100000", UINT32_MAX },
        { "0::/pod", "/sys/fs/cgroup/pod/cpu.max", "what is this", UINT32_MAX },
        { "0::/pod", "/sys/fs/cgroup/pod/cpu.max", "100000 0", UINT32_MAX },
        { "garbage", "/sys/fs/cgroup/pod/cpu.max", "100000 100000", UINT32_MAX },
    };

    (void)state;
    for (size_t i = 0; i < sizeof v2 / sizeof v2[0]; i++) {
        struct topology t;

        two_sockets(8);
        put("/proc/self/cgroup", "9:name=systemd:/\n%s", v2[i].group);
        put(v2[i].file, "%s", v2[i].text);
        t = read_tree();
        assert_int_equal(t.quota, v2[i].quota);
        assert_int_equal(topology_threads(&t, NULL), v2[i].quota < 16 ? v2[i].quota : 16);
        topology_deinit(&t);
    }
}

static void old_containers_too(void **state)
{
    static const char *const mounts[] = { "cpu,cpuacct", "cpu" };

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct topology t;
        char path[128];

        two_sockets(8);
        put("/proc/self/cgroup", "4:memory:/m\n3:%s:/docker/x\n2:cpuset:/\n0::/", "cpu,cpuacct");
        (void)snprintf(path, sizeof path, "/sys/fs/cgroup/%s/docker/x/cpu.cfs_quota_us", mounts[i]);
        put(path, "250000");
        (void)snprintf(path, sizeof path, "/sys/fs/cgroup/%s/docker/x/cpu.cfs_period_us", mounts[i]);
        put(path, "100000");
        t = read_tree();
        assert_int_equal(t.quota, 3);
        topology_deinit(&t);
    }
}

static void without_sysfs(void **state)
{
    struct topology t;

    (void)state;
    tree("3,5-6", "0-7");
    (void)snprintf(root + strlen(root), sizeof root - strlen(root), "/sys/devices/system/cpu/online");
    assert_int_equal(unlink(root), 0);
    root[strlen("watt-topo-XXXXXX")] = '\0';
    t = read_tree();
    assert_int_equal(t.n_cpus, 3);
    assert_int_equal(t.n_cores, 3);
    assert_string_equal(placed(&t, NULL, 3), "3 5 6");
    topology_deinit(&t);
    (void)snprintf(root, sizeof root, "watt-topo-XXXXXX");      /* nothing at all */
    assert_non_null(mkdtemp(root));
    t = read_tree();
    assert_int_equal(t.n_cpus, 1);
    assert_int_equal(topology_threads(&t, NULL), 1);
    topology_deinit(&t);
}

/* Files that say nonsense: numbers out of range, siblings that leave the processor out. */
static void nonsense_is_survived(void **state)
{
    struct topology t;

    (void)state;
    tree("0-3", "0-9999999");
    cpu(0, 4294967295u, "7-9");
    cpu(1, 3, "banana");
    cpu(2, 0, "1-3");
    cpu(3, 0, "2-3");
    speed(0, "cpu_capacity", 0);
    put("/sys/devices/system/node/online", "0,5,4095");
    put("/sys/devices/system/node/node5/cpulist", "1,2,x");
    t = read_tree();
    assert_int_equal(t.n_cpus, 4);
    assert_true(t.n_packages >= 1 && t.n_nodes >= 1 && t.n_cores >= 1);
    topology_deinit(&t);
}

/* ---- this machine ---- */

struct bound { struct team *team; struct topo_set mask[8]; };

static void note_mask(void *arg, unsigned worker)
{
    struct bound *b = arg;
    cpu_set_t s;

    CPU_ZERO(&s);
    if (sched_getaffinity(0, sizeof s, &s) == 0)
        for (uint32_t i = 0; i < CPU_SETSIZE; i++)
            if (CPU_ISSET(i, &s))
                topo_add(&b->mask[worker], i);
}

static void assert_bound(struct team_opts o, uint32_t n_each)
{
    struct bound b = { 0 };
    struct topo_set before = { { 0 } }, after = { { 0 } };
    struct bound *outer = &b;
    struct err e = { 0 };
    struct bound self = { 0 };

    note_mask(&self, 0);
    before = self.mask[0];
    o.n_threads = 3;
    if (team_open_with(&b.team, &o, &e) < 0)
        fail_msg("%s", e.msg);
    team_run(b.team, note_mask, outer);
    for (unsigned w = 0; w < 3; w++) {
        assert_int_equal(topo_count(&b.mask[w]), n_each);
        if (o.pin == TEAM_PIN_CPU)
            assert_true(topo_has(&b.mask[w], team_place(b.team, w).id));
    }
    team_close(b.team);
    self = (struct bound){ 0 };
    note_mask(&self, 0);
    after = self.mask[0];
    assert_memory_equal(&before, &after, sizeof after);     /* the caller has its own back */
}

static void teams_bind_threads(void **state)
{
    struct topology t;
    struct topo_set one = { { 0 } };
    struct err e = { 0 };

    (void)state;
    assert_int_equal(topology_read(&t, "", &e), 0);
    assert_true(t.n_cpus >= 1);
    assert_bound((struct team_opts){ .pin = TEAM_PIN_CPU }, 1);
    assert_bound((struct team_opts){ .pin = TEAM_PIN_NONE }, t.n_cpus);
    if (t.n_nodes == 1)
        assert_bound((struct team_opts){ .pin = TEAM_PIN_NODE }, t.n_cpus);
    topo_add(&one, t.cpus[t.n_cpus - 1].id);
    assert_bound((struct team_opts){ .only = &one }, 1);
    topology_deinit(&t);
}

static void lists_that_cannot_be(void **state)
{
    const struct topo_set far = set("4095");
    struct team_opts o = { .only = &far };
    struct team *t = NULL;
    struct err e = { 0 };

    (void)state;
    assert_int_equal(team_open_with(&t, &o, &e), WATT_EINVAL);
    assert_null(t);
    assert_non_null(strstr(e.msg, "4095"));
}

static void spreading_is_harmless(void **state)
{
    enum { BYTES = 1 << 22 };
    struct team *t = NULL;
    struct err e = { 0 };
    uint8_t *p = mem_map(BYTES);

    (void)state;
    assert_non_null(p);
    assert_int_equal(team_open(&t, 2, &e), 0);
    team_spread(t, p, BYTES);
    memset(p, 1, BYTES);
    team_close(t);
    mem_unmap(p, BYTES);
}

/* As an ordinary user whose limit is 0. */
static void locking_names_the_limit(void **state)
{
    int status = 0;
    pid_t pid;

    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip();                     /* their mlock() does nothing and succeeds */
#endif
    (void)fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        const struct rlimit none = { 0, 0 };
        struct err e = { 0 };
        uint8_t *p = mem_map(1 << 16);

        if (!p || setrlimit(RLIMIT_MEMLOCK, &none) != 0 || (geteuid() == 0 && setuid(65534) != 0))
            _exit(2);
        if (mem_lock(p, 1 << 16, "weights", &e) != WATT_ELIMIT)
            _exit(3);
        _exit(strstr(e.msg, "RLIMIT_MEMLOCK is 0 bytes") && strstr(e.msg, "65536 bytes of weights")
                  ? 0 : 4);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void memory_that_runs_out(void **state)
{
#ifdef WATT_FAULTS
    int rc = -1;

    (void)state;
    for (unsigned n = 1; rc < 0; n++) {
        const struct team_opts o = { .n_threads = 2, .pin = TEAM_PIN_CPU };
        struct team *t = NULL;
        struct err e = { 0 };

        (void)fault_arm(FAULT_ALLOC, n);
        rc = team_open_with(&t, &o, &e);
        (void)fault_arm(FAULT_ALLOC, 0);
        assert_true(rc == 0 || rc == WATT_ENOMEM);
        assert_true(n < 100);
        team_close(t);
    }
#else
    (void)state;
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_of_processors),
        cmocka_unit_test(siblings_come_last),
        cmocka_unit_test(cores_are_counted_by_what_is_permitted),
        cmocka_unit_test(nodes_take_turns),
        cmocka_unit_test(fast_cores_come_first),
        cmocka_unit_test(offline_and_forbidden),
        cmocka_unit_test(containers_have_quotas),
        cmocka_unit_test(old_containers_too),
        cmocka_unit_test(without_sysfs),
        cmocka_unit_test(nonsense_is_survived),
        cmocka_unit_test(teams_bind_threads),
        cmocka_unit_test(lists_that_cannot_be),
        cmocka_unit_test(spreading_is_harmless),
        cmocka_unit_test(locking_names_the_limit),
        cmocka_unit_test(memory_that_runs_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
