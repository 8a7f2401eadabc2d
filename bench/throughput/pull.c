/* The client for large bodies and for what wrk cannot ask: one thread, N connections, one request on each at a time.
 *
 * usage: pull PORT PATH FILE [connections N] [seconds N] [range BYTES] [etag TEXT] [tls read|skip] [once]
 *   FILE      what the body has to be. Plain bodies are thrown away inside the kernel but for their first and last
 *             bytes, which are compared; bodies over TLS are decrypted and compared whole with `tls read`
 *   skip      handshake and request by OpenSSL, then the ciphertext is counted and thrown away until the server closes:
 *             a connection for each object, and a client that costs little
 *   range     a Range of so many bytes at a random offset; only the right 206 counts
 *   etag      If-None-Match; only 304 counts, and no body is waited for
 *   once      every connection asks once, all at the same moment
 * When all connections stand it says "ready" and waits for a line. When the time is over no request is started, but those under way are finished, so that the bytes counted here are
 * all that the server sent. Prints one line of JSON at the end.
 */
#include "net.h"
#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#else
typedef void SSL;
#endif

enum { HEAD_MAX = 4096, CHUNK = 1 << 20, ENDS = 4096, RECEIVE = 4 << 20, TIMES_MAX = 1 << 22, ERRORS_MAX = 1000 };
enum { PATIENCE_S = 60 };
enum tls { NO_TLS, READ, SKIP };

struct conn {
    int fd, has_head;
    SSL *tls;
    double began_s;
    char head[HEAD_MAX];
    size_t head_bytes;
    size_t at, left;    /* in the file: the next byte of the body, and how many are still to come */
};

static int poll, port, connections = 4, is_once;
static enum tls tls;
static double seconds = 1;
static const char *path, *etag;
static size_t range;
static struct span file;
static long requests, errors, bytes, alive;
static double *times_s;
static char *scratch;
static uint64_t dice = 0x9e3779b97f4a7c15u;
static const char *first_error = "";
#ifdef WITH_TLS
static SSL_CTX *context;
#endif

static size_t draw(size_t below) {
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return dice % below;
}

static void fail(const char *why) {
    if (!errors++) first_error = why;
}

static void dial(struct conn *conn) {
    conn->fd = connection_to(port, RECEIVE);
#ifdef WITH_TLS
    if (tls) {
        conn->tls = SSL_new(context);
        SSL_set_fd(conn->tls, conn->fd);
        SSL_set_tlsext_host_name(conn->tls, "localhost");
        if (SSL_connect(conn->tls) != 1) give_up("TLS handshake");
    }
#endif
    fcntl(conn->fd, F_SETFL, O_NONBLOCK);
    watch(poll, EPOLL_CTL_ADD, conn->fd, EPOLLIN, conn);
}

static void hang_up(struct conn *conn) {
#ifdef WITH_TLS
    if (conn->tls) SSL_free(conn->tls);
#endif
    close(conn->fd);
    conn->fd = -1;
    conn->tls = NULL;
}

static void ask(struct conn *conn) {
    char text[1024];
    int count = sprintf(text, "GET %s HTTP/1.1\r\nHost: localhost\r\n", path);
    conn->at = range ? draw(file.count - range + 1) : 0;
    conn->left = range ? range : file.count;
    if (range) count += sprintf(text + count, "Range: bytes=%zu-%zu\r\n", conn->at, conn->at + range - 1);
    if (etag) count += sprintf(text + count, "If-None-Match: %s\r\n", etag);
    count += sprintf(text + count, "%s\r\n", tls == SKIP ? "Connection: close\r\n" : "");
    conn->head_bytes = conn->has_head = 0;
    conn->began_s = now_s();
#ifdef WITH_TLS
    if (conn->tls && SSL_write(conn->tls, text, count) != count) fail("request not sent");
#endif
    if (!conn->tls && send(conn->fd, text, count, 0) != count) fail("request not sent");
}

/* Bytes; 0 when there are none yet, -1 at the end. Into `to`, or away if that is NULL. */
static ssize_t get(struct conn *conn, char *to, size_t count) {
#ifdef WITH_TLS
    if (tls == READ) {
        ERR_clear_error();
        int got = SSL_read(conn->tls, to, count);
        return got > 0 ? got : SSL_get_error(conn->tls, got) == SSL_ERROR_WANT_READ ? 0 : -1;
    }
#endif
    ssize_t got = recv(conn->fd, to ? to : scratch, count, to ? 0 : MSG_TRUNC);
    return got > 0 ? got : got < 0 && errno == EAGAIN ? 0 : -1;
}

static int take(struct conn *conn, const char *got, size_t count) {
    if (count > conn->left) return fail("more bytes than promised"), -1;
    if (got && memcmp(got, file.bytes + conn->at, count)) return fail("wrong bytes"), -1;
    conn->at += count;
    conn->left -= count;
    return 0;
}

static int has_right_head(struct conn *conn) {
    const char *length = strcasestr(conn->head, "\r\nContent-Length:"), *place;
    int status = atoi(conn->head + 9);
    if (etag) return status == 304;
    if (!length || strtoul(length + 17, NULL, 10) != conn->left) return 0;
    if (!range) return status == 200;
    place = strcasestr(conn->head, "\r\nContent-Range: bytes ");
    return status == 206 && place && strtoul(place + 23, NULL, 10) == conn->at;
}

