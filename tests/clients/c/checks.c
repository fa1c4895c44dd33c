/* What users of ZooKeeper's C client rely on: see ../README.md. */
#define _GNU_SOURCE
#include "recipes.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* sessions */

static void session_ends_with_its_ephemerals(void) {
    struct client watching = client(), leaving = client();
    struct Stat stat;
    struct events *gone = events();
    create(&leaving, root, "here", ZOO_EPHEMERAL);
    await_sync(&watching, root);
    OK(zoo_wexists(watching.zh, root, tell, gone, &stat));
    REQUIRE(session_id(&leaving) != 0);
    EQUAL(stat.ephemeralOwner, session_id(&leaving));
    OK(zookeeper_close(leaving.zh));
    fires(gone, ZOO_DELETED_EVENT, root);
    REQUIRE(!exists(&watching, root, NULL));
}

static void session_timeout_is_agreed(void) {
    struct client hasty = client_for(servers, 10, NULL), usual = client(), patient = client_for(servers, 1000000, NULL);
    EQUAL(zoo_recv_timeout(hasty.zh), 1000);
    EQUAL(zoo_recv_timeout(usual.zh), SESSION);
    EQUAL(zoo_recv_timeout(patient.zh), 60000);
}

static void holds_ephemeral(void) {
    struct client holder = client_for(servers, SHORT, NULL);
    create(&holder, root, NULL, ZOO_EPHEMERAL);
    stays("ready");
}

static void session_of_a_dead_program_expires(void) {
    char said[64];
    pid_t pid = program("holds_ephemeral", said, sizeof said);
    SAME(said, "ready\n");
    struct client c = client();
    struct events *gone = events();
    struct Stat stat;
    await_sync(&c, root);
    OK(zoo_wexists(c.zh, root, tell, gone, &stat));
    kill_program(pid);
    fires(gone, ZOO_DELETED_EVENT, root);
}

static char *hex(const clientid_t *id) {
    char *made = text("%016llx", (unsigned long long)id->client_id);
    for (int n = 0; n < 16; n++) made = text("%s%02x", made, (unsigned char)id->passwd[n]);
    return made;
}

static clientid_t from_hex(const char *said) {
    clientid_t id;
    REQUIRE(strlen(said) == 49);
    id.client_id = (int64_t)strtoull(text("%.16s", said), NULL, 16);
    for (int n = 0; n < 16; n++) id.passwd[n] = (char)strtoul(text("%.2s", said + 16 + 2 * n), NULL, 16);
    return id;
}

static void leaves_a_session(void) {
    struct client holder = client();
    create(&holder, root, NULL, ZOO_EPHEMERAL);
    stays(hex(zoo_client_id(holder.zh)));
}

static void session_of_a_dead_program_is_taken_up(void) {
    char said[64];
    pid_t pid = program("leaves_a_session", said, sizeof said);
    kill_program(pid);
    clientid_t id = from_hex(said), forged = id;
    struct client heir = client_for(servers, SESSION, &id);
    struct Stat stat;
    EQUAL(session_id(&heir), id.client_id);
    REQUIRE(exists(&heir, root, &stat));
    EQUAL(stat.ephemeralOwner, id.client_id);
    OK(zookeeper_close(heir.zh));

    struct client c = client(), other = client();
    await_sync(&c, root);
    REQUIRE(!exists(&c, root, NULL));
    /* with another password, or after its end, there is no such session */
    for (int n = 0; n < 2; n++) {
        forged = n == 0 ? *zoo_client_id(other.zh) : id;
        if (n == 0) forged.passwd[0] ^= 1;
        struct client refused = client_begun(servers, SESSION, &forged);
        until_state(refused.states, ZOO_EXPIRED_SESSION_STATE);
        EQUAL(is_unrecoverable(refused.zh), ZINVALIDSTATE);
    }
    create(&c, root, NULL, ZOO_PERSISTENT);
}

static void session_that_expired_is_told_so(void) {
    control("alone");
    struct client watching = client(), c = client_of_one_server(SHORT);
    struct events *own = events(), *gone = events();
    struct Stat stat;
    create(&c, root, NULL, ZOO_EPHEMERAL);
    OK(zoo_wexists(c.zh, root, tell, own, &stat));
    await_sync(&watching, root);
    OK(zoo_wexists(watching.zh, root, tell, gone, &stat));
    /* the only server that this client knows */
    control("move");
    fires(gone, ZOO_DELETED_EVENT, root);
    OK(zoo_set_servers(c.zh, servers));
    until_state(c.states, ZOO_EXPIRED_SESSION_STATE);
    until_state(own, ZOO_EXPIRED_SESSION_STATE);
    EQUAL(zoo_state(c.zh), ZOO_EXPIRED_SESSION_STATE);
    EQUAL(is_unrecoverable(c.zh), ZINVALIDSTATE);
    GIVES(zoo_exists(c.zh, root, 0, &stat), ZINVALIDSTATE);
    zookeeper_close(c.zh);
    control("heal");
}

