/* test_eval.c: questions with checkable answers: what files may hold, judging, intervals,
 * haystacks, and a small model asked through the service. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "applications/eval_ask.h"
#include "applications/eval_needle.h"
#include "applications/eval_stats.h"
#include "applications/eval_tally.h"
#include "base/fault.h"
#include "base/json.h"
#include "models/synth.h"

/* ---- numbers ---- */

static void number(const char *text, const char *want, bool formed)
{
    char out[64];
    bool f;

    eval_number(sv_cstr(text), out, &f);
    assert_string_equal(out, want);
    assert_int_equal(f, formed);
}

static void test_numbers(void **state)
{
    (void)state;
    number("3 + 4 = 7\n#### 7", "7", true);
    number("#### 1,234.50 dollars", "1234.5", true);
    number("#### $70000", "70000", true);
    number("#### -12", "-12", true);
    number("#### 007", "7", true);
    number("#### 0", "0", true);
    number("#### -0.0", "0", true);
    number("#### 3.", "3", true);
    number("#### 1\n#### 2", "2", true);
    number("####", "", false);
    number("#### many", "", false);
    number("The answer is 42.", "42", false);
    number("from 3 to -5", "-5", false);
    number("a 10-5", "5", false);
    number("none", "", false);
    number("", "", false);
    number("#### 0.05", "0.05", true);
    number("#### 99999999999999999999999999999999999999999999999999999999999999999999",
           "99999999999999999999999999999999999999999999999", true);
}

/* ---- items and verdicts ---- */

static struct eval_items one(const char *line)
{
    struct eval_items items = { 0 };
    struct err e;

