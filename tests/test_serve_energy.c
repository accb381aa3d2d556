/* test_serve_energy.c: what a server says of joules and money in every API, in headers and metrics,
 * what it books, and budgets that end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <sys/stat.h>
#include <time.h>

#include "applications/api_keys.h"
#include "energy/budget.h"
#include "energy/ledger.h"
#include "pg_rig.h"
#include "remove_tree.h"
#include "serve_rig.h"

static char dir[512], book[600], tariff[600], keys[600];

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static int up(void **state)
{
    const char *tmp = getenv("TMPDIR");

    (void)signal(SIGPIPE, SIG_IGN);
    (void)snprintf(dir, sizeof dir, "%s/watt-energy.XXXXXX", tmp && *tmp ? tmp : P_tmpdir);
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(book, sizeof book, "%s/book.db", dir);
    (void)snprintf(tariff, sizeof tariff, "%s/tariff.json", dir);
    (void)snprintf(keys, sizeof keys, "%s/keys", dir);
    write_text(tariff, "{\"currency\":\"EUR\",\"electricity\":{\"price_per_kwh\":0.25},\"pue\":1.5,"
               "\"carbon\":{\"g_per_kwh\":400},\"prices\":{\"*\":{\"input\":1,\"output\":2}}}");
    return tiny_make(state);
}

static int down(void **state)
{
    (void)remove_tree(dir);
    return tiny_remove(state);
}

static const char request[] = "{\"prompt\":\"abcdefgh\",\"max_tokens\":8,\"ignore_eos\":true,\"stream\":false,\"temperature\":0,"
                              "\"num_predict\":8,\"options\":{\"num_predict\":8},"
                              "\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}";

/* The object named so, anywhere in the answer's last JSON. */
static json_t *energy_in(json_t *j)
{
    json_t *usage = json_object_get(j, "usage");
    json_t *e = json_object_get(usage ? usage : j, "energy");

    if (!e)
        fail_msg("no energy in %s", answer);
    return e;
}

static double number(const json_t *j, const char *name)
{
    const json_t *v = json_object_get(j, name);

    if (!json_is_number(v))
        fail_msg("%s is no number in %s", name, answer);
    return json_number_value(v);
}

static void check_answer(const struct server *s, const char *path, const char *source)
{
    json_t *j, *e;

    assert_int_equal(ask(s, "POST", path, "", request), 200);
    j = parsed();
    e = energy_in(j);
    assert_string_equal(json_string_value(json_object_get(e, "source")), source);
    assert_int_equal(json_integer_value(json_object_get(e, "schema")), 1);
    assert_true(number(e, "joules") >= 0);
    assert_true(fabs(number(e, "joules") - number(e, "joules_prefill") -
                     number(e, "joules_decode")) < 1e-9);
    assert_non_null(strstr(head, "X-Energy-Joules: "));
    assert_non_null(strstr(head, "X-Energy-Source: "));
    json_decref(j);
}

static void all_apis(const struct server *s, const char *source)
{
    static const char *const paths[] = { "/v1/completions", "/v1/chat/completions", "/v1/messages",
                                         "/api/generate", "/api/chat", "/completion" };

    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        check_answer(s, paths[i], source);
}

static int add(void *ctx, const struct ledger_sum *x)
{
    struct ledger_sum *t = ctx;

    t->n += x->n;
    t->n_measured += x->n_measured;
    t->n_input += x->n_input + x->n_cached;
    t->n_output += x->n_output;
    t->n_priced += x->n_priced;
    t->price_nano += x->price_nano;
    t->idle_uj += x->idle_uj;
    if (x->n > 0)
        memcpy(t->source, x->source, sizeof t->source);
    return 0;
}

static struct ledger_sum booked(void)
{
    const struct ledger_opts o = { .read_only = true };
    const struct ledger_query q = { .by = LEDGER_BY_SOURCE };
    struct ledger_sum t = { 0 };
    struct ledger_check c;
    struct ledger *l = NULL;
    struct err e = { 0 };

    if (ledger_open(&l, book, &o, &e) < 0 || ledger_report(l, &q, add, &t, &e) < 0 ||
        ledger_verify(l, &c, &e) < 0)
        fail_msg("%s", e.msg);
    ledger_close(l);
    return t;
}