static void session_goes_on_at_another_server(void) {
    control("alone");
    struct client c = client(), other = client();
    int64_t id = session_id(&c);
    int before = port(&c);
    struct events *data = events(), *made = events(), *kids = events();
    struct Stat stat;
    struct String_vector names;
    int length = 0;
    create(&c, root, NULL, ZOO_PERSISTENT);
    const char *own = text("%s/own", root), *kept = text("%s/data", root), *fresh = text("%s/new", root);
    create(&c, own, NULL, ZOO_EPHEMERAL);
    create(&c, kept, NULL, ZOO_PERSISTENT);
    OK(zoo_wget(c.zh, kept, tell, data, NULL, &length, NULL));
    GIVES(zoo_wexists(c.zh, fresh, tell, made, &stat), ZNONODE);
    OK(zoo_wget_children(c.zh, root, tell, kids, &names));
    /* and the handle's own watcher */
    OK(zoo_exists(c.zh, own, 1, &stat));
    control("move");
    reconnected(&c);
    reconnected(&other);
    REQUIRE(port(&c) != before);
    EQUAL(session_id(&c), id);
    REQUIRE(exists(&other, own, &stat));
    EQUAL(stat.ephemeralOwner, id);
    REQUIRE(silent(data) && silent(made) && silent(kids));
    set(&other, kept, "1");
    fires(data, ZOO_CHANGED_EVENT, kept);
    create(&other, fresh, NULL, ZOO_PERSISTENT);
    fires(made, ZOO_CREATED_EVENT, fresh);
    fires(kids, ZOO_CHILD_EVENT, root);
    OK(zoo_delete(other.zh, own, -1));
    fires(c.states, ZOO_DELETED_EVENT, own);
    control("heal");
}

/* The socket of the only client that there is yet. */
static int socket_of(struct client *client) {
    for (int fd = 3; fd < 256; fd++) {
        struct sockaddr_in address;
        socklen_t length = sizeof address;
        if (getpeername(fd, (struct sockaddr *)&address, &length) == 0 && ntohs(address.sin_port) == port(client)) return fd;
    }
    FAIL("no socket");
}

static void watches_hear_what_they_missed(void) {
    struct client c = client();
    int fd = socket_of(&c);
    struct client other = client();
    struct events *data = events(), *gone = events(), *kids = events(), *made = events();
    struct Stat stat;
    struct String_vector names;
    int length = 0;
    const char *a = text("%s/a", root), *b = text("%s/b", root), *n = text("%s/n", root);
    create(&other, root, NULL, ZOO_PERSISTENT);
    create(&other, a, NULL, ZOO_PERSISTENT);
    create(&other, b, NULL, ZOO_PERSISTENT);
    await_sync(&c, root);
    OK(zoo_wget(c.zh, a, tell, data, NULL, &length, NULL));
    OK(zoo_wexists(c.zh, b, tell, gone, &stat));
    GIVES(zoo_wexists(c.zh, n, tell, made, &stat), ZNONODE);
    OK(zoo_wget_children(c.zh, root, tell, kids, &names));
    int64_t id = session_id(&c);
    /* whether it is away when a change is made or not: it hears of it, once */
    shutdown(fd, SHUT_RDWR);
    set(&other, a, "missed");
    OK(zoo_delete(other.zh, b, -1));
    create(&other, n, NULL, ZOO_PERSISTENT);
    reconnected(&c);
    fires(data, ZOO_CHANGED_EVENT, a);
    fires(gone, ZOO_DELETED_EVENT, b);
    fires(made, ZOO_CREATED_EVENT, n);
    fires(kids, ZOO_CHILD_EVENT, root);
    EQUAL(session_id(&c), id);
    await_sync(&c, root);
    REQUIRE(silent(data) && silent(gone) && silent(made) && silent(kids));
}

static void client_is_told_of_other_servers(void) {
    control("alone");
    struct client c = client_of_one_server(SESSION);
    int64_t id = session_id(&c);
    create(&c, root, NULL, ZOO_EPHEMERAL);
    control("move");
    until_state(c.states, ZOO_CONNECTING_STATE);
    OK(zoo_set_servers(c.zh, servers));
    until_state(c.states, ZOO_CONNECTED_STATE);
    struct Stat stat;
    REQUIRE(exists(&c, root, &stat));
    EQUAL(stat.ephemeralOwner, id);
    control("heal");
}

static void *writes(void *with) {
    struct events *begun = with;
    struct client c = client();
    for (int n = 0; n < 200; n++) {
        const char *path = text("%s/%03d", root, n);
        int code;
        do {
            code = zoo_create(c.zh, path, NULL, -1, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, NULL, 0);
        } while (code == ZCONNECTIONLOSS || code == ZOPERATIONTIMEOUT);
        /* it may have been made, and only the answer lost */
        if (code != ZNODEEXISTS) OK(code);
        tell(NULL, n, 0, path, begun);
    }
    return NULL;
}

