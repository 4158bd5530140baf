// Many WebSocket clients in one thread (epoll, 127.0.0.1). It reads commands from stdin and answers each by one line of
// JSON, so that whoever steers it can read the CPU of the servers exactly between two commands.
//
//   open N OUTSTANDING PORT AFTER   connect N more, so many at a time; with AFTER >= 0 each joins its room after that seq
//   closed SECONDS WINDOW           publish whenever fewer than WINDOW messages are not everywhere yet
//   paced SECONDS RATE              publish at a rate; delays count from the time at which a message was due
//   stall N                         the last N sockets are read no more
//   shut                            reset all connections
//
// environment: WS_PATH, WS_TOKENS (a file, one a line), WS_GREETED (1: the server speaks first), WS_ROOM (one id, or
// several with commas: sockets and messages go to them in turns), WS_MARKER (what a counted frame contains), WS_ACK (1:
// each message is acknowledged), WS_SIO (1: engine.io), WS_XMPP (1: XMPP over WebSocket; the first socket joins and sends,
// the others receive), WS_SIZE (bytes of content), WS_RCVBUF (bytes that the kernel takes for a client), PUBLISH (go,
// redis, http, xmpp), PUBLISH_PORT, REDIS_PASSWORD, HTTP_TOKEN
//
// The content of a message begins with its number. last_…: until the last socket has a message; post_…: until the sender
// is answered.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define PREFIX 1024
#define MOST 20000
#define POSTS 256
#define ROOMS 256
#define RING 8192       // messages whose arrivals are counted at a time
#define FEW 64      // With so few events it naps, so that it is not woken for each frame.
#define NAP_US 100

typedef struct {
  int fd, stage, step, header_len, prefix_len;
  unsigned char header[14];
  char prefix[PREFIX + 1];
  unsigned long left, length;
  char answer[2048];
  int answer_len;
  long seq, frames;
} Client;
enum { CLOSED, UPGRADING, GREETING, JOINING, OPEN, STALLED };
typedef struct {
  float *ms;
  long count, most;
} Series;

static Client clients[MOST];
static char *tokens[MOST], *rooms[ROOMS], *path, *marker, *how;
static int count, room_count, epoll, greeted, sio, xmpp, acks, publish_port, content_size = 200;
static long total, gaps, refused, lost, settled, after, last_seq;
static double started, settled_at[MOST];
static long first, sent, done;  // numbers: the first of this run, and the next; how many are everywhere
static double due_at[RING];
static int have[RING], readers;  // sockets that have a message; how many are to have it
static Series deliveries, lasts, posts;
static int each;  // every delivery is noted, not the last of each message alone
static int redis_fd = -1, post_fd[POSTS];
static long post_number[POSTS];  // -1: idle
static char room_for[1 << 18];

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *why) {
  printf("{\"error\":\"%s\"}\n", why);
  exit(1);
}

static int dial(int port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
  int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1, small = getenv("WS_RCVBUF") ? atoi(getenv("WS_RCVBUF")) : 0;
  if (small) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);  // before connect: it bounds the window
  inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (connect(fd, (void *)&to, sizeof to)) fail("cannot connect");
  return fd;
}

static void write_all(int fd, const char *bytes, long length) {
  while (length > 0) {
    long n = write(fd, bytes, length);
    if (n < 0 && errno == EAGAIN) { usleep(100); continue; }
    if (n <= 0) return;
    bytes += n, length -= n;
  }
}

static void say(Client *c, int opcode, const char *payload, int length) {  // masked with zeros: the same bytes
  char frame[4096];
  int at = 2;
  frame[0] = (char)(0x80 | opcode);
  if (length < 126) frame[1] = (char)(0x80 | length);
  else frame[1] = (char)(0x80 | 126), frame[2] = (char)(length >> 8), frame[3] = (char)length, at = 4;
  memset(frame + at, 0, 4);
  memcpy(frame + at + 4, payload, length);
  write_all(c->fd, frame, at + 4 + length);
}

static void settle(Client *c) {
  c->stage = OPEN;
  settled_at[settled++] = now() - started;
}

static const char *room_of(const Client *c) { return rooms[(c - clients) % room_count]; }

static void note(Series *s, double seconds) {
  if (s->count == s->most) {
    s->most = s->most ? 2 * s->most : 4096;
    if (!(s->ms = realloc(s->ms, s->most * sizeof *s->ms))) fail("no memory");
  }
  s->ms[s->count++] = (float)(seconds * 1e3);
}

