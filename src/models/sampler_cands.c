/* sampler_cands.c: ordering of candidates without sorting the vocabulary and
 * without memory: a heap, or a histogram over the high bits of the keys, finds
 * the few that matter, and only those are sorted. libc's qsort may allocate, hence our own. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "models/sampler_internal.h"

#define BUCKET_BITS 12
#define N_BUCKETS   (1u << BUCKET_BITS)
#define INSERTION_MAX 16
#define HEAP_MAX      256   /* so few are found with a heap, more with a histogram */

float logit_clean(float v)
{
    if (isnan(v))
        return -INFINITY;
    return v > FLT_MAX ? FLT_MAX : v;
}

float logit_finite(float v)
{
    return v > FLT_MAX ? FLT_MAX : v < -FLT_MAX ? -FLT_MAX : v;
}

/* Total order: key descending, id ascending. Keys are never NaN. */
static bool before(const struct sampler_token *a, const struct sampler_token *b)
{
    return a->p > b->p || (a->p == b->p && a->id < b->id);
}

static void swap(struct sampler_token *a, struct sampler_token *b)
{
    const struct sampler_token t = *a;

    *a = *b;
    *b = t;
}

static void sift_down(struct sampler_token *v, size_t i, size_t n)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(&v[child], &v[child + 1]))
            child++;
        if (!before(&v[i], &v[child]))
            return;
        swap(&v[i], &v[child]);
    }
}

static void heap_sort(struct sampler_token *v, size_t n)
{
    for (size_t i = n / 2; i-- > 0; )
        sift_down(v, i, n);
    for (size_t end = n; end-- > 1; ) {
        swap(&v[0], &v[end]);
        sift_down(v, 0, end);
    }
}

static void insertion_sort(struct sampler_token *v, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        const struct sampler_token t = v[i];
        size_t j = i;

        for (; j > 0 && before(&t, &v[j - 1]); j--)
            v[j] = v[j - 1];
        v[j] = t;
    }
}

/* Hoare's partition around the median of three; returns the first index of the
 * right part, 0 < result < n. */
static size_t partition(struct sampler_token *v, size_t n)
{
    struct sampler_token *a = &v[0], *b = &v[n / 2], *c = &v[n - 1];
    struct sampler_token pivot;
    size_t i = 0, j = n - 1;

    if (before(b, a))
        swap(a, b);
    if (before(c, b))
        swap(b, c);
    if (before(b, a))
        swap(a, b);
    pivot = *b;
    for (;; i++, j--) {
        while (before(&v[i], &pivot))
            i++;
        while (before(&pivot, &v[j]))
            j--;
        if (i >= j)
            return j + 1;
        swap(&v[i], &v[j]);
    }
}

/* Quicksort that turns to heapsort where it would go deep. */
static void sort(struct sampler_token *v, size_t n)
{
    struct { struct sampler_token *v; size_t n; unsigned depth; } stack[64];
    unsigned top = 0, limit = 4;

    for (size_t m = n; m > 1; m >>= 1)
        limit += 2;
    stack[top].v = v;
    stack[top].n = n;
    stack[top++].depth = limit;
    while (top > 0) {
        struct sampler_token *w = stack[--top].v;
        size_t m = stack[top].n, cut;
        unsigned depth = stack[top].depth;

        /* the larger half waits, so the stack holds at most log2(n) parts */
        for (; m > INSERTION_MAX && depth > 0; depth--) {
            cut = partition(w, m);
            if (cut < m - cut) {
                stack[top].v = w + cut;
                stack[top].n = m - cut;
                m = cut;
            } else {
                stack[top].v = w;
                stack[top].n = cut;
                w += cut;
                m -= cut;
            }
            stack[top++].depth = depth - 1;
        }
        if (m > INSERTION_MAX)
            heap_sort(w, m);
        else
            insertion_sort(w, m);
    }
}

/* The high bits of a key, mapped so that a better key has a lower bucket. */
static unsigned bucket_of(float key)
{
    uint32_t bits;

    if (key == 0)
        key = 0;    /* -0 and 0 are equal and must share a bucket */
    memcpy(&bits, &key, sizeof bits);
    bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;     /* now ascending with the key */
    return N_BUCKETS - 1 - (bits >> (32 - BUCKET_BITS));
}

/* Moves the best `want` of v[0..n) to the front: a heap whose root is the worst
 * of the best so far turns nearly all of a vocabulary down at one comparison. */
static size_t select_few(struct sampler_token *v, size_t n, size_t want)
{
    struct sampler_token heap[HEAP_MAX];
    size_t put = 0;

    memcpy(heap, v, want * sizeof *v);
    heap_sort(heap, want);
    for (size_t i = 0; i < want / 2; i++)
        swap(&heap[i], &heap[want - 1 - i]);    /* worst first is a heap */
    for (size_t i = want; i < n; i++)
        if (v[i].p >= heap[0].p && before(&v[i], &heap[0])) {
            heap[0] = v[i];
            sift_down(heap, 0, want);
        }
    for (size_t i = 0; put < want; i++)
        if (v[i].p >= heap[0].p && !before(&heap[0], &v[i]))
            swap(&v[put++], &v[i]);
    return want;
}