static void test_measured(void **state)
{
    const char *more[] = { "--meter", "cmd:echo 100", "--meter-name", "plug", "--tariff", tariff,
                           "--ledger", book, NULL };
    struct server s;
    struct ledger_sum t;
    json_t *j, *cost;
    double watts;

    (void)state;
    start(&s, more);
    all_apis(&s, "plug");
    assert_int_equal(ask(&s, "POST", "/v1/completions", "", request), 200);
    j = parsed();
    cost = json_object_get(json_object_get(j, "usage"), "cost");
    assert_string_equal(json_string_value(json_object_get(cost, "currency")), "EUR");
    assert_string_equal(json_string_value(json_object_get(cost, "energy_source")), "plug");
    assert_true(fabs(number(cost, "energy") - number(energy_in(j), "joules") / 3.6e6 * 1.5 * 0.25) <
                1e-15);
    assert_true(number(cost, "price") >= 8 * 2e-6);
    json_decref(j);
    assert_int_equal(ask(&s, "POST", "/v1/completions", "", "{\"prompt\":\"ab\",\"max_tokens\":3,"
                     "\"stream\":true,\"stream_options\":{\"include_usage\":true}}"), 200);
    assert_non_null(strstr(answer, "\"choices\":[],\"usage\":{"));
    assert_non_null(strstr(answer, "\"energy\":{\"joules\":"));
    assert_int_equal(ask(&s, "GET", "/energy_metrics", "", ""), 200);
    j = parsed();
    watts = number(j, "avg_total_power_w");
    assert_true(watts > 50 && watts < 150);
    assert_true(json_is_true(json_object_get(j, "power_valid")));
    assert_int_equal(number(j, "schema_version"), 1);
    assert_int_equal(number(j, "num_successful_queries"), 8);
    assert_true(number(j, "joules_per_output_token") > 0);
    assert_true(fabs(number(j, "total_energy_j") - number(j, "prefill_energy_j") -
                     number(j, "decode_energy_j") - number(j, "idle_energy_j")) < 1e-6);
    json_decref(j);
    assert_int_equal(ask(&s, "GET", "/metrics", "", ""), 200);
    assert_non_null(strstr(answer, "watt_energy_joules_total{phase=\"decode\",device=\"plug\","
                                   "source=\"external\"} "));
    assert_int_equal(stop(&s), 0);
    t = booked();
    assert_int_equal(t.n, 8);
    assert_int_equal(t.n_measured, 8);
    assert_int_equal(t.n_priced, 8);
    assert_true(t.price_nano > 0 && t.idle_uj > 0);
    assert_string_equal(t.source, "plug");
}

/* Where nothing can be read: null, and why. */
static void test_nothing(void **state)
{
    const char *more[] = { "--meter-root", dir, "--meter-nvml", "", NULL };
    struct server s;
    json_t *j, *e;

    (void)state;
    start(&s, more);
    assert_int_equal(ask(&s, "POST", "/v1/completions", "", request), 200);
    assert_null(strstr(head, "X-Energy"));
    j = parsed();
    e = energy_in(j);
    assert_true(json_is_null(json_object_get(e, "joules")));
    assert_string_equal(json_string_value(json_object_get(e, "source")), "none");
    assert_non_null(strstr(json_string_value(json_object_get(e, "why")), "rapl"));
    assert_null(json_object_get(json_object_get(j, "usage"), "cost"));
    json_decref(j);
    assert_int_equal(ask(&s, "GET", "/energy_metrics", "", ""), 200);
    j = parsed();
    assert_true(json_is_false(json_object_get(j, "power_valid")));
    assert_true(json_is_null(json_object_get(j, "joules_per_total_token")));
    json_decref(j);
    assert_int_equal(stop(&s), 0);
}

static void test_estimate(void **state)
{
    const char *more[] = { "--meter-root", dir, "--meter-nvml", "", "--estimate",
                           "idle=10,op=5,byte=50", "--ledger", book, NULL };
    struct server s;
    json_t *j;

    (void)state;
    (void)unlink(book);
    start(&s, more);
    all_apis(&s, "estimate");
    assert_non_null(strstr(head, "X-Energy-Source: estimate"));
    assert_int_equal(ask(&s, "GET", "/energy_metrics", "", ""), 200);
    j = parsed();
    assert_true(json_is_false(json_object_get(j, "power_valid")));
    assert_true(json_is_false(json_object_get(j, "measured")));
    assert_string_equal(json_string_value(json_object_get(j, "source")), "estimate");
    json_decref(j);
    assert_int_equal(ask(&s, "GET", "/metrics", "", ""), 200);
    assert_non_null(strstr(answer, "source=\"estimate\"} "));
    assert_int_equal(stop(&s), 0);
    assert_string_equal(booked().source, "estimate");
}

