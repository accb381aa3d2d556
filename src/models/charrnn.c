/* charrnn.c: reads folders of character models; see charrnn.h. */
#include "models/charrnn.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "models/gguf_make.h"

#define MAX_JSON   ((size_t)1 << 20)
#define MAX_LAYERS 64u
#define MAX_WIDTH  8192u
#define MAX_VOCAB  65536u
#define MAX_BLOCKS (3 * MAX_LAYERS + 4)
#define MAX_CTX    (1u << 20)       /* positions: the state knows no limit */

/* Memory of the tensors, freed with the model. */
struct blocks {
    void    *v[MAX_BLOCKS];
    uint32_t n;
};

struct reader {
    const char *path;
    json_t     *manifest, *vocab;
    struct json_place vars;
    struct gguf_make *make;
    struct blocks    *blocks;
    uint32_t n_vocab, n_layers, width, n_hidden;
    void  (*warn)(void *ctx, const char *text);
    void   *ctx;
    struct err *e;
};

/* A variable of the manifest as numbers in memory. */
struct var { float *x; uint64_t rows, cols; };

static void release(void *owner)
{
    struct blocks *b = owner;

    for (uint32_t i = 0; b && i < b->n; i++)
        mem_free(b->v[i]);
    mem_free(b);
}

static void in_folder(char *out, size_t size, const char *path, const char *file)
{
    (void)snprintf(out, size, "%s/%s", path, file);
}

bool charrnn_is_folder(const char *path)
{
    char full[4096];

    in_folder(full, sizeof full, path, "vocab.json");
    if (access(full, R_OK) != 0)
        return false;
    in_folder(full, sizeof full, path, "manifest.json");
    return access(full, R_OK) == 0;
}

static int read_json(const struct reader *r, const char *file, json_t **out)
{
    const struct json_limits limits = { .max_bytes = MAX_JSON, .max_depth = 8 };
    char full[4096], *text;
    size_t size;
    int rc;

    in_folder(full, sizeof full, r->path, file);
    rc = file_read(full, MAX_JSON, &text, &size, r->e);
    if (rc < 0)
        return rc;
    rc = json_parse(out, full, text, size, &limits, r->e);
    mem_free(text);
    return rc;
}

/* ---- variables ---- */

static int read_shape(const struct reader *r, const struct json_place *at, struct var *v)
{
    struct json_place shape, item;
    uint64_t extent[2] = { 1, 1 };
    size_t n;
    int rc = json_need(at, "shape", &shape, r->e);

    if (rc == 0)
        rc = json_read_array(&shape, 2, &n, r->e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        item = json_item(&shape, i);
        rc = json_read_u64(&item, 1, MAX_VOCAB, &extent[2 - n + i], r->e);
    }
    v->rows = extent[0];
    v->cols = extent[1];
    return rc;
}

static int read_numbers(const struct reader *r, const char *file, struct var *v)
{
    const uint64_t n = v->rows * v->cols;
    char full[4096], *bytes;
    size_t size;
    int rc;

    if (strchr(file, '/') || file[0] == '.')
        return err_set(r->e, WATT_EFORMAT, "%s/manifest.json: file name %.100s leaves the folder",
                       r->path, file);
    in_folder(full, sizeof full, r->path, file);
    rc = file_read(full, (size_t)n * 4, &bytes, &size, r->e);
    if (rc < 0)
        return rc;
    v->x = size == n * 4 ? mem_array((size_t)n, sizeof *v->x) : NULL;
    for (uint64_t i = 0; v->x && i < n; i++)
        v->x[i] = load_le_f32((const uint8_t *)bytes + 4 * i);
    mem_free(bytes);
    if (size != n * 4)
        return err_set(r->e, WATT_EFORMAT, "%s: %zu bytes, its shape [%" PRIu64 ", %" PRIu64
                       "] needs %" PRIu64, full, size, v->rows, v->cols, n * 4);
    return v->x ? 0 : err_set(r->e, WATT_ENOMEM, "%s: out of memory", full);
}

/* The variable of that name, or of the other one that older files have. */
static int read_var(const struct reader *r, const char *name, const char *older, struct var *v)
{
    struct json_place at;
    const char *file;
    int rc;

    *v = (struct var){ 0 };
    rc = json_find(&r->vars, name, &at, r->e);
    if (rc == 0 && !at.value)
        rc = json_need(&r->vars, older, &at, r->e);
    if (rc == 0)
        rc = read_shape(r, &at, v);
    if (rc == 0)
        rc = json_get_cstr(&at, "filename", NULL, &file, r->e);
    if (rc == 0 && !file)
        rc = json_refuse(&at, r->e, WATT_EFORMAT, "has no filename");
    return rc == 0 ? read_numbers(r, file, v) : rc;
}