#define XMPP_OPEN "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='localhost' version='1.0'/>"

static void say_text(Client *c, const char *text) { say(c, 1, text, (int)strlen(text)); }

static void join_by_xmpp(Client *c) {  // RFC 7395, RFC 6120; XEP-0175 for the login, XEP-0045 for the room
  static const char *until[] = {"features", "<success", "features", "<jid>", "code='110'"};
  char text[512];
  if (strstr(c->prefix, "<failure") || strstr(c->prefix, "type='error'")) {
    refused++, fprintf(stderr, "%s\n", c->prefix);
    return;
  }
  if (!strstr(c->prefix, until[c->step])) return;
  switch (c->step++) {
    case 0: say_text(c, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='ANONYMOUS'/>"); break;
    case 1: say_text(c, XMPP_OPEN); break;
    case 2:
      say_text(c, "<iq type='set' id='b' xmlns='jabber:client'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
      break;
    case 3:
      snprintf(text, sizeof text, "<presence xmlns='jabber:client' to='%s@conference.localhost/n%d'>"
               "<x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x></presence>",
               room_of(c), (int)(c - clients));
      say_text(c, text);
      break;
    default: settle(c);
  }
}

static void ready(Client *c) {  // it may speak now
  if (!xmpp && after < 0) { settle(c); return; }
  char join[256];
  c->stage = JOINING, c->seq = after, c->step = 0;
  if (xmpp) { say_text(c, XMPP_OPEN); return; }
  snprintf(join, sizeof join, "{\"type\":\"join_conversation\",\"id\":\"%s\",\"after\":%ld}", room_of(c), after);
  say_text(c, join);
}

static void arrived(Client *c) {
  char *tag = strstr(c->prefix, "~~");
  long number = tag ? atol(tag + 2) : first + c->frames - 1;
  if (number < first || number >= sent) return;
  double delay = now() - due_at[number % RING];
  if (xmpp && c == clients) { note(&posts, delay); return; }  // its own message comes back: it is accepted
  if (each) note(&deliveries, delay);
  if (++have[number % RING] == readers) note(&lasts, delay), done++;
}

static void counted(Client *c) {
  c->frames++;
  if (!xmpp || c != clients) total++;
  arrived(c);
  char *at = strstr(c->prefix, "\"seq\":");
  if (!at) return;
  long seq = atol(at + 6);
  if (seq != c->seq + 1) gaps++;
  c->seq = seq;
  if (!acks || c->stage != OPEN) return;
  char ack[160];
  snprintf(ack, sizeof ack, "{\"type\":\"ack\",\"conversationId\":\"%s\",\"seq\":%ld}", room_of(c), seq);
  say_text(c, ack);
}

static void on_frame(Client *c) {
  int opcode = c->header[0] & 15;
  c->prefix[c->prefix_len] = 0;
  if (opcode == 9) { say(c, 10, c->prefix, c->prefix_len); return; }
  if (opcode > 2) return;
  if (sio && c->prefix[0] == '0') { say(c, 1, "40", 2); return; }
  if (sio && c->prefix[0] == '2') { say(c, 1, "3", 1); return; }
  if (c->stage == GREETING) { ready(c); return; }
  if (xmpp && c->stage == JOINING) { join_by_xmpp(c); return; }
  if (!marker || strstr(c->prefix, marker)) { counted(c); return; }
  if (c->stage == JOINING && strstr(c->prefix, "\"type\":\"joined\"")) { settle(c); return; }
  if (strstr(c->prefix, xmpp ? "type='error'" : "\"type\":\"error\"")) { refused++; fprintf(stderr, "%s\n", c->prefix); }
}

static void feed(Client *c, unsigned char *bytes, long n) {
  while (n > 0) {
    if (c->left) {
      unsigned long take = c->left < (unsigned long)n ? c->left : (unsigned long)n;
      unsigned long room_left = PREFIX - c->prefix_len, keep = room_left < take ? room_left : take;
      memcpy(c->prefix + c->prefix_len, bytes, keep);
      c->prefix_len += keep, c->left -= take, bytes += take, n -= take;
      if (!c->left) { c->header_len = 0; on_frame(c); c->prefix_len = 0; }
      continue;
    }
    c->header[c->header_len++] = *bytes++, n--;
    if (c->header_len < 2) continue;
    int short_length = c->header[1] & 127, extra = short_length == 126 ? 2 : short_length == 127 ? 8 : 0;
    if (c->header_len < 2 + extra) continue;
    c->left = extra ? 0 : short_length;
    for (int i = 0; i < extra; i++) c->left = c->left << 8 | c->header[2 + i];
    if (!c->left) { c->header_len = 0; on_frame(c); c->prefix_len = 0; }
  }
}

static void upgraded(Client *c, char *bytes, long n) {
  if (c->answer_len + n > (long)sizeof c->answer - 1) fail("the answer to the handshake is too long");
  memcpy(c->answer + c->answer_len, bytes, n);
  c->answer_len += n, c->answer[c->answer_len] = 0;
  char *end = strstr(c->answer, "\r\n\r\n");
  if (!end) return;
  if (strncmp(c->answer, "HTTP/1.1 101", 12)) { fprintf(stderr, "%.200s\n", c->answer); fail("the handshake was refused"); }
  c->stage = GREETING;
  if (!greeted) ready(c);
  feed(c, (unsigned char *)end + 4, c->answer + c->answer_len - end - 4);
}

static void watch(int fd, unsigned number) {
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = number};
  fcntl(fd, F_SETFL, O_NONBLOCK);
  epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void connect_one(int port) {
  Client *c = &clients[count];
  char request[4096];
  memset(c, 0, sizeof *c);
  c->fd = dial(port), c->stage = UPGRADING, c->seq = last_seq;
  struct linger reset = {1, 0};
  setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  char *token = tokens[count];
  int length = sprintf(request,
      "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s%s%s%s\r\n",
      path, port, xmpp ? "Sec-WebSocket-Protocol: xmpp\r\n" : "", token ? "Authorization: Bearer " : "", token ? token : "", token ? "\r\n" : "");
  write_all(c->fd, request, length);
  watch(c->fd, count++);
}

static void post_answered(int n) {
  char answer[65536];
  long got = read(post_fd[n], answer, sizeof answer - 1);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) {  // a server ends a connection that was idle for long
    if (post_number[n] >= 0) fail("the HTTP connection was closed under a request");
    close(post_fd[n]), post_fd[n] = -1;
    return;
  }
  answer[got] = 0;
  char *status = strstr(answer, "HTTP/1.1 ");  // behind the rest of the answer before, perhaps
  if (!status) return;
  if (status[9] != '2') { fprintf(stderr, "%.400s\n", status); refused++; }
  if (post_number[n] >= first) note(&posts, now() - due_at[post_number[n] % RING]);
  post_number[n] = -1;
}

static int turn(int wait_ms) {
  struct epoll_event events[1024];
  int n = epoll_wait(epoll, events, 1024, wait_ms);
  for (int i = 0; i < n; i++) {
    unsigned number = events[i].data.u32;
    if (number >= MOST) { post_answered(number - MOST); continue; }
    Client *c = &clients[number];
    if (c->stage == CLOSED) continue;
    long got = read(c->fd, room_for, sizeof room_for);
    if (got < 0 && errno == EAGAIN) continue;
    if (got <= 0) {
      lost++, c->stage = CLOSED;
      epoll_ctl(epoll, EPOLL_CTL_DEL, c->fd, NULL);
    } else if (c->stage == UPGRADING) upgraded(c, room_for, got);
    else feed(c, (unsigned char *)room_for, got);
  }
  if (redis_fd >= 0) while (read(redis_fd, room_for, sizeof room_for) > 0) {}
  return n;
}

static int content(char *into) {  // as long as WS_SIZE says, and at least its number
  int n = sprintf(into, "~~%09ld ", sent);
  if (n < content_size) memset(into + n, 'x', content_size - n), n = content_size;
  return n;
}

static void publish_redis(void) {
  static char frame[70000], envelope[70100], command[70400];
  const char *room = rooms[sent % room_count];
  long seq = ++last_seq;
  int length = sprintf(frame, "{\"type\":\"new_message\",\"conversationId\":\"%s\",\"seq\":%ld,\"message\":{\"content\":\"", room, seq);
  length += content(frame + length);
  length += sprintf(frame + length, "\"}}");
  int whole = sprintf(envelope, "message %ld - %.*s", seq, length, frame);
  char channel[200];
  int named = snprintf(channel, sizeof channel, "conversation:%s:messages", room);
  int n = sprintf(command, "*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%s\r\n$%d\r\n", named, channel, whole);
  memcpy(command + n, envelope, whole);
  memcpy(command + n + whole, "\r\n", 2);
  write_all(redis_fd, command, n + whole + 2);
}

static int publish_http(void) {
  static char body[70000], request[72000];
  int n = 0;
  while (n < POSTS && post_number[n] >= 0) n++;
  if (n == POSTS) return 0;
  if (post_fd[n] <= 0) watch(post_fd[n] = dial(publish_port), MOST + n);
  int length = sprintf(body, "{\"conversationId\":\"%s\",\"type\":\"text\",\"clientMessageId\":\"%d-%ld\",\"content\":\"",
                       rooms[sent % room_count], getpid(), sent);
  length += content(body + length);
  length += sprintf(body + length, "\"}");
  int head = sprintf(request, "POST /messages HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
      "Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n", getenv("HTTP_TOKEN") ? getenv("HTTP_TOKEN") : "-", length);
  memcpy(request + head, body, length);
  post_number[n] = sent;
  write_all(post_fd[n], request, head + length);
  return 1;
}

static void publish_xmpp(void) {
  char text[3500];
  int n = sprintf(text, "<message xmlns='jabber:client' type='groupchat' id='m%ld' to='%.100s@conference.localhost'><body>", sent, rooms[0]);
  n += content(text + n);
  n += sprintf(text + n, "</body></message>");
  say(&clients[0], 1, text, n);
}

static int publish(double due) {  // 0: no connection is free
  due_at[sent % RING] = due, have[sent % RING] = 0;
  if (!strcmp(how, "go")) say(&clients[0], 1, "go", 2);
  else if (!strcmp(how, "redis")) publish_redis();
  else if (!strcmp(how, "xmpp")) publish_xmpp();
  else if (!publish_http()) return 0;
  sent++;
  return 1;
}

static int by_float(const void *a, const void *b) { return (*(float *)a > *(float *)b) - (*(float *)a < *(float *)b); }
static int by_double(const void *a, const void *b) { return (*(double *)a > *(double *)b) - (*(double *)a < *(double *)b); }
static double of_doubles(double *sorted, long n, double q) { return n ? sorted[(long)((n - 1) * q)] * 1e3 : 0; }

static void open_many(int n, int outstanding, int port, long from) {
  int first = count;
  total = gaps = refused = settled = 0, after = from, started = now();
  while (settled < n) {
    while (count - first < n && count - first - settled < outstanding) connect_one(port);
    turn(1000);
    if (refused || lost) fail("a join was refused, or a connection was closed");
    if (now() - started > 120) fail("not all could connect in 120 s");
  }
  double seconds = now() - started;
  qsort(settled_at, settled, sizeof *settled_at, by_double);
  printf("{\"seconds\":%.4f,\"p50_ms\":%.1f,\"p99_ms\":%.1f,\"frames\":%ld,\"gaps\":%ld}\n", seconds,
         of_doubles(settled_at, settled, .5), of_doubles(settled_at, settled, .99), total, gaps);
}

static void begin(int all_of_them) {
  int n = -xmpp;
  for (int i = 0; i < count; i++) n += clients[i].stage != STALLED, clients[i].frames = 0;
  if (n % room_count) fail("the rooms must have the same number of sockets");
  readers = n / room_count, each = all_of_them, first = sent, done = 0;
  deliveries.count = lasts.count = posts.count = 0;
  total = gaps = refused = 0, started = now();
}

static double at_share(Series *s, double q) { return s->count ? s->ms[(long)((s->count - 1) * q)] : 0; }

static void report(void) {
  double took = now() - started;
  Series *all[] = {&lasts, &posts, &deliveries};
  for (int i = 0; i < 3; i++) qsort(all[i]->ms, all[i]->count, sizeof(float), by_float);
  printf("{\"seconds\":%.4f,\"messages\":%ld,\"deliveries\":%ld,\"lost\":%ld,\"gaps\":%ld,\"last_p50_ms\":%.3f,"
         "\"last_p99_ms\":%.3f,\"longest_ms\":%.3f,\"post_p50_ms\":%.3f,\"post_p99_ms\":%.3f", took, sent - first, total,
         (sent - first) * readers - total, gaps, at_share(&lasts, .5), at_share(&lasts, .99), at_share(&lasts, 1),
         at_share(&posts, .5), at_share(&posts, .99));
  if (each) printf(",\"p50_ms\":%.3f,\"p99_ms\":%.3f", at_share(&deliveries, .5), at_share(&deliveries, .99));
  printf("}\n");
}

static void closed_loop(double seconds, int window) {
  begin(0);
  double end = started + seconds, patience = started;
  long before = 0;
  while (now() < end || done < sent - first) {
    while (now() < end && sent - first - done < window && publish(now())) {}
    if (turn(100) < FEW) usleep(NAP_US);
    if (refused || lost) fail("a message was refused, or a connection was closed");
    if (done > before) before = done, patience = now();
    if (now() - patience > 15) fail("a message did not arrive");
  }
  report();
}

static void paced(double seconds, double rate) {
  begin(1);
  long want = (long)(seconds * rate);
  while (done < want) {
    double left = started + (sent - first) / rate - now();
    if (sent - first < want && left <= 0 && publish(now() + left)) continue;
    turn(sent - first < want && left < .001 ? 0 : 1);  // a timeout is whole milliseconds: the last one is waited for awake
    if (refused) fail("a message was refused");
    if (now() - started > seconds + 30) break;
  }
  report();
}

static void stall(int n) {
  for (int i = count - n; i < count; i++) {
    epoll_ctl(epoll, EPOLL_CTL_DEL, clients[i].fd, NULL);
    clients[i].stage = STALLED;
  }
  printf("{\"stalled\":%d}\n", n);
}

static void shut(void) {
  for (int i = 0; i < count; i++) close(clients[i].fd), clients[i].stage = CLOSED;
  count = 0, lost = 0;
  printf("{}\n");
}

static void set_up(void) {
  char *file = getenv("WS_TOKENS"), *port = getenv("PUBLISH_PORT"), *password = getenv("REDIS_PASSWORD");
  path = getenv("WS_PATH") ? getenv("WS_PATH") : "/", marker = getenv("WS_MARKER");
  char *ids = getenv("WS_ROOM");
  for (char *id = ids ? strtok(ids, ",") : NULL; id && room_count < ROOMS; id = strtok(NULL, ",")) rooms[room_count++] = id;
  if (!room_count) rooms[room_count++] = "";
  for (int i = 0; i < POSTS; i++) post_number[i] = -1;
  how = getenv("PUBLISH") ? getenv("PUBLISH") : "go";
  greeted = getenv("WS_GREETED") != NULL, sio = getenv("WS_SIO") != NULL;
  xmpp = getenv("WS_XMPP") != NULL, acks = getenv("WS_ACK") != NULL;
  content_size = getenv("WS_SIZE") ? atoi(getenv("WS_SIZE")) : 200;
  publish_port = port ? atoi(port) : 0;
  if (file) {
    FILE *lines = fopen(file, "r");
    size_t length = 0;
    for (int i = 0; lines && i < MOST && getline(&tokens[i], &length, lines) > 0; i++, length = 0) strtok(tokens[i], "\n");
  }
  if (!strcmp(how, "redis")) {
    char auth[256];
    redis_fd = dial(publish_port);
    if (password) write_all(redis_fd, auth, sprintf(auth, "*2\r\n$4\r\nAUTH\r\n$%zu\r\n%s\r\n", strlen(password), password));
    fcntl(redis_fd, F_SETFL, O_NONBLOCK);
  }
}

int main(void) {
  char line[256];
  long from;
  double seconds, rate;
  int n, outstanding, port, window;
  setvbuf(stdout, NULL, _IOLBF, 0), setvbuf(stdin, NULL, _IONBF, 0);
  epoll = epoll_create1(0);
  set_up();
  for (;;) {
    struct epoll_event event;
    if (!fgets(line, sizeof line, stdin)) return 0;
    while (epoll_wait(epoll, &event, 1, 0) > 0) turn(0);  // what came since the last command
    if (sscanf(line, "open %d %d %d %ld", &n, &outstanding, &port, &from) == 4) open_many(n, outstanding, port, from);
    else if (sscanf(line, "closed %lf %d", &seconds, &window) == 2) closed_loop(seconds, window);
    else if (sscanf(line, "paced %lf %lf", &seconds, &rate) == 2) paced(seconds, rate);
    else if (sscanf(line, "stall %d", &n) == 1) stall(n);
    else if (!strncmp(line, "shut", 4)) shut();
    else fail("no such command");
  }
}
