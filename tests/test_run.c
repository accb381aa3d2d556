/* test_run.c: `watt run` from outside: one answer, pipes, JSON, and, on a
 * pseudo-terminal, a chat as a person has it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <termios.h>
#include <time.h>

#include "base/json.h"
#include "shared.h"
#include "spawn.h"
#include "tiny_model.h"

static struct spawned r;

#define RUN(input, ...) spawn(&r, input, (char *)(uintptr_t)"run", tiny_path, __VA_ARGS__)

/* ---- one answer ---- */

static void raw_prints_the_continuation_only(void **state)
{
    static struct spawned again;

    (void)state;
    RUN(NULL, "--raw", "once", "--n", "20", "--seed", "5", "--ignore-end");
    assert_int_equal(r.code, 0);
    assert_true(r.out_len > 0);
    assert_non_null(strstr(r.err, "prefill "));
    assert_non_null(strstr(r.err, "decode 20 tokens, "));
    assert_non_null(strstr(r.err, "first token after "));
    spawn(&again, NULL, "run", tiny_path, "once", "-n20", "--raw", "--seed=5", "--ignore-end", "-q",
          "--threads", "1");
    assert_string_equal(again.out, r.out);
    assert_string_equal(again.err, "");
    spawn(&again, NULL, "run", tiny_path, "once", "-n20", "--raw", "--seed=6", "--ignore-end", "-q");
    assert_string_not_equal(again.out, r.out);
    /* the same prompt from a pipe, a file, both */
    spawn(&again, "once", "run", tiny_path, "-n20", "--raw", "--seed=5", "--ignore-end", "-q");
    assert_string_equal(again.out, r.out);
    spawn(&again, "once", "run", tiny_path, "-n20", "--raw", "--seed=5", "--ignore-end", "-q", "--file", "-");
    assert_string_equal(again.out, r.out);
    RUN("world", "--raw", "hello", "--file", "-", "-n5", "--temp", "0", "-q", "--ignore-end");
    RUN("not read", "--raw", "hello\nworld", "-n5", "--temp", "0", "-q", "--ignore-end");
    assert_int_equal(r.code, 0);
}

static void a_story_by_heart(void **state)
{
    static char want[4096];
    size_t n;
    FILE *f;

    (void)state;
    SHARED_OR_SKIP("models/stories260K-f32.gguf");
    f = fopen(shared_path("models/stories260K.greedy257.txt"), "rb");
    assert_non_null(f);
    n = fread(want, 1, sizeof want - 1, f);
    (void)fclose(f);
    while (n > 0 && want[n - 1] == '\n')
        n--;
    for (int threads = 1; threads <= 3; threads++) {
        static const char *const isa[] = { "ref", "avx2", "all" };
        const char number[2] = { (char)('0' + threads), 0 };
        char path[SHARED_PATH_MAX];

        (void)snprintf(path, sizeof path, "%s", shared_path("models/stories260K-f32.gguf"));
        for (size_t i = 0; i < 3; i++) {
            spawn(&r, NULL, "run", path, "--raw", "--temp", "0", "--n", "256", "--seed", "1", "--isa",
                  (char *)(uintptr_t)isa[i], "--threads", (char *)(uintptr_t)number);
            assert_int_equal(r.code, 0);
            /* the file has one token more, a quotation mark */
            assert_int_equal(r.out_len, n - 1);
            assert_memory_equal(r.out, want, n - 1);
        }
    }
}

static void without_template_it_completes(void **state)
{
    (void)state;
    spawn(&r, NULL, "run", bare_path, "hello", "-n", "4", "--ignore-end", "--seed", "1");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.err, "note: "));
    assert_non_null(strstr(r.err, "has no chat template"));
    spawn(&r, NULL, "run", bare_path, "hello", "-n", "4", "--ignore-end", "--seed", "1", "-q");
    assert_string_equal(r.err, "");
}

