/* blocking.c: the walk of the fast matrix products; see blocking.h. */
#include "chips/cpu/blocking.h"

#include <string.h>

#include "chips/cpu/wide.h"

#define CHUNK_MIN   1024u       /* inputs; a multiple of every group */
#define TILE_BYTES  ((size_t)400 << 10)
#define TILE_BYTES_FLOAT ((size_t)176 << 10)
#define PANEL_BYTES ((size_t)64 << 10)          /* one raw panel's chunk in f32, or expanded */
#define BLOCK_BYTES 56u         /* of one row and one 32-block in a tile, all parts */

_Static_assert(TILE_BYTES + PANEL_BYTES + 4 * CHUNK_MIN + 4096 <= MATMUL_SCRATCH, "scratch");
_Static_assert(CHUNK_MIN * PACK_ROWS * sizeof(float) <= PANEL_BYTES, "raw panel");
_Static_assert(2 * CHUNK_MIN / ACT_BLOCK * (WIDE_W + 4 * WIDE_F) <= PANEL_BYTES, "expanded panel");

/* Whole tiles of 12 and of 16 rows, which with 2048 inputs fit in TILE_BYTES. */
#define CUT_ROWS   96u
#define CUT_PANELS 32u

struct matmul_cut matmul_cut(const struct packed *w, uint32_t n_rows)
{
    const uint32_t n_cuts = (n_rows + CUT_ROWS - 1) / CUT_ROWS;
    struct matmul_cut cut = { n_rows, 8 };

    if (n_rows > 4 && n_rows <= CUT_ROWS)
        cut.panels = 16;
    if (n_rows > CUT_ROWS) {        /* even shares, in whole tiles */
        cut.rows = ((n_rows + n_cuts - 1) / n_cuts + 47) / 48 * 48;
        cut.panels = CUT_PANELS;
    }
    /* enough calls for a few threads */
    while (cut.panels > 2 && n_cuts * (w->n_panels / cut.panels) < 4)
        cut.panels /= 2;
    return cut;
}

struct walk {
    const struct matmul_args *a;
    const struct blocking    *b;
    uint32_t unit;              /* inputs per unit of the kernels */
    uint32_t from, n_inputs;    /* the chunk */
    size_t   n_units;
};

/* Room for tiles: rows of floats are better cut into more chunks. */
static size_t tile_space(enum act_format f)
{
    return f == ACTF_Q8 ? TILE_BYTES : TILE_BYTES_FLOAT;
}

/* Bytes of one tile of R rows, each part 64-byte aligned. */
static size_t tile_bytes(enum act_format f, uint32_t rows, uint32_t n_inputs)
{
    if (f == ACTF_Q8)
        return act_blocks(n_inputs) * rows * BLOCK_BYTES + (size_t)5 * 64;
    return act_align(4 * (size_t)n_inputs * rows);
}

/* Rows of the next tile out of n left: even shares of as few tiles as can be. */
static uint32_t tile_rows(const struct blocking *b, uint32_t n)
{
    const uint32_t n_tiles = n <= b->rows_once ? 1 : (n + b->rows_max - 1) / b->rows_max;

    return (n + n_tiles - 1) / n_tiles;
}

/* The kernel's row count for n rows; surplus rows repeat the last one. */
static uint32_t kernel_rows(const struct blocking *b, uint32_t n)
{
    while (!b->fn[n][0])
        n++;
    return n;
}

static const uint8_t *act_row(const struct matmul_args *a, uint32_t r)
{
    return (const uint8_t *)a->act + (a->act_index ? a->act_index[r] : r) * a->act_stride;
}

static float *out_row(const struct matmul_args *a, uint32_t r)
{
    return a->out + (a->out_index ? a->out_index[r] : r) * a->out_stride;
}

/* A prepared row as a tile of one row. */
static void tile_of_row(struct tile *t, const struct walk *w, const uint8_t *row)
{
    const struct act_parts at = act_parts(w->a->w->n_in);
    const size_t first = w->from / ACT_BLOCK;

    if (w->b->parts & TILE_X) {
        t->x = row + (w->a->w->act == ACTF_F32 ? 4 : 2) * (size_t)w->from;
        return;
    }
    t->q = (const int8_t *)row + w->from;
    t->d = (const float *)(const void *)(row + at.d) + first;
    t->ds = (const float *)(const void *)(row + at.ds) + first;
    t->b32 = (const int32_t *)(const void *)(row + at.b32) + first;
    t->b16 = (const int32_t *)(const void *)(row + at.b16) + 2 * first;
}

/* dst[i * step] = src[i]: words of one row into their column of a tile. */
static inline void spread(void *dst, const void *src, size_t step, size_t n)
{
    uint32_t *d = dst;
    const uint32_t *s = src;

    for (size_t i = 0; i < n; i++)
        d[i * step] = s[i];
}

