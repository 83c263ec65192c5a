// Tries a broker with kafkajs. Usage: node check.js SERVERS PREFIX [CHECK ...]
'use strict';

const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const { CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = require('kafkajs');

const [servers, prefix, ...wanted] = process.argv.slice(2);
const LIMIT_MS = 60_000;
const PARTITIONS = 4;
// What is tried: so many nodes, of which one is restarted now and then, or none is.
const NODES = Number(process.env.CHECK_NODES || 1);
const RESTARTS = Boolean(process.env.CHECK_RESTARTS);

const kafka = new Kafka({
  clientId: 'check',
  brokers: servers.split(','),
  logLevel: logLevel.NOTHING,
  retry: { initialRetryTime: 50, retries: 8 },
});
const admin = kafka.admin();

const name = (suffix) => `${prefix}-${suffix}`;
const text = (number) => `record ${number} ${'abcdefghij'.repeat(number % 20)}`;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(what, condition) {
  const deadline = Date.now() + LIMIT_MS;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `not within a minute: ${what}`);
    await sleep(10);
  }
}

async function create(suffix, numPartitions) {
  await admin.createTopics({ topics: [{ topic: name(suffix), numPartitions, replicationFactor: 1 }] });
  return name(suffix);
}

async function producing(settings, body) {
  const producer = kafka.producer({ maxInFlightRequests: 1, idempotent: RESTARTS, ...settings });
  await producer.connect();
  try {
    return await body(producer);
  } finally {
    await producer.disconnect();
  }
}

// Runs a consumer until `enough` records were seen; returns them.
async function reading(topic, groupId, enough, { autoCommit = true, seeks = [] } = {}) {
  const consumer = kafka.consumer({ groupId, heartbeatInterval: 300, sessionTimeout: 10_000, maxWaitTimeInMs: 200 });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  const messages = [];
  await consumer.run({
    autoCommit,
    eachMessage: async ({ partition, message }) => {
      messages.push({ partition, ...message });
    },
  });
  for (const seek of seeks) {
    consumer.seek(seek);
  }
  await until(`${enough} records of ${topic}`, () => messages.length >= enough);
  await consumer.disconnect();
  return messages;
}

async function topics() {
  const topic = await create('topics', PARTITIONS);
  const metadata = await admin.fetchTopicMetadata({ topics: [topic] });
  assert.equal(metadata.topics[0].partitions.length, PARTITIONS);
  assert.equal(await admin.createTopics({ topics: [{ topic, numPartitions: 1 }] }), false, 'created twice');
  await assert.rejects(admin.createTopics({ topics: [{ topic: 'a b', numPartitions: 1 }] }));
  await admin.createPartitions({ topicPartitions: [{ topic, count: 6 }] });
  await until('six partitions', async () => {
    const grown = await admin.fetchTopicMetadata({ topics: [topic] });
    return grown.topics[0].partitions.length === 6;
  });
  await admin.deleteTopics({ topics: [topic] });
  await until('deleted', async () => !(await admin.listTopics()).includes(topic));
}

async function configs() {
  const topic = await create('configs', 1);
  const request = { includeSynonyms: false, resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }] };
  const described = async (key) => {
    const answer = await admin.describeConfigs(request);
    return answer.resources[0].configEntries.find((entry) => entry.configName === key).configValue;
  };
  assert.equal(await described('max.message.bytes'), '1048588');
}

async function cluster() {
  const described = await admin.describeCluster();
  // A node that is away just then is not listed.
  assert.ok(described.brokers.length === NODES || (RESTARTS && described.brokers.length === NODES - 1));
  assert.ok(described.brokers.some(({ nodeId }) => nodeId === described.controller));
  assert.ok(described.clusterId);
}

async function compressions() {
  for (const [codec, compression] of [['none', CompressionTypes.None], ['gzip', CompressionTypes.GZIP]]) {
    const topic = await create(`codec-${codec}`, 1);
    await producing({}, async (producer) => {
      const messages = Array.from({ length: 1000 }, (_, i) => ({ key: `key ${i}`, value: text(i), partition: 0 }));
      const [ack] = await producer.send({ topic, compression, acks: -1, messages });
      assert.equal(ack.baseOffset, '0');
    });
    const read = await reading(topic, name(`group-codec-${codec}`), 1000);
    read.forEach((message, i) => {
      assert.equal(message.offset, String(i), codec);
      assert.equal(message.key.toString(), `key ${i}`, codec);
      assert.equal(message.value.toString(), text(i), codec);
    });
  }
}

async function record_fields() {
  const topic = await create('fields', 1);
  const stamp = 1_600_000_000_123;
  await producing({}, async (producer) => {
    await producer.send({
      topic,
      messages: [
        { key: 'key', value: 'value', timestamp: String(stamp), headers: { name: 'header', empty: '' } },
        { key: null, value: 'no key', timestamp: String(stamp + 1) },
        { key: 'tombstone', value: null, timestamp: String(stamp + 2) },
      ],
    });
  });
  const [full, noKey, tombstone] = await reading(topic, name('group-fields'), 3);
  assert.equal(full.timestamp, String(stamp));
  assert.equal(full.headers.name.toString(), 'header');
  assert.equal(full.headers.empty.toString(), '');
  assert.equal(noKey.key, null);
  assert.equal(tombstone.value, null);
}

async function acks() {
  const topic = await create('acks', 1);
  // While a node stops, records that nobody answers may be lost, and those sent again may be there twice.
  const levels = RESTARTS ? [-1] : [0, 1, -1];
  for (const level of levels) {
    await producing({}, async (producer) => {
      for (let i = 0; i < 20; i++) {
        await producer.send({ topic, acks: level, messages: [{ value: text(i) }] });
      }
    });
  }
  const read = await reading(topic, name('group-acks'), 20 * levels.length);
  assert.equal(read.length, 20 * levels.length);
}