static void json_lines(void **state)
{
    static char text[1 << 16];
    size_t n_tokens = 0, n_lines = 0, len = 0;
    json_t *done = NULL;
    struct err e;

    (void)state;
    RUN(NULL, "--raw", "hello", "--json", "-n", "10", "--ignore-end", "--seed", "3", "-q");
    assert_int_equal(r.code, 0);
    for (const char *line = r.out; *line; line = strchr(line, '\n') + 1) {
        const size_t n = strcspn(line, "\n");
        const char *type, *piece;
        json_t *doc = NULL;

        assert_null(done);      /* nothing comes after the sum */
        if (json_parse(&doc, "line", line, n, NULL, &e) < 0)
            fail_msg("%s: %.*s", e.msg, (int)n, line);
        type = json_string_value(json_object_get(doc, "type"));
        piece = json_string_value(json_object_get(doc, "text"));
        assert_non_null(type);
        assert_non_null(piece);
        n_lines++;
        if (strcmp(type, "done") == 0) {
            done = doc;
            continue;
        }
        assert_string_equal(type, "token");
        n_tokens += json_object_get(doc, "id") != NULL;
        assert_true(len + strlen(piece) < sizeof text);
        memcpy(text + len, piece, strlen(piece) + 1);
        len += strlen(piece);
        json_close(doc);
    }
    assert_non_null(done);
    assert_int_equal(n_tokens, 10);
    assert_true(n_lines >= 11);
    assert_string_equal(json_string_value(json_object_get(done, "text")), text);
    assert_string_equal(json_string_value(json_object_get(done, "reason")), "length");
    assert_int_equal(json_integer_value(json_object_get(done, "seed")), 3);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(done, "timings"), "predicted_n")), 10);
    json_close(done);
}

static void a_full_context_is_said(void **state)
{
    static char longer[2000];

    (void)state;
    RUN(NULL, "--raw", "hello", "--ctx", "16", "--ignore-end", "--seed", "1");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.err, "the context of 16 tokens is full"));
    memset(longer, 'x', sizeof longer - 1);
    RUN(NULL, "--raw", longer, "--ctx", "16");
    assert_int_equal(r.code, 1);
    assert_one_line(r.err, "context full");
    assert_string_equal(r.out, "");
}

static void stop_and_bias(void **state)
{
    char stop[4] = "";
    static char whole[4096];

    (void)state;
    RUN(NULL, "--raw", "hello", "-n", "24", "--ignore-end", "--seed", "2", "-q");
    assert_true(r.out_len > 8 && r.out_len < sizeof whole);
    memcpy(whole, r.out, r.out_len + 1);
    memcpy(stop, whole + 4, 3);
    RUN(NULL, "--raw", "hello", "-n", "24", "--ignore-end", "--seed", "2", "-q", "--stop", stop);
    assert_int_equal(r.code, 0);
    assert_true(r.out_len == (size_t)(strstr(whole, stop) - whole));
    /* one token alone is likely enough for all */
    RUN(NULL, "--raw", "hello", "-n", "3", "--ignore-end", "--logit-bias", "65=1000", "--temp", "0", "--json", "-q");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "\"id\": 65,"));
}

static void wrong_use(void **state)
{
    (void)state;
    RUN(NULL, "--temp", "warm");
    assert_int_equal(r.code, 2);
    assert_one_line(r.err, "--temp wants a number, not 'warm'");
    RUN(NULL, "--top-p", "1.5");
    assert_int_equal(r.code, 2);
    assert_one_line(r.err, "--top-p wants 0 to 1");
    RUN(NULL, "--threads", "0");
    assert_int_equal(r.code, 2);
    RUN(NULL, "--kv", "q9");
    assert_int_equal(r.code, 2);
    assert_one_line(r.err, "auto|f32|f16|bf16|q8_0");
    RUN(NULL, "--tmep", "1");
    assert_int_equal(r.code, 2);
    assert_one_line(r.err, "did you mean --temp?");
    RUN(NULL, "--mirostat", "1");
    assert_int_equal(r.code, 2);
    RUN(NULL, "--n");
    assert_int_equal(r.code, 2);
    assert_one_line(r.err, "--n wants a value");
    RUN(NULL, "--raw=yes");
    assert_int_equal(r.code, 2);
    RUN(NULL, "a", "b");
    assert_int_equal(r.code, 2);
    RUN(NULL, "x", "--isa", "mmx");
    assert_int_equal(r.code, 1);
    assert_one_line(r.err, "mmx");
    RUN(NULL, "x", "--samplers", "top_k;top_q");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "'top_q'"));
    RUN(NULL, "x", "-q", "--logit-bias", "nonsense");
    assert_int_equal(r.code, 1);
    assert_one_line(r.err, "--logit-bias");
    RUN(NULL, "x", "-q", "--logit-bias", "99999999=1");
    assert_int_equal(r.code, 1);
    RUN(NULL, "x", "--file", "no-such-file.txt");
    assert_int_equal(r.code, 1);
    assert_one_line(r.err, "no-such-file.txt");
    RUN(NULL, "x", "--template", "no-such-file.jinja");
    assert_int_equal(r.code, 1);
    assert_one_line(r.err, "no-such-file.jinja");
}