typedef uint32_t quad __attribute__((vector_size(16)));

static inline quad quad_at(const uint32_t *p)
{
    quad v;

    memcpy(&v, p, sizeof v);
    return v;
}

/* The same for four rows next to each other: four words of each turned at a time. */
static void spread4(uint32_t *dst, const uint32_t *const src[4], size_t step, size_t n)
{
    size_t i = 0;

    for (; i + 4 <= n; i += 4) {
        const quad a = quad_at(src[0] + i), b = quad_at(src[1] + i);
        const quad c = quad_at(src[2] + i), d = quad_at(src[3] + i);
        const quad ab = __builtin_shufflevector(a, b, 0, 4, 1, 5);
        const quad cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
        const quad ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
        const quad cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
        const quad turned[4] = { __builtin_shufflevector(ab, cd, 0, 1, 4, 5),
                                 __builtin_shufflevector(ab, cd, 2, 3, 6, 7),
                                 __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5),
                                 __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7) };

        for (size_t k = 0; k < 4; k++)
            memcpy(dst + (i + k) * step, &turned[k], sizeof turned[k]);
    }
    for (; i < n; i++)
        for (size_t r = 0; r < 4; r++)
            dst[i * step + r] = src[r][i];
}

struct parts_out { int8_t *q; float *d, *ds; int32_t *b32, *b16; };

static void copy_q8_row(const struct parts_out *o, const struct tile *row, size_t n, uint32_t r,
                        uint32_t rows, uint32_t parts)
{
    for (size_t b = 0; b < n; b++)
        memcpy(o->q + (b * rows + r) * ACT_BLOCK, row->q + b * ACT_BLOCK, ACT_BLOCK);
    spread(o->d + r, row->d, rows, n);
    if (parts & TILE_DS)
        spread(o->ds + r, row->ds, rows, n);
    if (parts & TILE_B32)
        spread(o->b32 + r, row->b32, rows, n);
    if (parts & TILE_B16)
        spread(o->b16 + r, row->b16, rows, 2 * n);
}

static inline void prefetch_words(const void *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64)
        __builtin_prefetch((const uint8_t *)p + i, 0, 3);
}

/* Asks for the chunk of a row that is copied soon: rows lie far apart, in pieces too short
 * for the hardware to foresee. */
static void row_prefetch(const struct walk *w, uint32_t r)
{
    const size_t n = act_blocks(w->n_inputs);
    struct tile row;

    if (r >= w->a->n_rows)
        return;
    tile_of_row(&row, w, act_row(w->a, r));
    if (w->b->parts & TILE_X) {
        prefetch_words(row.x, 4 * w->n_units);
        return;
    }
    prefetch_words(row.q, ACT_BLOCK * n);
    prefetch_words(row.d, 4 * n);
    if (w->b->parts & TILE_DS)
        prefetch_words(row.ds, 4 * n);
    if (w->b->parts & TILE_B32)
        prefetch_words(row.b32, 4 * n);
    if (w->b->parts & TILE_B16)
        prefetch_words(row.b16, 8 * n);
}

/* Rows four at a time; how many. */
static uint32_t tile_fill_words(const struct walk *w, uint32_t r0, uint32_t n, uint32_t rows,
                                uint32_t *dst)
{
    uint32_t r = 0;

    for (; r + 4 <= rows; r += 4) {
        const uint32_t *src[4];

        for (uint32_t k = 0; k < 4; k++) {
            struct tile row;

            row_prefetch(w, r0 + r + k + 4);
            tile_of_row(&row, w, act_row(w->a, r0 + (r + k < n ? r + k : n - 1)));
            src[k] = row.x;
        }
        spread4(dst + r, src, rows, w->n_units);
    }
    return r;
}

/* Rows r0 … r0 + n - 1 into a tile of `rows` at mem; surplus columns repeat the last. */
static void tile_fill(struct tile *t, const struct walk *w, uint32_t r0, uint32_t n,
                      uint32_t rows, uint8_t *mem)
{
    const size_t n_blocks = act_blocks(w->n_inputs), words = act_align(4 * n_blocks * rows);
    struct parts_out o = { .q = (int8_t *)mem };
    uint32_t r = 0;

    mem += act_align(n_blocks * rows * ACT_BLOCK);
    o.d = (float *)(void *)mem;
    o.ds = (float *)(void *)(mem + words);
    o.b32 = (int32_t *)(void *)(mem + 2 * words);
    o.b16 = (int32_t *)(void *)(mem + 3 * words);
    *t = (struct tile){ .x = o.q, .q = o.q, .d = o.d, .ds = o.ds, .b32 = o.b32, .b16 = o.b16 };
    if (w->b->parts & TILE_X)
        r = tile_fill_words(w, r0, n, rows, (uint32_t *)(void *)o.q);
    for (; r < rows; r++) {
        struct tile row;

        row_prefetch(w, r0 + r + 2);
        tile_of_row(&row, w, act_row(w->a, r0 + (r < n ? r : n - 1)));
        if (w->b->parts & TILE_X)
            spread((uint32_t *)(void *)o.q + r, row.x, rows, w->n_units);
        else
            copy_q8_row(&o, &row, n_blocks, r, rows, w->b->parts);
    }
}

