/* eval_task.c: see eval_task.h. */
#include "applications/eval_task.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/mem.h"

#define OPEN_CALL  "<tool_call>"
#define CLOSE_CALL "</tool_call>"

/* ---- reading ---- */

static bool list_of(const json_t *v, json_type type, size_t max)
{
    size_t i;
    json_t *item;

    if (!json_is_array(v) || json_array_size(v) == 0 || json_array_size(v) > max)
        return false;
    json_array_foreach(v, i, item)
        if (json_typeof(item) != type)
            return false;
    return true;
}

static int read_question(struct eval_item *it, const char *where, struct err *e)
{
    const json_t *messages = json_object_get(it->line, "messages"), *m;
    const char *question = json_string_value(json_object_get(it->line, "question"));
    size_t i;

    it->prompt = json_string_value(json_object_get(it->line, "prompt"));
    it->tools = json_object_get(it->line, "tools");
    if (it->tools && !list_of(it->tools, JSON_OBJECT, 1024))
        return err_set(e, WATT_EFORMAT, "%s: tools: expected a list of objects", where);
    if (messages) {
        if (!list_of(messages, JSON_OBJECT, 4096))
            return err_set(e, WATT_EFORMAT, "%s: messages: expected a list of objects", where);
        json_array_foreach(messages, i, m)
            if (!json_is_string(json_object_get(m, "role")))
                return err_set(e, WATT_EFORMAT, "%s: messages[%zu]: expected a role", where, i);
        it->messages = json_incref((json_t *)messages);
        return 0;
    }
    if (it->prompt)
        return 0;
    if (!question)
        return err_set(e, WATT_EFORMAT, "%s: expected \"messages\", \"question\" or \"prompt\"", where);
    it->messages = json_pack("[{s:s, s:s}]", "role", "user", "content", question);
    return it->messages ? 0 : err_set(e, WATT_ENOMEM, "%s: out of memory", where);
}

static int read_choice(struct eval_item *it, const char *where, struct err *e)
{
    const json_t *answer = json_object_get(it->line, "answer");
    const char *letter = json_string_value(answer);
    const size_t n = json_array_size(it->choices);
    json_int_t k = json_is_integer(answer) ? json_integer_value(answer) : -1;

    it->kind = EVAL_CHOICE;
    if (!list_of(it->choices, JSON_STRING, EVAL_MAX_CHOICES) || n < 2)
        return err_set(e, WATT_EFORMAT, "%s: choices: expected 2 to %u texts", where, EVAL_MAX_CHOICES);
    if (letter && letter[0] && !letter[1])
        k = toupper((unsigned char)letter[0]) - 'A';
    if (k < 0 || (size_t)k >= n)
        return err_set(e, WATT_EFORMAT, "%s: answer: expected the index or the letter of one of %zu choices", where, n);
    it->right = (uint32_t)k;
    return 0;
}

static int read_number(struct eval_item *it, const char *where, struct err *e)
{
    const char *number = json_string_value(json_object_get(it->line, "number"));
    const char *answer = json_string_value(json_object_get(it->line, "answer"));
    bool formed = number != NULL;

    it->kind = EVAL_NUMBER;
    if (number || answer)
        eval_number(sv_cstr(number ? number : answer), it->number, number ? NULL : &formed);
    if ((!number && !answer) || !formed || !it->number[0])
        return err_set(e, WATT_EFORMAT, "%s: expected \"number\", \"answer\" with \"#### n\", \"contains\", "
                       "\"abstains\", \"call\" or \"choices\"", where);
    return 0;
}

static int read_wanted(struct eval_item *it, const char *where, struct err *e)
{
    it->contains = json_object_get(it->line, "contains");
    it->cites = json_object_get(it->line, "cites");
    it->call = json_object_get(it->line, "call");
    it->choices = json_object_get(it->line, "choices");
    it->abstention = json_string_value(json_object_get(it->line, "abstention"));
    if (it->choices)
        return read_choice(it, where, e);
    if (it->call) {
        it->kind = EVAL_CALL;
        if (json_is_string(json_object_get(it->call, "name")) && json_is_object(json_object_get(it->call, "arguments")))
            return 0;
        return err_set(e, WATT_EFORMAT, "%s: call: expected a name and an object of arguments", where);
    }
    if (json_is_true(json_object_get(it->line, "abstains"))) {
        it->kind = EVAL_ABSTAINS;
        if (it->abstention && it->abstention[0])
            return 0;
        return err_set(e, WATT_EFORMAT, "%s: abstains: expected \"abstention\", the text that says so", where);
    }
    if (it->contains || it->cites) {
        it->kind = EVAL_CONTAINS;
        if (it->contains && !list_of(it->contains, JSON_STRING, 64))
            return err_set(e, WATT_EFORMAT, "%s: contains: expected a list of texts", where);
        if (it->cites && !list_of(it->cites, JSON_INTEGER, 64))
            return err_set(e, WATT_EFORMAT, "%s: cites: expected a list of integers", where);
        return 0;
    }
    return read_number(it, where, e);
}

