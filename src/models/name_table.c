/* name_table.c: open addressing over a keyed hash; see name_table.h. */
#include "models/name_table.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/utf8.h"

static uint64_t rotl(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[0] = rotl(v[0], 32);
    v[2] += v[3];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[2] = rotl(v[2], 32);
}

static uint64_t sip_hash(const uint64_t key[2], struct sv s)
{
    uint64_t v[4] = { key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
                      key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u };
    uint8_t tail[8] = { 0 };
    size_t at;

    for (at = 0; s.len - at >= 8; at += 8) {
        const uint64_t word = load_le64(s.data + at);

        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    if (s.len > at)
        memcpy(tail, s.data + at, s.len - at);
    tail[7] = (uint8_t)s.len;
    v[3] ^= load_le64(tail);
    sip_round(v);
    v[0] ^= load_le64(tail);
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

int name_table_init(struct name_table *t, size_t n, struct err *e)
{
    size_t n_slots = 4;

    while (n_slots < 2 * n)
        n_slots *= 2;
    *t = (struct name_table){ .n_slots = n_slots };
    t->slots = mem_array(n_slots, sizeof *t->slots);
    if (!t->slots)
        return err_set(e, WATT_ENOMEM, "out of memory for the names of %zu entries", n);
    memset(t->slots, 0xff, n_slots * sizeof *t->slots);
    /* Without randomness only the protection against made-up names is lost. */
    if (getrandom(t->key, sizeof t->key, GRND_NONBLOCK) != (ssize_t)sizeof t->key)
        t->key[0] = (uint64_t)(uintptr_t)t->slots;
    return 0;
}

void name_table_deinit(struct name_table *t)
{
    mem_free(t->slots);
    *t = (struct name_table){ 0 };
}

/* The slot that holds the name, or the empty one where it belongs. */
static size_t slot_of(const struct name_table *t, struct sv name, name_at_fn *name_at,
                      const void *array)
{
    size_t at = (size_t)sip_hash(t->key, name) & (t->n_slots - 1);

    while (t->slots[at] != NAME_NONE && !sv_eq(name_at(array, t->slots[at]), name))
        at = (at + 1) & (t->n_slots - 1);
    return at;
}

uint32_t name_table_put(struct name_table *t, uint32_t i, name_at_fn *name_at, const void *array)
{
    const size_t at = slot_of(t, name_at(array, i), name_at, array);
    const uint32_t there = t->slots[at];

    if (there == NAME_NONE)
        t->slots[at] = i;
    return there;
}

uint32_t name_table_find(const struct name_table *t, struct sv name, name_at_fn *name_at,
                         const void *array)
{
    return t->n_slots ? t->slots[slot_of(t, name, name_at, array)] : NAME_NONE;
}

const char *name_show(char buf[NAME_SHOWN], struct sv name)
{
    size_t at = 0, out = 0;

    while (at < name.len) {
        bool valid = true;
        uint32_t cp;
        const size_t n = utf8_decode(name.data + at, name.len - at, &cp, &valid);

        if (out + 8 > NAME_SHOWN) {     /* room for "\xNN" or 4 bytes, then "..." and NUL */
            memcpy(buf + out, "...", 3);
            out += 3;
            break;
        }
        if (valid && cp >= 0x20 && cp != 0x7f && !(cp >= 0x80 && cp < 0xa0)) {
            memcpy(buf + out, name.data + at, n);
            out += n;
            at += n;
        } else {
            (void)snprintf(buf + out, 5, "\\x%02x", (unsigned)(unsigned char)name.data[at]);
            out += 4;
            at++;
        }
    }
    buf[out] = '\0';
    return buf;
}

bool name_acceptable(struct sv name, size_t max_bytes)
{
    if (name.len == 0 || name.len > max_bytes || !utf8_valid(name.data, name.len))
        return false;
    for (size_t i = 0; i < name.len; i++) {
        const unsigned char c = (unsigned char)name.data[i];

        if (c < 0x20 || c == 0x7f)
            return false;
    }
    return true;
}