/* Moves at least the best `want` of v[0..n) to the front; returns how many. */
static size_t select_many(struct sampler_token *v, size_t n, size_t want)
{
    uint32_t count[N_BUCKETS];
    size_t found = 0, put = 0;
    unsigned last = 0;

    memset(count, 0, sizeof count);
    for (size_t i = 0; i < n; i++)
        count[bucket_of(v[i].p)]++;
    while ((found += count[last]) < want)
        last++;
    for (size_t i = 0; found < n && put < found; i++)
        if (bucket_of(v[i].p) <= last)
            swap(&v[put++], &v[i]);
    return found;
}

void cands_sort_top(struct cands *c, size_t m)
{
    struct sampler_token *rest = c->v + c->n_sorted;
    const size_t n_rest = c->n - c->n_sorted;
    size_t found;

    if (m > c->n)
        m = c->n;
    if (m <= c->n_sorted)
        return;
    found = m - c->n_sorted;
    if (found < n_rest)
        found = found <= HEAP_MAX ? select_few(rest, n_rest, found) : select_many(rest, n_rest, found);
    sort(rest, found);
    c->n_sorted += found;
    c->whole = false;
}

/* ---- a cut by mass ---- */

#define PER_NAT  64.0f      /* buckets of a cut by mass, by how far a logit is below the best */
#define FEW_TIES 64u

/* How far below the best, in buckets. */
static float depth_of(const struct sampler_token *t, float max)
{
    return (max - t->logit) * PER_NAT;
}

static unsigned depth_bucket(float depth)
{
    return depth < (float)(N_BUCKETS - 1) ? (unsigned)depth : N_BUCKETS - 1;
}

static unsigned fine_bucket(float depth, unsigned bucket)
{
    const float part = (depth - (float)bucket) * (float)N_BUCKETS;

    return part < (float)(N_BUCKETS - 1) ? (unsigned)part : N_BUCKETS - 1;
}

/* The first bucket in which the sum reaches `mass`; *so_far is then the sum before it. */
static unsigned reach(const double sums[N_BUCKETS], double mass, double *so_far)
{
    unsigned b = 0;

    while (b + 1 < N_BUCKETS && *so_far + sums[b] < mass)
        *so_far += sums[b++];
    return b;
}

bool cands_keep_mass(struct cands *c, float max, double share)
{
    double sums[N_BUCKETS], sum = 0, so_far = 0, mass;
    struct sampler_token ties[FEW_TIES];
    unsigned coarse, fine;
    size_t n_ties = 0, last = 0, n = 0;

    memset(sums, 0, sizeof sums);
    for (size_t i = 0; i < c->n; i++) {
        const double w = (double)expf(c->v[i].logit - max);

        sums[depth_bucket(depth_of(&c->v[i], max))] += w;
        sum += w;
    }
    mass = share * sum;
    coarse = reach(sums, mass, &so_far);
    if (coarse == N_BUCKETS - 1)
        return false;           /* so flat, or so nearly all, that there is nothing to gain */
    memset(sums, 0, sizeof sums);
    for (size_t i = 0; i < c->n; i++) {
        const float depth = depth_of(&c->v[i], max);

        if (depth_bucket(depth) == coarse)
            sums[fine_bucket(depth, coarse)] += (double)expf(c->v[i].logit - max);
    }
    fine = reach(sums, mass, &so_far);
    for (size_t i = 0; i < c->n; i++) {
        const float depth = depth_of(&c->v[i], max);

        if (depth_bucket(depth) != coarse || fine_bucket(depth, coarse) != fine)
            continue;
        if (n_ties == FEW_TIES)
            return false;
        ties[n_ties++] = c->v[i];
    }
    if (n_ties == 0)
        return false;           /* rounding put the end where nothing is */
    insertion_sort(ties, n_ties);
    while (last + 1 < n_ties &&
           (so_far += (double)expf(ties[last].logit - max)) < mass)
        last++;
    for (size_t i = 0; i < c->n; i++) {
        const float depth = depth_of(&c->v[i], max);
        const unsigned b = depth_bucket(depth);

        if (b < coarse || (b == coarse && fine_bucket(depth, coarse) <= fine &&
                           !before(&ties[last], &c->v[i])))
            c->v[n++] = c->v[i];
    }
    c->n = n;
    c->n_sorted = 0;
    c->whole = false;
    return true;
}

void cands_sort_ids(struct cands *c)
{
    bool ordered = true;

    for (size_t i = 1; i < c->n && ordered; i++)
        ordered = c->v[i - 1].id < c->v[i].id;
    if (ordered)
        return;
    for (size_t i = 0; i < c->n; i++)
        c->v[i].p = -(float)c->v[i].id;     /* exact: ids are below 2^24 */
    sort(c->v, c->n);
    c->n_sorted = 0;
}

void cands_drop_impossible(struct cands *c)
{
    size_t n = 0;

    if (!c->impossible)
        return;
    c->impossible = false;
    for (size_t i = 0; i < c->n; i++)
        if (c->v[i].logit != -INFINITY)
            c->v[n++] = c->v[i];
    if (n == c->n)
        return;
    /* an ordered prefix has its -inf last, so its length shrinks at most to n */
    if (c->n_sorted > n)
        c->n_sorted = n;
    c->n = n;
    c->whole = false;
}

size_t cands_best(const struct cands *c)
{
    size_t best = 0;

    for (size_t i = 1; i < c->n; i++)
        if (c->v[i].logit > c->v[best].logit
            || (c->v[i].logit == c->v[best].logit && c->v[i].id < c->v[best].id))
            best = i;
    return best;
}