static void writes_go_on_while_the_server_dies(void) {
    control("alone");
    struct client c = client();
    struct events *begun = events();
    struct Stat stat;
    create(&c, root, NULL, ZOO_PERSISTENT);
    pthread_t writer = spawn(writes, begun);
    while (next(begun).type < 20) {
    }
    control("move");
    join(writer);
    reconnected(&c);
    await_sync(&c, root);
    REQUIRE(exists(&c, root, &stat));
    EQUAL(stat.numChildren, 200);
    EQUAL(stat.cversion, 200);
    control("heal");
}

/* nodes */

static void nodes(void) {
    struct client c = client();
    struct Stat stat, newer, found;
    char made[PATH];
    OK(zoo_create2(c.zh, root, "one", 3, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, made, sizeof made, &stat));
    SAME(made, root);
    REQUIRE(stat.version == 0 && stat.dataLength == 3 && stat.numChildren == 0 && stat.ephemeralOwner == 0);
    REQUIRE(stat.czxid == stat.mzxid && stat.czxid == stat.pzxid && stat.ctime == stat.mtime && stat.aversion == 0);
    SAME(get(&c, root, &found), "one");
    REQUIRE(stat.czxid == found.czxid && stat.mzxid == found.mzxid && stat.ctime == found.ctime && found.version == 0);
    GIVES(zoo_create(c.zh, root, NULL, -1, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0), ZNODEEXISTS);
    OK(zoo_set2(c.zh, root, "three", 5, 0, &newer));
    REQUIRE(newer.version == 1 && newer.czxid == stat.czxid && newer.mzxid > stat.mzxid && newer.dataLength == 5);
    GIVES(zoo_set(c.zh, root, "", 0, 0), ZBADVERSION);
    GIVES(zoo_delete(c.zh, root, 7), ZBADVERSION);
    const char *child = text("%s/child", root);
    create(&c, child, NULL, ZOO_PERSISTENT);
    GIVES(zoo_delete(c.zh, root, -1), ZNOTEMPTY);
    struct String_vector names;
    OK(zoo_get_children2(c.zh, root, 0, &names, &stat));
    EQUAL(names.count, 1);
    SAME(names.data[0], "child");
    REQUIRE(stat.cversion == 1 && stat.numChildren == 1 && stat.version == 1 && stat.pzxid > stat.mzxid);
    OK(zoo_delete(c.zh, child, 0));
    OK(zoo_delete(c.zh, root, 1));
    GIVES(zoo_exists(c.zh, root, 0, &stat), ZNONODE);
    GIVES(zoo_delete(c.zh, root, -1), ZNONODE);
    GIVES(zoo_set(c.zh, root, "", 0, -1), ZNONODE);
    GIVES(zoo_get_children(c.zh, root, 0, &names), ZNONODE);
    GIVES(zoo_create(c.zh, child, NULL, -1, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0), ZNONODE);
    GIVES(zoo_create(c.zh, "/no/", NULL, -1, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0), ZBADARGUMENTS);
}

static void nodes_in_sequence(void) {
    struct client c = client(), other = client();
    create(&c, root, NULL, ZOO_PERSISTENT);
    const char *prefix = text("%s/n-", root);
    for (int n = 0; n < 3; n++) SAME(create_numbered(&c, prefix, ZOO_PERSISTENT_SEQUENTIAL), text("%s%010d", prefix, n));
    OK(zoo_delete(c.zh, text("%s0000000002", prefix), -1));
    create(&c, text("%s/plain", root), NULL, ZOO_PERSISTENT);
    await_sync(&other, root);
    SAME(create_numbered(&other, text("%s/m-", root), ZOO_EPHEMERAL_SEQUENTIAL), text("%s/m-0000000004", root));
    SAME(create_numbered(&other, text("%s/", root), ZOO_PERSISTENT_SEQUENTIAL), text("%s/0000000005", root));
    GIVES(zoo_create(c.zh, text("%s/m-0000000004/child", root), NULL, -1, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0),
          ZNOCHILDRENFOREPHEMERALS);
}

static void nodes_that_go_by_themselves(void) {
    struct client c = client();
    struct events *gone = events();
    struct Stat stat;
    char made[PATH];
    create(&c, root, "held", ZOO_CONTAINER);
    const char *child = text("%s/child", root);
    create(&c, child, NULL, ZOO_PERSISTENT);
    OK(zoo_wexists(c.zh, root, tell, gone, &stat));
    OK(zoo_delete(c.zh, child, -1));
    fires(gone, ZOO_DELETED_EVENT, root);

    OK(zoo_create2_ttl(c.zh, root, NULL, -1, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_WITH_TTL, 1000, made, sizeof made, &stat));
    SAME(made, root);
    OK(zoo_wexists(c.zh, root, tell, gone, &stat));
    fires(gone, ZOO_DELETED_EVENT, root);
    const char *prefix = text("%s-", root);
    OK(zoo_create_ttl(c.zh, prefix, NULL, -1, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_SEQUENTIAL_WITH_TTL, 3600000, made,
                      sizeof made));
    REQUIRE(strncmp(made, prefix, strlen(prefix)) == 0 && strlen(made) == strlen(prefix) + 10);
}

