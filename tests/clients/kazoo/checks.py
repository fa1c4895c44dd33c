"""What users of kazoo rely on: see ../README.md."""

import datetime
import time

from harness import (
    DEADLINE,
    SHORT,
    Events,
    Thread,
    check,
    control,
    equal,
    kill,
    main,
    reconnected,
    refused,
    require,
    stays,
)
from kazoo.exceptions import (
    AuthFailedError,
    BadVersionError,
    CancelledError,
    ConnectionLoss,
    InvalidACLError,
    LockTimeout,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    ReconfigDisabledError,
    RolledBackError,
    RuntimeInconsistency,
)
from kazoo.protocol.states import EventType, KazooState, KeeperState, WatchedEvent
from kazoo.recipe.cache import TreeCache, TreeEvent
from kazoo.security import CREATOR_ALL_ACL, OPEN_ACL_UNSAFE, READ_ACL_UNSAFE, make_acl, make_digest_acl

# sessions


@check
def session_ends_with_its_ephemerals(world):
    watching, leaving = world.clients(2)
    identity, password = leaving.client_id
    require(identity != 0 and len(password) == 16, f"{leaving.client_id}")
    leaving.create(world.root, b"here", ephemeral=True)
    gone = Events()
    watching.sync(world.root)
    equal(watching.exists(world.root, watch=gone).ephemeralOwner, identity)
    leaving.stop()
    equal(gone.next().type, EventType.DELETED)
    equal(watching.exists(world.root), None)
    leaving.start(DEADLINE)
    require(leaving.client_id[0] != identity, "the session that was closed goes on")


@check
def session_of_a_dead_program_expires(world):
    zk = world.client()
    program = world.program("holds_ephemeral", world.root)
    gone = Events()
    zk.sync(world.root)
    require(zk.exists(world.root, watch=gone))
    kill(program)
    equal(gone.next().type, EventType.DELETED)


def holds_ephemeral(world, path):
    world.client(timeout=SHORT).create(path, ephemeral=True)
    stays()


@check
def session_that_expired_is_told_so(world):
    zk, watching = world.clients(2)
    zk.create(world.root, ephemeral=True)
    gone, before = Events(), zk.client_id
    watching.sync(world.root)
    watching.exists(world.root, watch=gone)
    zk.states.until(KazooState.CONNECTED)
    # whoever has the session's id and password may close it, unless its own client takes it back before
    ended = (KazooState.LOST, KazooState.CONNECTED)
    while True:
        world.client(client_id=before).stop()
        if zk.states.until(lambda state: state in ended) == KazooState.LOST:
            break
    equal(gone.next().type, EventType.DELETED)
    zk.states.until(KazooState.CONNECTED)
    require(zk.client_id[0] != before[0], "the session goes on")
    zk.create(world.root, ephemeral=True)


@check
def session_goes_on_at_another_server(world):
    control("alone")
    zk, other = world.clients(2)
    zk.create(world.root, b"0", ephemeral=True)
    zk.create(f"{world.root}-kept", b"kept")
    data, children = Events(), Events()
    zk.DataWatch(f"{world.root}-kept", lambda value, stat: data(value))
    zk.ChildrenWatch(f"{world.root}-kept", lambda found: children(sorted(found)))
    equal((data.next(), children.next()), (b"kept", []))
    before = zk.client_id
    control("move")
    reconnected(zk)
    reconnected(other)
    equal(zk.client_id, before)
    equal(other.get(world.root)[1].ephemeralOwner, before[0])
    other.set(f"{world.root}-kept", b"after")
    other.create(f"{world.root}-kept/child")
    data.until(b"after")
    children.until(["child"])
    # and back, with a change that is made before this client is there
    control("move")
    reconnected(other)
    other.set(f"{world.root}-kept", b"back")
    data.until(b"back")
    equal(zk.client_id, before)
    equal(zk.get(world.root)[1].ephemeralOwner, before[0])
    control("heal")


