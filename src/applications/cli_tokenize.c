/* cli_tokenize.c: `watt tokenize`: text to ids and back, byte for byte; tokenize_train.c makes vocabularies. */
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "applications/tokenize_train.h"
#include "base/file.h"
#include "base/mem.h"
#include "models/model.h"
#include "models/tokenizer.h"

struct tokenize_opts {
    const char *ids, *file;
    bool        no_special, no_bos, parse_special, json, count, null;
    struct tokenize_train_opts train;
};

static const struct tokenize_opts defaults = {
    .train = { .vocab = TOKENIZE_TRAIN_VOCAB, .min_count = 2 },
};

static const struct cli_opt options[] = {
#define OPT(field) offsetof(struct tokenize_opts, field)
    { "ids", 0, CLI_TEXT, OPT(ids), "1,2,3", "print the text of these ids; - reads them from stdin",
      0, 0 },
    { "file", 'f', CLI_FILE, OPT(file), "FILE", "read the text (with --ids -: the ids) from FILE",
      0, 0 },
    { "no-special", 0, CLI_FLAG, OPT(no_special), NULL, "add no bos, eos, cls or sep", 0, 0 },
    { "no-bos", 0, CLI_FLAG, OPT(no_bos), NULL, "add eos or sep, but no bos", 0, 0 },
    { "parse-special", 0, CLI_FLAG, OPT(parse_special), NULL,
      "control tokens spelled in the text become their ids, and with --ids are spelled", 0, 0 },
    { "json", 0, CLI_FLAG, OPT(json), NULL, "print an object: n, ids, pieces; with --ids: text",
      0, 0 },
    { "null", 'z', CLI_FLAG, OPT(null), NULL,
      "many texts with NUL between them, a line of ids each; with --ids the reverse", 0, 0 },
    { "count", 'c', CLI_FLAG, OPT(count), NULL, "print only how many tokens there are", 0, 0 },
    { "train", 0, CLI_LIST, OPT(train.files), "FILE",
      "make a vocabulary from this text and write it to MODEL; again for more files", 0, 0 },
    { "vocab", 0, CLI_INT, OPT(train.vocab), "N",
      "with --train: tokens in all, 256 bytes among them (default 32000)", 256, TOKENIZER_MAX_VOCAB },
    { "pre", 0, CLI_TEXT, OPT(train.pre), "NAME",
      "with --train: pre-tokenizer, as tokenizer.ggml.pre names it (default gpt-2)", 0, 0 },
    { "control", 0, CLI_LIST, OPT(train.controls), "TEXT",
      "with --train: a control token, such as <|im_end|>; again for more", 0, 0 },
    { "added", 0, CLI_LIST, OPT(train.added), "TEXT",
      "with --train: a token that text is always matched with whole; again for more", 0, 0 },
    { "bos", 0, CLI_TEXT, OPT(train.bos), "TEXT",
      "with --train: which control token begins a text (default none)", 0, 0 },
    { "eos", 0, CLI_TEXT, OPT(train.eos), "TEXT",
      "with --train: which control token ends an answer (default none)", 0, 0 },
    { "chat-template", 0, CLI_FILE, OPT(train.chat_template), "FILE",
      "with --train: the chat template to keep with it", 0, 0 },
    { "min-count", 0, CLI_INT, OPT(train.min_count), "N",
      "with --train: rarer pairs make no token (default 2)", 1, 1e9 },
    { "threads", 't', CLI_INT, OPT(train.threads), "N", "with --train: threads that count (default all)", 1,
      512 },
#undef OPT
    { 0 }
};

/* ---- JSON out ---- */

/* A string of text that came out of a detokeniser: valid UTF-8. */
static void print_json(const char *s, size_t n)
{
    (void)putchar('"');
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)s[i];

        if (c == '"' || c == '\\')
            (void)printf("\\%c", c);
        else if (c < 0x20 || c == 0x7F)
            (void)printf("\\u%04x", c);
        else
            (void)putchar(c);
    }
    (void)putchar('"');
}

/* Each token by itself, so a part of a character shows as U+FFFD. */
static void print_piece(const struct tokenizer *t, int32_t id, struct str *s)
{
    struct detok d;

    str_reset(s);
    detok_init(&d, t, DETOKENIZE_SPECIAL | DETOKENIZE_CONTINUE);
    detok_push(&d, id, s);
    detok_finish(&d, s);
    print_json(str_cstr(s), s->len);
}