static void data_of_every_size(void) {
    struct client c = client();
    /* the largest frame that a server takes is 1,048,575 bytes */
    static char data[1048576], found[1048576];
    const int sizes[] = {0, 1, 4095, 65536, 1000000};
    for (int n = 0; n < (int)sizeof data; n++) data[n] = (char)(n % 251);
    for (int n = 0; n < 5; n++) {
        const char *path = text("%s-%d", root, sizes[n]);
        int length = sizeof found;
        OK(zoo_create(c.zh, path, data, sizes[n], &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, NULL, 0));
        OK(zoo_get(c.zh, path, 0, found, &length, NULL));
        EQUAL(length, sizes[n]);
        REQUIRE(memcmp(data, found, (size_t)length) == 0);
    }
    int length = sizeof found;
    create(&c, root, NULL, ZOO_PERSISTENT);
    OK(zoo_get(c.zh, root, 0, found, &length, NULL));
    EQUAL(length, -1);
    int64_t id = session_id(&c);
    GIVES(zoo_set(c.zh, root, data, sizeof data, -1), ZCONNECTIONLOSS);
    reconnected(&c);
    SAME(get(&c, root, NULL), "");
    EQUAL(session_id(&c), id);
}

static void made(int code, const char *path, const void *data) { tell(NULL, code, 0, path, (void *)data); }

static void listed(int code, const struct String_vector *names, const void *data) {
    tell(NULL, code, names ? names->count : -1, NULL, (void *)data);
}

static void many_requests_in_the_pipe(void) {
    struct client c = client(), other = client();
    struct events *answers = events();
    struct Stat stat;
    create(&c, root, NULL, ZOO_PERSISTENT);
    const char *prefix = text("%s/n-", root);
    for (int n = 0; n < 1000; n++) {
        OK(zoo_acreate(c.zh, prefix, NULL, -1, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_SEQUENTIAL, made, answers));
    }
    OK(zoo_aget_children(c.zh, root, 0, listed, answers));
    OK(zoo_async(c.zh, root, made, answers));
    for (int n = 0; n < 1000; n++) {
        struct event answer = next(answers);
        OK(answer.type);
        SAME(answer.path, text("%s%010d", prefix, n));
    }
    EQUAL(next(answers).state, 1000);
    SAME(next(answers).path, root);
    await_sync(&other, root);
    REQUIRE(exists(&other, root, &stat));
    EQUAL(stat.cversion, 1000);
}

/* watches */

static void watches_fire_once(void) {
    struct client c = client(), other = client();
    struct events *seen = events();
    struct Stat stat;
    struct String_vector names;
    int length = 0;
    GIVES(zoo_wexists(c.zh, root, tell, seen, &stat), ZNONODE);
    create(&other, root, NULL, ZOO_PERSISTENT);
    fires(seen, ZOO_CREATED_EVENT, root);
    OK(zoo_wget(c.zh, root, tell, seen, NULL, &length, NULL));
    set(&other, root, "1");
    fires(seen, ZOO_CHANGED_EVENT, root);
    set(&other, root, "2");
    OK(zoo_wget_children(c.zh, root, tell, seen, &names));
    const char *child = text("%s/child", root);
    create(&other, child, NULL, ZOO_PERSISTENT);
    fires(seen, ZOO_CHILD_EVENT, root);
    OK(zoo_delete(other.zh, child, -1));
    await_sync(&c, root);
    REQUIRE(silent(seen));

    /* each watcher once, however many watches */
    struct events *data = events(), *kids = events();
    OK(zoo_wexists(c.zh, root, tell, data, &stat));
    OK(zoo_wget(c.zh, root, tell, data, NULL, &length, NULL));
    OK(zoo_wget_children2(c.zh, root, tell, kids, &names, &stat));
    OK(zoo_delete(other.zh, root, -1));
    fires(data, ZOO_DELETED_EVENT, root);
    fires(kids, ZOO_DELETED_EVENT, root);
    await_sync(&c, "/");
    REQUIRE(silent(data) && silent(kids));
}

static struct events *later;

static void tell_later(zhandle_t *zh, int type, int state, const char *path, void *context) {
    (void)context;
    tell(zh, type, state, path, later);
}

static void watches_of_the_handle(void) {
    struct client c = client(), other = client();
    struct Stat stat;
    GIVES(zoo_exists(c.zh, root, 1, &stat), ZNONODE);
    create(&other, root, NULL, ZOO_PERSISTENT);
    fires(c.states, ZOO_CREATED_EVENT, root);
    later = events();
    REQUIRE(zoo_set_watcher(c.zh, tell_later) == tell);
    int length = 0;
    OK(zoo_get(c.zh, root, 1, NULL, &length, NULL));
    set(&other, root, "1");
    fires(later, ZOO_CHANGED_EVENT, root);
    REQUIRE(silent(c.states));
}