@check
def writes_go_on_while_the_server_dies(world):
    control("alone")
    zk = world.client()
    zk.create(world.root)
    written, begun = [], Events()

    def write():
        for number in range(200):
            try:
                zk.retry(zk.create, f"{world.root}/{number:03d}")
            except NodeExistsError:
                pass  # it was made, only the answer was lost
            written.append(f"{number:03d}")
            begun(number)

    writer = Thread(write)
    begun.until(20)
    control("move")
    writer.result()
    equal(sorted(zk.get_children(world.root)), written)
    equal(zk.get(world.root)[1].cversion, 200)
    control("heal")


@check
def read_only_client_gets_a_server_that_writes(world):
    zk = world.client(read_only=True)
    equal(zk.client_state, KeeperState.CONNECTED)
    zk.create(world.root)


@check
def server_tells_its_version_and_state(world):
    zk = world.client()
    require(zk.server_version() >= (3, 9), f"{zk.server_version()}")
    equal(zk.command(b"ruok"), "imok")
    require("Mode: " in zk.command(b"stat"))


# nodes


@check
def nodes(world):
    zk, root = world.client(), world.root
    equal(zk.create(root, b"one"), root)
    with refused(NodeExistsError):
        zk.create(root)
    data, stat = zk.get(root)
    equal((data, stat.version, stat.dataLength, stat.numChildren, stat.ephemeralOwner), (b"one", 0, 3, 0, 0))
    equal((stat.czxid, stat.ctime), (stat.mzxid, stat.mtime))
    require(abs(stat.created - time.time()) < 60, f"made at {stat.created}")
    newer = zk.set(root, b"three", version=0)
    equal((newer.version, newer.czxid, newer.dataLength), (1, stat.czxid, 5))
    require(newer.mzxid > stat.mzxid)
    with refused(BadVersionError):
        zk.set(root, b"", version=0)
    with refused(BadVersionError):
        zk.delete(root, version=7)
    zk.create(f"{root}/child")
    with refused(NotEmptyError):
        zk.delete(root)
    children, stat = zk.get_children(root, include_data=True)
    equal((children, stat.cversion, stat.numChildren, stat.version), (["child"], 1, 1, 1))
    require(stat.pzxid > stat.mzxid)
    zk.delete(f"{root}/child", version=0)
    equal((zk.exists(root).cversion, zk.get_children(root)), (2, []))
    zk.delete(root, version=1)
    equal(zk.exists(root), None)
    for call in (zk.get, zk.delete, zk.get_children, zk.get_acls, lambda path: zk.set(path, b"")):
        with refused(NoNodeError):
            call(root)
    with refused(NoNodeError):
        zk.create(f"{root}/child")


@check
def nodes_with_all_their_parents(world):
    zk, root = world.client(), world.root
    equal(zk.create(f"{root}/a/b/c", b"deep", makepath=True), f"{root}/a/b/c")
    zk.ensure_path(f"{root}/a/b/d/e")
    equal(sorted(zk.get_children(f"{root}/a/b")), ["c", "d"])
    path, stat = zk.create(f"{root}/a/x", b"four", include_data=True)
    equal((path, stat.dataLength, stat.version), (f"{root}/a/x", 4, 0))
    equal(stat, zk.exists(path))
    with refused(NotEmptyError):
        zk.delete(f"{root}/a")
    zk.delete(root, recursive=True)
    equal(zk.exists(root), None)


@check
def nodes_in_sequence(world):
    zk, other, root = *world.clients(2), world.root
    zk.create(root)
    made = [zk.create(f"{root}/n-", sequence=True) for _ in range(3)]
    equal(made, [f"{root}/n-{number:010d}" for number in range(3)])
    zk.delete(made[2])
    zk.create(f"{root}/plain")
    # a number is never given twice; every child that was made counts
    equal(other.create(f"{root}/m-", sequence=True, ephemeral=True), f"{root}/m-0000000004")
    equal(other.create(f"{root}/", sequence=True), f"{root}/0000000005")
    with refused(NoChildrenForEphemeralsError):
        zk.create(f"{root}/m-0000000004/child")


