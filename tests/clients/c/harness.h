/* What the checks stand on: clients, events with deadlines, threads, a program that dies, the runner's control. */
#ifndef HARNESS_H
#define HARNESS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <zookeeper/zookeeper.h>

#define DEADLINE 30     /* seconds for what must come; only a deadline */
#define HANGS 90        /* seconds after which a check has hung */
#define SESSION 10000   /* milliseconds: sessions that must not expire on a busy machine */
#define SHORT 1000      /* milliseconds: sessions that are to expire */
#define PATH 1024       /* bytes for a path that the server makes */
#define EVENTS 4096     /* events that one queue holds */

/* A check that fails ends its process, which is its own. */
#define FAIL(...) fail(__FILE__, __LINE__, __VA_ARGS__)
#define REQUIRE(condition) do { if (!(condition)) FAIL("not so: %s", #condition); } while (0)
#define EQUAL(found, wanted) \
    do { \
        long long found_ = (long long)(found), wanted_ = (long long)(wanted); \
        if (found_ != wanted_) FAIL("%s is %lld, not %lld", #found, found_, wanted_); \
    } while (0)
#define SAME(found, wanted) \
    do { \
        const char *found_ = (found), *wanted_ = (wanted); \
        if (strcmp(found_, wanted_) != 0) FAIL("%s is '%s', not '%s'", #found, found_, wanted_); \
    } while (0)
/* A call that must give just this code. */
#define GIVES(call, wanted) \
    do { \
        int code_ = (call), wanted_ = (wanted); \
        if (code_ != wanted_) FAIL("%s: %s, not %s", #call, zerror(code_), zerror(wanted_)); \
    } while (0)
#define OK(call) GIVES(call, ZOK)

void fail(const char *file, int line, const char *format, ...) __attribute__((noreturn, format(printf, 3, 4)));

/* A string made as printf makes it; never freed, as a check's process is short. */
char *text(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* What a watcher was called with, in order. */
struct event {
    int type, state;
    char path[PATH];
};

struct events {
    pthread_mutex_t mutex;
    pthread_cond_t came;
    int first, after;
    struct event queue[EVENTS];
};

struct events *events(void);
/* A watcher whose context is a struct events. */
void tell(zhandle_t *zh, int type, int state, const char *path, void *context);
struct event next(struct events *from);
/* The next event must be this one. */
void fires(struct events *from, int type, const char *path);
bool silent(struct events *from);
/* Waits for a state of the session among the events of a client. */
void until_state(struct events *from, int state);

struct client {
    zhandle_t *zh;
    struct events *states; /* what the handle's own watcher was called with: the session's states, and its watches */
};

extern const char *servers;
/* Where the check may put nodes: a path of its own. */
extern const char *root;

struct client client(void);
/* A client with all that may be chosen; an id of 0 is a new session. */
struct client client_for(const char *hosts, int timeout, const clientid_t *id);
/* Without waiting for the session. */
struct client client_begun(const char *hosts, int timeout, const clientid_t *id);
/* A client that knows one server, which serves. */
struct client client_of_one_server(int timeout);
/* Waits until a client that lost its server is on another one. */
void reconnected(struct client *client);
int port(struct client *client);
int64_t session_id(struct client *client);

/* The usual calls. */
void create(struct client *client, const char *path, const char *data, int mode);
char *create_numbered(struct client *client, const char *path, int mode);
char *get(struct client *client, const char *path, struct Stat *stat);
void set(struct client *client, const char *path, const char *data);
bool exists(struct client *client, const char *path, struct Stat *stat);
/* The children in order. */
struct String_vector children(struct client *client, const char *path);
void await_sync(struct client *client, const char *path);

pthread_t spawn(void *(*work)(void *), void *with);
void join(pthread_t thread);

/* This program again, as a process of its own that a check may kill; what it says when it is ready. */
pid_t program(const char *role, char *said, int size);
void kill_program(pid_t pid);
/* Ends a program of its own: it lives until it is killed. */
void stays(const char *says);

/* Has the runner do something to the servers; it is done when this returns. */
void control(const char *word);

struct check {
    const char *name;
    void (*run)(void);
};
extern const struct check checks[], roles[];

#endif