/* A bound that can't be held: the least is done, and the answers are the same. */
static void test_cap(void **state)
{
    const char *more[] = { "--meter", "cmd:echo 100", "--meter-interval", "100", "--power-cap", "60",
                           NULL };
    char *without[] = { "watt", "serve", tiny_path, "--port", "0", "--meter", "none", "--power-cap", "60",
                        NULL };
    static struct spawned r;
    static char free_text[4096];
    struct server s;
    json_t *j;
    double level = 1;

    (void)state;
    spawn_program(&r, watt_bin(), without, NULL, -1);
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "--power-cap needs a meter that measures"));
    start(&s, NULL);
    assert_int_equal(ask(&s, "POST", "/v1/completions", "", request), 200);
    j = parsed();
    (void)snprintf(free_text, sizeof free_text, "%s", json_string_value(json_object_get(
        json_array_get(json_object_get(j, "choices"), 0), "text")));
    json_decref(j);
    assert_int_equal(stop(&s), 0);
    start(&s, more);
    for (int i = 0; i < 200 && level > 0.021; i++) {
        const char *at;

        assert_int_equal(ask(&s, "POST", "/v1/completions", "", request), 200);
        j = parsed();
        assert_string_equal(json_string_value(json_object_get(json_array_get(
            json_object_get(j, "choices"), 0), "text")), free_text);
        json_decref(j);
        assert_int_equal(ask(&s, "GET", "/metrics", "", ""), 200);
        at = strstr(answer, "\nwatt_power_cap_level ");
        assert_non_null(at);
        level = strtod(at + strlen("\nwatt_power_cap_level "), NULL);
        (void)poll(NULL, 0, 50);
    }
    assert_true(level <= 0.021);
    assert_int_equal(stop(&s), 0);
}

/* A file, unlike what it stands for, is empty for a moment when it is written. */
static double limit_w(const char *path)
{
    char text[32] = "";

    for (int i = 0; i < 1000 && !strchr(text, '\n'); i++) {
        FILE *f = fopen(path, "r");

        assert_non_null(f);
        if (!fgets(text, sizeof text, f))
            (void)poll(NULL, 0, 10);
        (void)fclose(f);
    }
    assert_non_null(strchr(text, '\n'));
    return strtod(text, NULL) * 1e-6;
}

static void put_file(const char *folder, const char *name, const char *text)
{
    char path[300];

    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    write_text(path, text);
}

/* Asks for answers until the package's limit is under so many watts. */
static void until_limited(const struct server *s, const char *path, double watts)
{
    double now = limit_w(path);

    for (int i = 0; i < 1000 && now > watts; i++) {
        assert_int_equal(ask(s, "POST", "/v1/completions", "", request), 200);
        (void)poll(NULL, 0, 50);
        now = limit_w(path);
    }
    assert_true(now <= watts);
}

/* A machine whose power is its package's limit and 10 W more, whatever the server does: the limit
 * is lowered, and is as it was after SIGTERM, and after the start that follows a SIGKILL. */
