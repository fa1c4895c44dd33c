#include "recipes.h"

#include <stdlib.h>
#include <string.h>

char *take_place(struct client *client, const char *path) {
    return create_numbered(client, text("%s/place-", path), ZOO_EPHEMERAL_SEQUENTIAL);
}

void await_first(struct client *client, const char *path, const char *place) {
    const char *own = place + strlen(path) + 1;
    for (;;) {
        struct String_vector places = children(client, path);
        const char *before = NULL;
        for (int n = 0; n < places.count; n++) {
            if (strcmp(places.data[n], own) < 0) before = places.data[n];
        }
        if (!before) return;
        struct events *gone = events();
        struct Stat stat;
        const char *watched = text("%s/%s", path, before);
        int code = zoo_wexists(client->zh, watched, tell, gone, &stat);
        if (code == ZNONODE) continue;
        OK(code);
        fires(gone, ZOO_DELETED_EVENT, watched);
    }
}

void leave_place(struct client *client, const char *place) { OK(zoo_delete(client->zh, place, -1)); }

void enter(struct client *client, const char *path, const char *name, int members) {
    const char *ready = text("%s/ready", path);
    struct events *made = events();
    struct Stat stat;
    int code = zoo_wexists(client->zh, ready, tell, made, &stat);
    if (code != ZNONODE) OK(code);
    create(client, text("%s/%s", path, name), NULL, ZOO_EPHEMERAL);
    if (children(client, path).count < members) {
        fires(made, ZOO_CREATED_EVENT, ready);
    } else {
        code = zoo_create(client->zh, ready, NULL, -1, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, NULL, 0);
        if (code != ZNODEEXISTS) OK(code);
    }
}

void leave(struct client *client, const char *path, const char *name) {
    int code = zoo_delete(client->zh, text("%s/ready", path), -1);
    if (code != ZNONODE) OK(code);
    OK(zoo_delete(client->zh, text("%s/%s", path, name), -1));
    for (;;) {
        struct events *changed = events();
        struct String_vector left;
        OK(zoo_wget_children(client->zh, path, tell, changed, &left));
        if (left.count == 0) return;
        fires(changed, ZOO_CHILD_EVENT, path);
    }
}

char *dequeue(struct client *client, const char *path) {
    for (;;) {
        struct events *changed = events();
        struct String_vector found;
        OK(zoo_wget_children(client->zh, path, tell, changed, &found));
        found = children(client, path);
        for (int n = 0; n < found.count; n++) {
            char data[256];
            int length = sizeof data - 1;
            const char *entry = text("%s/%s", path, found.data[n]);
            int code = zoo_get(client->zh, entry, 0, data, &length, NULL);
            if (code == ZNONODE) continue;
            OK(code);
            data[length] = 0;
            code = zoo_delete(client->zh, entry, -1);
            if (code == ZNONODE) continue;
            OK(code);
            return text("%s", data);
        }
        fires(changed, ZOO_CHILD_EVENT, path);
    }
}

void count_up(struct client *client, const char *path) {
    for (;;) {
        struct Stat stat;
        const char *more = text("%d", atoi(get(client, path, &stat)) + 1);
        int code = zoo_set(client->zh, path, more, (int)strlen(more), stat.version);
        if (code == ZBADVERSION) continue;
        OK(code);
        return;
    }
}