static void item_deinit(struct eval_item *it)
{
    json_decref(it->messages);
    json_decref(it->line);
}

int eval_items_add(struct eval_items *items, const char *path, size_t number, json_t *line, struct err *e)
{
    struct eval_item it = { .line = line };
    char where[300];
    int rc;

    (void)snprintf(where, sizeof where, "%.255s: line %zu", path, number);
    it.task = json_string_value(json_object_get(line, "task"));
    it.task = it.task && it.task[0] ? it.task : "answers";
    rc = json_is_object(line) ? read_question(&it, where, e) : err_set(e, WATT_EFORMAT, "%s: expected an object", where);
    if (rc == 0)
        rc = read_wanted(&it, where, e);
    if (rc == 0 && items->n == EVAL_MAX_ITEMS)
        rc = err_set(e, WATT_ELIMIT, "%s: more than %u items", where, EVAL_MAX_ITEMS);
    if (rc == 0 && items->n == items->cap) {
        struct eval_item *v = mem_grow(items->v, items->cap * 2 + 64, sizeof *v);

        if (v) {
            items->v = v;
            items->cap = items->cap * 2 + 64;
        } else {
            rc = err_set(e, WATT_ENOMEM, "%s: out of memory", where);
        }
    }
    if (rc < 0)
        item_deinit(&it);
    else
        items->v[items->n++] = it;
    return rc;
}

int eval_items_read(struct eval_items *items, const char *path, const char *text, size_t len, size_t limit,
                    struct err *e)
{
    const struct json_limits bounds = { .max_bytes = EVAL_MAX_LINE };
    size_t number = 1;

