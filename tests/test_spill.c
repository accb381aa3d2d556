/* test_spill.c: the prefix tree by itself and with a folder: matches to the token, forks that cost
 * nothing, pages that leave memory and come back, damaged and stale files, bounds, a full disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "infrastructure/kv_seq.h"
#include "infrastructure/prefix.h"
#include "infrastructure/spill.h"

enum { PAGE = 64, PAGE_BYTES = 256, MAX_PAGES = 128 };

static const struct prefix_space here = { { 1, 2 } }, there = { { 1, 3 } };
static char dir[] = "watt-spill-XXXXXX";

struct rig {
    struct kv     *kv;
    struct spill  *spill;
    struct prefix *tree;
    uint32_t pages[MAX_PAGES];
    struct kv_seq q;
    struct prefix_at at;
};

static void rig_open(struct rig *g, uint32_t n_pages, uint32_t n_slots, uint64_t spill_bytes)
{
    const struct kv_spec kv = { .page_bytes = PAGE_BYTES, .page_tokens = PAGE, .n_pages = n_pages,
                                .slot_floats = n_slots ? 4 : 0, .n_slots = n_slots };
    const struct spill_spec sp = { .dir = dir, .max_bytes = spill_bytes, .page_bytes = PAGE_BYTES,
                                   .slot_bytes = n_slots ? 16 : 0, .page_tokens = PAGE };
    struct err e = { 0 };

    memset(g, 0, sizeof *g);
    if (kv_open(&g->kv, &kv, &e) < 0 || (spill_bytes && spill_open(&g->spill, &sp, &e) < 0) ||
        prefix_open(&g->tree, g->kv, 0, g->spill, &e) < 0)
        fail_msg("%s", e.msg);
    kv_seq_init(&g->q, g->pages, NULL, 0);
}

static void rig_close(struct rig *g)
{
    kv_seq_reset(g->kv, &g->q);
    prefix_close(g->tree);
    assert_int_equal(kv_n_free(g->kv), kv_n_pages(g->kv));
    assert_int_equal(kv_n_free_slots(g->kv), kv_n_slots(g->kv));
    spill_close(g->spill);
    kv_close(g->kv);
}

static int make_dir(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(dir));
    return 0;
}

static unsigned count_files(bool delete)
{
    unsigned n = 0;
    DIR *d = opendir(dir);
    const struct dirent *x;

    assert_non_null(d);
    while ((x = readdir(d)) != NULL) {
        char path[512];

        if (x->d_name[0] == '.')
            continue;
        n += strstr(x->d_name, ".page") != NULL;
        (void)snprintf(path, sizeof path, "%s/%s", dir, x->d_name);
        if (delete)
            (void)unlink(path);
    }
    (void)closedir(d);
    return n;
}

static int remove_dir(void **state)
{
    (void)state;
    (void)count_files(true);
    return rmdir(dir);
}

/* Token k of text `which`. */
static int32_t token(int which, uint32_t k)
{
    return (int32_t)(k * 7 + (uint32_t)which * 1000);
}

static void text(int which, int32_t *t, uint32_t n)
{
    for (uint32_t k = 0; k < n; k++)
        t[k] = token(which, k);
}

/* Computes a text: pages hold its tokens as numbers. */
static void compute(struct rig *g, const int32_t *t, uint32_t n)
{
    assert_true(prefix_make_room(g->tree, kv_seq_need(g->kv, &g->q, n - g->q.len).pages,
                                 kv_n_slots(g->kv) ? 1 : 0));
    assert_true(kv_seq_reserve(g->kv, &g->q, n - g->q.len));
    for (uint32_t k = g->q.len; k < n; k++)
        ((int32_t *)kv_pages(g->kv))[g->q.pages[k / PAGE] * PAGE + k % PAGE] = t[k];
    kv_seq_advance(&g->q, n - g->q.len);
    if (g->q.slot != KV_NO_SLOT)
        kv_slot(g->kv, g->q.slot)[0] = (float)n;
}

static void check_pages(const struct rig *g, const int32_t *t)
{
    for (uint32_t k = 0; k < g->q.len; k++)
        assert_int_equal(((int32_t *)kv_pages(g->kv))[g->q.pages[k / PAGE] * PAGE + k % PAGE], t[k]);
    if (g->q.slot != KV_NO_SLOT)
        assert_true(kv_slot(g->kv, g->q.slot)[0] == (float)g->q.len);
}

static void enter(struct rig *g, const int32_t *t, uint32_t n)
{
    compute(g, t, n);
    prefix_insert(g->tree, &here, t, &g->q, true, &g->at);
    kv_seq_reset(g->kv, &g->q);
    g->at = (struct prefix_at){ 0, 0 };
    prefix_verify(g->tree);
}

static uint32_t match(struct rig *g, const struct prefix_space *space, const int32_t *t, uint32_t n)
{
    uint32_t len;

    kv_seq_reset(g->kv, &g->q);
    len = prefix_match(g->tree, space, t, n, &g->q, &g->at);
    check_pages(g, t);
    prefix_verify(g->tree);
    return len;
}

