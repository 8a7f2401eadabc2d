/* What the three programs of this benchmark share: sockets on loopback, files in memory, a clock. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_MAX = 256, BACKLOG = 4096 };

struct span { const char *bytes; size_t count; };

static inline void give_up(const char *what) { perror(what); exit(1); }

static inline double now_s(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec * 1e-9;
}

static inline struct sockaddr_in loopback(int port) {
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static inline void set(int fd, int level, int option, int value) { setsockopt(fd, level, option, &value, sizeof value); }

/* Port 0 takes a free one; port_of() tells which. */
static inline int listener_at(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in at = loopback(port);
    set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (bind(fd, (void *)&at, sizeof at) || listen(fd, BACKLOG)) give_up("listen");
    return fd;
}

static inline int port_of(int fd) {
    struct sockaddr_in at;
    socklen_t size = sizeof at;
    getsockname(fd, (void *)&at, &size);
    return ntohs(at.sin_port);
}

/* A blocking connection. A fixed receive buffer, because the kernel's tuning of it on loopback, whose packets have
 * 64 KiB, makes senders that cork wait. 0 leaves it alone. */
static inline int connection_to(int port, int receive_bytes) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = loopback(port);
    if (receive_bytes) set(fd, SOL_SOCKET, SO_RCVBUF, receive_bytes);
    if (connect(fd, (void *)&at, sizeof at)) give_up("connect");
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    return fd;
}

static inline void watch(int poll, int operation, int fd, uint32_t events, void *who) {
    struct epoll_event event = {events, {.ptr = who}};
    epoll_ctl(poll, operation, fd, &event);
}

static inline struct span file_at(const char *path) {
    struct stat found;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &found)) give_up(path);
    void *bytes = mmap(NULL, found.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (bytes == MAP_FAILED) give_up(path);
    close(fd);
    return (struct span){bytes, found.st_size};
}

static inline struct span file_in(const char *folder, const char *name) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return file_at(path);
}

/* First and last byte of "Range: bytes=A-B"; 0 when there is none within so many bytes. */
static inline int range_in(const char *request, size_t count, size_t *first, size_t *last) {
    const char *at = strcasestr(request, "\r\nRange: bytes=");
    if (!at || sscanf(at + 15, "%zu-%zu", first, last) != 2 || *first > *last || *first >= count) return 0;
    if (*last >= count) *last = count - 1;
    return 1;
}
