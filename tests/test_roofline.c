/* test_roofline.c: where a step's time goes: every instruction's cost counts once, whatever was
 * fused; times add up; nothing is noted unless asked; the command's table, JSON and picture. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "applications/roofline_table.h"
#include "base/fault.h"
#include "base/json.h"
#include "base/mem.h"
#include "models/session.h"
#include "spawn.h"
#include "tiny.h"

static struct spawned r;

static struct session *open_session(const struct model *m, enum session_exec exec)
{
    const struct session_opts o = { .exec = exec, .n_threads = 2 };
    struct session *s = NULL;
    struct err e = { 0 };

    if (session_open(&s, m, &o, &e) < 0)
        fail_msg("%s", e.msg);
    return s;
}

static void step(struct session *s, uint32_t n)
{
    int32_t tokens[64];
    float out[320];
    struct err e = { 0 };

    for (uint32_t i = 0; i < n; i++)
        tokens[i] = (int32_t)i;
    if (session_append(s, 0, tokens, n, out, &e) < 0)
        fail_msg("%s", e.msg);
}

static const struct profile *profiled(struct session *s)
{
    struct err e = { 0 };

    assert_int_equal(session_profile(s, true, &e), 0);
    step(s, 9);
    step(s, 1);
    return session_profiled(s);
}

static void each_instruction_counts_once(void **state)
{
    (void)state;
    for (int experts = 0; experts <= 8; experts += 8)
        for (int exec = SESSION_EXEC_CPU; exec <= SESSION_EXEC_REF; exec++) {
            struct shape shape = tiny_shape(experts ? "qwen3moe" : "llama");
            const struct profile *p;
            struct session *s;
            struct model *m;
            uint32_t *seen, n;

            shape.n_experts = (uint32_t)experts;
            shape.n_experts_used = experts ? 2 : 0;
            m = tiny_open(&shape, QUANT_Q8_0);
            s = open_session(m, (enum session_exec)exec);
            n = prog_n_instr(model_program(m));
            seen = mem_calloc(n, sizeof *seen);
            assert_non_null(seen);
            assert_null(session_profiled(s));
            step(s, 3);
            assert_null(session_profiled(s));
            p = profiled(s);
            assert_non_null(p);
            assert_int_equal(p->n_steps, 2);
            for (uint32_t i = 0; i < p->n_phases; i++) {
                assert_true(p->phase[i].n > 0);
                assert_true(p->phase[i].ns > 0);
                assert_true(p->phase[i].busy_ns > 0);
                for (uint32_t k = 0; k < p->phase[i].n; k++)
                    if (!p->piece[p->phase[i].first + k].what)
                        seen[p->piece[p->phase[i].first + k].instr]++;
            }
            for (uint32_t i = 0; i < n; i++)
                assert_int_equal(seen[i], 1);
            assert_int_equal(session_profile(s, false, NULL), 0);
            assert_null(session_profiled(s));
            mem_free(seen);
            session_close(s);
            model_close(m);
        }
}

static const struct peaks peaks = { .read_bytes_s = 1e10, .read_best_bytes_s = 1e10,
                                    .f32_ops_s = 1e11, .int8_ops_s = 4e11, .bf16_ops_s = 2e11 };

static double sum_of(const struct roofline_table *t, size_t offset)
{
    double sum = 0, v;

    for (uint32_t i = 0; i < t->n_rows; i++) {
        memcpy(&v, (const char *)&t->rows[i] + offset, sizeof v);
        sum += v;
    }
    return sum;
}

static void assert_near(double a, double b)
{
    if (!(a - b <= 1e-9 * b && b - a <= 1e-9 * b))
        fail_msg("%.17g, expected %.17g", a, b);
}

static void rows_add_up(void **state)
{
    struct shape shape = tiny_shape("llama");
    struct model *m = tiny_open(&shape, QUANT_Q8_0);
    struct session *s = open_session(m, SESSION_EXEC_CPU);
    const struct program *prog = model_program(m);
    struct prog_cost *cost = mem_array(prog_n_instr(prog), sizeof *cost);
    const struct roofline_load load = { 9, 1, 0, 1 };
    const struct profile *p = profiled(s);
    struct roofline_table t, by_layer;
    struct session_memory mem;
    struct roofline all;
    struct err e = { 0 };

    (void)state;
    assert_non_null(cost);
    session_memory(s, &mem);
    roofline_costs(cost, m, &mem, &load);
    assert_int_equal(roofline_step(&all, m, &mem, &peaks, &load, &e), 0);
    assert_int_equal(roofline_table_init(&t, prog, p, cost, &peaks, 1.0, false, &e), 0);
    assert_int_equal(roofline_table_init(&by_layer, prog, p, cost, &peaks, 1.0, true, &e), 0);
    assert_int_equal(t.n_steps, 2);
    /* of two steps together, and a row is per step */
    assert_near(2 * sum_of(&t, offsetof(struct roofline_row, ops)), all.ops);
    assert_near(2 * sum_of(&t, offsetof(struct roofline_row, bytes)),
                all.weight_bytes + all.kv_bytes);
    assert_near(sum_of(&by_layer, offsetof(struct roofline_row, ops)),
                sum_of(&t, offsetof(struct roofline_row, ops)));
    assert_near(sum_of(&t, offsetof(struct roofline_row, seconds)) + t.outside_s, 0.5);
    assert_true(by_layer.n_rows > t.n_rows);
    for (uint32_t i = 0; i < t.n_rows; i++) {
        assert_true(t.rows[i].wait >= 0 && t.rows[i].wait <= 1);
        assert_true(t.rows[i].limit_s >= t.rows[i].bytes / peaks.read_bytes_s * (1 - 1e-9));
    }
    roofline_table_deinit(&t);
    roofline_table_deinit(&by_layer);
    mem_free(cost);
    session_close(s);
    model_close(m);
}