@check
def data_of_every_size(world):
    zk, root = world.client(), world.root
    # the largest frame that a server takes is 1,048,575 bytes
    for size in (0, 1, 4095, 65536, 1_000_000):
        data = bytes(number % 251 for number in range(size))
        zk.create(f"{root}-{size}", data)
        equal(zk.get(f"{root}-{size}")[0], data)
    zk.create(f"{root}-none", None)
    equal(zk.get(f"{root}-none")[0], None)
    zk.set(f"{root}-none", b"")
    equal(zk.get(f"{root}-none")[0], b"")
    identity = zk.client_id
    with refused(ConnectionLoss):
        zk.set(f"{root}-none", bytes(1_048_576))
    zk.states.until(KazooState.SUSPENDED)
    zk.states.until(KazooState.CONNECTED)
    equal((zk.client_id, zk.get(f"{root}-none")[0]), (identity, b""))


@check
def many_requests_in_the_pipe(world):
    zk, other, root = *world.clients(2), world.root
    zk.create(root)
    created = [zk.create_async(f"{root}/n-", str(number).encode(), sequence=True) for number in range(1000)]
    listed = zk.get_children_async(root)
    equal([result.get(timeout=DEADLINE) for result in created], [f"{root}/n-{number:010d}" for number in range(1000)])
    equal(len(listed.get(timeout=DEADLINE)), 1000)
    # the other one may be on another server
    other.sync(root)
    equal(other.get(f"{root}/n-0000000999")[0], b"999")
    names = other.get_children(root)
    deleted = [other.delete_async(f"{root}/{name}") for name in names]
    equal({result.get(timeout=DEADLINE) for result in deleted}, {True})
    zk.sync(root)
    equal((zk.get_children(root), zk.exists(root).cversion), ([], 2000))


# watches


@check
def watches_fire_once(world):
    zk, other, root = *world.clients(2), world.root
    made, data, children = Events(), Events(), Events()
    equal(zk.exists(root, watch=made), None)
    other.create(root)
    equal(made.next(), WatchedEvent(EventType.CREATED, KeeperState.CONNECTED, root))
    zk.get(root, watch=data)
    zk.get_children(root, watch=children)
    other.set(root, b"1")
    equal(data.next(), WatchedEvent(EventType.CHANGED, KeeperState.CONNECTED, root))
    other.create(f"{root}/child")
    equal(children.next(), WatchedEvent(EventType.CHILD, KeeperState.CONNECTED, root))
    other.set(root, b"2")
    other.create(f"{root}/another")
    # the next ones of each kind come after these changes: nothing was between
    zk.sync(root)
    zk.exists(root, watch=made)
    zk.get(root, watch=data)
    zk.get_children(root, watch=children)
    other.delete(root, recursive=True)
    for events in (made, data):
        equal(events.next(), WatchedEvent(EventType.DELETED, KeeperState.CONNECTED, root))
    equal(children.next().type, EventType.CHILD)
    zk.sync(root)
    require(made.empty() and data.empty() and children.empty(), "a watch fired twice")


@check
def data_watch_follows_a_node(world):
    zk, other, root = *world.clients(2), world.root
    seen = Events()
    zk.DataWatch(root, lambda data, stat, event: seen(data, stat and stat.version, event and event.type))
    equal(seen.next(), (None, None, None))
    other.create(root, b"a")
    equal(seen.next(), (b"a", 0, EventType.CREATED))
    other.set(root, b"b")
    equal(seen.next(), (b"b", 1, EventType.CHANGED))
    other.delete(root)
    equal(seen.next(), (None, None, EventType.DELETED))
    other.create(root, b"c")
    equal(seen.next(), (b"c", 0, EventType.CREATED))


@check
def children_watch_follows_a_node(world):
    zk, other, root = *world.clients(2), world.root
    zk.create(root)
    seen = Events()

    @zk.ChildrenWatch(root)
    def children(found):
        seen(sorted(found))

    equal(seen.next(), [])
    names = [f"{number:02d}" for number in range(20)]
    for name in names:
        other.create(f"{root}/{name}")
    seen.until(names)
    other.delete(f"{root}/00")
    seen.until(names[1:])


