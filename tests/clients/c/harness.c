#define _GNU_SOURCE
#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

const char *servers, *root;
static const char *self, *check_name, *told;

void fail(const char *file, int line, const char *format, ...) {
    char why[4096];
    va_list values;
    va_start(values, format);
    vsnprintf(why, sizeof why, format, values);
    va_end(values);
    for (char *c = why; *c; c++) {
        if (*c == '\n') *c = ' ';
    }
    printf("FAILED %s: %s (%s:%d)\n", check_name, why, file, line);
    fflush(stdout);
    _exit(1);
}

char *text(const char *format, ...) {
    char *made;
    va_list values;
    va_start(values, format);
    int length = vasprintf(&made, format, values);
    va_end(values);
    REQUIRE(length >= 0);
    return made;
}

static struct timespec deadline(void) {
    struct timespec when;
    clock_gettime(CLOCK_REALTIME, &when);
    when.tv_sec += DEADLINE;
    return when;
}

struct events *events(void) {
    struct events *made = calloc(1, sizeof *made);
    REQUIRE(made != NULL);
    pthread_mutex_init(&made->mutex, NULL);
    pthread_cond_init(&made->came, NULL);
    return made;
}

void tell(zhandle_t *zh, int type, int state, const char *path, void *context) {
    struct events *to = context;
    (void)zh;
    pthread_mutex_lock(&to->mutex);
    REQUIRE(to->after < EVENTS);
    struct event *event = &to->queue[to->after++];
    event->type = type;
    event->state = state;
    snprintf(event->path, sizeof event->path, "%s", path ? path : "");
    pthread_cond_broadcast(&to->came);
    pthread_mutex_unlock(&to->mutex);
}

struct event next(struct events *from) {
    struct timespec when = deadline();
    pthread_mutex_lock(&from->mutex);
    while (from->first == from->after) {
        if (pthread_cond_timedwait(&from->came, &from->mutex, &when) == ETIMEDOUT) {
            FAIL("no event within %d s", DEADLINE);
        }
    }
    struct event event = from->queue[from->first++];
    pthread_mutex_unlock(&from->mutex);
    return event;
}

void fires(struct events *from, int type, const char *path) {
    struct event event;
    do {
        event = next(from);
        /* what is asked of a session's state goes to every watcher */
    } while (event.type == ZOO_SESSION_EVENT);
    if (event.type != type || strcmp(event.path, path) != 0) {
        FAIL("the event is %d of %s, not %d of %s", event.type, event.path, type, path);
    }
}

bool silent(struct events *from) {
    bool none = true;
    pthread_mutex_lock(&from->mutex);
    for (int n = from->first; n < from->after; n++) none = none && from->queue[n].type == ZOO_SESSION_EVENT;
    pthread_mutex_unlock(&from->mutex);
    return none;
}

void until_state(struct events *from, int state) {
    struct event event;
    do {
        event = next(from);
    } while (event.type != ZOO_SESSION_EVENT || event.state != state);
}

struct client client_begun(const char *hosts, int timeout, const clientid_t *id) {
    struct client client = {.states = events()};
    client.zh = zookeeper_init(hosts, tell, timeout, id, client.states, ZOO_NO_LOG_CLIENTENV);
    if (!client.zh) FAIL("zookeeper_init: %s", strerror(errno));
    return client;
}

struct client client_for(const char *hosts, int timeout, const clientid_t *id) {
    struct client client = client_begun(hosts, timeout, id);
    until_state(client.states, ZOO_CONNECTED_STATE);
    return client;
}

struct client client(void) { return client_for(servers, SESSION, NULL); }

struct client client_of_one_server(int timeout) {
    struct client any = client();
    const char *host = text("127.0.0.1:%d", port(&any));
    zookeeper_close(any.zh);
    return client_for(host, timeout, NULL);
}

void reconnected(struct client *client) {
    until_state(client->states, ZOO_CONNECTING_STATE);
    until_state(client->states, ZOO_CONNECTED_STATE);
}