/* The shape of Q, K and V in one row, by name, in a layer's table and in the whole. */
static const struct roofline_row *find(const struct roofline_table *t, const char *part)
{
    for (uint32_t i = 0; i < t->n_rows; i++)
        if (strstr(t->rows[i].name, part))
            return &t->rows[i];
    fail_msg("no row with %s", part);
    return NULL;
}

static void rows_have_names(void **state)
{
    struct shape shape = tiny_shape("llama");
    struct model *m = tiny_open(&shape, QUANT_Q8_0);
    struct session *s = open_session(m, SESSION_EXEC_CPU);
    const struct program *prog = model_program(m);
    struct prog_cost *cost = mem_calloc(prog_n_instr(prog), sizeof *cost);
    const struct profile *p = profiled(s);
    struct roofline_table t;
    struct err e = { 0 };

    (void)state;
    assert_non_null(cost);
    assert_int_equal(roofline_table_init(&t, prog, p, cost, &peaks, 1.0, false, &e), 0);
    assert_string_equal(find(&t, "attn_q")->name, "attn_q, attn_k, attn_v Q8_0");
    assert_string_equal(find(&t, "attn_q")->kind, "products");
    assert_int_equal(find(&t, "attn_q")->n, 2);
    assert_int_equal(find(&t, "ffn_gate, ffn_up Q8_0")->n, 2);
    assert_int_equal(find(&t, "attention")->n, 2);
    (void)find(&t, "cache write");
    roofline_table_deinit(&t);
    mem_free(cost);
    session_close(s);
    model_close(m);
}

static void failures_leave_nothing(void **state)
{
#ifdef WATT_FAULTS
    struct shape shape = tiny_shape("llama");
    struct model *m = tiny_open(&shape, QUANT_Q8_0);
    struct session *s = open_session(m, SESSION_EXEC_CPU);
    const struct program *prog = model_program(m);
    struct prog_cost *cost = mem_calloc(prog_n_instr(prog), sizeof *cost);
    int rc = -1;

    (void)state;
    assert_non_null(cost);
    for (unsigned n = 1; rc < 0; n++) {
        struct roofline_table t = { 0 };
        struct err e = { 0 };
        struct str out;

        str_init(&out, 0);
        assert_int_equal(session_profile(s, false, &e), 0);
        (void)fault_arm(FAULT_ALLOC, n);
        rc = session_profile(s, true, &e);
        if (rc == 0)
            rc = roofline_table_init(&t, prog, session_profiled(s), cost, &peaks, 1.0, true, &e);
        if (rc == 0) {
            const struct roofline_plot plot = { "test", &t };

            rc = roofline_chart(&plot, 1, &peaks, "t", NULL, &out, &e);
        }
        (void)fault_arm(FAULT_ALLOC, 0);
        assert_true(rc == 0 || rc == WATT_ENOMEM);
        assert_true(n < 10000);
        roofline_table_deinit(&t);
        str_deinit(&out);
    }
    mem_free(cost);
    session_close(s);
    model_close(m);
#else
    (void)state;
    skip();
#endif
}