/* Sums of one row between the kernel's buffer and the output; whole vectors mostly. */
static inline void copy_sums(float *dst, const float *src, uint32_t n)
{
    if (n == 2 * PACK_ROWS)
        memcpy(dst, src, 2 * PACK_ROWS * sizeof *dst);
    else if (n == PACK_ROWS)
        memcpy(dst, src, PACK_ROWS * sizeof *dst);
    else
        memcpy(dst, src, n * sizeof *dst);
}

/* One tile times one or two panels, sums taken from and left in the output. */
static void tile_product(const struct walk *w, const struct tile *t, uint32_t r0, uint32_t n,
                         uint32_t rows, uint32_t panel, uint32_t n_panels, const uint8_t *data,
                         size_t panel_bytes)
{
    _Alignas(64) float sum[TILE_ROWS_MAX * 2 * PACK_ROWS];
    const uint32_t width = n_panels * PACK_ROWS, col = panel * PACK_ROWS;
    const uint32_t left = w->a->w->n_out - col, used = left < width ? left : width;
    float *out[TILE_ROWS_MAX];

    for (uint32_t r = 0; r < n; r++) {
        out[r] = out_row(w->a, r0 + r) + col;
        __builtin_prefetch(out[r], 1, 3);
    }
    if (w->from == 0)
        memset(sum, 0, sizeof *sum * rows * width);
    else
        for (uint32_t r = 0; r < rows; r++)
            copy_sums(sum + r * width, out[r < n ? r : n - 1], used);
    w->b->fn[rows][n_panels - 1](sum, t, data, panel_bytes, w->n_units);
    for (uint32_t r = 0; r < n; r++)
        copy_sums(out[r], sum + r * width, used);
}

struct tiles {
    struct tile tile[64];
    uint32_t    r0[64], n[64], rows[64], count;
};

/* As many tiles from row r0 on as scratch holds; returns the first row left out. */
static uint32_t tiles_fill(struct tiles *s, const struct walk *w, uint32_t r0)
{
    const struct matmul_args *a = w->a;
    uint8_t *mem = a->scratch, *end = mem + tile_space(a->w->act);

    s->count = 0;
    while (r0 < a->n_rows && s->count < 64) {
        const uint32_t n = tile_rows(w->b, a->n_rows - r0), rows = kernel_rows(w->b, n);
        const size_t bytes = tile_bytes(a->w->act, rows, w->n_inputs);
        struct tile *t = &s->tile[s->count];

        if (rows == 1) {
            tile_of_row(t, w, act_row(a, r0));
        } else {
            if (bytes > (size_t)(end - mem))
                break;
            tile_fill(t, w, r0, n, rows, mem);
            mem += act_align(bytes);
        }
        s->r0[s->count] = r0;
        s->n[s->count] = n;
        s->rows[s->count++] = rows;
        r0 += n;
    }
    return r0;
}

/* Inputs of a chunk: as many as keep all rows in scratch, CHUNK_MIN at least. */
static uint32_t chunk_inputs(const struct matmul_args *a, const struct blocking *b)
{
    const uint32_t n_tiles = (a->n_rows + b->rows_max - 1) / b->rows_max;
    const size_t per_step = (size_t)n_tiles * (tile_bytes(a->w->act, b->rows_max, CHUNK_MIN) + 64);
    const size_t steps = tile_space(a->w->act) / per_step;

    return steps < 1 ? CHUNK_MIN : (uint32_t)(steps < 4096 ? steps : 4096) * CHUNK_MIN;
}

static uint32_t unit_of(enum act_format f)
{
    return f == ACTF_Q8 ? ACT_BLOCK : f == ACTF_BF16 ? 2 : 1;
}

static void chunk_set(struct walk *w, uint32_t from, uint32_t n)
{
    w->from = from;
    w->n_inputs = n;
    w->n_units = ((size_t)n + w->unit - 1) / w->unit;
}

/* The F32 panel of the chunk of a raw panel. */
static void raw_panel(float *dst, float *line, const struct walk *w, uint32_t panel)
{
    const struct packed *p = w->a->w;
    const uint32_t n_rows = panel_rows(p, panel);

    if (n_rows < PACK_ROWS)
        memset(dst, 0, sizeof *dst * PACK_ROWS * w->n_inputs);
    for (uint32_t r = 0; r < n_rows; r++) {
        layout_read(p, w->a->mat, panel * PACK_ROWS + r, w->from, w->n_inputs, line);
        spread(dst + r, line, PACK_ROWS, w->n_inputs);
    }
}

