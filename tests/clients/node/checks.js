// What users of node-zookeeper-client rely on: see ../README.md.
'use strict';

const assert = require('assert');
const zookeeper = require('node-zookeeper-client');
const { Events, SESSION, SHORT, State, control, main, refused, stays, within } = require('./harness.js');
const { Barrier, Place, count, follow, take } = require('./recipes.js');

const { ACL, CreateMode, Event, Id, Permission } = zookeeper;
const { EPHEMERAL, EPHEMERAL_SEQUENTIAL, PERSISTENT_SEQUENTIAL } = CreateMode;
const { NODE_CREATED, NODE_DELETED, NODE_DATA_CHANGED, NODE_CHILDREN_CHANGED } = Event;

const equal = assert.deepStrictEqual;
const text = (data) => Buffer.from(data);
const number = (long) => long.readBigInt64BE();
const numbered = (path, count) => `${path}${String(count).padStart(10, '0')}`;

const checks = {
  // sessions

  async session_ends_with_its_ephemerals(world) {
    const [watching, leaving] = await world.clients(2);
    await leaving.create(world.root, text('here'), EPHEMERAL);
    assert(number(leaving.id) !== 0n);
    await watching.sync();
    const gone = new Events();
    equal((await watching.exists(world.root, gone.tell)).ephemeralOwner, leaving.id);
    await leaving.close();
    await gone.fires(NODE_DELETED, world.root);
    equal(await watching.exists(world.root), null);
  },

  async session_timeout_is_agreed(world) {
    for (const [asked, agreed] of [[10, 1000], [SESSION, SESSION], [1000000, 60000]]) {
      equal((await world.client({ sessionTimeout: asked })).zk.getSessionTimeout(), agreed);
    }
  },

  async session_of_a_dead_program_expires(world) {
    const client = await world.client();
    const { said, kill } = await world.program('holds_ephemeral');
    equal(said, 'ready');
    await client.sync();
    const gone = new Events();
    assert(await client.exists(world.root, gone.tell));
    await kill();
    await gone.fires(NODE_DELETED, world.root);
  },

  async session_of_a_dead_program_is_taken_up(world) {
    const { said, kill } = await world.program('leaves_a_session');
    await kill();
    const [id, password] = said.split(' ').map((hex) => Buffer.from(hex, 'hex'));
    const heir = await world.client({ sessionId: id, sessionPassword: password });
    equal(heir.id, id);
    equal((await heir.exists(world.root)).ephemeralOwner, id);
    await heir.close();
    const late = world.begin({ sessionId: id, sessionPassword: password });
    await late.states.until(State.EXPIRED);
    const client = await world.client();
    await client.create(world.root);
  },

  async session_that_expired_is_told_so(world) {
    const [watching, client] = await world.clients(2);
    await client.create(world.root, EPHEMERAL);
    await watching.sync();
    const gone = new Events();
    assert(await watching.exists(world.root, gone.tell));
    // it does not try to reach a server, until another one with its id and password has closed the session
    const connect = client.zk.connectionManager.connect;
    const lost = new Events();
    client.zk.connectionManager.connect = lost.tell;
    client.socket.destroy();
    await lost.next();
    const other = await world.client({ sessionId: client.id, sessionPassword: client.zk.getSessionPassword() });
    equal(other.id, client.id);
    await other.close();
    await gone.fires(NODE_DELETED, world.root);
    client.zk.connectionManager.connect = connect;
    client.zk.connect();
    await client.states.until(State.EXPIRED);
    await refused(client.exists(world.root), 'SESSION_EXPIRED');
  },

  async session_goes_on_at_another_server(world) {
    await control('alone');
    const { root } = world;
    const [client, other] = await world.clients(2);
    const { id } = client;
    const server = client.socket.remotePort;
    const [data, made, children, exists] = [new Events(), new Events(), new Events(), new Events()];
    await client.create(root);
    await client.create(`${root}/own`, EPHEMERAL);
    await client.create(`${root}/data`);
    await client.getData(`${root}/data`, data.tell);
    equal(await client.exists(`${root}/new`, made.tell), null);
    await client.getChildren(root, children.tell);
    await client.exists(`${root}/own`, exists.tell);
    await control('move');
    await Promise.all([client.reconnected(), other.reconnected()]);
    assert.notStrictEqual(client.socket.remotePort, server);
    equal(client.id, id);
    equal((await other.exists(`${root}/own`)).ephemeralOwner, id);
    assert(data.silent && made.silent && children.silent && exists.silent);
    await other.setData(`${root}/data`, text('1'));
    await data.fires(NODE_DATA_CHANGED, `${root}/data`);
    await other.create(`${root}/new`);
    await made.fires(NODE_CREATED, `${root}/new`);
    await children.fires(NODE_CHILDREN_CHANGED, root);
    await other.remove(`${root}/own`);
    await exists.fires(NODE_DELETED, `${root}/own`);
    await control('heal');
  },

  async watches_hear_what_they_missed(world) {
    const { root } = world;
    const [client, other] = await world.clients(2);
    const [data, gone, made, children] = [new Events(), new Events(), new Events(), new Events()];
    await other.create(root);
    await other.create(`${root}/a`);
    await other.create(`${root}/b`);
    await client.sync();
    await client.getData(`${root}/a`, data.tell);
    await client.exists(`${root}/b`, gone.tell);
    await client.exists(`${root}/n`, made.tell);
    await client.getChildren(root, children.tell);
    // whether it is away when a change is made or not: it hears of it, once
    client.socket.destroy();
    await other.setData(`${root}/a`, text('missed'));
    await other.remove(`${root}/b`);
    await other.create(`${root}/n`);
    await data.fires(NODE_DATA_CHANGED, `${root}/a`);
    await gone.fires(NODE_DELETED, `${root}/b`);
    await made.fires(NODE_CREATED, `${root}/n`);
    await children.fires(NODE_CHILDREN_CHANGED, root);
    await client.sync();
    assert(data.silent && gone.silent && made.silent && children.silent);
  },

  async writes_go_on_while_the_server_dies(world) {
    await control('alone');
    const client = await world.client({ retries: 10 });
    await client.create(world.root);
    const begun = new Events();
    const write = async () => {
      for (let n = 0; n < 200; n += 1) {
        // it may have been made, and only the answer lost
        await client.create(`${world.root}/${n}`).catch((error) => equal(error.name, 'NODE_EXISTS'));
        begun.tell(n);
      }
    };
    const writes = write();
    await begun.until(20);
    await control('move');
    await within(writes, 'the writes');
    const { children, stat } = await client.getChildren(world.root);
    equal([children.length, stat.cversion], [200, 200]);
    await control('heal');
  },

  // nodes

  async nodes(world) {
    const { root } = world;
    const client = await world.client();
    equal(await client.create(root, text('one')), root);
    await refused(client.create(root), 'NODE_EXISTS');
    const { data, stat } = await client.getData(root);
    equal([String(data), stat.version, stat.dataLength, stat.numChildren], ['one', 0, 3, 0]);
    equal([stat.mzxid, stat.pzxid, stat.mtime, number(stat.ephemeralOwner)], [stat.czxid, stat.czxid, stat.ctime, 0n]);
    const newer = await client.setData(root, text('three'), 0);
    equal([newer.version, newer.dataLength, newer.czxid], [1, 5, stat.czxid]);
    assert(number(newer.mzxid) > number(stat.mzxid));
    await refused(client.setData(root, text(''), 0), 'BAD_VERSION');
    await refused(client.remove(root, 7), 'BAD_VERSION');
    await client.create(`${root}/child`);
    await refused(client.remove(root), 'NOT_EMPTY');
    const listed = await client.getChildren(root);
    equal([listed.children, listed.stat.cversion, listed.stat.numChildren], [['child'], 1, 1]);
    await client.remove(`${root}/child`, 0);
    await client.remove(root, 1);
    equal(await client.exists(root), null);
    const calls = [client.getData(root), client.getChildren(root), client.remove(root), client.getACL(root)];
    for (const call of [...calls, client.setData(root, text('')), client.create(`${root}/child`)]) {
      await refused(call, 'NO_NODE');
    }
  },

  async nodes_with_all_their_parents(world) {
    const { root } = world;
    const client = await world.client();
    equal(await client.mkdirp(`${root}/a/b/c`, text('each')), `${root}/a/b/c`);
    await client.mkdirp(`${root}/a/b/d`);
    equal((await client.getChildren(`${root}/a/b`)).children.sort(), ['c', 'd']);
    equal(String((await client.getData(`${root}/a`)).data), 'each');
  },

  async nodes_in_sequence(world) {
    const { root } = world;
    const [client, other] = await world.clients(2);
    await client.create(root);
    for (let n = 0; n < 3; n += 1) {
      equal(await client.create(`${root}/n-`, PERSISTENT_SEQUENTIAL), numbered(`${root}/n-`, n));
    }
    await client.remove(numbered(`${root}/n-`, 2));
    await client.create(`${root}/plain`);
    equal(await other.create(`${root}/m-`, EPHEMERAL_SEQUENTIAL), numbered(`${root}/m-`, 4));
    await refused(client.create(`${root}/m-0000000004/child`), 'NO_CHILDREN_FOR_EPHEMERALS');
  },

  async data_of_every_size(world) {
    const { root } = world;
    const client = await world.client();
    // the largest frame that a server takes is 1,048,575 bytes
    for (const size of [0, 1, 4095, 65536, 1000000]) {
      const data = Buffer.alloc(size, 'zketcd');
      await client.create(`${root}-${size}`, data);
      assert((await client.getData(`${root}-${size}`)).data.equals(data), `${size} bytes came back changed`);
    }
    await client.create(root);
    equal((await client.getData(root)).data, undefined);
    const { id } = client;
    await refused(client.setData(root, Buffer.alloc(1048576)), 'CONNECTION_LOSS');
    await client.reconnected();
    equal([client.id, (await client.getData(root)).data], [id, undefined]);
  },

  async many_requests_in_the_pipe(world) {
    const { root } = world;
    const [client, other] = await world.clients(2);
    await client.create(root);
    const made = Array.from({ length: 1000 }, () => client.create(`${root}/n-`, PERSISTENT_SEQUENTIAL));
    const listed = client.getChildren(root);
    equal(await Promise.all(made), made.map((_, n) => numbered(`${root}/n-`, n)));
    equal((await listed).children.length, 1000);
    await other.sync();
    equal((await other.exists(root)).cversion, 1000);
  },

  // watches

  async watches_fire_once(world) {
    const { root } = world;
    const [client, other] = await world.clients(2);
    const seen = new Events();
    equal(await client.exists(root, seen.tell), null);
    await other.create(root);
    await seen.fires(NODE_CREATED, root);
    await client.getData(root, seen.tell);
    await other.setData(root, text('1'));
    await seen.fires(NODE_DATA_CHANGED, root);
    await other.setData(root, text('2'));
    await client.sync();
    await client.getChildren(root, seen.tell);
    await other.create(`${root}/child`);
    await seen.fires(NODE_CHILDREN_CHANGED, root);
    await other.remove(`${root}/child`);
    await client.sync();
    assert(seen.silent);
    const [data, children] = [new Events(), new Events()];
    await client.getData(root, data.tell);
    await client.getChildren(root, children.tell);
    await other.remove(root);
    await data.fires(NODE_DELETED, root);
    await children.fires(NODE_DELETED, root);
  },

  // recipes

  async lock_is_held_by_one(world) {
    const clients = await world.clients(4);
    await clients[0].create(world.root);
    let inside = 0;
    let turns = 0;
    const work = async (client) => {
      await client.sync();
      for (let n = 0; n < 5; n += 1) {
        const place = new Place(client, world.root);
        await place.join();
        await place.first();
        equal((inside += 1), 1);
        await client.exists(world.root);
        turns += 1;
        equal((inside -= 1), 0);
        await place.leave();
      }
    };
    await Promise.all(clients.map(work));
    equal(turns, 20);
  },

  async lock_of_a_dead_program_passes_on(world) {
    const client = await world.client();
    await client.create(world.root);
    const { kill } = await world.program('is_first');
    const place = new Place(client, world.root);
    await place.join();
    equal((await client.getChildren(world.root)).children.length, 2);
    await kill();
    await place.first();
    equal((await client.getChildren(world.root)).children.length, 1);
  },

  async election_goes_on_at_another_server(world) {
    await control('alone');
    const clients = await world.clients(3);
    await clients[0].create(world.root);
    const leads = new Events();
    const places = [];
    for (const client of clients) {
      const place = new Place(client, world.root);
      await client.sync();
      await place.join();
      places.push(place);
    }
    const [first, ...others] = places;
    await first.first();
    // the others' watches are set before the server dies
    const waiting = others.map((place) => place.first().then(() => leads.tell(place)));
    await Promise.all(clients.map((client) => client.sync().then(() => client.sync())));
    await control('move');
    await Promise.all(clients.map((client) => client.reconnected()));
    assert(leads.silent);
    for (const place of others) {
      // the leader goes with its session
      await places[places.indexOf(place) - 1].client.close();
      equal(await leads.next(), place);
    }
    await Promise.all(waiting);
    await control('heal');
  },

  async barrier_joins_and_parts(world) {
    const clients = await world.clients(3);
    await clients[0].create(world.root);
    const [entered, left, go] = [new Events(), new Events(), [new Events(), new Events(), new Events()]];
    const work = async (client, n) => {
      await client.sync();
      const barrier = new Barrier(client, world.root, `member ${n}`, 3);
      await barrier.enter();
      entered.tell(n);
      await go[n].next();
      await barrier.leave();
      left.tell(n);
    };
    const works = clients.slice(0, 2).map(work);
    await clients[2].sync();
    for (;;) {
      const changed = new Events();
      if ((await clients[2].getChildren(world.root, changed.tell)).children.length === 2) break;
      await changed.next();
    }
    assert(entered.silent, 'went in without the third');
    works.push(work(clients[2], 2));
    for (let n = 0; n < 3; n += 1) await entered.next();
    go[0].tell();
    go[1].tell();
    await clients[2].sync();
    assert(left.silent, 'left without the third');
    go[2].tell();
    await Promise.all(works);
  },

  async queue_gives_each_entry_once(world) {
    const [client, ...takers] = await world.clients(4);
    await client.create(world.root);
    const work = async (taker) => {
      await taker.sync();
      const taken = [];
      while (taken.length < 10) taken.push(Number(await take(taker, world.root)));
      equal(taken, [...taken].sort((a, b) => a - b));
      return taken;
    };
    const works = takers.map(work);
    for (let n = 0; n < 30; n += 1) await client.create(`${world.root}/entry-`, text(`${n}`), PERSISTENT_SEQUENTIAL);
    const all = (await Promise.all(works)).flat().sort((a, b) => a - b);
    equal(all, Array.from({ length: 30 }, (_, n) => n));
  },

  async counter_counts(world) {
    const clients = await world.clients(4);
    await clients[0].create(world.root, text('0'));
    const work = async (client) => {
      await client.sync();
      for (let n = 0; n < 25; n += 1) await count(client, world.root);
    };
    await Promise.all(clients.map(work));
    await clients[0].sync();
    const { data, stat } = await clients[0].getData(world.root);
    equal([String(data), stat.version], ['100', 100]);
  },

  async cache_follows(world) {
    await control('alone');
    const [client, other] = await world.clients(2);
    await other.create(world.root, text('0'));
    await client.sync();
    const seen = new Events();
    const following = follow(client, world.root, seen.tell);
    equal(await seen.next(), '0');
    await other.setData(world.root, text('1'));
    equal(await seen.next(), '1');
    await control('move');
    await other.reconnected();
    await other.setData(world.root, text('2'));
    equal(await seen.next(), '2');
    await other.remove(world.root);
    await within(following, "the node's end");
    await control('heal');
  },

  // transactions

  async transaction_is_all_or_nothing(world) {
    const { root } = world;
    const client = await world.client();
    await client.create(root);
    const change = client.zk.transaction();
    change.check(root);
    change.create(`${root}/n-`, text('1'), PERSISTENT_SEQUENTIAL);
    change.create(`${root}/own`, EPHEMERAL);
    change.setData(root, text('changed'));
    change.create(`${root}/passing`);
    change.remove(`${root}/passing`);
    const { error, results } = await client.commit(change);
    assert(!error, `${error}`);
    equal(results.map((result) => result.path), [
      undefined, `${root}/n-0000000000`, `${root}/own`, undefined, `${root}/passing`, undefined,
    ]);
    equal([results[3].stat.version, results[3].stat.dataLength], [1, 7]);
    const stat = await client.exists(root);
    equal([stat.cversion, stat.numChildren, stat.mzxid], [4, 2, stat.pzxid]);

    const wrong = client.zk.transaction();
    wrong.create(`${root}/never`).remove(`${root}/own`, 5).setData(root, text('never'));
    const failed = await client.commit(wrong);
    equal(failed.error.name, 'BAD_VERSION');
    equal(failed.results.map((result) => result.err), [0, zookeeper.Exception.BAD_VERSION, -2]);
    equal([await client.exists(`${root}/never`), String((await client.getData(root)).data)], [null, 'changed']);
  },

  // access

  async acls_are_enforced(world) {
    const { root } = world;
    const [owner, stranger] = await world.clients(2);
    owner.zk.addAuthInfo('digest', text('owner:secret'));
    await owner.create(root, text('mine'), ACL.CREATOR_ALL_ACL);
    const { acl, stat } = await owner.getACL(root);
    equal([acl.length, acl[0].permission, acl[0].id.scheme, stat.aversion], [1, Permission.ALL, 'digest', 0]);
    assert(acl[0].id.id.startsWith('owner:'));
    await stranger.sync();
    const calls = [stranger.getData(root), stranger.getChildren(root), stranger.setData(root, text('')),
      stranger.create(`${root}/child`), stranger.setACL(root, ACL.OPEN_ACL_UNSAFE)];
    for (const call of calls) await refused(call, 'NO_AUTH');
    await owner.setACL(root, [...acl, new ACL(Permission.READ, Id.ANYONE_ID_UNSAFE)], 0);
    await refused(owner.setACL(root, ACL.OPEN_ACL_UNSAFE, 0), 'BAD_VERSION');
    await stranger.sync();
    equal(String((await stranger.getData(root)).data), 'mine');
    await refused(stranger.setData(root, text('')), 'NO_AUTH');
    stranger.zk.addAuthInfo('digest', text('owner:secret'));
    await stranger.setData(root, text('yours'));
    const nobody = await world.client();
    await refused(nobody.create(`${root}-nobody`, ACL.CREATOR_ALL_ACL), 'INVALID_ACL');
  },

  async authentication_goes_along_to_another_server(world) {
    await control('alone');
    const client = await world.client();
    client.zk.addAuthInfo('digest', text('owner:secret'));
    await client.create(world.root, text('mine'), ACL.CREATOR_ALL_ACL);
    const changed = new Events();
    await client.getData(world.root, changed.tell);
    await control('move');
    await client.reconnected();
    await client.setData(world.root, text('still'));
    await changed.fires(NODE_DATA_CHANGED, world.root);
    await control('heal');
  },

  async unknown_authentication_fails(world) {
    const client = await world.client();
    client.zk.addAuthInfo('nonsense', text('x:y'));
    await client.states.until(State.AUTH_FAILED);
  },

  // chroot

  async chroot_is_invisible(world) {
    const { root } = world;
    const client = await world.client();
    await client.create(root);
    const inner = await world.client({ chroot: root });
    await inner.sync();
    equal(await inner.create('/a', text('1')), '/a');
    equal(await inner.create('/n-', PERSISTENT_SEQUENTIAL), numbered('/n-', 2));
    const seen = new Events();
    await inner.getData('/a', seen.tell);
    await client.sync();
    equal(String((await client.getData(`${root}/a`)).data), '1');
    await client.setData(`${root}/a`, text('2'));
    await seen.fires(NODE_DATA_CHANGED, '/a');
    const { results } = await inner.commit(inner.zk.transaction().create('/in-transaction'));
    equal(results[0].path, '/in-transaction');
    await client.sync();
    assert(await client.exists(`${root}/in-transaction`));
  },
};

const roles = {
  async holds_ephemeral(world) {
    const client = await world.client({ sessionTimeout: SHORT });
    await client.create(world.root, EPHEMERAL);
    stays();
  },

  async leaves_a_session(world) {
    const client = await world.client();
    await client.create(world.root, EPHEMERAL);
    stays(`${client.id.toString('hex')} ${client.zk.getSessionPassword().toString('hex')}`);
  },

  async is_first(world) {
    const client = await world.client({ sessionTimeout: SHORT });
    const place = new Place(client, world.root);
    await place.join();
    await place.first();
    stays();
  },
};

main(checks, roles);