static int wrong_shape(const struct reader *r, const char *name, const struct var *v,
                       uint64_t rows, uint64_t cols)
{
    return err_set(r->e, WATT_EFORMAT, "%s: %s has shape [%" PRIu64 ", %" PRIu64 "], expected [%"
                   PRIu64 ", %" PRIu64 "]", r->path, name, v->rows, v->cols, rows, cols);
}

/* ---- tensors ---- */

/* Zeros that belong to the model. */
static float *block(const struct reader *r, uint64_t n)
{
    float *x = r->blocks->n < MAX_BLOCKS ? mem_calloc((size_t)n, sizeof *x) : NULL;

    if (x)
        r->blocks->v[r->blocks->n++] = x;
    return x;
}

/* rows 0: a vector. */
static void add_tensor(const struct reader *r, const char *name, const float *x, uint64_t rows,
                       uint64_t cols)
{
    const uint64_t n = (rows ? rows : 1) * cols;
    const struct tensor t = { .data = x, .dtype = DTYPE_F32, .n_dims = rows ? 2 : 1,
                              .shape = { (int64_t)(rows ? rows : cols), rows ? (int64_t)cols : 0 },
                              .size_bytes = n * 4 };

    gguf_make_tensor(r->make, sv_cstr(name), &t, 0, 0);
}

static int no_memory(const struct reader *r)
{
    return err_set(r->e, WATT_ENOMEM, "%s: out of memory", r->path);
}

/* Rows [first, first + rows) of m turned and with their gates in our order: in, forget,
 * candidate, out for TensorFlow's in, candidate, forget, out. */
static int add_gates(const struct reader *r, const char *name, const struct var *m, uint64_t first,
                     uint64_t rows)
{
    static const uint8_t from[4] = { 0, 2, 1, 3 };
    const uint64_t n = r->n_hidden;
    float *x = block(r, rows * 4 * n);

    if (!x)
        return no_memory(r);
    for (uint64_t g = 0; g < 4; g++)
        for (uint64_t i = 0; i < n; i++)
            for (uint64_t k = 0; k < rows; k++)
                x[(g * n + i) * rows + k] = m->x[(first + k) * m->cols + from[g] * n + i];
    add_tensor(r, name, x, 4 * n, rows);
    return 0;
}

static int add_bias(const struct reader *r, const char *name, const struct var *v)
{
    static const uint8_t from[4] = { 0, 2, 1, 3 };
    const uint64_t n = r->n_hidden;
    float *x = block(r, 4 * n);

    if (!x)
        return no_memory(r);
    for (uint64_t g = 0; g < 4; g++)
        for (uint64_t i = 0; i < n; i++)
            x[g * n + i] = v->x[from[g] * n + i] + (g == 1 ? 1.0f : 0.0f);
    add_tensor(r, name, x, 0, 4 * n);
    return 0;
}

#define CELL "rnnlm/multi_rnn_cell/cell_%u/basic_lstm_cell/"

static int add_layer(struct reader *r, uint32_t layer)
{
    char kernel[96], weights[96], bias[96], biases[96], name[64];
    struct var w = { 0 }, b = { 0 };
    const uint64_t n_in = layer ? r->n_hidden : r->width;
    int rc;

    (void)snprintf(kernel, sizeof kernel, CELL "kernel", layer);
    (void)snprintf(weights, sizeof weights, CELL "weights", layer);
    (void)snprintf(bias, sizeof bias, CELL "bias", layer);
    (void)snprintf(biases, sizeof biases, CELL "biases", layer);
    rc = read_var(r, kernel, weights, &w);
    if (rc == 0)
        rc = read_var(r, bias, biases, &b);
    if (rc == 0 && (w.rows != n_in + r->n_hidden || w.cols != 4 * (uint64_t)r->n_hidden))
        rc = wrong_shape(r, kernel, &w, n_in + r->n_hidden, 4 * (uint64_t)r->n_hidden);
    if (rc == 0 && (b.rows != 1 || b.cols != w.cols))
        rc = wrong_shape(r, bias, &b, 1, w.cols);
    (void)snprintf(name, sizeof name, "blk.%u.cell_x.weight", layer);
    if (rc == 0)
        rc = add_gates(r, name, &w, 0, n_in);
    (void)snprintf(name, sizeof name, "blk.%u.cell_h.weight", layer);
    if (rc == 0)
        rc = add_gates(r, name, &w, n_in, r->n_hidden);
    (void)snprintf(name, sizeof name, "blk.%u.cell_x.bias", layer);
    if (rc == 0)
        rc = add_bias(r, name, &b);
    mem_free(w.x);
    mem_free(b.x);
    return rc;
}