@check
def tree_cache_holds_a_tree(world):
    zk, other, root = *world.clients(2), world.root
    other.create(f"{root}/a/b", b"1", makepath=True)
    cache, seen = TreeCache(zk, root), Events()
    cache.listen(lambda event: seen(event.event_type, event.event_data and event.event_data.path))
    cache.listen_fault(lambda error: seen("fault", repr(error)))
    cache.start()
    seen.until((TreeEvent.INITIALIZED, None))
    equal(cache.get_data(f"{root}/a/b").data, b"1")
    other.set(f"{root}/a/b", b"2")
    seen.until((TreeEvent.NODE_UPDATED, f"{root}/a/b"))
    equal((cache.get_data(f"{root}/a/b").data, cache.get_data(f"{root}/a/b").stat.version), (b"2", 1))
    other.create(f"{root}/a/c/d", b"3", makepath=True)
    seen.until((TreeEvent.NODE_ADDED, f"{root}/a/c/d"))
    equal(cache.get_children(f"{root}/a"), frozenset(["b", "c"]))
    other.delete(f"{root}/a", recursive=True)
    seen.until((TreeEvent.NODE_REMOVED, f"{root}/a"))
    equal((cache.get_children(root), cache.get_data(f"{root}/a/c/d")), (frozenset(), None))
    cache.close()


@check
def tree_cache_goes_on_at_another_server(world):
    control("alone")
    zk, other, root = *world.clients(2), world.root
    other.create(f"{root}/a", b"1", makepath=True)
    cache, seen = TreeCache(zk, root), Events()
    cache.listen(lambda event: seen(event.event_type, event.event_data and event.event_data.path))
    cache.start()
    seen.until((TreeEvent.INITIALIZED, None))
    control("move")
    reconnected(other)
    other.set(f"{root}/a", b"2")
    other.create(f"{root}/b")
    seen.until((TreeEvent.CONNECTION_RECONNECTED, None))
    deadline = time.monotonic() + DEADLINE
    while (cache.get_data(f"{root}/a").data, cache.get_children(root)) != (b"2", frozenset("ab")):
        require(time.monotonic() < deadline, f"the cache has {cache.get_data(f'{root}/a')} {cache.get_children(root)}")
        seen.next()
    cache.close()
    control("heal")


# recipes


@check
def lock_is_held_by_one(world):
    clients, root = world.clients(4), world.root
    inside, turns = [], []

    def work(zk):
        for _ in range(5):
            with zk.Lock(root, str(zk.client_id[0])):
                inside.append(zk)
                require(inside == [zk], "two hold the lock")
                turns.append(zk.exists(root).cversion)
                inside.remove(zk)

    for thread in [Thread(work, zk) for zk in clients]:
        thread.result()
    equal((len(turns), turns), (20, sorted(turns)))
    clients[0].sync(root)
    equal(clients[0].get_children(root), [])


@check
def lock_queue_is_in_order(world):
    first, second, third, root = *world.clients(3), world.root
    held = first.Lock(root, "first")
    require(held.acquire())
    with refused(LockTimeout):
        second.Lock(root, "impatient").acquire(timeout=0.2)
    require(not second.Lock(root, "no wait").acquire(blocking=False))
    changed = Events()
    first.ChildrenWatch(root, lambda children: changed(len(children)))
    waiting = second.Lock(root, "second")
    thread = Thread(waiting.acquire)
    changed.until(2)
    cancelled = third.Lock(root, "third")
    hopeless = Thread(cancelled.acquire)
    changed.until(3)
    equal(first.Lock(root).contenders(), ["first", "second", "third"])
    cancelled.cancel()
    with refused(CancelledError):
        hopeless.result()
    held.release()
    require(thread.result())
    equal(first.Lock(root).contenders(), ["second"])
    waiting.release()