static void watches_are_removed(void) {
    struct client c = client(), other = client();
    struct events *data = events(), *kids = events();
    struct String_vector names;
    int length = 0;
    create(&c, root, NULL, ZOO_PERSISTENT);
    GIVES(zoo_remove_watches(c.zh, root, ZWATCHTYPE_DATA, tell, data, 0), ZNOWATCHER);
    OK(zoo_wget(c.zh, root, tell, data, NULL, &length, NULL));
    OK(zoo_wget_children(c.zh, root, tell, kids, &names));
    OK(zoo_remove_watches(c.zh, root, ZWATCHTYPE_DATA, tell, data, 0));
    GIVES(zoo_remove_watches(c.zh, root, ZWATCHTYPE_DATA, tell, data, 0), ZNOWATCHER);
    await_sync(&other, root);
    set(&other, root, "1");
    create(&other, text("%s/child", root), NULL, ZOO_PERSISTENT);
    fires(kids, ZOO_CHILD_EVENT, root);
    REQUIRE(silent(data));
    OK(zoo_wget(c.zh, root, tell, data, NULL, &length, NULL));
    OK(zoo_wget_children(c.zh, root, tell, kids, &names));
    OK(zoo_remove_all_watches(c.zh, root, ZWATCHTYPE_ANY, 0));
    GIVES(zoo_remove_all_watches(c.zh, root, ZWATCHTYPE_ANY, 0), ZNOWATCHER);
    set(&other, root, "2");
    create(&other, text("%s/other", root), NULL, ZOO_PERSISTENT);
    await_sync(&c, root);
    REQUIRE(silent(data) && silent(kids));
}

/* recipes */

static int inside, turns;

static void *locks_in_turn(void *with) {
    (void)with;
    struct client c = client();
    await_sync(&c, root);
    for (int n = 0; n < 5; n++) {
        const char *place = take_place(&c, root);
        await_first(&c, root, place);
        EQUAL(__atomic_add_fetch(&inside, 1, __ATOMIC_SEQ_CST), 1);
        turns++;
        EQUAL(__atomic_sub_fetch(&inside, 1, __ATOMIC_SEQ_CST), 0);
        leave_place(&c, place);
    }
    return NULL;
}

static void lock_is_held_by_one(void) {
    struct client c = client();
    pthread_t threads[4];
    create(&c, root, NULL, ZOO_PERSISTENT);
    for (int n = 0; n < 4; n++) threads[n] = spawn(locks_in_turn, NULL);
    for (int n = 0; n < 4; n++) join(threads[n]);
    EQUAL(turns, 20);
    await_sync(&c, root);
    EQUAL(children(&c, root).count, 0);
}

static void is_first(void) {
    struct client c = client_for(servers, SHORT, NULL);
    await_first(&c, root, take_place(&c, root));
    stays("ready");
}

static void lock_of_a_dead_program_passes_on(void) {
    struct client c = client();
    char said[64];
    create(&c, root, NULL, ZOO_PERSISTENT);
    pid_t pid = program("is_first", said, sizeof said);
    const char *place = take_place(&c, root);
    EQUAL(children(&c, root).count, 2);
    kill_program(pid);
    await_first(&c, root, place);
    EQUAL(children(&c, root).count, 1);
    leave_place(&c, place);
}

struct candidate {
    struct client client;
    const char *place;
    int number;
    struct events *leads;
};

static void *lead(void *with) {
    struct candidate *own = with;
    await_first(&own->client, root, own->place);
    tell(NULL, own->number, 0, NULL, own->leads);
    return NULL;
}

static void election_goes_on_at_another_server(void) {
    control("alone");
    struct client c = client();
    struct events *leads = events();
    struct candidate candidates[3];
    pthread_t threads[3];
    create(&c, root, NULL, ZOO_PERSISTENT);
    for (int n = 0; n < 3; n++) {
        candidates[n] = (struct candidate){client(), NULL, n, leads};
        await_sync(&candidates[n].client, root);
        candidates[n].place = take_place(&candidates[n].client, root);
    }
    struct events *watched = events();
    struct Stat stat;
    OK(zoo_wexists(candidates[1].client.zh, candidates[0].place, tell, watched, &stat));
    EQUAL(stat.ephemeralOwner, session_id(&candidates[0].client));
    control("move");
    for (int n = 0; n < 3; n++) reconnected(&candidates[n].client);
    for (int n = 0; n < 3; n++) threads[n] = spawn(lead, &candidates[n]);
    for (int n = 0; n < 3; n++) {
        EQUAL(next(leads).type, n);
        if (n == 0) REQUIRE(silent(watched));
        /* the leader goes with its session */
        OK(zookeeper_close(candidates[n].client.zh));
        join(threads[n]);
    }
    EQUAL(leads->after, 3);
    fires(watched, ZOO_DELETED_EVENT, candidates[0].place);
    control("heal");
}