/* 1: the answer is complete. 0: more has to come. -1: the connection is of no more use. */
static int read_head(struct conn *conn) {
    ssize_t got = get(conn, conn->head + conn->head_bytes, HEAD_MAX - 1 - conn->head_bytes);
    if (got <= 0) return got ? (fail("closed before the head"), -1) : 0;
    bytes += got;
    conn->head[conn->head_bytes += got] = 0;
    char *end = strstr(conn->head, "\r\n\r\n");
    if (!end) return conn->head_bytes == HEAD_MAX - 1 ? (fail("head too long"), -1) : 0;
    size_t body = conn->head_bytes - (end + 4 - conn->head);
    conn->has_head = 1;
    if (!has_right_head(conn)) return fail("wrong status or fields"), -1;
    if (etag) return body ? (fail("304 with a body"), -1) : 1;
    return take(conn, end + 4, body) ? -1 : !conn->left;
}

static int read_body(struct conn *conn) {
    for (int budget = 16; budget--;) {
        int is_read = tls == READ || conn->left <= ENDS;
        size_t most = is_read ? conn->left : conn->left - ENDS;
        ssize_t got = get(conn, is_read ? scratch : NULL, most < CHUNK ? most : CHUNK);
        if (got <= 0) return got ? (fail("closed within the body"), -1) : 0;
        bytes += got;
        if (take(conn, is_read ? scratch : NULL, got)) return -1;
        if (!conn->left) return 1;
    }
    return 0;
}

static int skip(struct conn *conn) {
    for (int budget = 16; budget--;) {
        ssize_t got = get(conn, NULL, CHUNK);
        if (!got) return 0;
        if (got < 0 && conn->left) return fail("closed within the body"), -1;
        if (got < 0) return 1;
        bytes += got;
        conn->left -= (size_t)got < conn->left ? (size_t)got : conn->left;
    }
    return 0;
}

/* The body is tried right after the head: what OpenSSL has already read, epoll does not tell of. */
static int go_on(struct conn *conn) {
    if (tls == SKIP) return skip(conn);
    int is_done = conn->has_head ? 0 : read_head(conn);
    return is_done || !conn->has_head ? is_done : read_body(conn);
}

static void hear(struct conn *conn, double end_s) {
    int is_done = go_on(conn);
    if (!is_done) return;
    if (is_done > 0) {
        double now = now_s();
        if (requests < TIMES_MAX) times_s[requests] = now - conn->began_s;
        requests++;
    }
    int is_over = is_once || errors > ERRORS_MAX || now_s() >= end_s;
    if (is_over || is_done < 0 || tls == SKIP) hang_up(conn);
    if (is_over) return (void)alive--;
    if (conn->fd < 0) dial(conn);
    ask(conn);
}

static int by_size(const void *left, const void *right) {
    double difference = *(const double *)left - *(const double *)right;
    return (difference > 0) - (difference < 0);
}

static void report(double taken_s) {
    long count = requests < TIMES_MAX ? requests : TIMES_MAX;
    qsort(times_s, count, sizeof *times_s, by_size);
    double p50 = count ? times_s[count / 2] : 0, p99 = count ? times_s[count * 99 / 100] : 0;
    printf("{\"requests\": %ld, \"errors\": %ld, \"first_error\": \"%s\", \"body_bytes\": %ld, \"seconds\": %.6f, "
        "\"p50_ms\": %.4f, \"p99_ms\": %.4f, \"worst_ms\": %.4f}\n", requests, errors, first_error, bytes, taken_s,
        p50 * 1e3, p99 * 1e3, count ? times_s[count - 1] * 1e3 : 0);
}

static void read_words(int count, char **words) {
    port = atoi(words[1]);
    path = words[2];
    file = file_at(words[3]);
    for (int at = 4; at < count; at++) {
        const char *word = words[at];
        if (!strcmp(word, "once")) { is_once = 1; continue; }
        const char *value = ++at < count ? words[at] : "";
        if (!strcmp(word, "connections")) connections = atoi(value);
        else if (!strcmp(word, "seconds")) seconds = atof(value);
        else if (!strcmp(word, "range")) range = strtoul(value, NULL, 10);
        else if (!strcmp(word, "etag")) etag = value;
        else if (!strcmp(word, "tls")) tls = strcmp(value, "skip") ? READ : SKIP;
        else fprintf(stderr, "pull: %s?\n", word), exit(2);
    }
}

int main(int count, char **words) {
    if (count < 4) return fprintf(stderr, "usage: pull PORT PATH FILE [options]\n"), 2;
    signal(SIGPIPE, SIG_IGN);
    read_words(count, words);
#ifdef WITH_TLS
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
#else
    if (tls) return fprintf(stderr, "pull: built without OpenSSL\n"), 2;
#endif
    scratch = malloc(CHUNK);
    times_s = malloc(TIMES_MAX * sizeof *times_s);
    poll = epoll_create1(0);
    struct conn *all = calloc(connections, sizeof *all);
    alarm(2 * PATIENCE_S + (unsigned)seconds);
    for (int at = 0; at < connections; at++) dial(&all[at]);
    puts("ready");
    fflush(stdout);
    if (getchar() == EOF) return 1;
    double began_s = now_s(), end_s = began_s + seconds, hard_s = end_s + PATIENCE_S;
    for (int at = 0; at < connections; at++) ask(&all[at]);
    struct epoll_event events[EVENTS_MAX];
    for (alive = connections; alive && now_s() < hard_s;) {
        int ready = epoll_wait(poll, events, EVENTS_MAX, 1000);
        for (int at = 0; at < ready; at++) hear(events[at].data.ptr, end_s);
    }
    if (alive) fail("no end within a minute");
    report(now_s() - began_s);
    return 0;
}