static int add_embedding(struct reader *r)
{
    struct var v;
    float *x;
    int rc = read_var(r, "embedding", "embedding", &v);

    if (rc == 0 && (v.rows > MAX_VOCAB || v.cols > MAX_WIDTH))
        rc = wrong_shape(r, "embedding", &v, MAX_VOCAB, MAX_WIDTH);
    if (rc == 0) {
        r->n_vocab = (uint32_t)v.rows;
        r->width = (uint32_t)v.cols;
        x = block(r, v.rows * v.cols);
        rc = x ? 0 : no_memory(r);
        if (x) {
            memcpy(x, v.x, (size_t)(v.rows * v.cols) * sizeof *x);
            add_tensor(r, "token_embd.weight", x, v.rows, v.cols);
        }
    }
    mem_free(v.x);
    return rc;
}

static int add_output(struct reader *r)
{
    struct var w = { 0 }, b = { 0 };
    float *x, *y;
    int rc = read_var(r, "rnnlm/softmax_w", "rnnlm/softmax_w", &w);

    if (rc == 0)
        rc = read_var(r, "rnnlm/softmax_b", "rnnlm/softmax_b", &b);
    if (rc == 0 && (w.rows != r->n_hidden || w.cols != r->n_vocab))
        rc = wrong_shape(r, "rnnlm/softmax_w", &w, r->n_hidden, r->n_vocab);
    if (rc == 0 && (b.rows != 1 || b.cols != r->n_vocab))
        rc = wrong_shape(r, "rnnlm/softmax_b", &b, 1, r->n_vocab);
    x = rc == 0 ? block(r, w.rows * w.cols) : NULL;
    y = rc == 0 ? block(r, b.cols) : NULL;
    if (rc == 0 && (!x || !y))
        rc = no_memory(r);
    if (rc == 0) {
        for (uint64_t i = 0; i < w.rows; i++)
            for (uint64_t o = 0; o < w.cols; o++)
                x[o * w.rows + i] = w.x[i * w.cols + o];
        memcpy(y, b.x, (size_t)b.cols * sizeof *y);
        add_tensor(r, "output.weight", x, w.cols, w.rows);
        add_tensor(r, "output.bias", y, 0, b.cols);
    }
    mem_free(w.x);
    mem_free(b.x);
    return rc;
}

/* How many cells the manifest has, and their hidden units. */
static int count_layers(struct reader *r)
{
    struct json_place at;
    char kernel[96], weights[96];
    struct var shape = { 0 };
    int rc = 0;

    for (r->n_layers = 0; rc == 0 && r->n_layers <= MAX_LAYERS; r->n_layers++) {
        (void)snprintf(kernel, sizeof kernel, CELL "kernel", r->n_layers);
        (void)snprintf(weights, sizeof weights, CELL "weights", r->n_layers);
        rc = json_find(&r->vars, kernel, &at, r->e);
        if (rc == 0 && !at.value)
            rc = json_find(&r->vars, weights, &at, r->e);
        if (rc < 0 || !at.value)
            break;
        if (r->n_layers == 0)
            rc = read_shape(r, &at, &shape);
    }
    if (rc < 0)
        return rc;
    if (r->n_layers == 0 || r->n_layers > MAX_LAYERS)
        return err_set(r->e, WATT_EFORMAT, "%s/manifest.json: %u layers of basic_lstm_cell, "
                       "expected 1..%u", r->path, r->n_layers, MAX_LAYERS);
    if (shape.cols % 4 != 0 || shape.cols / 4 > MAX_WIDTH)
        return err_set(r->e, WATT_EFORMAT, "%s/manifest.json: %" PRIu64 " columns of gates, "
                       "expected 4 for each of at most %u hidden units", r->path, shape.cols,
                       MAX_WIDTH);
    r->n_hidden = (uint32_t)(shape.cols / 4);
    return 0;
}

/* ---- the vocabulary ---- */

static bool single_character(struct sv s)
{
    uint32_t cp;
    bool valid = true;

    return s.len > 0 && utf8_decode(s.data, s.len, &cp, &valid) == s.len && valid;
}

/* The first letter from *letter on that no entry is, or 0. */
static char missing_letter(const struct sv *chars, uint32_t n, const char **letter)
{
    while (**letter) {
        const char c = *(*letter)++;
        bool there = false;

        for (uint32_t i = 0; i < n && !there; i++)
            there = chars[i].len == 1 && chars[i].data[0] == c;
        if (!there)
            return c;
    }
    return 0;
}