struct member {
    const char *name;
    struct events *entered, *left, *go;
};

static void *joins_and_parts(void *with) {
    struct member *own = with;
    struct client c = client();
    await_sync(&c, root);
    enter(&c, root, own->name, 3);
    tell(NULL, 0, 0, own->name, own->entered);
    next(own->go);
    leave(&c, root, own->name);
    tell(NULL, 0, 0, own->name, own->left);
    return NULL;
}

static void barrier_joins_and_parts(void) {
    struct client c = client();
    struct events *entered = events(), *left = events(), *go = events();
    struct member members[3] = {{"a", entered, left, go}, {"b", entered, left, go}, {"c", entered, left, go}};
    pthread_t threads[3];
    create(&c, root, NULL, ZOO_PERSISTENT);
    for (int n = 0; n < 2; n++) threads[n] = spawn(joins_and_parts, &members[n]);
    for (;;) {
        struct events *changed = events();
        struct String_vector there;
        OK(zoo_wget_children(c.zh, root, tell, changed, &there));
        if (there.count == 2) break;
        fires(changed, ZOO_CHILD_EVENT, root);
    }
    REQUIRE(silent(entered) && entered->after == 0);
    threads[2] = spawn(joins_and_parts, &members[2]);
    for (int n = 0; n < 3; n++) next(entered);
    for (int n = 0; n < 2; n++) tell(NULL, 0, 0, NULL, go);
    REQUIRE(left->after == 0);
    tell(NULL, 0, 0, NULL, go);
    for (int n = 0; n < 3; n++) join(threads[n]);
    EQUAL(left->after, 3);
}

static struct events *taken;

static void *takes(void *with) {
    (void)with;
    struct client c = client();
    int last = -1;
    await_sync(&c, root);
    for (int n = 0; n < 10; n++) {
        int entry = atoi(dequeue(&c, root));
        REQUIRE(entry > last);
        last = entry;
        tell(NULL, entry, 0, NULL, taken);
    }
    return NULL;
}

static void queue_gives_each_entry_once(void) {
    struct client c = client();
    pthread_t threads[3];
    bool found[30] = {false};
    taken = events();
    create(&c, root, NULL, ZOO_PERSISTENT);
    for (int n = 0; n < 3; n++) threads[n] = spawn(takes, NULL);
    for (int n = 0; n < 30; n++) create(&c, text("%s/entry-", root), text("%d", n), ZOO_PERSISTENT_SEQUENTIAL);
    for (int n = 0; n < 3; n++) join(threads[n]);
    for (int n = 0; n < 30; n++) {
        int entry = next(taken).type;
        REQUIRE(entry >= 0 && entry < 30 && !found[entry]);
        found[entry] = true;
    }
}

static void *counts(void *with) {
    (void)with;
    struct client c = client();
    await_sync(&c, root);
    for (int n = 0; n < 25; n++) count_up(&c, root);
    return NULL;
}

static void counter_counts(void) {
    struct client c = client();
    struct Stat stat;
    pthread_t threads[4];
    create(&c, root, "0", ZOO_PERSISTENT);
    for (int n = 0; n < 4; n++) threads[n] = spawn(counts, NULL);
    for (int n = 0; n < 4; n++) join(threads[n]);
    await_sync(&c, root);
    SAME(get(&c, root, &stat), "100");
    EQUAL(stat.version, 100);
}

/* A cache of one node: what it read last, and a watch for what comes. */
static void *follows(void *with) {
    struct events *states = with;
    struct client c = client();
    for (;;) {
        struct events *changed = events();
        char data[64];
        int length = sizeof data - 1;
        int code = zoo_wget(c.zh, root, tell, changed, data, &length, NULL);
        if (code == ZCONNECTIONLOSS) continue;
        if (code == ZNONODE) return NULL;
        OK(code);
        data[length < 0 ? 0 : length] = 0;
        tell(NULL, 0, 0, data, states);
        struct event event;
        do {
            event = next(changed);
        } while (event.type == ZOO_SESSION_EVENT);
    }
}

static void cache_follows(void) {
    control("alone");
    struct client c = client();
    struct events *states = events();
    create(&c, root, "0", ZOO_PERSISTENT);
    pthread_t cache = spawn(follows, states);
    SAME(next(states).path, "0");
    set(&c, root, "1");
    SAME(next(states).path, "1");
    control("move");
    reconnected(&c);
    set(&c, root, "2");
    SAME(next(states).path, "2");
    OK(zoo_delete(c.zh, root, -1));
    join(cache);
    control("heal");
}

/* transactions */

static void completed(int code, const void *data) { tell(NULL, code, 0, NULL, (void *)data); }