static void full_output_stops_the_answer(void **state)
{
    const int full = open("/dev/full", O_WRONLY);

    (void)state;
    if (full < 0)
        skip();
    spawn_to(&r, (char *[]){ (char *)(uintptr_t)"watt", (char *)(uintptr_t)"run", tiny_path,
                             (char *)(uintptr_t)"--raw", (char *)(uintptr_t)"hello",
                             (char *)(uintptr_t)"--ignore-end", (char *)(uintptr_t)"-q", NULL }, NULL, full);
    assert_int_equal(r.code, 1);
    assert_one_line(r.err, "standard output");
    (void)close(full);
}

/* ---- a chat on a terminal ---- */

struct tty {
    int    fd;
    pid_t  pid;
    char   text[1 << 18];   /* all that it showed */
    size_t len, seen;
};

static struct tty tty;

static void tty_open(const char *const *more)
{
    static char history[64];
    struct winsize size = { .ws_row = 40, .ws_col = 200 };
    char *argv[32] = { (char *)(uintptr_t)"watt", (char *)(uintptr_t)"run", tiny_path };
    int n = 3;

    for (; more && *more && n < 31; more++)
        argv[n++] = (char *)(uintptr_t)*more;
    (void)snprintf(history, sizeof history, "%s/state", tiny_dir);
    memset(&tty, 0, sizeof tty);
    tty.pid = forkpty(&tty.fd, NULL, NULL, &size);
    if (tty.pid < 0) {                    /* a bare root has no /dev/pts */
        print_message("skipped: no pseudo terminal here\n");
        skip();
    }
    if (tty.pid == 0) {
        (void)setenv("TERM", "xterm", 1);
        (void)setenv("XDG_STATE_HOME", history, 1);
        (void)setenv("HOME", tiny_dir, 1);
        (void)unsetenv("NO_COLOR");
        (void)execv(watt_bin(), argv);
        _exit(98);
    }
}

static bool tty_read(int wait_ms)
{
    struct pollfd p = { .fd = tty.fd, .events = POLLIN };
    ssize_t n;

    if (poll(&p, 1, wait_ms) <= 0)
        return false;
    n = read(tty.fd, tty.text + tty.len, sizeof tty.text - 1 - tty.len);
    if (n <= 0)
        return false;
    for (ssize_t i = 0; i < n; i++)     /* a random model may say anything */
        if (tty.text[tty.len + (size_t)i] == '\0')
            tty.text[tty.len + (size_t)i] = '?';
    tty.len += (size_t)n;
    tty.text[tty.len] = '\0';
    return true;
}

enum { WAIT_S = 60 };           /* a busy machine takes its time */

/* Waits for text after what was waited for last. */
static void expect(const char *what)
{
    const time_t end = time(NULL) + WAIT_S;

    for (;;) {
        const char *at = strstr(tty.text + tty.seen, what);

        if (at) {
            tty.seen = (size_t)(at - tty.text) + strlen(what);
            return;
        }
        if (time(NULL) > end || (!tty_read(500) && waitpid(tty.pid, NULL, WNOHANG) != 0))
            break;
    }
    fail_msg("waited for '%s', the terminal showed: %s", what, tty.text + tty.seen);
}

