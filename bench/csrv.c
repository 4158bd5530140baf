// The least that a delivery can cost: for each "go" that comes in, one send() of a ready frame to every socket. No
// WebSocket library, no queue, no user. What a server needs beyond it is its own.
//   csrv PORT
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST 20000
#define PAYLOAD 300
#define GO 8  // bytes of a masked frame of two

static const char HELLO[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
static int sockets[MOST], count;
static char greeted[MOST + 100], bytes[65536], frame[4 + PAYLOAD] = {(char)0x81, 126, PAYLOAD >> 8, PAYLOAD & 255};

static void broadcast(void) {
  for (int i = 0; i < count; i++)
    if (send(sockets[i], frame, sizeof frame, MSG_NOSIGNAL) != sizeof frame) perror("send");
}

static void forget(int fd) {
  for (int i = 0; i < count; i++)
    if (sockets[i] == fd) { sockets[i] = sockets[--count]; break; }
  greeted[fd] = 0;
  close(fd);
}

static void readable(int fd) {
  long n = read(fd, bytes, sizeof bytes);
  if (n <= 0) { forget(fd); return; }
  if (!greeted[fd]) {
    greeted[fd] = write(fd, HELLO, sizeof HELLO - 1) > 0;
    return;
  }
  for (long rounds = n / GO; rounds > 0; rounds--) broadcast();
}

int main(int argc, char **argv) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 0)};
  int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1, epoll = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[512];
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  inet_pton(AF_INET, "127.0.0.1", &at.sin_addr);
  if (bind(listener, (void *)&at, sizeof at) || listen(listener, 4096)) return perror("listen"), 1;
  epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
  memset(frame + 4, 'x', PAYLOAD);
  for (;;) {
    int n = epoll_wait(epoll, events, 512, -1);
    for (int i = 0; i < n; i++) {
      if (events[i].data.fd != listener) { readable(events[i].data.fd); continue; }
      int fd = accept(listener, NULL, NULL);
      if (fd < 0 || fd >= MOST + 100 || count == MOST) { if (fd >= 0) close(fd); continue; }
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
      sockets[count++] = fd, event.data.fd = fd;
      epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
  }
}