static void matches_to_the_token(void **state)
{
    int32_t a[200], b[200];
    struct rig g;

    (void)state;
    rig_open(&g, 32, 0, 0);
    text(1, a, 200);
    text(1, b, 200);
    b[150] = 5;
    enter(&g, a, 200);
    assert_int_equal(match(&g, &here, a, 200), 200);
    assert_int_equal(match(&g, &here, a, 199), 199);
    assert_int_equal(match(&g, &here, a, 64), 64);
    assert_int_equal(match(&g, &here, a, 1), 1);
    assert_int_equal(match(&g, &here, b, 200), 150);
    assert_int_equal(match(&g, &there, a, 200), 0);
    assert_int_equal(prefix_peek(g.tree, &here, b, 200), 150);
    assert_int_equal(match(&g, &here, b, 200), 150);
    enter(&g, b, 200);              /* shares two pages, copies the third */
    assert_int_equal(kv_n_cached(g.kv), 6);
    assert_int_equal(match(&g, &here, b, 200), 200);
    assert_int_equal(match(&g, &here, a, 200), 200);
    rig_close(&g);
}

static void states_match_where_they_were_kept(void **state)
{
    int32_t a[300];
    struct rig g;

    (void)state;
    rig_open(&g, 32, 8, 0);
    text(1, a, 300);
    compute(&g, a, 128);
    prefix_insert(g.tree, &here, a, &g.q, false, &g.at);
    enter(&g, a, 300);
    assert_int_equal(match(&g, &here, a, 300), 300);
    assert_int_equal(match(&g, &here, a, 299), 128);
    assert_int_equal(match(&g, &here, a, 127), 0);
    rig_close(&g);
}

static void forks_cost_nothing(void **state)
{
    static uint32_t tables[64][MAX_PAGES];
    struct kv_seq forks[64];
    int32_t t[4000];
    uint64_t best = UINT64_MAX;
    uint32_t own;
    struct rig g;

    (void)state;
    rig_open(&g, 200, 0, 0);
    text(2, t, 4000);
    compute(&g, t, 4000);
    own = kv_n_pages(g.kv) - kv_n_free(g.kv);
    for (int run = 0; run < 20; run++) {
        const uint64_t start = clock_mono_ns();

        for (int i = 0; i < 64; i++) {
            kv_seq_init(&forks[i], tables[i], NULL, 0);
            assert_true(kv_seq_fork(g.kv, &forks[i], &g.q, 4000));
        }
        best = clock_mono_ns() - start < best ? clock_mono_ns() - start : best;
        for (int i = 0; i < 64; i++) {      /* each goes on by itself: one page is copied */
            assert_true(kv_seq_reserve(g.kv, &forks[i], 1));
            kv_seq_advance(&forks[i], 1);
        }
        assert_true((kv_n_pages(g.kv) - kv_n_free(g.kv)) * 20 < 64 * own);
        for (int i = 0; i < 64; i++)
            kv_seq_reset(g.kv, &forks[i]);
    }
    print_message("64 forks of 4,000 tokens: %u us\n", (unsigned)(best / 1000));
    assert_true(best < 1000000);
    rig_close(&g);
}

/* Eight texts of three pages through a pool of eight: all but the last ones are on disk. */
static void pages_come_back(uint32_t n_slots)
{
    int32_t t[8][3 * PAGE];
    struct prefix_stats st;
    struct spill_stats sp;
    struct rig g;

    (void)count_files(true);
    rig_open(&g, 8, n_slots, 1 << 20);
    for (int i = 0; i < 8; i++) {
        text(i, t[i], 3 * PAGE);
        enter(&g, t[i], 3 * PAGE);
        spill_flush(g.spill);
    }
    prefix_stats(g.tree, &st);
    assert_true(st.n_spilled > 12);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(match(&g, &here, t[i], 3 * PAGE), 3 * PAGE);
        assert_int_equal(match(&g, &there, t[i], 3 * PAGE), 0);
        spill_flush(g.spill);
    }
    prefix_stats(g.tree, &st);
    assert_true(st.n_returned >= 6);
    rig_close(&g);
    rig_open(&g, 8, n_slots, 1 << 20);      /* another process */
    assert_int_equal(match(&g, &here, t[0], 3 * PAGE), 3 * PAGE);
    spill_stats(g.spill, &sp);
    assert_int_equal(sp.n_damaged, 0);
    prefix_forget(g.tree);
    kv_seq_reset(g.kv, &g.q);
    prefix_forget(g.tree);
    assert_int_equal(count_files(false), 0);
    rig_close(&g);
}

static void pages_come_back_plain(void **state)
{
    (void)state;
    pages_come_back(0);
}

static void pages_come_back_with_states(void **state)
{
    (void)state;
    pages_come_back(4);
}