@check
def lock_of_a_dead_program_passes_on(world):
    zk = world.client()
    program = world.program("holds_lock", world.root)
    lock = zk.Lock(world.root, "heir")
    waiting = Thread(lock.acquire)
    kill(program)
    require(waiting.result())
    equal(lock.contenders(), ["heir"])
    lock.release()


def holds_lock(world, path):
    world.client(timeout=SHORT).Lock(path, "dead").acquire()
    stays()


@check
def lock_is_kept_at_another_server(world):
    control("alone")
    zk, other, root = *world.clients(2), world.root
    lock = zk.Lock(root, "holder")
    lock.acquire()
    entered = Events()
    zk.ChildrenWatch(root, lambda children: entered(len(children)))
    waiting = Thread(other.Lock(root, "waiting").acquire)
    entered.until(2)
    control("move")
    reconnected(zk)
    equal(lock.contenders(), ["holder", "waiting"])
    lock.release()
    require(waiting.result())
    control("heal")


@check
def read_and_write_locks(world):
    readers, writer, root = world.clients(2), world.client(), world.root
    shared = [zk.ReadLock(root, "reader") for zk in readers]
    for lock in shared:
        require(lock.acquire(timeout=DEADLINE))
    require(not writer.WriteLock(root).acquire(blocking=False))
    exclusive = writer.WriteLock(root, "writer")
    waiting = Thread(exclusive.acquire)
    for lock in shared:
        lock.release()
    require(waiting.result())
    require(not readers[0].ReadLock(root).acquire(blocking=False))
    exclusive.release()


@check
def semaphore_has_so_many_leases(world):
    clients, root = world.clients(3), world.root
    leases = [zk.Semaphore(root, f"holder {number}", max_leases=2) for number, zk in enumerate(clients)]
    require(leases[0].acquire() and leases[1].acquire())
    require(not leases[2].acquire(blocking=False))
    equal(sorted(leases[0].lease_holders()), ["holder 0", "holder 1"])
    waiting = Thread(leases[2].acquire)
    leases[0].release()
    require(waiting.result())
    clients[0].sync(root)
    equal(sorted(clients[0].Semaphore(root, max_leases=2).lease_holders()), ["holder 1", "holder 2"])


@check
def election_has_one_leader(world):
    clients, root = world.clients(3), world.root
    leads, go_on = Events(), [Events() for _ in clients]

    def lead(number):
        leads(number)
        go_on[number].next()

    elections = [zk.Election(root, f"candidate {number}") for number, zk in enumerate(clients)]
    threads = [Thread(election.run, lead, number) for number, election in enumerate(elections)]
    served = []
    for _ in clients:
        leader = leads.next()
        require(leads.empty(), "two lead")
        served.append(leader)
        clients[0].sync(root)
        equal(clients[0].Election(root).contenders()[0], f"candidate {leader}")
        go_on[leader](None)
    equal(sorted(served), [0, 1, 2])
    for thread in threads:
        thread.result()


@check
def election_goes_on_without_a_dead_leader(world):
    zk = world.client()
    program = world.program("leads", world.root)
    leads = Events()
    thread = Thread(zk.Election(world.root, "heir").run, leads, "leads")
    kill(program)
    equal(leads.next(), "leads")
    thread.result()


def leads(world, path):
    world.client(timeout=SHORT).Election(path, "dead").run(stays)


@check
def party_knows_its_members(world):
    first, second, root = *world.clients(2), world.root
    parties = [first.Party(root, "one"), second.Party(root, "two")]
    for party in parties:
        party.join()
    first.sync(root)
    equal((sorted(parties[0]), len(parties[1])), (["one", "two"], 2))
    parties[0].leave()
    second.sync(root)
    equal(list(parties[1]), ["two"])
    shallow = first.ShallowParty(f"{root}-shallow", "three")
    shallow.join()
    second.sync(root)
    equal(list(second.ShallowParty(f"{root}-shallow")), ["three"])
    first.stop()
    second.sync(root)
    equal(list(second.ShallowParty(f"{root}-shallow")), [])