/* Entries that are no single character get the letters that are missing. */
static void mend(const struct reader *r, struct sv *chars, char letters[52])
{
    const char *next = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    uint32_t n = 0;

    for (uint32_t i = 0; i < r->n_vocab; i++) {
        char text[128], c;

        if (single_character(chars[i]))
            continue;
        c = n < 52 ? missing_letter(chars, r->n_vocab, &next) : 0;
        (void)snprintf(text, sizeof text, c ? "vocab.json: id %u is no single character, taken as '%c'"
                                            : "vocab.json: id %u is no single character", i, c);
        if (r->warn)
            r->warn(r->ctx, text);
        if (!c)
            continue;
        letters[n] = c;
        chars[i] = (struct sv){ &letters[n++], 1 };
    }
}

static int read_chars(const struct reader *r, struct sv *chars)
{
    const struct json_place root = json_root(r->vocab, "vocab.json");
    const char *key;
    json_t *value;

    if (json_count(&root) != r->n_vocab)
        return err_set(r->e, WATT_EFORMAT, "%s/vocab.json: %zu characters, the embedding has %u",
                       r->path, json_count(&root), r->n_vocab);
    json_object_foreach(r->vocab, key, value) {
        const json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;

        if (id < 0 || id >= r->n_vocab || chars[id].data)
            return err_set(r->e, WATT_EFORMAT, "%s/vocab.json: an id is no number of 0..%u or stands "
                           "twice", r->path, r->n_vocab - 1);
        chars[id] = sv_cstr(key);
    }
    return 0;
}

/* Spelled as models/tok_rwkv.c has it: the longest token from the left, backslashes escaped. */
static int add_vocabulary(const struct reader *r)
{
    struct sv *chars = mem_calloc(r->n_vocab, sizeof *chars);
    struct str *spelled = mem_calloc(r->n_vocab, sizeof *spelled);
    char letters[52];
    int rc = chars && spelled ? read_chars(r, chars) : no_memory(r);

    if (rc == 0)
        mend(r, chars, letters);
    for (uint32_t i = 0; rc == 0 && i < r->n_vocab; i++) {
        str_init(&spelled[i], 0);
        for (size_t k = 0; k < chars[i].len; k++) {
            if (chars[i].data[k] == '\\')
                str_append(&spelled[i], "\\", 1);
            str_append(&spelled[i], chars[i].data + k, 1);
        }
        if (!str_ok(&spelled[i]))
            rc = no_memory(r);
        chars[i] = sv_of(&spelled[i]);
    }
    if (rc == 0) {
        gguf_make_str(r->make, "tokenizer.ggml.model", sv_cstr("rwkv"));
        gguf_make_strs(r->make, "tokenizer.ggml.tokens", chars, r->n_vocab);
        gguf_make_bool(r->make, "tokenizer.ggml.add_bos_token", false);
    }
    for (uint32_t i = 0; spelled && i < r->n_vocab; i++)
        str_deinit(&spelled[i]);
    mem_free(spelled);
    mem_free(chars);
    return rc;
}

/* ---- the folder ---- */

static int read_folder(struct reader *r)
{
    const char *slash = strrchr(r->path, '/');
    int rc = read_json(r, "manifest.json", &r->manifest);

    if (rc == 0)
        rc = read_json(r, "vocab.json", &r->vocab);
    if (rc < 0)
        return rc;
    r->vars = json_root(r->manifest, "manifest.json");
    rc = count_layers(r);
    if (rc == 0)
        rc = add_embedding(r);
    for (uint32_t i = 0; rc == 0 && i < r->n_layers; i++)
        rc = add_layer(r, i);
    if (rc == 0)
        rc = add_output(r);
    if (rc == 0)
        rc = add_vocabulary(r);
    gguf_make_str(r->make, "general.architecture", sv_cstr("lstm"));
    gguf_make_str(r->make, "general.name", sv_cstr(slash && slash[1] ? slash + 1 : r->path));
    gguf_make_u32(r->make, "lstm.embedding_length", r->width);
    gguf_make_u32(r->make, "lstm.block_count", r->n_layers);
    gguf_make_u32(r->make, "lstm.context_length", MAX_CTX);
    return rc;
}

int charrnn_open(struct gguf **out, const char *path, void (*warn)(void *ctx, const char *text),
                 void *ctx, struct err *e)
{
    struct reader r = { .path = path, .warn = warn, .ctx = ctx, .e = e };
    int rc;

    if (strlen(path) > 3900)
        return err_set(e, WATT_EINVAL, "%.100s…: the path is too long", path);
    r.blocks = mem_calloc(1, sizeof *r.blocks);
    rc = r.blocks ? gguf_make_open(&r.make, path, e) : no_memory(&r);
    if (rc == 0)
        rc = read_folder(&r);
    json_close(r.manifest);
    json_close(r.vocab);
    if (rc == 0)
        rc = gguf_make_finish(out, r.make, release, r.blocks, e);
    else
        gguf_make_close(r.make);
    if (rc < 0)
        release(r.blocks);
    return rc;
}
