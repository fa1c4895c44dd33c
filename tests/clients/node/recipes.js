// The usual recipes, as users of the library write them: it has none.
'use strict';

const zookeeper = require('node-zookeeper-client');
const { Events } = require('./harness.js');

const { EPHEMERAL, EPHEMERAL_SEQUENTIAL } = zookeeper.CreateMode;

// Leaves out an error that is expected.
function unless(name) {
  return (error) => {
    if (error.name !== name) throw error;
  };
}

// A place in a line: the first one has the lock, or leads; each watches the one before it.
class Place {
  constructor(client, path) {
    Object.assign(this, { client, path });
  }

  async join() {
    this.node = await this.client.create(`${this.path}/place-`, EPHEMERAL_SEQUENTIAL);
  }

  async first() {
    for (;;) {
      const { children } = await this.client.getChildren(this.path);
      const before = children.sort().filter((name) => `${this.path}/${name}` < this.node).pop();
      if (before === undefined) return;
      const gone = new Events();
      if (await this.client.exists(`${this.path}/${before}`, gone.tell)) await gone.next();
    }
  }

  leave() {
    return this.client.remove(this.node);
  }
}

// A double barrier: in when all are there, out when all have gone.
class Barrier {
  constructor(client, path, name, members) {
    Object.assign(this, { client, path, name, members });
  }

  async enter() {
    const ready = new Events();
    await this.client.exists(`${this.path}/ready`, ready.tell);
    await this.client.create(`${this.path}/${this.name}`, EPHEMERAL);
    const { children } = await this.client.getChildren(this.path);
    if (children.length < this.members) await ready.next();
    else await this.client.create(`${this.path}/ready`).catch(unless('NODE_EXISTS'));
  }

  async leave() {
    await this.client.remove(`${this.path}/ready`).catch(unless('NO_NODE'));
    await this.client.remove(`${this.path}/${this.name}`);
    for (;;) {
      const changed = new Events();
      const { children } = await this.client.getChildren(this.path, changed.tell);
      if (children.length === 0) return;
      await changed.next();
    }
  }
}

// The oldest entry of a queue; waits while there is none.
async function take(client, path) {
  for (;;) {
    const changed = new Events();
    const { children } = await client.getChildren(path, changed.tell);
    for (const entry of children.sort()) {
      try {
        const { data } = await client.getData(`${path}/${entry}`);
        await client.remove(`${path}/${entry}`);
        return String(data);
      } catch (error) {
        unless('NO_NODE')(error);
      }
    }
    await changed.next();
  }
}

// Adds one to a number in a node.
async function count(client, path) {
  for (;;) {
    const { data, stat } = await client.getData(path);
    try {
      await client.setData(path, Buffer.from(String(Number(data) + 1)), stat.version);
      return;
    } catch (error) {
      unless('BAD_VERSION')(error);
    }
  }
}

// A node's data as it was read last, and again whenever it changes, until the node is gone.
async function follow(client, path, tell) {
  for (;;) {
    const changed = new Events();
    try {
      tell(String((await client.getData(path, changed.tell)).data));
      await changed.next();
    } catch (error) {
      if (error.name === 'NO_NODE') return;
      unless('CONNECTION_LOSS')(error);
    }
  }
}

module.exports = { Place, Barrier, take, count, follow };