int port(struct client *client) {
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    REQUIRE(zookeeper_get_connected_host(client->zh, (struct sockaddr *)&address, &length) != NULL);
    return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

int64_t session_id(struct client *client) { return zoo_client_id(client->zh)->client_id; }

void create(struct client *client, const char *path, const char *data, int mode) {
    OK(zoo_create(client->zh, path, data, data ? (int)strlen(data) : -1, &ZOO_OPEN_ACL_UNSAFE, mode, NULL, 0));
}

char *create_numbered(struct client *client, const char *path, int mode) {
    char made[PATH];
    OK(zoo_create(client->zh, path, NULL, -1, &ZOO_OPEN_ACL_UNSAFE, mode, made, sizeof made));
    return text("%s", made);
}

char *get(struct client *client, const char *path, struct Stat *stat) {
    char data[4096];
    int length = sizeof data - 1;
    OK(zoo_get(client->zh, path, 0, data, &length, stat));
    data[length < 0 ? 0 : length] = 0;
    return text("%s", data);
}

void set(struct client *client, const char *path, const char *data) {
    OK(zoo_set(client->zh, path, data, (int)strlen(data), -1));
}

bool exists(struct client *client, const char *path, struct Stat *stat) {
    struct Stat unused;
    int code = zoo_exists(client->zh, path, 0, stat ? stat : &unused);
    if (code != ZNONODE) OK(code);
    return code == ZOK;
}

static int in_order(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

struct String_vector children(struct client *client, const char *path) {
    struct String_vector names;
    OK(zoo_get_children(client->zh, path, 0, &names));
    qsort(names.data, (size_t)names.count, sizeof *names.data, in_order);
    return names;
}

static void synced(int code, const char *path, const void *data) {
    tell(NULL, code, 0, path, (void *)data);
}

void await_sync(struct client *client, const char *path) {
    struct events *done = events();
    OK(zoo_async(client->zh, path, synced, done));
    OK(next(done).type);
}

pthread_t spawn(void *(*work)(void *), void *with) {
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, work, with) == 0);
    return thread;
}

void join(pthread_t thread) {
    struct timespec when = deadline();
    if (pthread_timedjoin_np(thread, NULL, &when) != 0) FAIL("a thread did not end within %d s", DEADLINE);
}

pid_t program(const char *role, char *said, int size) {
    int output[2];
    REQUIRE(pipe(output) == 0);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        dup2(output[1], STDOUT_FILENO);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl(self, self, told, "--as", role, root, (char *)NULL);
        _exit(127);
    }
    close(output[1]);
    FILE *from = fdopen(output[0], "r");
    if (!fgets(said, size, from)) FAIL("the other program said nothing");
    fclose(from);
    return pid;
}

void kill_program(pid_t pid) {
    REQUIRE(kill(pid, SIGKILL) == 0);
    REQUIRE(waitpid(pid, NULL, 0) == pid);
}

void stays(const char *says) {
    printf("%s\n", says);
    fflush(stdout);
    for (;;) pause();
}

void control(const char *word) {
    char answer[16];
    printf("control %s\n", word);
    fflush(stdout);
    /* unbuffered: the next check's process reads on where this one stopped */
    setvbuf(stdin, NULL, _IONBF, 0);
    if (!fgets(answer, sizeof answer, stdin) || strcmp(answer, "done\n") != 0) FAIL("the runner is gone");
}

/* Whether a check passes, in a process of its own. */
static bool passes(const struct check *check) {
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        check_name = check->name;
        root = text("/%s", check->name);
        check->run();
        printf("ok %s\n", check->name);
        fflush(stdout);
        _exit(0);
    }
    int status = 0;
    for (int waited = 0; waitpid(pid, &status, WNOHANG) == 0; waited++) {
        /* hundredths of a second: what it waits for is a process, not what is checked */
        if (waited > HANGS * 100) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            break;
        }
        usleep(10000);
    }
    if (WIFSIGNALED(status)) {
        printf("FAILED %s: ended by signal %d, or did not end within %d s\n", check->name, WTERMSIG(status), HANGS);
    }
    check_name = "the runner";
    if (status != 0) control("heal");
    return status == 0;
}

int main(int count, char **arguments) {
    if (count < 2) return 2;
    self = "/proc/self/exe";
    told = arguments[1];
    /* version 3.8 goes two servers on at each attempt: of two it would try only one */
    servers = text("%s,%.*s", told, (int)strcspn(told, ","), told);
    /* none: it tells of every attempt to reach a server that is dead */
    zoo_set_debug_level((ZooLogLevel)0);
    if (count == 5 && strcmp(arguments[2], "--as") == 0) {
        check_name = arguments[3];
        root = arguments[4];
        for (const struct check *role = roles; role->name; role++) {
            if (strcmp(role->name, arguments[3]) == 0) role->run();
        }
        return 2;
    }
    bool all = true;
    for (const struct check *check = checks; check->name; check++) {
        if (count < 3 || strstr(check->name, arguments[2])) all = passes(check) && all;
    }
    return all ? 0 : 1;
}