async function idempotence() {
  const topic = await create('idempotent', 1);
  await producing({ idempotent: true }, async (producer) => {
    for (let i = 0; i < 50; i++) {
      await producer.send({ topic, acks: -1, messages: [{ value: text(i) }, { value: text(i) }] });
    }
  });
  const read = await reading(topic, name('group-idempotent'), 100);
  read.forEach((message, i) => assert.equal(message.value.toString(), text(Math.floor(i / 2))));
}

async function large_records() {
  const topic = await create('large', 1);
  const million = crypto.randomBytes(1_000_000);
  await producing({}, async (producer) => {
    for (let i = 0; i < 4; i++) {
      await producer.send({ topic, messages: [{ value: million }] });
    }
    await assert.rejects(
      producer.send({ topic, messages: [{ value: Buffer.alloc(1_100_000) }] }),
      (error) => (error.cause ?? error).type === 'MESSAGE_TOO_LARGE',
    );
  });
  const read = await reading(topic, name('group-large'), 4);
  read.forEach((message) => assert.ok(million.equals(message.value)));
}

// A consumer that tells which partitions it has and adds what it reads to `seen`.
async function member(topic, groupId, seen) {
  const consumer = kafka.consumer({ groupId, heartbeatInterval: 300, sessionTimeout: 10_000, maxWaitTimeInMs: 200 });
  const self = { consumer, owned: new Set() };
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    self.owned = new Set(payload.memberAssignment[topic] ?? []);
  });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  await consumer.run({ eachMessage: async ({ message }) => seen.add(message.value.toString()) });
  return self;
}

async function group_rebalance() {
  const topic = await create('rebalance', PARTITIONS);
  const groupId = name('group-rebalance');
  const seen = new Set();
  await producing({}, async (producer) => {
    const send = async (from, to) => {
      const messages = [];
      for (let i = from; i < to; i++) {
        messages.push({ key: String(i), value: String(i), partition: i % PARTITIONS });
      }
      await producer.send({ topic, messages });
    };
    const first = await member(topic, groupId, seen);
    await until('the first member has all', () => first.owned.size === PARTITIONS);
    await send(0, 200);
    await until('all of the first records', () => seen.size === 200);
    const second = await member(topic, groupId, seen);
    await until('two each', () => first.owned.size === 2 && second.owned.size === 2);
    assert.equal(new Set([...first.owned, ...second.owned]).size, PARTITIONS);
    await send(200, 400);
    await until('all of the second records', () => seen.size === 400);
    await second.consumer.disconnect();
    await until('the first has all again', () => first.owned.size === PARTITIONS);
    await send(400, 600);
    await until('all of the third records', () => seen.size === 600);
    await first.consumer.disconnect();
  });
  const [committed] = await admin.fetchOffsets({ groupId, topics: [topic] });
  const sum = committed.partitions.reduce((total, { offset }) => total + Number(offset), 0);
  assert.equal(sum, 600, 'committed');
}

async function commit_and_restart() {
  const topic = await create('restart', 1);
  const groupId = name('group-restart');
  await producing({}, async (producer) => {
    await producer.send({ topic, messages: Array.from({ length: 100 }, (_, i) => ({ value: text(i) })) });
  });
  await admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: '40' }] });
  const rest = await reading(topic, groupId, 60);
  assert.equal(rest[0].offset, '40');
  assert.equal(rest.length, 60);
  const [committed] = await admin.fetchOffsets({ groupId, topics: [topic] });
  assert.equal(committed.partitions[0].offset, '100');
}

async function seek() {
  const topic = await create('seek', 1);
  await producing({}, async (producer) => {
    const messages = Array.from({ length: 100 }, (_, i) => ({ value: text(i), timestamp: String(1_700_000_000_000 + i * 1000) }));
    await producer.send({ topic, messages });
  });
  const read = await reading(topic, name('group-seek'), 1, { seeks: [{ topic, partition: 0, offset: '73' }] });
  assert.ok(read.some(({ offset }) => offset === '73'));
  const [offsets] = await admin.fetchTopicOffsets(topic);
  assert.deepEqual([offsets.low, offsets.high], ['0', '100']);
  const [at] = await admin.fetchTopicOffsetsByTimestamp(topic, 1_700_000_041_500);
  assert.equal(at.offset, '42');
}

async function groups_admin() {
  const topic = await create('groups', 1);
  const groupId = name('group-admin');
  await admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: '0' }] });
  const { groups } = await admin.listGroups();
  assert.ok(groups.some((group) => group.groupId === groupId));
  const described = await admin.describeGroups([groupId]);
  assert.equal(described.groups[0].state, 'Empty');
  await admin.deleteGroups([groupId]);
  await assert.rejects(admin.deleteGroups([groupId]));
}

async function main() {
  const checks = [
    topics, configs, cluster, compressions, record_fields, acks, idempotence, large_records,
    group_rebalance, commit_and_restart, seek, groups_admin,
  ];
  await admin.connect();
  let failed = 0;
  for (const check of checks) {
    if (wanted.length > 0 && !wanted.includes(check.name)) {
      continue;
    }
    const started = Date.now();
    try {
      await check();
      console.log(`ok ${check.name} ${((Date.now() - started) / 1000).toFixed(1)}s`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED ${check.name}: ${error}`);
      console.error(error);
    }
  }
  await admin.disconnect();
  process.exit(failed === 0 ? 0 : 1);
}

main();