/* Waits for so many bytes more, whatever they are. */
static void expect_bytes(size_t n)
{
    const time_t end = time(NULL) + WAIT_S;

    while (tty.len < tty.seen + n && time(NULL) <= end)
        (void)tty_read(500);
    assert_true(tty.len >= tty.seen + n);
}

static void press(const char *keys)
{
    assert_int_equal(write(tty.fd, keys, strlen(keys)), strlen(keys));
}

/* Keys for the line editor. It shows its prompt before it takes the terminal over, and keys pressed in
 * between can be lost: when it has, the terminal gives keys and not lines. */
static void type(const char *keys)
{
    const time_t end = time(NULL) + WAIT_S;
    struct termios t;

    while (tcgetattr(tty.fd, &t) == 0 && (t.c_lflag & ICANON) && time(NULL) <= end)
        (void)tty_read(10);
    while (tty_read(0))
        ;
    press(keys);
}

static int tty_close(void)
{
    int status = 0;

    while (tty_read(2000))
        continue;
    assert_int_equal(waitpid(tty.pid, &status, 0), tty.pid);
    (void)close(tty.fd);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static const char *const chat_args[] = { "-n", "8", "--ignore-end", "--seed", "4", NULL };

static void chat_on_a_terminal(void **state)
{
    char line[128];

    (void)state;
    tty_open(chat_args);
    expect("llama");
    expect(">>> ");
    type("hello\n");
    expect(">>> ");
    type("/hlep\n");
    expect("did you mean /help?");
    type("/help\n");
    expect("/save FILE");
    type("/set temp 0.25\n");
    expect("0.25");
    type("/set temp hot\n");
    expect("wants a number");
    type("/set tpo-k 3\n");
    expect("did you mean 'top-k'?");
    type("/set ctx 3\n");
    expect("only be given on the command line");
    type("/set\n");
    expect("min-p");
    type("/show model\n");
    expect("2 layers, 64 wide");
    type("/stats\n");
    expect("decode 8 tokens");
    type("/retry\n");
    expect(">>> ");
    type("and now?\n");
    expect(">>> ");
    type("/stats\n");
    expect("3 answers:");
    expect("from the cache: ");
    assert_int_not_equal(tty.text[tty.seen], '0');      /* what was said is not run again */
    (void)snprintf(line, sizeof line, "/save %s/chat.json\n", tiny_dir);
    type(line);
    expect("4 messages saved");
    type("/save no-such-directory/chat.json\n");
    expect("no-such-directory");
    type("/undo\n");
    expect("are removed");
    type("/clear\n");
    expect("is empty");
    type("/undo\n");
    expect("nothing to undo");
    (void)snprintf(line, sizeof line, "/load %s/chat.json\n", tiny_dir);
    type(line);
    expect("4 messages loaded");
    type("/show messages\n");
    expect("[user] and now?");
    (void)snprintf(line, sizeof line, "/load %s\n", tiny_path);
    type(line);
    expect("tiny.gguf: ");
    type("/system Be brief.\n");
    expect("is set");
    type("/system\n");
    expect("Be brief.");
    type("/exit\n");
    expect("prefill ");
    assert_int_equal(tty_close(), 0);
    (void)snprintf(line, sizeof line, "%s/chat.json", tiny_dir);
    assert_int_equal(unlink(line), 0);
}

static void several_lines(void **state)
{
    (void)state;
    tty_open((const char *const[]){ "-n", "1", "--ignore-end", "-v", NULL });
    expect(">>> ");
    type("one\\\n");
    expect("... ");
    type("two\n");
    expect("prefill");
    expect(">>> ");
    type("\"\"\"\n");
    expect("... ");
    type("three\n");
    expect("... ");
    type("four\"\"\"\n");
    expect("prefill");
    expect(">>> ");
    type("\004");               /* Ctrl-D */
    expect("prefill");
    assert_int_equal(tty_close(), 0);
}

static void interrupts(void **state)
{
    (void)state;
    tty_open((const char *const[]){ "--ignore-end", "-n", "100000", "--ctx", "100000", "-q", NULL });
    expect(">>> ");
    type("hello\n");
    expect("hello");
    expect_bytes(64);
    press("\003");              /* stops the answer, not the program */
    expect(">>> ");
    type("never sent\003");     /* drops the line */
    expect("Ctrl-C again");
    expect(">>> ");
    type("/stats\n");
    expect("last answer");
    expect(">>> ");
    type("\003");
    expect("Ctrl-C again");
    expect(">>> ");
    type("\003");
    assert_int_equal(tty_close(), 130);
    tty_open((const char *const[]){ "-q", NULL });
    expect(">>> ");
    assert_int_equal(kill(tty.pid, SIGTERM), 0);
    assert_int_equal(tty_close(), 130);
}

static void history_comes_back(void **state)
{
    char path[128];

    (void)state;
    tty_open(chat_args);
    expect(">>> ");
    type("/system remember me\n");
    expect("is set");
    expect(">>> ");
    type("/exit\n");
    assert_int_equal(tty_close(), 0);
    tty_open(chat_args);
    expect(">>> ");
    type("\033[A");             /* up: /exit */
    expect("/exit");
    type("\033[A");             /* up: the line before */
    expect("system remember me");
    type("\025/exit\n");        /* Ctrl-U empties the line */
    assert_int_equal(tty_close(), 0);
    tty_open((const char *const[]){ "--no-history", NULL });
    expect(">>> ");
    type("/sys\t\n");           /* Tab completes */
    expect("no system message");
    type("/exit\n");
    assert_int_equal(tty_close(), 0);
    (void)snprintf(path, sizeof path, "%s/state/watt/history", tiny_dir);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/state/watt", tiny_dir);
    (void)rmdir(path);
    (void)snprintf(path, sizeof path, "%s/state", tiny_dir);
    (void)rmdir(path);
}

/* Joules where somebody asks for them, and what they are: measured, computed, or not known. */
static void joules(void **state)
{
    (void)state;
    RUN(NULL, "once", "-n4", "--raw", "--ignore-end", "--estimate", "idle=5,op=10,byte=60");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.err, " J by estimate, "));
    RUN(NULL, "once", "-n4", "--raw", "--ignore-end", "--json", "--estimate",
        "idle=0,op=0,byte=1000000");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "\"energy\": {\"joules\": "));
    assert_null(strstr(r.out, "\"joules\": 0.000000"));     /* bytes were counted */
    assert_non_null(strstr(r.out, "\"source\": \"estimate\", \"schema\": 1}}"));
    RUN(NULL, "once", "-n4", "--raw", "--ignore-end", "--json", "--meter", "none");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.out, "\"energy\": {\"joules\": null, \"why\": \"switched off\", "
                           "\"source\": \"none\""));
    RUN(NULL, "once", "-n4", "--raw", "--ignore-end", "--meter", "cmd:echo 40", "--meter-name", "pdu");
    assert_int_equal(r.code, 0);
    assert_non_null(strstr(r.err, " J by pdu"));
    RUN(NULL, "once", "-n4", "--raw", "--ignore-end", "--json");
    assert_null(strstr(r.out, "energy"));           /* nobody asked */
    RUN(NULL, "once", "--estimate", "idle=5,op=x,byte=60");
    assert_int_equal(r.code, 1);
    assert_non_null(strstr(r.err, "expected idle=WATTS"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(raw_prints_the_continuation_only),
        cmocka_unit_test(a_story_by_heart),
        cmocka_unit_test(without_template_it_completes),
        cmocka_unit_test(json_lines),
        cmocka_unit_test(a_full_context_is_said),
        cmocka_unit_test(stop_and_bias),
        cmocka_unit_test(wrong_use),
        cmocka_unit_test(full_output_stops_the_answer),
        cmocka_unit_test(chat_on_a_terminal),
        cmocka_unit_test(several_lines),
        cmocka_unit_test(interrupts),
        cmocka_unit_test(history_comes_back),
        cmocka_unit_test(joules),
    };

    if (access(watt_bin(), X_OK) != 0) {
        (void)fprintf(stderr, "skipped: no executable at %s; set WATT_BIN\n", watt_bin());
        return 77;
    }
    return cmocka_run_group_tests_name("run", tests, tiny_make, tiny_remove);
}