    for (size_t i = 0, end; i < len && (!limit || items->n < limit); i = end + 1, number++) {
        const char *nl = memchr(text + i, '\n', len - i);
        json_t *line = NULL;
        size_t from = i;
        int rc;

        end = nl ? (size_t)(nl - text) : len;
        while (from < end && isspace((unsigned char)text[from]))
            from++;
        if (from == end)
            continue;
        rc = json_parse(&line, "JSON", text + from, end - from, &bounds, e);
        if (rc < 0) {
            (void)err_prefix(e, "%s: line %zu", path, number);
            return rc;
        }
        rc = eval_items_add(items, path, number, line, e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

void eval_items_deinit(struct eval_items *items)
{
    for (size_t i = 0; i < items->n; i++)
        item_deinit(&items->v[i]);
    mem_free(items->v);
    *items = (struct eval_items){ 0 };
}

/* ---- numbers ---- */

static size_t number_at(struct sv t, size_t i, char out[64])
{
    size_t n = 0, point = 0, end = i;
    bool minus = i > 0 && t.data[i - 1] == '-' && (i == 1 || !isalnum((unsigned char)t.data[i - 2]));
    char digits[48];

    for (; end < t.len && n + 1 < sizeof digits; end++) {
        const char c = t.data[end];

        if (isdigit((unsigned char)c))
            digits[n++] = c;
        else if (c == '.' && !point && end + 1 < t.len && isdigit((unsigned char)t.data[end + 1]))
            point = n + 1;          /* index behind which the fraction stands */
        else if (c != ',' || end + 1 == t.len || !isdigit((unsigned char)t.data[end + 1]))
            break;
    }
    if (point) {
        while (n >= point && digits[n - 1] == '0')
            n--;
    }
    digits[n] = '\0';
    {
        const size_t whole = point ? point - 1 : n;
        size_t zeros = 0;

        while (zeros + 1 < whole && digits[zeros] == '0')
            zeros++;
        if (whole == n && n == zeros + 1 && digits[zeros] == '0')
            minus = false;          /* -0 */
        (void)snprintf(out, 64, "%s%.*s%s%s", minus ? "-" : "", (int)(whole - zeros), digits + zeros,
                       n > whole ? "." : "", digits + whole);
    }
    return end;
}

void eval_number(struct sv text, char out[64], bool *formed)
{
    const char *mark = NULL;
    size_t i = 0;

    for (size_t k = 0; k + 4 <= text.len; k++)
        if (memcmp(text.data + k, "####", 4) == 0)
            mark = text.data + k + 4;
    out[0] = '\0';
    if (formed)
        *formed = false;
    if (mark) {
        i = (size_t)(mark - text.data);
        while (i < text.len && (isspace((unsigned char)text.data[i]) || text.data[i] == '$' || text.data[i] == '-'))
            i++;
        if (i < text.len && isdigit((unsigned char)text.data[i])) {
            (void)number_at(text, i, out);
            if (formed)
                *formed = true;
        }
        return;
    }
    while (i < text.len) {
        if (isdigit((unsigned char)text.data[i]))
            i = number_at(text, i, out);
        else
            i++;
    }
}

/* ---- judging ---- */

static bool contains(struct sv text, const char *part)
{
    const size_t n = strlen(part);

    for (size_t i = 0; i + n <= text.len; i++) {
        const bool digit = n > 0 && isdigit((unsigned char)part[0]), last = n > 0 && isdigit((unsigned char)part[n - 1]);

        if (strncasecmp(text.data + i, part, n) != 0)
            continue;
        /* 12 is not in 3124 */
        if ((digit && i > 0 && isdigit((unsigned char)text.data[i - 1])) ||
            (last && i + n < text.len && isdigit((unsigned char)text.data[i + n])))
            continue;
        return true;
    }
    return false;
}

static bool cites_exactly(struct sv text, const json_t *wanted)
{
    bool seen[64] = { false };
    const size_t n = json_array_size(wanted);

    for (size_t i = 0; i + 2 < text.len; i++) {
        int64_t k = 0;
        size_t at = i + 1, hit = n;

        if (text.data[i] != '[')
            continue;
        while (at < text.len && isdigit((unsigned char)text.data[at]) && k < 1000000)
            k = k * 10 + (text.data[at++] - '0');
        if (at == i + 1 || at == text.len || text.data[at] != ']')
            continue;
        for (size_t w = 0; w < n; w++)
            if (json_integer_value(json_array_get(wanted, w)) == k)
                hit = w;
        if (hit == n)
            return false;
        seen[hit] = true;
    }
    for (size_t w = 0; w < n; w++)
        if (!seen[w])
            return false;
    return true;
}

static bool has_all(const struct eval_item *it, struct sv text)
{
    size_t i;
    json_t *part;

    json_array_foreach(it->contains, i, part)
        if (!contains(text, json_string_value(part)))
            return false;
    return !it->cites || cites_exactly(text, it->cites);
}

json_t *eval_calls_in(struct sv text)
{
    json_t *list = json_array();
    const char *p = text.data, *end = text.data + text.len;

    while (list && p && p < end) {
        const char *from = memmem(p, (size_t)(end - p), OPEN_CALL, sizeof OPEN_CALL - 1), *to;
        json_t *call;

        if (!from)
            break;
        from += sizeof OPEN_CALL - 1;
        to = memmem(from, (size_t)(end - from), CLOSE_CALL, sizeof CLOSE_CALL - 1);
        p = to ? to + sizeof CLOSE_CALL - 1 : end;
        call = json_loadb(from, (size_t)((to ? to : end) - from), 0, NULL);
        /* what is no call stays in the list as null, so that it counts as badly formed */
        if (!to || !json_is_string(json_object_get(call, "name")) || !json_is_object(json_object_get(call, "arguments"))) {
            json_decref(call);
            call = json_null();
        }
        (void)json_array_append_new(list, call);
    }
    return list;
}

static void judge_call(const struct eval_item *it, const struct eval_answer *a, struct eval_verdict *v)
{
    json_t *calls = a->calls ? json_incref(a->calls) : eval_calls_in(a->text);
    const json_t *call = json_array_get(calls, 0);

    v->formed = json_array_size(calls) == 1 && json_is_object(call);
    v->right = v->formed && json_equal(json_object_get(call, "name"), json_object_get(it->call, "name")) &&
               json_equal(json_object_get(call, "arguments"), json_object_get(it->call, "arguments"));
    json_decref(calls);
}

/* FNV-1a: short, and the same everywhere. */
static uint64_t hash_text(struct sv t)
{
    uint64_t h = 0xCBF29CE484222325u;

    for (size_t i = 0; i < t.len; i++)
        h = (h ^ (unsigned char)t.data[i]) * 0x100000001B3u;
    return h;
}

void eval_judge(const struct eval_item *it, const struct eval_answer *a, struct eval_verdict *v)
{
    struct sv t = a->text;

    *v = (struct eval_verdict){ .abstained = it->abstention && it->abstention[0] && contains(t, it->abstention) };
    while (t.len > 0 && isspace((unsigned char)t.data[t.len - 1]))
        t.len--;
    (void)snprintf(v->vote, sizeof v->vote, "%016" PRIx64, hash_text(t));
    switch (it->kind) {
    case EVAL_NUMBER:
        eval_number(t, v->vote, &v->formed);
        v->right = v->vote[0] && strcmp(v->vote, it->number) == 0;
        break;
    case EVAL_CONTAINS:
        v->right = !v->abstained && has_all(it, t);
        break;
    case EVAL_ABSTAINS:
        v->right = v->abstained;
        break;
    case EVAL_CALL:
        judge_call(it, a, v);
        break;
    case EVAL_CHOICE:
        break;
    }
}
