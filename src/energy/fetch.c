/* fetch.c: HTTP GET over libcurl; see fetch.h. */
#include "energy/fetch.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"

struct fetch {
    CURL *curl;
    char  why[CURL_ERROR_SIZE];
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init_curl(void)
{
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
}

bool fetch_is_url(const char *s)
{
    return strncasecmp(s, "http://", 7) == 0 || strncasecmp(s, "https://", 8) == 0;
}

int fetch_open(struct fetch **out, struct err *e)
{
    struct fetch *f = mem_calloc(1, sizeof *f);

    (void)pthread_once(&once, init_curl);
    if (f)
        f->curl = curl_easy_init();
    if (!f || !f->curl) {
        fetch_close(f);
        return err_set(e, WATT_ENOMEM, "HTTP client");
    }
    *out = f;
    return 0;
}

void fetch_close(struct fetch *f)
{
    if (!f)
        return;
    if (f->curl)
        curl_easy_cleanup(f->curl);
    mem_free(f);
}

/* Bytes past the bound end the transfer. */
static size_t take(char *data, size_t size, size_t n, void *ctx)
{
    struct str *body = ctx;

    (void)size;                     /* always 1 */
    if (n > body->max - body->len)
        return 0;
    str_append(body, data, n);
    return str_ok(body) ? n : 0;
}

/* The URL as messages may show it: what stands before '@' in the host's place is a password. */
static void public_url(const char *url, char out[256])
{
    const char *host = strstr(url, "://"), *at;
    size_t front;

    host = host ? host + 3 : url;
    at = host + strcspn(host, "/?#");
    while (at > host && *at != '@')
        at--;
    front = (size_t)(host - url);
    (void)snprintf(out, 256, "%.*s%s", (int)front, url, *at == '@' ? at + 1 : host);
}

static int set_options(struct fetch *f, const char *url, unsigned timeout_ms, struct str *body)
{
    CURL *c = f->curl;
    CURLcode rc = CURLE_OK;

    curl_easy_reset(c);             /* keeps connections */
#define SET(option, value) do { if (rc == CURLE_OK) rc = curl_easy_setopt(c, option, value); } while (0)
    SET(CURLOPT_URL, url);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_FOLLOWLOCATION, 1L);
    SET(CURLOPT_MAXREDIRS, 3L);
    SET(CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)timeout_ms);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_ERRORBUFFER, f->why);
    SET(CURLOPT_WRITEFUNCTION, take);
    SET(CURLOPT_WRITEDATA, body);
    SET(CURLOPT_USERAGENT, "watt/" WATT_VERSION);
#undef SET
    return rc == CURLE_OK ? 0 : -1;
}

int fetch_get(struct fetch *f, const char *url, unsigned timeout_ms, struct str *body,
              struct err *e)
{
    char shown[256];
    long status = 0;
    CURLcode rc;

    public_url(url, shown);
    str_reset(body);
    f->why[0] = '\0';
    if (!fetch_is_url(url) || set_options(f, url, timeout_ms, body) < 0)
        return err_set(e, WATT_EINVAL, "%s: not an http URL", shown);
    rc = curl_easy_perform(f->curl);
    if (rc == CURLE_URL_MALFORMAT)
        return err_set(e, WATT_EINVAL, "%s: malformed URL", shown);
    if (rc == CURLE_WRITE_ERROR)
        return err_set(e, str_ok(body) ? WATT_ELIMIT : WATT_ENOMEM,
                       "%s: an answer of more than %zu bytes", shown, body->max);
    if (rc != CURLE_OK)
        return err_set(e, WATT_EIO, "%s: %s", shown, f->why[0] ? f->why : curl_easy_strerror(rc));
    (void)curl_easy_getinfo(f->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status < 200 || status > 299)
        return err_set(e, WATT_EIO, "%s: answered with status %ld", shown, status);
    return 0;
}
