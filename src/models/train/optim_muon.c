/* optim_muon.c: one matrix's step of Muon; see optim.h.
 *
 * X (rows <= columns, else its transpose) is divided by its Frobenius norm; then five times
 *   A = X X^T;  B = b A + c A A;  X = a X + B X
 * bring its singular values near 1. Products go through the F32 kernels of inference, which
 * multiply rows by a packed matrix's rows: A from X by itself, and B X as the transpose of X^T B
 * (B is symmetric). */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "models/train/optim_internal.h"

#define STEPS 5
#define TRIANGLE_ROWS 48u       /* of a symmetric product at once: whole tiles of the kernels */
static const float quintic[3] = { 3.4445f, -4.7750f, 2.0315f };

struct muon_room {
    uint32_t small, large;      /* most of the shorter and of the longer side */
    size_t   act_bytes;
    float   *x, *y;             /* [small][large], [large][small] */
    float   *a, *b, *out;       /* [small][small] twice, [large][small] */
    uint8_t *act;               /* prepared rows */
    void    *packed, *scratch;
    size_t   packed_bytes;
};

static int describe(struct packed *p, uint32_t n_out, uint32_t n_in, struct err *e)
{
    const struct tensor t = { .dtype = DTYPE_F32, .n_dims = 2, .shape = { n_out, n_in },
                              .size_bytes = (uint64_t)n_out * n_in * sizeof(float) };

    return pack_describe(p, &t, e);
}

int muon_room_open(struct muon_room **out, uint32_t rows, uint32_t cols, struct err *e)
{
    struct muon_room *r = mem_calloc(1, sizeof *r);
    struct packed wide, square;
    size_t wide_act, tall_act;
    int rc;

    if (!r)
        return err_set(e, WATT_ENOMEM, "out of memory for Muon");
    r->small = rows < cols ? rows : cols;
    r->large = rows < cols ? cols : rows;
    rc = describe(&wide, r->small, r->large, e);
    if (rc == 0)
        rc = describe(&square, r->small, r->small, e);
    if (rc < 0) {
        muon_room_close(r);
        return rc;
    }
    wide_act = act_row_bytes(ACTF_F32, r->large) * r->small;
    tall_act = act_row_bytes(ACTF_F32, r->small) * r->large;
    r->act_bytes = wide_act > tall_act ? wide_act : tall_act;
    r->packed_bytes = (size_t)(pack_bytes(&wide) > pack_bytes(&square) ? pack_bytes(&wide)
                                                                      : pack_bytes(&square));
    r->x = mem_aligned((size_t)r->small * r->large * sizeof(float), 64);
    r->y = mem_aligned((size_t)r->small * r->large * sizeof(float), 64);
    r->out = mem_aligned((size_t)r->small * r->large * sizeof(float), 64);
    r->a = mem_aligned((size_t)r->small * r->small * sizeof(float), 64);
    r->b = mem_aligned((size_t)r->small * r->small * sizeof(float), 64);
    r->act = mem_aligned(r->act_bytes, 64);
    r->packed = mem_aligned(r->packed_bytes, 64);
    r->scratch = mem_aligned(MATMUL_SCRATCH, 64);
    if (!r->x || !r->y || !r->out || !r->a || !r->b || !r->act || !r->packed || !r->scratch) {
        muon_room_close(r);
        return err_set(e, WATT_ENOMEM, "out of memory for Muon: matrices of %u by %u", rows, cols);
    }
    *out = r;
    return 0;
}

void muon_room_close(struct muon_room *r)
{
    if (!r)
        return;
    mem_free(r->x);
    mem_free(r->y);
    mem_free(r->out);
    mem_free(r->a);
    mem_free(r->b);
    mem_free(r->act);
    mem_free(r->packed);
    mem_free(r->scratch);
    mem_free(r);
}

/* Copies what stands above the diagonal to below it. */
static void mirror(float *a, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++)
        for (uint32_t j = 0; j < i; j++)
            a[(size_t)i * n + j] = a[(size_t)j * n + i];
}

/* out[n][n_out] = x [n][n_in] times the transpose of w [n_out][n_in]. With w == x the product is
 * symmetric to the bit (each sum has the same terms in the same order), and half of it is made. */