static void multi_is_all_or_nothing(void) {
    struct client c = client();
    struct Stat stat, changed;
    char numbered[PATH], own[PATH];
    zoo_op_t ops[6];
    zoo_op_result_t results[6];
    create(&c, root, NULL, ZOO_PERSISTENT);
    const char *passing = text("%s/passing", root), *never = text("%s/never", root);
    zoo_check_op_init(&ops[0], root, 0);
    zoo_create_op_init(&ops[1], text("%s/n-", root), "1", 1, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_SEQUENTIAL, numbered,
                       sizeof numbered);
    zoo_create_op_init(&ops[2], text("%s/own", root), NULL, -1, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, own, sizeof own);
    zoo_set_op_init(&ops[3], root, "changed", 7, 0, &changed);
    zoo_create_op_init(&ops[4], passing, NULL, -1, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, NULL, 0);
    zoo_delete_op_init(&ops[5], passing, 0);
    OK(zoo_multi(c.zh, 6, ops, results));
    for (int n = 0; n < 6; n++) OK(results[n].err);
    SAME(numbered, text("%s/n-0000000000", root));
    SAME(own, text("%s/own", root));
    EQUAL(changed.version, 1);
    REQUIRE(exists(&c, root, &stat));
    REQUIRE(stat.cversion == 4 && stat.numChildren == 2 && stat.mzxid == stat.pzxid && stat.dataLength == 7);

    zoo_create_op_init(&ops[0], never, NULL, -1, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, NULL, 0);
    zoo_delete_op_init(&ops[1], own, 5);
    zoo_set_op_init(&ops[2], root, "never", 5, -1, &changed);
    struct events *done = events();
    OK(zoo_amulti(c.zh, 3, ops, results, completed, done));
    GIVES(next(done).type, ZBADVERSION);
    GIVES(results[0].err, ZOK);
    GIVES(results[1].err, ZBADVERSION);
    GIVES(results[2].err, ZRUNTIMEINCONSISTENCY);
    REQUIRE(!exists(&c, never, NULL));
    SAME(get(&c, root, NULL), "changed");

    zoo_check_op_init(&ops[0], root, 7);
    GIVES(zoo_multi(c.zh, 1, ops, results), ZBADVERSION);
    zoo_check_op_init(&ops[0], never, -1);
    GIVES(zoo_multi(c.zh, 1, ops, results), ZNONODE);
    /* one after the other in the pipe: each sees what the one before has done */
    zoo_set_op_init(&ops[0], root, "2", 1, 1, &changed);
    zoo_set_op_init(&ops[1], root, "3", 1, 2, &changed);
    OK(zoo_amulti(c.zh, 1, &ops[0], &results[0], completed, done));
    OK(zoo_amulti(c.zh, 1, &ops[1], &results[1], completed, done));
    OK(next(done).type);
    OK(next(done).type);
    SAME(get(&c, root, NULL), "3");
}

/* access */

static int authenticate(struct client *client, const char *scheme, const char *with) {
    struct events *done = events();
    OK(zoo_add_auth(client->zh, scheme, with, (int)strlen(with), completed, done));
    return next(done).type;
}

static void acls_are_enforced(void) {
    struct client owner = client(), stranger = client(), nobody = client();
    struct ACL_vector acl;
    struct Stat stat;
    struct String_vector names;
    char data[64];
    int length = sizeof data;
    OK(authenticate(&owner, "digest", "owner:secret"));
    OK(zoo_create(owner.zh, root, "mine", 4, &ZOO_CREATOR_ALL_ACL, ZOO_PERSISTENT, NULL, 0));
    OK(zoo_get_acl(owner.zh, root, &acl, &stat));
    EQUAL(acl.count, 1);
    EQUAL(acl.data[0].perms, ZOO_PERM_ALL);
    SAME(acl.data[0].id.scheme, "digest");
    REQUIRE(strncmp(acl.data[0].id.id, "owner:", 6) == 0);
    await_sync(&stranger, "/");
    GIVES(zoo_get(stranger.zh, root, 0, data, &length, NULL), ZNOAUTH);
    GIVES(zoo_get_children(stranger.zh, root, 0, &names), ZNOAUTH);
    GIVES(zoo_set(stranger.zh, root, "", 0, -1), ZNOAUTH);
    GIVES(zoo_set_acl(stranger.zh, root, -1, &ZOO_OPEN_ACL_UNSAFE), ZNOAUTH);
    struct ACL entries[2] = {acl.data[0], {ZOO_PERM_READ, {"world", "anyone"}}};
    struct ACL_vector readable = {2, entries};
    OK(zoo_set_acl(owner.zh, root, 0, &readable));
    GIVES(zoo_set_acl(owner.zh, root, 0, &ZOO_OPEN_ACL_UNSAFE), ZBADVERSION);
    await_sync(&stranger, "/");
    SAME(get(&stranger, root, &stat), "mine");
    EQUAL(stat.aversion, 1);
    GIVES(zoo_set(stranger.zh, root, "", 0, -1), ZNOAUTH);
    OK(authenticate(&stranger, "digest", "owner:secret"));
    set(&stranger, root, "yours");
    GIVES(zoo_create(nobody.zh, text("%s-nobody", root), NULL, -1, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0), ZINVALIDACL);
    struct ACL nonsense = {ZOO_PERM_ALL, {"nonsense", "x"}};
    struct ACL_vector wrong = {1, &nonsense};
    GIVES(zoo_create(nobody.zh, text("%s-wrong", root), NULL, -1, &wrong, 0, NULL, 0), ZINVALIDACL);
}