static int print_ids_json(const struct cli *c, const struct tokenizer *t, const struct tokens *v)
{
    struct str s;
    bool ok;

    str_init(&s, 0);
    (void)printf("{\"n\":%zu,\"ids\":[", v->n);
    for (size_t i = 0; i < v->n; i++)
        (void)printf(i ? ",%" PRId32 : "%" PRId32, v->ids[i]);
    (void)printf("],\"pieces\":[");
    for (size_t i = 0; i < v->n; i++) {
        if (i)
            (void)putchar(',');
        print_piece(t, v->ids[i], &s);
    }
    (void)printf("]}\n");
    ok = str_ok(&s);
    str_deinit(&s);
    return ok ? CLI_OK : cli_failf(c, "out of memory");
}

/* ---- text to ids ---- */

static void print_ids(const struct tokens *v)
{
    for (size_t i = 0; i < v->n; i++)
        (void)printf(i ? " %" PRId32 : "%" PRId32, v->ids[i]);
    (void)putchar('\n');
}

static int encode_one(const struct cli *c, const struct tokenize_opts *o,
                      const struct tokenizer *t, struct tokenizer_scratch *s, const char *text,
                      size_t len)
{
    unsigned flags = (o->no_special ? 0 : TOKENIZE_ADD_SPECIAL) |
                     (o->no_bos ? TOKENIZE_NO_BOS : 0) |
                     (o->parse_special && !o->no_special ? TOKENIZE_PARSE_SPECIAL : 0);
    struct tokens v = { 0 };
    struct err e = { 0 };
    int rc = tokenizer_encode(t, s, text, len, flags, &v, &e) < 0 ? cli_fail(c, &e) : CLI_OK;

    if (rc == CLI_OK && o->count)
        (void)printf("%zu\n", v.n);
    else if (rc == CLI_OK && o->json)
        rc = print_ids_json(c, t, &v);
    else if (rc == CLI_OK)
        print_ids(&v);
    tokens_deinit(&v);
    return rc;
}

/* A NUL ends a text; what follows the last one is a text too unless it is empty. */
static int encode(const struct cli *c, const struct tokenize_opts *o, const struct tokenizer *t,
                  const char *text, size_t len)
{
    struct tokenizer_scratch *s = NULL;
    struct err e = { 0 };
    int rc;

    if (tokenizer_scratch_open(&s, t, &e) < 0)
        return cli_fail(c, &e);
    do {
        const char *nul = o->null ? memchr(text, '\0', len) : NULL;
        const size_t n = nul ? (size_t)(nul - text) : len;

        rc = encode_one(c, o, t, s, text, n);
        text += n + (nul != NULL);
        len -= n + (nul != NULL);
    } while (rc == CLI_OK && len > 0);
    tokenizer_scratch_close(s);
    return rc;
}

/* ---- ids to text ---- */

/* Numbers with commas, white space or brackets between them. */
static int parse_ids(const char *s, size_t n, struct tokens *v, struct err *e)
{
    for (size_t i = 0; i < n;) {
        int64_t id = 0;
        size_t digits = 0;

        if (s[i] == ',' || s[i] == '[' || s[i] == ']' || isspace((unsigned char)s[i])) {
            i++;
            continue;
        }
        while (i < n && isdigit((unsigned char)s[i]) && digits++ < 10)
            id = id * 10 + (s[i++] - '0');
        if (digits == 0 || digits > 10 || id > INT32_MAX)
            return err_set(e, WATT_EINVAL, "--ids: expected numbers, found \"%.20s\"", s + i);
        if (!tokens_push(v, (int32_t)id))
            return err_set(e, WATT_ENOMEM, "--ids: out of memory");
    }
    return 0;
}

static int decode_one(const struct cli *c, const struct tokenize_opts *o,
                      const struct tokenizer *t, const char *list, size_t len)
{
    struct tokens v = { 0 };
    struct err e = { 0 };
    struct str text;
    int rc;

    str_init(&text, 0);
    rc = parse_ids(list, len, &v, &e);
    if (rc == 0)
        rc = tokenizer_decode(t, v.ids, v.n, o->parse_special ? DETOKENIZE_SPECIAL : 0, &text, &e);
    if (rc < 0) {
        rc = cli_fail(c, &e);
    } else if (o->count) {
        (void)printf("%zu\n", v.n);
    } else if (o->json) {
        struct detok d;

        str_reset(&text);
        detok_init(&d, t, o->parse_special ? DETOKENIZE_SPECIAL : 0);
        for (size_t i = 0; i < v.n; i++)
            detok_push(&d, v.ids[i], &text);
        detok_finish(&d, &text);
        (void)printf("{\"n\":%zu,\"text\":", v.n);
        print_json(str_cstr(&text), text.len);
        (void)printf("}\n");
    } else {
        (void)fwrite(str_cstr(&text), 1, text.len, stdout);
        if (o->null)
            (void)putchar('\0');
    }
    tokens_deinit(&v);
    str_deinit(&text);
    return rc;
}