static void product(struct muon_room *r, const struct kernels *k, float *out, const float *x,
                    uint32_t n, const float *w, uint32_t n_out, uint32_t n_in)
{
    const struct tensor t = { .data = w, .dtype = DTYPE_F32, .n_dims = 2,
                              .shape = { n_out, n_in },
                              .size_bytes = (uint64_t)n_out * n_in * sizeof(float) };
    struct matmul_args m = { .out_stride = n_out, .act_stride = act_row_bytes(ACTF_F32, n_in),
                             .scratch = r->scratch };
    struct matmul_cut cut;
    struct packed p;
    struct err e;

    CHECK(pack_describe(&p, &t, &e) == 0 && pack_bytes(&p) <= r->packed_bytes);
    p.data = r->packed;
    pack_panels(&p, &t, 0, 0, p.n_panels);
    for (uint32_t i = 0; i < n; i++)
        k->act_prepare[ACTF_F32](r->act + i * m.act_stride, x + (size_t)i * n_in, n_in);
    cut = matmul_cut(&p, n);
    if (w == x && cut.rows > TRIANGLE_ROWS)
        cut.rows = TRIANGLE_ROWS;
    m.w = &p;
    for (uint32_t row = 0; row < n; row += cut.rows) {
        m.n_rows = n - row < cut.rows ? n - row : cut.rows;
        m.out = out + (size_t)row * n_out;
        m.act = r->act + row * m.act_stride;
        for (m.first = w == x ? row / PACK_ROWS : 0; m.first < p.n_panels; m.first = m.last) {
            m.last = p.n_panels - m.first < cut.panels ? p.n_panels : m.first + cut.panels;
            k->matmul[DTYPE_F32](&m);
        }
    }
    if (w == x)
        mirror(out, n);
}

static void transpose(float *to, const float *from, uint32_t rows, uint32_t cols)
{
    enum { TILE = 16 };         /* floats of a cache line: lines are read and written whole */
    float tile[TILE][TILE];

    for (uint32_t i0 = 0; i0 < rows; i0 += TILE)
        for (uint32_t j0 = 0; j0 < cols; j0 += TILE) {
            const uint32_t ni = rows - i0 < TILE ? rows - i0 : TILE;
            const uint32_t nj = cols - j0 < TILE ? cols - j0 : TILE;

            for (uint32_t i = 0; i < ni; i++)
                for (uint32_t j = 0; j < nj; j++)
                    tile[j][i] = from[(size_t)(i0 + i) * cols + j0 + j];
            for (uint32_t j = 0; j < nj; j++)
                memcpy(to + (size_t)(j0 + j) * rows + i0, tile[j], ni * sizeof(float));
        }
}

/* r->x [small][large] becomes nearly orthogonal; r->y is its transpose. */
static void orthogonalise(struct muon_room *r, const struct kernels *k, uint32_t small,
                          uint32_t large)
{
    const size_t n = (size_t)small * large, square = (size_t)small * small;
    double sum = 0;
    float scale;

    for (size_t i = 0; i < n; i++)
        sum += (double)r->x[i] * (double)r->x[i];
    scale = (float)(1.0 / (sqrt(sum) + 1e-7));
    for (size_t i = 0; i < n; i++)
        r->x[i] *= scale;
    transpose(r->y, r->x, small, large);
    for (unsigned step = 0; step < STEPS; step++) {
        product(r, k, r->a, r->x, small, r->x, small, large);
        product(r, k, r->b, r->a, small, r->a, small, small);
        for (size_t i = 0; i < square; i++)
            r->b[i] = quintic[1] * r->a[i] + quintic[2] * r->b[i];
        product(r, k, r->out, r->y, large, r->b, small, small);
        for (size_t i = 0; i < n; i++)
            r->y[i] = quintic[0] * r->y[i] + r->out[i];
        transpose(r->x, r->y, large, small);
    }
}

void muon_matrix(struct muon_room *r, const struct kernels *k, float *w, float *m, const float *g,
                 uint32_t rows, uint32_t cols, const struct muon_args *a)
{
    const bool tall = rows > cols;
    const size_t n = (size_t)rows * cols;
    const float *direction;
    float rate;

    CHECK((tall ? cols : rows) <= r->small && (tall ? rows : cols) <= r->large);
    for (size_t i = 0; i < n; i++) {
        const float s = g[i] * a->g_scale;

        m[i] = a->momentum * m[i] + s;
        (tall ? r->out : r->x)[i] = a->momentum * m[i] + s;
    }
    if (tall)
        transpose(r->x, r->out, rows, cols);
    orthogonalise(r, k, tall ? cols : rows, tall ? rows : cols);
    direction = tall ? r->y : r->x;
    rate = a->lr * 0.2f * sqrtf((float)(tall ? rows : cols));
    for (size_t i = 0; i < n; i++)
        w[i] = a->keep * w[i] - rate * direction[i];
}