static void test_limits(void **state)
{
    static const char *const folders[] = { "run", "sys", "sys/class", "sys/class/powercap",
                                           "sys/class/powercap/intel-rapl:0" };
    char root[] = "watt-limits-XXXXXX", path[256], where[200], command[400];
    char bound[8] = "60";
    const char *more[] = { "--meter", command, "--meter-interval", "100", "--power-cap", bound,
                           "--meter-root", root, "--meter-nvml", "", NULL };
    char *restore[] = { "watt", "meter", "--restore-limits", "--meter-root", root, "--meter-nvml", "",
                        NULL };
    static struct spawned r;
    struct server s;
    int status;

    (void)state;
    assert_non_null(mkdtemp(root));
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        (void)snprintf(where, sizeof where, "%s/%s", root, folders[i]);
        assert_int_equal(mkdir(where, 0755), 0);
    }
    put_file(where, "name", "package-0\n");
    put_file(where, "enabled", "1\n");
    put_file(where, "constraint_0_name", "long_term\n");
    put_file(where, "constraint_0_power_limit_uw", "100000000\n");
    (void)snprintf(path, sizeof path, "%s/constraint_0_power_limit_uw", where);
    (void)snprintf(command, sizeof command, "cmd:awk '{print $1 / 1e6 + 10}' %s", path);
    start(&s, more);
    until_limited(&s, path, 52);
    assert_true(limit_w(path) >= 10);           /* a tenth is the least; test_cap.c has how close it is */
    assert_int_equal(ask(&s, "GET", "/metrics", "", ""), 200);
    assert_non_null(strstr(answer, "\nwatt_power_cap_limit 0."));
    assert_int_equal(stop(&s), 0);
    assert_true(limit_w(path) == 100);
    start(&s, more);
    until_limited(&s, path, 52);
    assert_int_equal(kill(s.pid, SIGKILL), 0);
    assert_int_equal(waitpid(s.pid, &status, 0), s.pid);
    assert_true(limit_w(path) <= 60);
    (void)snprintf(bound, sizeof bound, "500"); /* nothing is to be lowered */
    start(&s, more);
    assert_true(limit_w(path) == 100);
    assert_int_equal(stop(&s), 0);
    (void)snprintf(bound, sizeof bound, "60");
    start(&s, more);
    until_limited(&s, path, 52);
    spawn_program(&r, watt_bin(), restore, NULL, -1);
    assert_int_equal(r.code, 1);                /* that one is alive */
    assert_non_null(strstr(r.err, "another process has them"));
    assert_int_equal(kill(s.pid, SIGKILL), 0);
    assert_int_equal(waitpid(s.pid, &status, 0), s.pid);
    spawn_program(&r, watt_bin(), restore, NULL, -1);
    assert_int_equal(r.code, 0);
    assert_string_equal(r.out, "1 limit is as it was\n");
    assert_true(limit_w(path) == 100);
    (void)remove_tree(root);
}

/* ---- budgets ---- */

/* Budgets renew at midnight (UTC), and no test of theirs may go over that. */
static void not_at_midnight(void)
{
    while (time(NULL) % 86400 > 86400 - 60)
        (void)poll(NULL, 0, 1000);
}

static void put_keys(const char *options)
{
    char hash[API_KEY_HASH_BYTES], text[256];

    api_key_hash("secret", hash);
    (void)snprintf(text, sizeof text, "%s name=alice %s\n", hash, options);
    write_text(keys, text);
}

static int complete(const struct server *s)
{
    return ask(s, "POST", "/v1/completions", "Authorization: Bearer secret\r\n", request);
}

/* Runs until the budget ends it; then again with a new server, which remembers. */
static void use_up(const char *options, const char *code, bool remember)
{
    const char *more[] = { "--meter", "cmd:echo 100", "--tariff", tariff, "--ledger", book,
                           "--api-keys", keys, NULL };
    struct server s;
    int n = 0, status;

    (void)unlink(book);
    put_keys(options);
    start(&s, more);
    while ((status = complete(&s)) == 200)
        assert_true(++n < 100);
    assert_true(n > 0);
    assert_int_equal(status, 429);
    assert_non_null(strstr(answer, code));
    assert_non_null(strstr(answer, "it renews at 2"));
    assert_non_null(strstr(answer, "T00:00:00Z"));
    assert_non_null(strstr(head, "Retry-After: "));
    assert_int_equal(stop(&s), 0);
    if (!remember)
        return;
    start(&s, more);
    assert_int_equal(complete(&s), 429);
    assert_int_equal(stop(&s), 0);
}

static void test_budgets(void **state)
{
    (void)state;
    not_at_midnight();
    use_up("tokens_day=40", "\"tokens_budget_exhausted\"", true);
    use_up("joules_day=0.0001", "\"joules_budget_exhausted\"", false);
    use_up("money_day=0.00004", "\"money_budget_exhausted\"", true);
}