static int decode(const struct cli *c, const struct tokenize_opts *o, const struct tokenizer *t,
                  const char *list, size_t len)
{
    int rc;

    do {
        const char *nl = o->null ? memchr(list, '\n', len) : NULL;
        const size_t n = nl ? (size_t)(nl - list) : len;

        rc = decode_one(c, o, t, list, n);
        list += n + (nl != NULL);
        len -= n + (nl != NULL);
    } while (rc == CLI_OK && len > 0);
    return rc;
}

/* ---- */

/* The text of the command line, a file, or standard input; *owned is freed. */
static int read_input(const struct cli *c, const struct tokenize_opts *o, const char **text,
                      size_t *len, char **owned)
{
    const char *arg = o->ids ? o->ids : c->n_args > 1 ? c->args[1] : NULL;
    const char *path = o->file ? o->file : "-";
    struct err e = { 0 };

    if (o->file && arg && strcmp(arg, "-") != 0)
        return cli_usage(c, "--file and %s on the command line exclude each other",
                         o->ids ? "ids" : "a text");
    if (arg && strcmp(arg, "-") != 0) {
        *text = arg;
        *len = strlen(arg);
        return CLI_OK;
    }
    if (!o->file && !arg && isatty(STDIN_FILENO))
        return cli_usage(c, "no text: give it as an argument, with --file, or through a pipe");
    if (file_read(path, TOKENIZER_MAX_TEXT_BYTES, owned, len, &e) < 0)
        return cli_fail(c, &e);
    *text = *owned;
    return CLI_OK;
}

static int run(const struct cli *c, const void *opts)
{
    const struct tokenize_opts *o = opts;
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;
    struct err e = { 0 };
    const char *text = NULL;
    char *owned = NULL;
    size_t len = 0;
    int rc;

    if (o->train.files.n > 0 && (o->ids || o->file || c->n_args > 1))
        return cli_usage(c, "--train takes no text to encode and no ids");
    if (o->train.files.n > 0)
        return tokenize_train(c, &o->train);
    if (o->ids && c->n_args > 1)
        return cli_usage(c, "--ids and a text exclude each other");
    rc = read_input(c, o, &text, &len, &owned);
    if (rc != CLI_OK)
        return rc;
    if (model_file_open(&g, c->args[0], NULL, true, &e) < 0 || tokenizer_open(&t, g, &e) < 0)
        rc = cli_fail(c, &e);
    else
        rc = o->ids ? decode(c, o, t, text, len) : encode(c, o, t, text, len);
    tokenizer_close(t);
    gguf_close(g);
    mem_free(owned);
    return rc;
}

const struct cli_verb verb_tokenize = {
    .name = "tokenize",
    .summary = "text to token ids and back",
    .usage = "MODEL [TEXT|-]",
    .about =
        "Prints the ids of the text on one line. The text is the argument, --file, or standard "
        "input, taken byte for byte: a newline at the end of a file or a pipe is part of it. With "
        "--ids prints the text of the ids and nothing else, no newline either; control tokens "
        "(<s> and the like) are left out unless --parse-special is given.\n"
        "\n"
        "Control tokens spelled in a text are ordinary text unless --parse-special is given.\n"
        "\n"
        "With --train makes a byte-level BPE vocabulary instead, and writes it to MODEL, a GGUF file "
        "without weights. Files ending in .jsonl have a JSON value on each line, whose strings are the "
        "text; others are taken byte for byte. The same text gives the same file on any number of threads.",
    .examples = "watt tokenize model.gguf 'Hello world'\n"
                "watt tokenize model.gguf --count --file book.txt\n"
                "printf 'Hi' | watt tokenize model.gguf --json\n"
                "watt tokenize model.gguf --ids 1,15043,3186\n"
                "watt tokenize vocab.gguf --train book.txt --vocab 8192 --pre llama-bpe --control '<|end|>' "
                "--eos '<|end|>'",
    .options = options,
    .defaults = &defaults,
    .options_size = sizeof(struct tokenize_opts),
    .min_args = 1,
    .max_args = 2,
    .run = run,
};