static void authentication_goes_along_to_another_server(void) {
    control("alone");
    struct client c = client();
    OK(authenticate(&c, "digest", "owner:secret"));
    OK(zoo_create(c.zh, root, "mine", 4, &ZOO_CREATOR_ALL_ACL, ZOO_PERSISTENT, NULL, 0));
    control("move");
    reconnected(&c);
    SAME(get(&c, root, NULL), "mine");
    control("heal");
}

static void unknown_authentication_fails(void) {
    struct client c = client();
    struct Stat stat;
    GIVES(authenticate(&c, "nonsense", "x:y"), ZAUTHFAILED);
    until_state(c.states, ZOO_AUTH_FAILED_STATE);
    GIVES(zoo_exists(c.zh, root, 0, &stat), ZINVALIDSTATE);
}

/* chroot */

static void chroot_is_invisible(void) {
    struct client c = client();
    create(&c, root, NULL, ZOO_PERSISTENT);
    struct client inner = client_for(text("%s%s", servers, root), SESSION, NULL);
    struct events *seen = events();
    struct String_vector names;
    await_sync(&inner, "/");
    create(&inner, "/a", "1", ZOO_PERSISTENT);
    SAME(create_numbered(&inner, "/n-", ZOO_PERSISTENT_SEQUENTIAL), "/n-0000000001");
    int length = 0;
    OK(zoo_wget(inner.zh, "/a", tell, seen, NULL, &length, NULL));
    await_sync(&c, root);
    SAME(get(&c, text("%s/a", root), NULL), "1");
    set(&c, text("%s/a", root), "2");
    fires(seen, ZOO_CHANGED_EVENT, "/a");
    OK(zoo_wget_children(inner.zh, "/", tell, seen, &names));
    EQUAL(names.count, 2);
    create(&c, text("%s/b", root), NULL, ZOO_PERSISTENT);
    fires(seen, ZOO_CHILD_EVENT, "/");
    char own[PATH];
    zoo_op_t op;
    zoo_op_result_t result;
    zoo_create_op_init(&op, "/multi", NULL, -1, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, own, sizeof own);
    OK(zoo_multi(inner.zh, 1, &op, &result));
    await_sync(&c, root);
    REQUIRE(exists(&c, text("%s/multi", root), NULL));
}

static void configuration(void) {
    struct client c = client();
    char data[4096];
    int length = sizeof data;
    struct Stat stat;
    OK(zoo_getconfig(c.zh, 0, data, &length, &stat));
    length = sizeof data;
    GIVES(zoo_reconfig(c.zh, "server.9=127.0.0.1:1:2;3", NULL, NULL, -1, data, &length, &stat), ZRECONFIGDISABLED);
}

#define CHECK(name) {#name, name}
const struct check checks[] = {
    CHECK(session_ends_with_its_ephemerals),
    CHECK(session_timeout_is_agreed),
    CHECK(session_of_a_dead_program_expires),
    CHECK(session_of_a_dead_program_is_taken_up),
    CHECK(session_that_expired_is_told_so),
    CHECK(session_goes_on_at_another_server),
    CHECK(client_is_told_of_other_servers),
    CHECK(watches_hear_what_they_missed),
    CHECK(writes_go_on_while_the_server_dies),
    CHECK(nodes),
    CHECK(nodes_in_sequence),
    CHECK(nodes_that_go_by_themselves),
    CHECK(data_of_every_size),
    CHECK(many_requests_in_the_pipe),
    CHECK(watches_fire_once),
    CHECK(watches_of_the_handle),
    CHECK(watches_are_removed),
    CHECK(lock_is_held_by_one),
    CHECK(lock_of_a_dead_program_passes_on),
    CHECK(election_goes_on_at_another_server),
    CHECK(barrier_joins_and_parts),
    CHECK(queue_gives_each_entry_once),
    CHECK(counter_counts),
    CHECK(cache_follows),
    CHECK(multi_is_all_or_nothing),
    CHECK(acls_are_enforced),
    CHECK(authentication_goes_along_to_another_server),
    CHECK(unknown_authentication_fails),
    CHECK(chroot_is_invisible),
    CHECK(configuration),
    {NULL, NULL},
};
const struct check roles[] = {
    CHECK(holds_ephemeral),
    CHECK(leaves_a_session),
    CHECK(is_first),
    {NULL, NULL},
};
