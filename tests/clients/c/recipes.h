/* The usual recipes, as users of the library write them: Debian's package has none of ZooKeeper's own. */
#ifndef RECIPES_H
#define RECIPES_H

#include "harness.h"

/* A place in a line below a node: the first one has the lock, or leads; each watches the one before it. */
char *take_place(struct client *client, const char *path);
void await_first(struct client *client, const char *path, const char *place);
void leave_place(struct client *client, const char *place);

/* A double barrier: in when all are there, out when all have gone. */
void enter(struct client *client, const char *path, const char *name, int members);
void leave(struct client *client, const char *path, const char *name);

/* The oldest entry of a queue; waits while there is none. */
char *dequeue(struct client *client, const char *path);

/* Adds one to a number in a node. */
void count_up(struct client *client, const char *path);

#endif