    if (eval_items_read(&items, "test", line, strlen(line), 0, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(items.n, 1);
    return items;
}

static struct eval_verdict judged(const char *line, const char *answer)
{
    struct eval_items items = one(line);
    const struct eval_answer a = { .text = sv_cstr(answer) };
    struct eval_verdict v;

    eval_judge(&items.v[0], &a, &v);
    eval_items_deinit(&items);
    return v;
}

static bool right(const char *line, const char *answer)
{
    return judged(line, answer).right;
}

static void test_judging(void **state)
{
    static const char gsm[] = "{\"question\": \"q\", \"answer\": \"2+2=<<2+2=4>>4\\n#### 4\"}";
    static const char cite[] = "{\"question\": \"q\", \"contains\": [\"Paris\"], \"cites\": [2], "
                               "\"abstention\": \"Not in the sources\"}";
    static const char twelve[] = "{\"question\": \"q\", \"contains\": [\"12\"]}";
    static const char no[] = "{\"question\": \"q\", \"abstains\": true, \"abstention\": \"Not in the sources\"}";
    static const char call[] = "{\"question\": \"q\", \"tools\": [{}], \"call\": {\"name\": \"add\", "
                               "\"arguments\": {\"a\": 1, \"b\": [2]}}}";

    (void)state;
    assert_true(right(gsm, "so #### 4.0"));
    assert_false(right(gsm, "#### 5"));
    assert_false(right(gsm, ""));
    assert_true(judged(gsm, "#### 5").formed);
    assert_string_equal(judged(gsm, "it is 5").vote, "5");
    assert_true(right(cite, "In paris [2]."));
    assert_false(right(cite, "Paris [1]."));
    assert_false(right(cite, "Paris [2] [1]."));
    assert_false(right(cite, "Paris."));
    assert_false(right(cite, "London [2]."));
    assert_true(judged(cite, "Not in the sources.").abstained);
    assert_false(right(cite, "Paris [2]. Not in the sources."));
    assert_true(right(twelve, "there are 12."));
    assert_false(right(twelve, "there are 3124"));
    assert_false(right(twelve, "112"));
    assert_true(right(no, "That is not in the sources."));
    assert_false(right(no, "Paris [1]."));
    assert_true(right(call, "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"b\": [2], \"a\": 1}}\n</tool_call>"));
    assert_false(right(call, "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call>"));
    assert_true(judged(call, "<tool_call>{\"name\": \"x\", \"arguments\": {}}</tool_call>").formed);
    assert_false(judged(call, "<tool_call>{\"name\": \"add\"</tool_call>").formed);
    assert_false(judged(call, "<tool_call>{\"name\": \"add\", \"arguments\": {}}").formed);
    assert_false(judged(call, "add(1, 2)").formed);
    assert_string_equal(judged(twelve, "a").vote, judged(twelve, "a \n").vote);
    assert_string_not_equal(judged(twelve, "a").vote, judged(twelve, "b").vote);
}

static void refused(const char *text, const char *says)
{
    struct eval_items items = { 0 };
    struct err e = { 0 };

    assert_true(eval_items_read(&items, "f.jsonl", text, strlen(text), 0, &e) < 0);
    if (!strstr(e.msg, says))
        fail_msg("\"%s\" does not say \"%s\"", e.msg, says);
    eval_items_deinit(&items);
}

static void test_bad_items(void **state)
{
    struct eval_items items = { 0 };
    struct err e;

    (void)state;
    refused("{", "line 1");
    refused("\n\n[1]\n", "line 3: expected an object");
    refused("{\"number\": \"1\"}", "expected \"messages\"");
    refused("{\"question\": \"q\"}", "expected \"number\"");
    refused("{\"question\": \"q\", \"answer\": \"no number\"}", "expected \"number\"");
    refused("{\"messages\": [], \"number\": \"1\"}", "messages: expected a list");
    refused("{\"messages\": [{\"content\": \"x\"}], \"number\": \"1\"}", "messages[0]: expected a role");
    refused("{\"question\": \"q\", \"choices\": [\"a\"], \"answer\": 0}", "2 to");
    refused("{\"question\": \"q\", \"choices\": [\"a\", \"b\"], \"answer\": 2}", "one of 2 choices");
    refused("{\"question\": \"q\", \"choices\": [\"a\", \"b\"], \"answer\": \"C\"}", "one of 2 choices");
    refused("{\"question\": \"q\", \"abstains\": true}", "\"abstention\"");
    refused("{\"question\": \"q\", \"contains\": [1]}", "contains: expected");
    refused("{\"question\": \"q\", \"cites\": [\"1\"]}", "cites: expected");
    refused("{\"question\": \"q\", \"call\": {\"name\": 1}}", "call: expected");
    refused("{\"question\": \"q\", \"tools\": [1], \"number\": \"1\"}", "tools: expected");
    assert_int_equal(eval_items_read(&items, "f", "{\"question\":\"a\",\"number\":\"1\"}\n{\"question\":\"b\",\"number\":\"2\"}",
                                     59, 1, &e), 0);
    assert_int_equal(items.n, 1);
    eval_items_deinit(&items);
}

/* ---- intervals ---- */

static void near_to(double a, double b)
{
    if (fabs(a - b) > 5e-4)
        fail_msg("%g, expected %g", a, b);
}

static void test_intervals(void **state)
{
    struct interval i = eval_wilson(81, 263);   /* the example of Newcombe 1998 */
    double v[100];

    (void)state;
    near_to(i.low, 0.2553);
    near_to(i.high, 0.3662);
    i = eval_wilson(0, 20);
    assert_true(i.low == 0);
    near_to(i.high, 0.1611);
    i = eval_wilson(29, 29);
    assert_true(i.high == 1);
    near_to(i.low, 0.8830);
    i = eval_wilson(0, 0);
    assert_true(i.low == 0 && i.high == 1);
    for (int k = 0; k < 100; k++)
        v[k] = k < 30;
    i = eval_bootstrap(v, 100, EVAL_BOOTSTRAP_ROUNDS, 1);
    assert_true(i.low > 0.19 && i.low < 0.23 && i.high > 0.37 && i.high < 0.41);
    for (int k = 0; k < 100; k++)
        v[k] = 0.5;
    i = eval_bootstrap(v, 100, 50, 7);
    near_to(i.low, 0.5);
    near_to(i.high, 0.5);
}

/* ---- haystacks ---- */

static void test_needles(void **state)
{
    static const char hay[] = "The first thing. A second one, longer than that! Is this a third? \xff Yes.\n";
    struct eval_items items = { 0 };
    struct err e = { 0 };

    (void)state;
    assert_int_equal(eval_needle_add(&items, NULL, (struct sv){ hay, 0 }, 100, 1, &e), WATT_EINVAL);
    assert_int_equal(eval_needle_add(&items, NULL, (struct sv){ hay, sizeof hay - 1 }, 100, 1, &e), 0);
    assert_int_equal(items.n, (size_t)EVAL_NEEDLE_DEPTHS * EVAL_NEEDLES_EACH);
    for (size_t i = 0; i < items.n; i++) {
        const char *text = json_string_value(json_object_get(json_array_get(items.v[i].messages, 0), "content"));
        const char *want = json_string_value(json_array_get(items.v[i].contains, 0));
        const char *at = strstr(text, "The secret number of ");
        const size_t depth = i / EVAL_NEEDLES_EACH;

        assert_non_null(at);
        assert_non_null(strstr(at, want));
        assert_true(strlen(text) > 390 && strlen(text) < 600);
        if (depth == 0)
            assert_ptr_equal(at, text);
        if (depth == EVAL_NEEDLE_DEPTHS - 1)
            assert_true((size_t)(at - text) >= 390);
    }
    assert_string_equal(items.v[0].task, "needle in 100 tokens at 0 %");
    eval_items_deinit(&items);
}

/* ---- a model ---- */

static char dir[] = "test_eval.XXXXXX";
static char path[64];

static int make_model(void **state)
{
    struct shape s = *shape_find("tiny-llama");
    const struct synth_opts o = { .seed = 3, .n_threads = 1 };
    struct err e;

    (void)state;
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(path, sizeof path, "%s/m.gguf", dir);
    return synth_write(path, &s, &o, &e);
}

static int remove_model(void **state)
{
    (void)state;
    (void)remove(path);
    return rmdir(dir);
}

static const char questions[] =
    "{\"question\": \"What is 2 + 2?\", \"number\": \"4\"}\n"
    "{\"task\": \"calls\", \"question\": \"Add.\", \"call\": {\"name\": \"add\", \"arguments\": {}}}\n"
    "{\"task\": \"choice\", \"prompt\": \"The sky is\", \"choices\": [\" blue\", \" green\", \" made of cheese\"], \"answer\": 1}\n"
    "{\"task\": \"choice\", \"question\": \"The sky?\", \"choices\": [\"blue\", \"green\"], \"answer\": \"A\"}\n";

struct seen {
    const struct eval_items *items;
    struct eval_tally *tally;
    char      texts[8][4][80];
    double    nats[8][3];
    unsigned  n, stop_after;
};

static int collect(void *ctx, const struct eval_result *r, struct err *e)
{
    struct seen *s = ctx;
    const size_t i = r->question->index;

    s->n++;
    if (s->stop_after && s->n == s->stop_after)
        return err_set(e, WATT_EIO, "enough");
    if (r->nats) {
        memcpy(s->nats[i], r->nats, json_array_size(r->question->item->choices) * sizeof(double));
        eval_tally_choice(s->tally, i, r->nats);
    } else {
        struct eval_verdict v;
        char *to = s->texts[i][r->question->temperature > 0 ? 1 + r->sample : 0];

        (void)snprintf(to, 80, "%.*s", (int)r->answer.text.len, r->answer.text.data ? r->answer.text.data : "");
        eval_judge(r->question->item, &r->answer, &v);
        eval_tally_answer(s->tally, i, r->question->temperature <= 0, r->sample, &v, r->n_tokens, r->cut);
    }
    return 0;
}

static int ask_model(struct seen *s, uint32_t at_once, struct err *e)
{
    const struct text_model_opts to = { .no_session = true };
    const struct service_opts so = { .n_ctx = 256, .max_seqs = 4, .session = { .n_threads = 1 } };
    const struct eval_ask_opts ao = { .max_tokens = 6, .at_once = at_once, .seed = 5 };
    struct eval_items items = { 0 };
    struct eval_asker *a = NULL;
    struct text_model *m = NULL;
    struct eval_question q[8];
    size_t n = 0;
    int rc = eval_items_read(&items, "questions", questions, sizeof questions - 1, 0, e);

    if (rc == 0)
        rc = eval_tally_open(&s->tally, &items, 3, e);
    if (rc == 0)
        rc = text_model_open(&m, path, &to, e);
    if (rc == 0)
        rc = eval_ask_local(&a, m, &so, &ao, e);
    for (size_t i = 0; i < items.n; i++) {
        q[n++] = (struct eval_question){ &items.v[i], i, 1, 0 };
        if (items.v[i].kind != EVAL_CHOICE)
            q[n++] = (struct eval_question){ &items.v[i], i, 3, 1.0f };
    }
    if (rc == 0)
        rc = eval_ask_all(a, q, n, collect, s, e);
    eval_ask_close(a);
    text_model_close(m);
    eval_tally_close(s->tally);
    eval_items_deinit(&items);
    return rc;
}

/* The same answers and likelihoods, whatever is under way at once. */
static void test_asking(void **state)
{
    static struct seen a, b;
    struct err e = { 0 };

    (void)state;
    if (ask_model(&a, 1, &e) < 0 || ask_model(&b, 8, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(a.n, 2 * (1 + 3) + 2);
    assert_memory_equal(a.texts, b.texts, sizeof a.texts);
    assert_memory_equal(a.nats, b.nats, sizeof a.nats);
    for (int i = 0; i < 3; i++)
        assert_true(a.nats[2][i] > 0);
    assert_string_not_equal(a.texts[0][1], a.texts[0][2]);
}

static void test_stopping(void **state)
{
    static struct seen s;
    struct err e = { 0 };

    (void)state;
    for (s.stop_after = 1; s.stop_after < 6; s.stop_after++) {
        s.n = 0;
        assert_int_equal(ask_model(&s, 4, &e), WATT_EIO);
        assert_string_equal(e.msg, "enough");
    }
}

#ifdef WATT_FAULTS
static void test_faults(void **state)
{
    struct err e = { 0 };
    unsigned long n = 0;
    int rc;

    (void)state;
    do {
        static struct seen s;

        s = (struct seen){ 0 };
        n += 1 + n / 8;
        (void)fault_arm(FAULT_ALLOC, n);
        rc = ask_model(&s, 3, &e);
        assert_true(rc == 0 || e.msg[0]);
    } while (fault_arm(FAULT_ALLOC, 0) >= n && n < 1000000);
    assert_int_equal(rc, 0);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_judging),
        cmocka_unit_test(test_bad_items),
        cmocka_unit_test(test_intervals),
        cmocka_unit_test(test_needles),
        cmocka_unit_test(test_asking),
        cmocka_unit_test(test_stopping),
#ifdef WATT_FAULTS
        cmocka_unit_test(test_faults),
#endif
    };

    return cmocka_run_group_tests(tests, make_model, remove_model);
}