@check
def barrier_holds_until_it_is_removed(world):
    zk, other, root = *world.clients(2), world.root
    barrier = zk.Barrier(root)
    barrier.create()
    other.sync(root)
    require(not other.Barrier(root).wait(0.1))
    waiting = Thread(other.Barrier(root).wait, DEADLINE)
    require(barrier.remove() and not barrier.remove())
    require(waiting.result())


@check
def double_barrier_joins_and_parts(world):
    clients, root = world.clients(3), world.root
    entered, left, go = Events(), Events(), [Events() for _ in clients]

    def work(number, zk):
        barrier = zk.DoubleBarrier(root, len(clients), f"member {number}")
        barrier.enter()
        require(barrier.participating)
        entered(number)
        go[number].next()
        barrier.leave()
        left(number)

    present = Events()
    clients[0].ensure_path(root)
    clients[0].ChildrenWatch(root, lambda children: present(len(children)))
    threads = [Thread(work, number, zk) for number, zk in enumerate(clients[:2])]
    present.until(2)
    require(entered.empty(), "went in without the third")
    threads.append(Thread(work, 2, clients[2]))
    equal(sorted(entered.next() for _ in clients), [0, 1, 2])
    for events in go[:2]:
        events(None)
    require(left.empty(), "left without the third")
    go[2](None)
    equal(sorted(left.next() for _ in clients), [0, 1, 2])
    for thread in threads:
        thread.result()


@check
def queue_gives_each_entry_once(world):
    clients, root = world.clients(3), world.root
    queue = clients[0].Queue(root)
    for number in range(30):
        queue.put(str(number).encode(), priority=50 if number % 2 else 100)
    equal(len(queue), 30)
    taken = [[] for _ in clients]

    def take(number, zk):
        mine = zk.Queue(root)
        while (entry := mine.get()) is not None:
            taken[number].append(int(entry))

    for thread in [Thread(take, number, zk) for number, zk in enumerate(clients)]:
        thread.result()
    equal(sorted(sum(taken, [])), list(range(30)))
    for mine in taken:
        # the more urgent ones first, each kind in the order in which they were put
        equal(mine, sorted(mine, key=lambda number: (number % 2 == 0, number)))


@check
def locking_queue_keeps_what_is_not_consumed(world):
    zk, other, root = *world.clients(2), world.root
    queue = zk.LockingQueue(root)
    queue.put_all([b"one", b"two"])
    queue.put(b"urgent", priority=1)
    equal((len(queue), queue.get(DEADLINE)), (3, b"urgent"))
    other.sync(root)
    second = other.LockingQueue(root)
    equal(second.get(DEADLINE), b"one")
    require(queue.holds_lock() and queue.consume() and not queue.consume())
    equal(queue.get(DEADLINE), b"two")
    require(queue.consume())
    waiting = Thread(queue.get, DEADLINE)
    require(second.release())
    equal(waiting.result(), b"one")
    require(queue.consume())
    equal(len(queue), 0)


@check
def locking_queue_entry_of_a_dead_program_is_free_again(world):
    zk = world.client()
    queue = zk.LockingQueue(world.root)
    queue.put(b"work")
    program = world.program("takes_entry", world.root)
    waiting = Thread(queue.get, DEADLINE)
    kill(program)
    equal(waiting.result(), b"work")
    require(queue.consume())


def takes_entry(world, path):
    equal(world.client(timeout=SHORT).LockingQueue(path).get(DEADLINE), b"work")
    stays()


@check
def counter_counts(world):
    clients, root = world.clients(4), world.root

    def count(zk):
        counter = zk.Counter(root)
        for _ in range(25):
            counter += 1
        counter -= 5

    for thread in [Thread(count, zk) for zk in clients]:
        thread.result()
    clients[0].sync(root)
    equal((clients[0].Counter(root).value, clients[0].exists(root).version), (80, 104))
    halves = clients[1].Counter(f"{root}-halves", default=0.5)
    halves += 1.5
    equal((halves.value, halves.pre_value, halves.post_value), (2.0, 0.5, 2.0))
    curators = clients[1].Counter(f"{root}-curator", support_curator=True)
    curators += 258
    equal(clients[1].get(f"{root}-curator")[0], b"\0\0\1\2")