/* ---- the command ---- */

static char dir[] = "watt-roof-XXXXXX", model[64], svg[64];

static int make_model(void **state)
{
    const struct synth_opts o = { .mix = QUANT_Q8_0, .pure = true, .seed = 7, .n_threads = 1 };
    struct shape s = tiny_shape("llama");
    struct err e = { 0 };

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(model, sizeof model, "%s/m.gguf", dir);
    (void)snprintf(svg, sizeof svg, "%s/m.svg", dir);
    if (synth_write(model, &s, &o, &e) < 0)
        fail_msg("%s", e.msg);
    return 0;
}

static int remove_model(void **state)
{
    (void)state;
    (void)unlink(model);
    (void)unlink(svg);
    return rmdir(dir);
}

static void command_prints_tables(void **state)
{
    (void)state;
    spawn(&r, NULL, "bench", model, "-p", "40", "-n", "3", "-b", "1,2", "-r", "1", "-t", "2",
          "--roofline", "--svg", svg);
    if (r.code != 0)
        fail_msg("%s", r.err);
    assert_non_null(strstr(r.out, "attn_q, attn_k, attn_v Q8_0"));
    assert_non_null(strstr(r.out, "generate 3 x 2 streams: 3 steps"));
    assert_non_null(strstr(r.out, "between phases and steps"));
    spawn_program(&r, "/bin/grep", (char *[]){ (char *)(uintptr_t)"grep", (char *)(uintptr_t)"-c",
                                               (char *)(uintptr_t)"<circle", svg, NULL }, NULL, -1);
    assert_int_equal(r.code, 0);
    spawn(&r, NULL, "bench", model, "-p", "40", "-n", "0", "-r", "1", "--roofline", "--layers",
          "--format", "csv");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "prompt 40,\"attn_q, attn_k, attn_v Q8_0\",products,1,1,1,"));
}

static void command_prints_json(void **state)
{
    json_t *doc = NULL;
    const json_t *rows;
    struct err e = { 0 };

    (void)state;
    spawn(&r, NULL, "bench", model, "-p", "40", "-n", "2", "-r", "1", "--roofline", "--format", "json");
    assert_int_equal(r.code, 0);
    if (json_parse(&doc, "bench", r.out, r.out_len, NULL, &e) < 0)
        fail_msg("%s", e.msg);
    rows = json_object_get(json_object_get(json_array_get(json_object_get(doc, "tests"), 1),
                                           "roofline"), "rows");
    assert_true(json_array_size(rows) > 5);
    assert_true(json_is_string(json_object_get(json_array_get(rows, 0), "what")));
    json_close(doc);
}

static void command_refuses(void **state)
{
    (void)state;
    spawn(&r, NULL, "bench", model, "--no-peaks", "--roofline");
    assert_int_equal(r.code, 2);
    spawn(&r, NULL, "bench", model, "-p", "8", "-n", "0", "-r", "1", "--svg", "no-such-folder/x.svg");
    assert_int_equal(r.code, 1);
    assert_one_line(r.err, "no-such-folder/x.svg");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_instruction_counts_once),
        cmocka_unit_test(rows_add_up),
        cmocka_unit_test(rows_have_names),
        cmocka_unit_test(failures_leave_nothing),
        cmocka_unit_test(command_prints_tables),
        cmocka_unit_test(command_prints_json),
        cmocka_unit_test(command_refuses),
    };

    return cmocka_run_group_tests(tests, make_model, remove_model);
}
