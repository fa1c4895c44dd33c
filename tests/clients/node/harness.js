// What the checks stand on: clients, events with deadlines, a program that dies, the runner's control of the servers.
'use strict';

const assert = require('assert');
const child = require('child_process');
const readline = require('readline');
const zookeeper = require('node-zookeeper-client');

const DEADLINE = 30000; // milliseconds for what must come; only a deadline
const HANGS = 90000; // milliseconds after which a check has hung
const SESSION = 10000; // milliseconds: sessions that must not expire on a busy machine
const SHORT = 1000; // milliseconds: sessions that are to expire

const { State, Exception } = zookeeper;

// What a promise gives, where it does so in time.
function within(promise, what, milliseconds = DEADLINE) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${milliseconds / 1000} s`)), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// Events in order, for those who wait for them.
class Events {
  constructor() {
    this.came = [];
    this.waiting = [];
    this.tell = (event) => {
      const first = this.waiting.shift();
      if (first) first(event);
      else this.came.push(event);
    };
  }

  next() {
    if (this.came.length > 0) return Promise.resolve(this.came.shift());
    return within(new Promise((resolve) => this.waiting.push(resolve)), 'an event');
  }

  async until(wanted) {
    let event;
    do event = await this.next();
    while (event !== wanted);
  }

  // The next event must be this one.
  async fires(type, path) {
    const event = await this.next();
    assert.deepStrictEqual([event.getType(), event.getPath()], [type, path]);
  }

  get silent() {
    return this.came.length === 0;
  }
}

// A client whose calls give promises. What a library's callback is given beside the error is the promise's value.
class Client {
  constructor(servers, options) {
    this.zk = zookeeper.createClient(servers, { sessionTimeout: SESSION, spinDelay: 100, ...options });
    this.states = new Events();
    this.zk.on('state', this.states.tell);
    for (const name of ['create', 'mkdirp', 'remove', 'setData', 'setACL', 'exists']) {
      this[name] = (...given) => this.call(name, given).then(([value]) => value);
    }
    for (const [name, first] of [['getData', 'data'], ['getChildren', 'children'], ['getACL', 'acl']]) {
      this[name] = (...given) => this.call(name, given).then(([value, stat]) => ({ [first]: value, stat }));
    }
  }

  call(name, given) {
    const answer = new Promise((resolve, reject) => {
      this.zk[name](...given, (error, ...values) => (error ? reject(error) : resolve(values)));
    });
    return within(answer, name);
  }

  commit(transaction) {
    // of a transaction that failed the results are given, too
    return within(new Promise((resolve) => transaction.commit((error, results) => resolve({ error, results }))), 'commit');
  }

  // The library has no sync: what is read after a write of one's own is as new as that.
  async sync() {
    await this.create('/sync-', zookeeper.CreateMode.EPHEMERAL_SEQUENTIAL);
  }

  get id() {
    return this.zk.getSessionId();
  }

  // The socket that it is connected by: a library of this age hides nothing.
  get socket() {
    return this.zk.connectionManager.socket;
  }

  async reconnected() {
    await this.states.until(State.DISCONNECTED);
    await this.states.until(State.SYNC_CONNECTED);
  }

  async close() {
    this.zk.close();
    await this.states.until(State.DISCONNECTED);
  }
}

// What one check is given: a path of its own, and clients that are closed after it.
class World {
  constructor(servers, root) {
    Object.assign(this, { servers, root, open: [] });
  }

  async client(options = {}) {
    const client = this.begin(options);
    await client.states.until(State.SYNC_CONNECTED);
    return client;
  }

  // Without waiting for the session.
  begin({ chroot = '', ...options } = {}) {
    const client = new Client(this.servers + chroot, options);
    this.open.push(client);
    client.zk.connect();
    return client;
  }

  clients(count) {
    return Promise.all(Array.from({ length: count }, () => this.client()));
  }

  // This program again, as a process of its own that a check may kill; what it says when it is ready.
  async program(role) {
    const checks = require.resolve('./checks.js');
    const started = child.spawn(process.execPath, [checks, this.servers, '--as', role, this.root], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const lines = readline.createInterface({ input: started.stdout });
    const said = await within(new Promise((resolve) => lines.once('line', resolve)), 'the other program');
    return { said, kill: () => this.kill(started) };
  }

  kill(started) {
    const ended = new Promise((resolve) => started.once('exit', resolve));
    started.kill('SIGKILL');
    return within(ended, "the other program's end");
  }

  close() {
    for (const client of this.open) client.zk.close();
  }
}

// Ends a program of its own: it lives until it is killed.
function stays(says = 'ready') {
  console.log(says);
  process.stdin.resume();
}

const answers = new Events();

// Has the runner do something to the servers.
async function control(word) {
  console.log(`control ${word}`);
  assert.strictEqual(await answers.next(), 'done');
}

// A call that must be refused with just this error.
async function refused(promise, name) {
  const error = await promise.then(() => undefined, (reason) => reason);
  assert(error, `no ${name}`);
  assert.strictEqual(error.name, name, `${error.stack}`);
}

async function main(checks, roles) {
  const [servers, ...rest] = process.argv.slice(2);
  if (rest[0] === '--as') {
    await roles[rest[1]](new World(servers, rest[2]));
    return;
  }
  readline.createInterface({ input: process.stdin }).on('line', answers.tell);
  let code = 0;
  let current = 'the program';
  process.exitCode = 1; // where it ends before its end
  process.on('unhandledRejection', (error) => {
    console.error(error);
    console.log(`FAILED ${current}: ${error.message}`);
    process.exit(1);
  });
  for (const [name, check] of Object.entries(checks)) {
    if (rest.length > 0 && !name.includes(rest[0])) continue;
    const world = new World(servers, `/${name}`);
    current = name;
    try {
      await within(check(world), 'the check', HANGS);
      console.log(`ok ${name}`);
    } catch (error) {
      code = 1;
      console.error(error);
      console.log(`FAILED ${name}: ${String(error.message).split(/\s+/).join(' ')}`);
      await control('heal');
    }
    world.close();
  }
  process.exit(code);
}

module.exports = { Events, World, SHORT, SESSION, State, Exception, control, main, refused, stays, within };