@check
def lease_is_had_by_one(world):
    zk, other, root = *world.clients(2), world.root
    hour = datetime.timedelta(hours=1)
    require(zk.NonBlockingLease(root, hour, identifier="one"))
    other.sync(root)
    require(not other.NonBlockingLease(root, hour, identifier="two"))
    require(zk.NonBlockingLease(root, hour, identifier="one"), "cannot be renewed")
    later = datetime.datetime.utcnow() + 2 * hour
    require(other.NonBlockingLease(root, hour, identifier="two", utcnow=lambda: later), "is not over")
    for number, had in enumerate((True, True, False)):
        lease = zk.MultiNonBlockingLease(2, f"{root}-many", hour, identifier=f"holder {number}")
        equal(bool(lease), had)


@check
def set_is_partitioned_among_members(world):
    clients, root = world.clients(2), world.root
    items = [f"item-{number}" for number in range(5)]

    def acquire(partitioner):
        while not partitioner.acquired:
            require(not partitioner.failed, "the partitioner failed")
            if partitioner.release:
                partitioner.release_set()
            partitioner.wait_for_acquire(1)
        return sorted(partitioner)

    first = clients[0].SetPartitioner(root, items, identifier="0", time_boundary=0.2)
    equal(acquire(first), items)
    changed = first.state_change_event
    changed.clear()
    second = clients[1].SetPartitioner(root, items, identifier="1", time_boundary=0.2)
    require(changed.wait(DEADLINE), "the first member heard nothing of the second")
    joins = Thread(acquire, second)
    shares = acquire(first), joins.result()
    equal(shares, (items[0::2], items[1::2]))
    changed.clear()
    second.finish()
    require(changed.wait(DEADLINE), "the first member heard nothing of the second's end")
    equal(acquire(first), items)
    first.finish()


# transactions


@check
def transaction_is_all_or_nothing(world):
    zk, root = world.client(), world.root
    zk.create(root, b"0")
    change = zk.transaction()
    change.check(root, 0)
    change.create(f"{root}/n-", b"1", sequence=True)
    change.create(f"{root}/own", ephemeral=True)
    change.set_data(root, b"changed", version=0)
    change.create(f"{root}/passing")
    change.delete(f"{root}/passing", version=0)
    results = change.commit()
    equal(results[:3] + results[4:], [True, f"{root}/n-0000000000", f"{root}/own", f"{root}/passing", True])
    equal((results[3].version, results[3].dataLength), (1, 7))
    equal(zk.get(f"{root}/own")[1].ephemeralOwner, zk.client_id[0])
    equal((sorted(zk.get_children(root)), zk.exists(root).cversion), (["n-0000000000", "own"], 4))
    created = zk.exists(f"{root}/own").czxid
    equal((zk.exists(root).mzxid, zk.exists(root).pzxid), (created, created))

    change = zk.transaction()
    change.create(f"{root}/never")
    change.delete(f"{root}/own", version=5)
    change.set_data(root, b"never")
    results = change.commit()
    equal([type(result) for result in results], [RolledBackError, BadVersionError, RuntimeInconsistency])
    equal((zk.exists(f"{root}/never"), zk.get(root)[0]), (None, b"changed"))
    equal(zk.transaction().commit(), [])


@check
def transaction_fires_watches(world):
    zk, other, root = *world.clients(2), world.root
    zk.create(f"{root}/gone", makepath=True)
    seen = Events()
    zk.get(root, watch=lambda event: seen("data", event.type))
    zk.get(f"{root}/gone", watch=lambda event: seen("gone", event.type))
    zk.exists(f"{root}/new", watch=lambda event: seen("new", event.type))
    with other.transaction() as change:
        change.set_data(root, b"1")
        change.create(f"{root}/new")
        change.delete(f"{root}/gone")
    wanted = [("data", EventType.CHANGED), ("new", EventType.CREATED), ("gone", EventType.DELETED)]
    equal([seen.next() for _ in wanted], wanted)


# access


