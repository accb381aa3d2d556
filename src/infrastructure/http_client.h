/* http_client.h: requests to other servers, whole answers or streams, over libcurl.
 *
 * A client keeps connections open for the next request to the same server. Any number of
 * requests may be under way at once; their callbacks come from within http_client_run, on the
 * caller's thread. http_client_fetch is the simple case: one request, until it is over.
 *
 * Only http and https; a redirect never goes from https to http, and credentials never to another
 * host. Certificates and host names are checked, with no way to switch that off. Every request has
 * bounds of time and size. Proxies come from the environment (HTTPS_PROXY, NO_PROXY) as usual.
 *
 * One owner thread per client; clients of several threads don't meet. */
#ifndef INFRASTRUCTURE_HTTP_CLIENT_H
#define INFRASTRUCTURE_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define HTTP_CLIENT_MAX_HEADERS 16u
#define HTTP_CLIENT_MAX_LINE    ((size_t)8 << 20)   /* of a stream */

struct http_client;

struct http_client_opts {       /* zero means the default */
    unsigned    max_connections;    /* to one server at once; default: as many as requests */
    const char *ca_file;            /* certificates to trust, PEM; NULL: the system's, or what
                                     * SSL_CERT_FILE names */
};

/* What came, valid until the request's on_done returns (or http_client_response_deinit). */
struct http_client_response {
    int        status;              /* 0: no answer came */
    struct str body;                /* whole, where no callback takes it; of an error (400 and up)
                                     * always here, cut at 64 KiB */
    char       content_type[128], etag[256], retry_after[32];
    char       location[2048];      /* where the last redirect led, or would lead; "" */
    char       commit[64];          /* X-Repo-Commit of model hubs; "" */
    uint64_t   length;              /* Content-Length; UINT64_MAX: not told */
    uint64_t   range_first, range_total;    /* Content-Range; UINT64_MAX: none */
    uint64_t   start_ns;            /* clock_mono_ns when the request was started */
    uint64_t   first_byte_ns;       /* since then: of the body; 0: none came */
    uint64_t   total_ns;            /* since then */
};

struct http_client_request {        /* strings and callbacks outlive the request; zero means the default */
    const char *method;             /* default GET, or POST with a body */
    const char *url;
    const char *const *headers;     /* "Name: value", of at most HTTP_CLIENT_MAX_HEADERS */
    size_t      n_headers;
    const char *bearer;             /* token; never sent to another host */
    const void *body;               /* NULL: none */
    size_t      n_body;
    const char *content_type;       /* of the body; default application/json */
    uint64_t    range_first;        /* with range_bytes > 0: ask for so many bytes from here */
    uint64_t    range_bytes;        /* UINT64_MAX: to the end */
    const char *if_range;           /* entity tag: the whole thing if it changed; NULL: not sent */
    unsigned    max_redirects;      /* default 5; HTTP_CLIENT_NO_REDIRECTS: a 3xx is the answer */
    size_t      max_body;           /* of an answer that is kept whole; default 64 MiB */
    uint64_t    max_stream;         /* of one that callbacks take; default no bound */
    uint64_t    connect_ms;         /* default 15 s */
    uint64_t    stall_ms;           /* nothing comes so long: WATT_ETIME; default 60 s */
    uint64_t    total_ms;           /* default none */
    /* Callbacks; any but 0 from one ends the request with WATT_ECANCEL. At most one of the next
     * three takes the body of an answer below 300. */
    int (*on_head)(void *ctx, const struct http_client_response *r);    /* before its first byte */
    int (*on_data)(void *ctx, const void *data, size_t n);
    int (*on_line)(void *ctx, struct sv line);          /* without its end; NDJSON */
    int (*on_event)(void *ctx, struct sv name, struct sv data);     /* server-sent events; name is
                                                         * "" when it has none */
    int (*poll)(void *ctx);         /* a few times a second, whatever comes */
    /* The end: rc 0 (any status is an answer) or why there was none. For http_client_start. */
    void (*on_done)(void *ctx, int rc, const struct http_client_response *r, const struct err *why);
    void *ctx;
};
#define HTTP_CLIENT_NO_REDIRECTS UINT32_MAX

/* WATT_ENOMEM; WATT_EIO: the library does not start. */
int  http_client_open(struct http_client **out, const struct http_client_opts *opts,
                      struct err *e) MUST_CHECK;
/* Ends what is under way without a further callback. NULL is fine. */
void http_client_close(struct http_client *c);

/* Begins a request, of which everything but *r itself must outlive it. WATT_EINVAL: the URL or a
 * header can't be sent; then nothing is called. */
int  http_client_start(struct http_client *c, const struct http_client_request *r,
                       struct err *e) MUST_CHECK;
/* Moves everything on for at most wait_ms, or until a callback came; returns how many requests
 * are still under way. A callback may start others. */
unsigned http_client_run(struct http_client *c, unsigned wait_ms);

/* One request, until it is over. out may be NULL; with out, deinit it, also after a failure.
 * WATT_EIO no answer (message with the cause), WATT_ETIME, WATT_ELIMIT too large, WATT_ECANCEL. An
 * answer with an error status is 0: look at it, or let http_client_refused do so. */
int  http_client_fetch(struct http_client *c, const struct http_client_request *r,
                       struct http_client_response *out, struct err *e) MUST_CHECK;
void http_client_response_deinit(struct http_client_response *r);

/* Turns an error status into an error: WATT_ENOENT 404, WATT_EINVAL 401 and 403 (a key is missing or
 * wrong), WATT_EBUSY 429 and 503, else WATT_EIO; with what the body says of it. 0 below 400. */
int  http_client_refused(const char *url, const struct http_client_response *r,
                         struct err *e) MUST_CHECK;

/* Appends s as a part of a URL's path or query: what is neither a letter, a digit nor one of "-._~"
 * (nor in `keep`) becomes %XX. */
void http_client_escape(struct str *out, struct sv s, const char *keep);

#endif