/* Changes one byte of every file, or cuts it. */
static void damage(long at, bool cut)
{
    DIR *d = opendir(dir);
    const struct dirent *x;

    assert_non_null(d);
    while ((x = readdir(d)) != NULL) {
        char path[512];
        FILE *f;

        if (!strstr(x->d_name, ".page"))
            continue;
        (void)snprintf(path, sizeof path, "%s/%s", dir, x->d_name);
        if (cut) {
            assert_int_equal(truncate(path, at), 0);
            continue;
        }
        f = fopen(path, "r+b");
        assert_non_null(f);
        assert_int_equal(fseek(f, at, SEEK_SET), 0);
        (void)fputc(0x5a, f);
        (void)fclose(f);
    }
    (void)closedir(d);
}

static void damaged_files_are_discarded(void **state)
{
    static const long places[] = { 0, 9, 30, 70, 200, 400 };
    int32_t t[3 * PAGE];
    struct spill_stats sp;
    struct rig g;

    (void)state;
    text(1, t, 3 * PAGE);
    for (size_t i = 0; i <= sizeof places / sizeof *places; i++) {
        (void)count_files(true);
        rig_open(&g, 8, 0, 1 << 20);
        enter(&g, t, 3 * PAGE);
        assert_true(prefix_make_room(g.tree, 8, 0));
        spill_flush(g.spill);
        assert_int_equal(count_files(false), 3);
        if (i < sizeof places / sizeof *places)
            damage(places[i], false);
        else
            damage(100, true);
        assert_int_equal(match(&g, &here, t, 3 * PAGE), 0);
        spill_stats(g.spill, &sp);
        assert_int_equal(sp.n_damaged, 1);
        assert_int_equal(count_files(false), 2);    /* the one that was read is gone */
        rig_close(&g);
    }
}

/* A page that comes back takes the place of the only one that had been found, whether or not its
 * file is sound in the end. */
static void pages_take_the_place_of_what_was_found(void **state)
{
    int32_t a[PAGE], b[PAGE];
    struct rig g;

    (void)state;
    text(1, a, PAGE);
    text(1, b, PAGE);
    b[PAGE - 1]++;
    for (int sound = 0; sound < 2; sound++) {
        (void)count_files(true);
        rig_open(&g, 1, 0, 1 << 20);
        enter(&g, a, PAGE);
        assert_true(prefix_make_room(g.tree, 1, 0));
        spill_flush(g.spill);
        if (!sound)
            damage(200, false);
        enter(&g, b, PAGE);
        assert_int_equal(match(&g, &here, a, PAGE), sound ? PAGE : 0);
        rig_close(&g);
    }
}

static void folders_are_bounded(void **state)
{
    int32_t t[PAGE];
    struct spill_stats sp;
    struct spill *other = NULL;
    struct rig g;

    (void)state;
    (void)count_files(true);
    rig_open(&g, 1, 0, 4096);
    for (int i = 0; i < 40; i++) {
        text(i, t, PAGE);
        enter(&g, t, PAGE);
        spill_flush(g.spill);
    }
    spill_stats(g.spill, &sp);
    assert_true(sp.n_bytes <= 4096 && sp.n_files == count_files(false) && sp.n_files > 2);
    assert_int_equal(spill_open(&other, &(struct spill_spec){ .dir = dir, .max_bytes = 4096,
                     .page_bytes = PAGE_BYTES, .page_tokens = PAGE }, NULL), WATT_EBUSY);
    assert_int_equal(spill_open(&other, &(struct spill_spec){ .dir = dir, .max_bytes = 100,
                     .page_bytes = PAGE_BYTES, .page_tokens = PAGE }, NULL), WATT_ELIMIT);
#ifdef WATT_FAULTS
    (void)fault_arm(FAULT_WRITE, 1);        /* a full disk: forgotten, nothing else */
    text(50, t, PAGE);
    enter(&g, t, PAGE);
    spill_flush(g.spill);
    (void)fault_arm(FAULT_WRITE, 0);
#endif
    rig_close(&g);
}

static void sha256_of_known_texts(void **state)
{
    static const uint8_t abc[4] = { 0xba, 0x78, 0x16, 0xbf }, empty[4] = { 0xe3, 0xb0, 0xc4, 0x42 };
    static const uint8_t million[4] = { 0xcd, 0xc7, 0x6e, 0x5c };
    uint8_t d[SHA256_BYTES];
    struct sha256 s;

    (void)state;
    sha256("abc", 3, d);
    assert_memory_equal(d, abc, 4);
    sha256("", 0, d);
    assert_memory_equal(d, empty, 4);
    sha256_init(&s);
    for (int i = 0; i < 100000; i++)
        sha256_add(&s, "aaaaaaaaaa", 10);
    sha256_end(&s, d);
    assert_memory_equal(d, million, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_of_known_texts),
        cmocka_unit_test(matches_to_the_token),
        cmocka_unit_test(states_match_where_they_were_kept),
        cmocka_unit_test(forks_cost_nothing),
        cmocka_unit_test(pages_come_back_plain),
        cmocka_unit_test(pages_come_back_with_states),
        cmocka_unit_test(damaged_files_are_discarded),
        cmocka_unit_test(pages_take_the_place_of_what_was_found),
        cmocka_unit_test(folders_are_bounded),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