@check
def acls_are_enforced(world):
    root = world.root
    owner = world.client(auth_data=[("digest", "owner:secret")])
    stranger = world.client()
    owner.create(root, b"mine", acl=CREATOR_ALL_ACL)
    acls, stat = owner.get_acls(root)
    equal((acls, stat.aversion), ([make_digest_acl("owner", "secret", all=True)], 0))
    stranger.sync("/")
    for call in (stranger.exists, stranger.get, stranger.get_children, lambda path: stranger.set(path, b"")):
        with refused(NoAuthError):
            call(root)
    with refused(NoAuthError):
        stranger.create(f"{root}/child")
    owner.set_acls(root, [make_digest_acl("owner", "secret", all=True), *READ_ACL_UNSAFE], version=0)
    with refused(BadVersionError):
        owner.set_acls(root, OPEN_ACL_UNSAFE, version=0)
    stranger.sync("/")
    equal((stranger.get(root)[0], stranger.get_acls(root)[1].aversion), (b"mine", 1))
    with refused(NoAuthError):
        stranger.set(root, b"yours")
    stranger.add_auth("digest", "owner:secret")
    stranger.set(root, b"yours")
    with refused(InvalidACLError):
        owner.set_acls(root, [make_acl("nonsense", "x", all=True)])
    with refused(InvalidACLError):
        world.client().create(f"{root}-nobody", acl=CREATOR_ALL_ACL)


@check
def acls_by_default_and_by_address(world):
    root = world.root
    zk = world.client(default_acl=[make_acl("ip", "127.0.0.1", all=True)])
    zk.ensure_path(f"{root}/a")
    zk.set(f"{root}/a", b"from here")
    zk.set_acls(f"{root}/a", [make_acl("ip", "10.0.0.0/8", all=True)])
    with refused(NoAuthError):
        zk.get(f"{root}/a")
    # the super user may everything
    zk.add_auth("digest", "super:test")
    equal(zk.get(f"{root}/a")[0], b"from here")
    zk.set_acls(f"{root}/a", OPEN_ACL_UNSAFE)


@check
def authentication_goes_along_to_another_server(world):
    control("alone")
    zk, root = world.client(), world.root
    zk.add_auth("digest", "owner:secret")
    zk.create(root, b"mine", acl=CREATOR_ALL_ACL)
    control("move")
    reconnected(zk)
    equal(zk.get(root)[0], b"mine")
    control("heal")


@check
def unknown_authentication_fails(world):
    zk = world.client()
    with refused(AuthFailedError):
        zk.add_auth("nonsense", "x:y")
    zk.states.until(KazooState.LOST)


# chroot


@check
def chroot_is_invisible(world):
    zk, other, root = world.client(), world.client(chroot=world.root), world.root
    other.ensure_path("/")
    equal(other.create("/a/b", b"1", makepath=True), "/a/b")
    equal(other.create("/a/n-", sequence=True), "/a/n-0000000001")
    seen = Events()
    other.get("/a/b", watch=seen)
    other.get_children("/", watch=seen)
    zk.sync(root)
    equal(zk.get(f"{root}/a/b")[0], b"1")
    zk.set(f"{root}/a/b", b"2")
    equal(seen.next().path, "/a/b")
    zk.create(f"{root}/top")
    equal(seen.next().path, "/")
    with other.transaction() as change:
        change.create("/in-transaction")
    equal(sorted(other.get_children("/")), ["a", "in-transaction", "top"])
    with other.Lock("/lock"):
        zk.sync(root)
        equal(len(zk.get_children(f"{root}/lock")), 1)


@check
def reconfiguration_is_refused(world):
    zk = world.client()
    with refused(ReconfigDisabledError):
        zk.reconfig(joining="server.9=127.0.0.1:1:2;3", leaving=None, new_members=None)
    data, _ = zk.get("/zookeeper/config")
    require(isinstance(data, bytes))


if __name__ == "__main__":
    main(dict(holds_ephemeral=holds_ephemeral, holds_lock=holds_lock, leads=leads, takes_entry=takes_entry))