/* By one answer; 0: the budget is used up. */
static int64_t tokens_given(const struct server *s)
{
    int64_t n;
    json_t *j;

    if (complete(s) == 429)
        return 0;
    j = parsed();
    n = json_integer_value(json_object_get(json_object_get(j, "usage"), "total_tokens"));
    json_decref(j);
    assert_true(n > 0);
    return n;
}

/* Two servers with one ledger: what one has given counts at the other, by and by; without that the other
 * would give the whole budget as well. */
static void share_a_budget(const char *ledger)
{
    const char *more[] = { "--ledger", ledger, "--api-keys", keys, NULL };
    struct server one, other;
    int64_t given[2] = { 0, 0 };
    const int64_t budget = 2000;

    put_keys("tokens_day=2000");
    start(&one, more);
    start(&other, more);
    given[1] = tokens_given(&other);
    assert_true(given[1] > 0);
    for (int64_t n; (n = tokens_given(&one)) > 0;)
        given[0] += n;
    assert_true(given[0] > budget / 2);
    for (int64_t n; (n = tokens_given(&other)) > 0 && given[1] < budget;) {
        given[1] += n;
        (void)poll(NULL, 0, 200);
    }
    (void)fprintf(stderr, "a budget of %lld tokens: two servers gave %lld and %lld\n", (long long)budget,
                  (long long)given[0], (long long)given[1]);
    assert_true(given[0] + given[1] >= budget);
    assert_true(given[1] < budget * 9 / 10);
    assert_int_equal(stop(&one), 0);
    assert_int_equal(stop(&other), 0);
}

static void test_shared_budget(void **state)
{
    struct pg_server pg = { .url = "" };

    (void)state;
    not_at_midnight();
    (void)unlink(book);
    share_a_budget(book);
    if (!pg_start(&pg)) {
        (void)fprintf(stderr, "skipped: no PostgreSQL server can be started (package postgresql)\n");
        skip();
    }
    share_a_budget(pg.url);
    pg_stop(&pg);
}

/* A budget that nothing can count is refused at the start. */
static void test_uncounted(void **state)
{
    static struct spawned r;
    char *joules[] = { "watt", "serve", tiny_path, "--port", "0", "--meter", "none", "--api-keys", keys,
                       NULL };

    (void)state;
    put_keys("joules_day=5");
    spawn_program(&r, watt_bin(), joules, NULL, -1);
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "joules_day needs a meter"));
    put_keys("money_day=5");
    spawn_program(&r, watt_bin(), joules, NULL, -1);
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "money_day needs prices"));
}

static void test_days(void **state)
{
    const struct budget_limits l = { { 10, 0, 2 } };
    struct budget b = { 0 };
    const int64_t noon = INT64_C(20779) * 86400 + 43200;

    (void)state;
    assert_int_equal(budget_exhausted(&b, &l, noon), BUDGET_NONE);
    budget_charge(&b, BUDGET_JOULES, 1e9, noon);        /* no bound */
    budget_charge(&b, BUDGET_TOKENS, 9.5, noon);
    budget_charge(&b, BUDGET_TOKENS, NAN, noon);
    budget_charge(&b, BUDGET_TOKENS, -5, noon);
    assert_int_equal(budget_exhausted(&b, &l, noon), BUDGET_NONE);
    budget_charge(&b, BUDGET_TOKENS, 1, noon);
    assert_int_equal(budget_exhausted(&b, &l, noon), BUDGET_TOKENS);
    assert_int_equal(budget_exhausted(&b, &l, noon - 86400), BUDGET_TOKENS);    /* the clock went back */
    assert_int_equal(budget_renews(noon), noon + 43200);
    assert_int_equal(budget_renews(noon + 43200), noon + 43200 + 86400);
    assert_int_equal(budget_exhausted(&b, &l, noon + 43200), BUDGET_NONE);
    budget_charge(&b, BUDGET_MONEY, 2, noon + 43200);
    assert_int_equal(budget_exhausted(&b, &l, noon + 43200), BUDGET_MONEY);
    assert_string_equal(budget_name(BUDGET_MONEY), "money");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_measured), cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_estimate), cmocka_unit_test(test_cap),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_budgets),
        cmocka_unit_test(test_shared_budget),
        cmocka_unit_test(test_uncounted), cmocka_unit_test(test_days),
    };

    return cmocka_run_group_tests_name("serve_energy", tests, up, down);
}