/* The chunk of a panel as the kernels read it: in place, or made in scratch. */
static const uint8_t *panel_data(const struct walk *w, uint32_t panel)
{
    const struct packed *p = w->a->w;
    const struct layout *l = layout_of(p->dtype);
    uint8_t *made = (uint8_t *)w->a->scratch + TILE_BYTES;
    const uint8_t *data;

    if (p->raw) {
        raw_panel((float *)(void *)made, (float *)(void *)(made + PANEL_BYTES), w, panel);
        return made;
    }
    data = panel_at(p, w->a->mat, panel) + (size_t)(w->from / l->group) * l->group_bytes;
    if (!w->b->expand)
        return data;
    w->b->expand(made, data, (w->n_inputs + l->group - 1) / l->group);
    return made;
}

/* One row: each panel from its first input to its last, as they lie in memory. */
static void one_row(struct walk *w, uint32_t chunk)
{
    const struct matmul_args *a = w->a;
    struct tiles tiles;

    for (uint32_t i = a->first; i < a->last;) {
        const uint32_t n = a->last - i < w->b->panels_max ? 1 : w->b->panels_max;

        for (uint32_t from = 0; from < a->w->n_in; from += w->n_inputs) {
            chunk_set(w, from, a->w->n_in - from < chunk ? a->w->n_in - from : chunk);
            (void)tiles_fill(&tiles, w, 0);
            tile_product(w, tiles.tile, 0, 1, 1, i, n, panel_data(w, i), a->w->panel_bytes);
        }
        i += n;
    }
}

/* The tiles' kernels ask together for the chunk of a panel that comes next, each for a part. */
static void tiles_ahead(struct tiles *s, const struct walk *w, uint32_t panel)
{
    const struct packed *p = w->a->w;
    const struct layout *l = layout_of(p->dtype);
    const size_t n_groups = (w->n_inputs + l->group - 1) / l->group;
    const size_t lines = n_groups * l->group_bytes / 64, blocks = s->count * w->n_units;
    const size_t each = (lines + blocks - 1) / blocks;
    const uint8_t *next = panel_at(p, w->a->mat, panel) + (size_t)(w->from / l->group) * l->group_bytes;

    for (uint32_t k = 0; k < s->count; k++) {
        s->tile[k].ahead = next + 64 * each * w->n_units * k;
        s->tile[k].ahead_lines = (uint32_t)each;
    }
}

static void many_rows(struct walk *w, uint32_t chunk)
{
    const struct matmul_args *a = w->a;
    struct tiles tiles;

    for (uint32_t from = 0; from < a->w->n_in; from += w->n_inputs) {
        chunk_set(w, from, a->w->n_in - from < chunk ? a->w->n_in - from : chunk);
        for (uint32_t r0 = 0; r0 < a->n_rows;) {
            r0 = tiles_fill(&tiles, w, r0);
            for (uint32_t i = a->first; i < a->last;) {
                const uint32_t n = a->last - i < w->b->panels_max ? 1 : w->b->panels_max;
                const uint8_t *data = panel_data(w, i);

                if (!a->w->raw && a->w->act == ACTF_Q8)
                    tiles_ahead(&tiles, w, i + n < a->w->n_panels ? i + n : a->first);
                for (uint32_t k = 0; k < tiles.count; k++)
                    tile_product(w, &tiles.tile[k], tiles.r0[k], tiles.n[k], tiles.rows[k], i,
                                 n, data, a->w->panel_bytes);
                i += n;
            }
        }
    }
}

/* Expanded panels fit their place for twice the smallest chunk. */
static uint32_t many_chunk(const struct matmul_args *a, const struct blocking *b)
{
    const uint32_t n = chunk_inputs(a, b);

    if (a->w->raw)
        return CHUNK_MIN;
    return b->expand && n > 2 * CHUNK_MIN ? 2 * CHUNK_MIN : n;
}

static void walk(const struct matmul_args *a, const struct blocking *b)
{
    const bool made = a->w->raw || b->expand;
    struct walk w = { .a = a, .b = b, .unit = unit_of(a->w->act) };

    if (a->n_rows == 1)
        one_row(&w, made ? CHUNK_MIN : a->w->n_in);
    else
        many_rows(&w, many_chunk(a, b));
}

void matmul_blocked(const struct matmul_args *a, const struct blocking *b)
{
    walk(a, b->many && a->n_rows > MANY_ROWS ? b->many : b);
}

void matmul_raw(const struct matmul_args *a, const struct blocking *b)
{
    struct blocking one = *b;       /* panels are made one at a time */

    one.panels_max = 1;
    walk(a, &one);
}
