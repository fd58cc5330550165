/*
 * A sink: smtp_sink PORT
 *
 * Takes mail on 127.0.0.1 and throws it away, with bare ph_smtp_server sessions on sockets of its own: one thread, one
 * poll(2) loop, no instance. It shows who does what: the host owns sockets and clock and decides, the session speaks
 * SMTP. Prints "ready smtp=..." and a line for each message; ends when its standard input ends.
 *
 *     cc smtp_sink.c -o smtp_sink -lposthouse
 */
#define _POSIX_C_SOURCE 200112L
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "posthouse.h"

enum { CONNECTIONS = 256, INPUT = 16384 };

struct connection {
    ph_smtp_server *session;
    size_t len;                /* octets of input that are not consumed yet */
    uint8_t input[INPUT];
};

static struct connection *connections[CONNECTIONS + 2];
static struct pollfd polled[CONNECTIONS + 2]; /* 0: standard input, 1: listener, then connections */
static nfds_t count = 2;

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Writes what is pending; 0 when the socket takes no more now, -1 when it is broken. */
static int drain(struct connection *c, int socket)
{
    ph_bytes pending;
    for (ph_smtp_server_output(c->session, &pending); pending.len > 0;
         ph_smtp_server_output(c->session, &pending)) {
        ssize_t written = send(socket, pending.data, pending.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (written <= 0)
            return written < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? 0 : -1;
        ph_smtp_server_output_sent(c->session, (size_t)written);
    }
    return 1;
}

/* Steps a session as far as it goes. -1: the connection is over. */
static int advance(struct connection *c, int socket)
{
    ph_smtp_event event = PH_SMTP_EVENT_INIT;
    size_t consumed, used = 0;
    int over = 0;
    for (;;) {
        if (ph_smtp_server_step(c->session, now_ms(), c->input + used, c->len - used, &consumed, &event) != PH_OK)
            return -1;
        used += consumed;
        if (event.kind == PH_SMTP_DATA_END)
            printf("message of %lu octets\n", (unsigned long)event.size);
        if (event.kind == PH_SMTP_AUTH)
            ph_smtp_server_auth(c->session, PH_AUTH_REFUSE);
        else if (event.flags & PH_SMTP_FLAG_PAUSED)
            ph_smtp_server_accept(c->session); /* everything is welcome */
        over = event.kind == PH_SMTP_CLOSED;
        if (event.kind == PH_SMTP_NEED_INPUT || event.kind == PH_SMTP_BLOCKED || over) {
            int written = drain(c, socket);
            if (written < 0 || over)
                return -1;
            if (written == 0 || event.kind == PH_SMTP_NEED_INPUT)
                break;
        }
    }
    memmove(c->input, c->input + used, c->len - used);
    c->len -= used;
    return 0;
}

static void add(int socket)
{
    struct connection *c = calloc(1, sizeof *c);
    ph_smtp_server_options options = PH_SMTP_SERVER_OPTIONS_INIT;
    options.hostname = "sink.example.test";
    if (count == CONNECTIONS + 2 || c == NULL
        || ph_smtp_server_new(&options, now_ms(), &c->session, NULL) != PH_OK || advance(c, socket) != 0) {
        if (c != NULL)
            ph_smtp_server_free(c->session);
        free(c);
        close(socket);
        return;
    }
    connections[count] = c;
    polled[count].fd = socket;
    polled[count++].events = POLLIN;
}

static void drop(nfds_t i)
{
    close(polled[i].fd);
    ph_smtp_server_free(connections[i]->session);
    free(connections[i]);
    polled[i] = polled[--count];
    connections[i] = connections[count];
}

int main(int argc, char **argv)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    nfds_t i;
    char line[256];
    int on = 1;

    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((unsigned short)(argc > 1 ? atoi(argv[1]) : 0));
    polled[1].fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(polled[1].fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(polled[1].fd, (struct sockaddr *)&address, size) != 0 || listen(polled[1].fd, 128) != 0
        || getsockname(polled[1].fd, (struct sockaddr *)&address, &size) != 0)
        return perror("smtp_sink"), 1;
    polled[0].fd = STDIN_FILENO;
    polled[0].events = polled[1].events = POLLIN;
    printf("ready smtp=127.0.0.1:%u\n", (unsigned)ntohs(address.sin_port));
    for (;;) {
        uint64_t now, next = PH_NEVER;
        fflush(stdout);
        for (i = 2; i < count; i++) {
            uint64_t deadline = ph_smtp_server_deadline(connections[i]->session);
            ph_bytes pending;
            next = deadline < next ? deadline : next;
            ph_smtp_server_output(connections[i]->session, &pending);
            polled[i].events = pending.len > 0 ? POLLOUT : POLLIN;
        }
        now = now_ms();
        poll(polled, count, next == PH_NEVER ? -1 : next <= now ? 0 : next - now > 60000 ? 60000 : (int)(next - now));
        if (polled[0].revents != 0 && read(STDIN_FILENO, line, sizeof line) <= 0)
            break;
        for (i = count; i-- > 2;) {
            struct connection *c = connections[i];
            int over = 0;
            if (polled[i].revents & POLLIN) {
                ssize_t got = recv(polled[i].fd, c->input + c->len, INPUT - c->len, MSG_DONTWAIT);
                if (got > 0)
                    c->len += (size_t)got;
                else if (got == 0)
                    ph_smtp_server_eof(c->session, now_ms());
            } else if (polled[i].revents & (POLLERR | POLLHUP | POLLNVAL)) {
                over = 1;
            }
            if (polled[i].revents & POLLOUT)
                over = drain(c, polled[i].fd) < 0;
            if (over || advance(c, polled[i].fd) != 0)
                drop(i);
        }
        if (polled[1].revents & POLLIN) {
            int socket = accept(polled[1].fd, NULL, NULL);
            if (socket >= 0)
                add(socket);
        }
    }
    while (count > 2)
        drop(count - 1);
    return close(polled[1].fd) != 0;
}
