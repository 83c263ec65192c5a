"""Tries a broker with confluent-kafka (librdkafka). Usage: check_confluent.py SERVERS PREFIX [CHECK ...]"""

import os
import sys
import threading

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import OFFSET_BEGINNING, TIMESTAMP_CREATE_TIME
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

from checks import COPIES, NODES, RESTARTS, equal, run, text, until

SERVERS, PREFIX = sys.argv[1], sys.argv[2]
COMPRESSIONS = ["none", "gzip", "snappy", "lz4", "zstd"]

admin = AdminClient({"bootstrap.servers": SERVERS})


def name(suffix):
    return f"{PREFIX}-{suffix}"


def create(suffix, partitions, config=None):
    topic = name(suffix)
    admin.create_topics([NewTopic(topic, partitions, 1, config=config or {})])[topic].result()
    return topic


def producer(**more):
    settings = {"bootstrap.servers": SERVERS, "acks": "all", "linger.ms": 5, "enable.idempotence": RESTARTS}
    settings.update({key.replace("_", "."): value for key, value in more.items()})
    return Producer(settings)


def consumer(**more):
    settings = {
        "bootstrap.servers": SERVERS,
        "group.id": name("none"),
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }
    settings.update({key.replace("_", "."): value for key, value in more.items()})
    return Consumer(settings)


class Acks:
    """Collects delivery reports; `offsets` are in the order of delivery."""

    def __init__(self):
        self.offsets, self.errors = [], []

    def __call__(self, error, message):
        if error:
            self.errors.append(error)
        else:
            self.offsets.append((message.partition(), message.offset()))


def read(topic, count, partitions=1):
    reader = consumer()
    reader.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(partitions)])
    messages = []

    def more():
        for message in reader.consume(1000, 0.2):
            if message.error():
                raise KafkaException(message.error())
            messages.append(message)
        return len(messages) >= count

    until(f"{count} records of {topic}", more)
    reader.close()
    equal(count, len(messages), f"records of {topic}")
    return messages


def code_of(future):
    try:
        future.result()
    except KafkaException as error:
        return error.args[0].code()
    return KafkaError.NO_ERROR


def topics():
    topic = create("topics", 4)
    listed = admin.list_topics(topic, timeout=10).topics[topic]
    equal(4, len(listed.partitions), "partitions")
    equal(COPIES, len(listed.partitions[0].replicas), "replicas")
    equal(KafkaError.TOPIC_ALREADY_EXISTS, code_of(admin.create_topics([NewTopic(topic, 1, 1)])[topic]), "exists")
    equal(KafkaError.TOPIC_EXCEPTION, code_of(admin.create_topics([NewTopic("a b", 1, 1)])["a b"]), "bad name")
    many = name("many")
    answer = code_of(admin.create_topics([NewTopic(many, 1, NODES + 1)])[many])
    equal(KafkaError.INVALID_REPLICATION_FACTOR, answer, "more replicas than nodes")
    admin.create_partitions([NewPartitions(topic, 6)])[topic].result()
    until("six partitions", lambda: len(admin.list_topics(topic, timeout=10).topics[topic].partitions) == 6)
    admin.delete_topics([topic])[topic].result()
    until("deleted", lambda: topic not in admin.list_topics(timeout=10).topics)
    equal(KafkaError.UNKNOWN_TOPIC_OR_PART, code_of(admin.delete_topics([topic])[topic]), "deleted twice")


def configs():
    topic = create("configs", 1)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)

    def described(key):
        return admin.describe_configs([resource])[resource].result()[key].value

    equal("1048588", described("max.message.bytes"), "the default of max.message.bytes")
    change = ConfigEntry("max.message.bytes", "2000000", incremental_operation=AlterConfigOpType.SET)
    altering = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[change])
    admin.incremental_alter_configs([altering])[altering].result()
    until("altered", lambda: described("max.message.bytes") == "2000000")


def compressions():
    for codec in COMPRESSIONS:
        topic = create(f"codec-{codec}", 1)
        acks = Acks()
        writer = producer(compression_type=codec, linger_ms=50)
        for i in range(1000):
            writer.produce(topic, text(i), f"key {i}".encode(), partition=0, on_delivery=acks)
        equal(0, writer.flush(30), f"{codec}: records not acked")
        equal([], acks.errors, f"{codec}: errors")
        equal([(0, i) for i in range(1000)], acks.offsets, f"{codec}: offsets of the acks")
        for i, message in enumerate(read(topic, 1000)):
            equal((i, text(i), f"key {i}".encode()), (message.offset(), message.value(), message.key()), codec)


def record_fields():
    topic = create("fields", 1)
    writer = producer()
    stamp = 1_600_000_000_123
    headers = [("name", b"header"), ("empty", b""), ("none", None), ("name", b"again")]
    writer.produce(topic, b"value", b"key", 0, timestamp=stamp, headers=headers)
    writer.produce(topic, b"no key", None, 0, timestamp=stamp + 1)
    writer.produce(topic, None, b"tombstone", 0, timestamp=stamp + 2)
    writer.produce(topic, b"", b"", 0, timestamp=stamp + 3)
    equal(0, writer.flush(30), "records not acked")
    full, no_key, tombstone, empty = read(topic, 4)
    equal((TIMESTAMP_CREATE_TIME, stamp), full.timestamp(), "timestamp")
    equal(headers, full.headers(), "headers")
    equal(None, no_key.key(), "null key")
    equal(None, tombstone.value(), "null value")
    equal((b"", b""), (empty.key(), empty.value()), "empty key and value")


def acks():
    topic = create("acks", 1)
    # While a node stops, records that nobody answers may be lost, and those sent again may be there twice.
    for index, level in enumerate(["all"] if RESTARTS else ["0", "1", "all"]):
        writer = producer(acks=level)
        for i in range(100):
            writer.produce(topic, text(i), partition=0)
        equal(0, writer.flush(30), f"acks={level}")
        read(topic, 100 * (index + 1))


def idempotence():
    topic = create("idempotent", 4)
    reports = Acks()
    writer = producer(enable_idempotence=True)
    for i in range(20_000):
        while True:
            try:
                writer.produce(topic, text(i), str(i).encode(), on_delivery=reports)
                break
            except BufferError:
                writer.poll(0.1)
    equal(0, writer.flush(30), "records not acked")
    equal([], reports.errors, "errors")
    equal(20_000, len(set(reports.offsets)), "distinct offsets")
    read(topic, 20_000, 4)


def large_records():
    topic = create("large", 1)
    million = os.urandom(1_000_000)
    reports = Acks()
    writer = producer(message_max_bytes=20_000_000)
    for _ in range(8):
        writer.produce(topic, million, partition=0, on_delivery=reports)
    writer.produce(topic, bytes(1_100_000), partition=0, on_delivery=reports)
    equal(0, writer.flush(60), "records not answered")
    equal([KafkaError.MSG_SIZE_TOO_LARGE], [error.code() for error in reports.errors], "errors")
    for message in read(topic, 8):
        equal(True, message.value() == million, "large value")


def group_rebalance():
    for strategy in ["range", "cooperative-sticky"]:
        topic = create(f"rebalance-{strategy}", 4)
        group = name(f"group-{strategy}")
        seen, stop = set(), threading.Event()
        writer = producer()

        def send(first, last):
            for i in range(first, last):
                writer.produce(topic, str(i).encode(), str(i).encode())
            equal(0, writer.flush(30), "records not acked")

        first = Member(topic, group, strategy, seen, stop)
        until("the first member has all", lambda: len(first.owned()) == 4)
        send(0, 200)
        until("all of the first records", lambda: len(seen) == 200)
        second = Member(topic, group, strategy, seen, stop)
        until("two each", lambda: len(first.owned()) == 2 and len(second.owned()) == 2)
        equal({0, 1, 2, 3}, first.owned() | second.owned(), "partitions owned by either")
        send(200, 400)
        until("all of the second records", lambda: len(seen) == 400)
        second.leave.set()
        second.thread.join(30)
        until("the first has all again", lambda: len(first.owned()) == 4)
        send(400, 600)
        until("all of the third records", lambda: len(seen) == 600)
        stop.set()
        first.thread.join(30)
        equal([], first.errors + second.errors, "errors of members")
        request = [ConsumerGroupTopicPartitions(group)]
        committed = admin.list_consumer_group_offsets(request)[group].result().topic_partitions
        equal(600, sum(partition.offset for partition in committed), "committed")


class Member:
    """One consumer in its own thread that commits what it has seen."""

    def __init__(self, topic, group, strategy, seen, stop):
        self.errors, self.leave = [], threading.Event()
        self._owned, self._seen, self._stop = frozenset(), seen, stop
        self._consumer = consumer(
            group_id=group,
            partition_assignment_strategy=strategy,
            session_timeout_ms=10_000,
            heartbeat_interval_ms=300,
        )
        self._consumer.subscribe([topic])
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def owned(self):
        return self._owned

    def _run(self):
        while not self._stop.is_set() and not self.leave.is_set():
            messages = self._consumer.consume(100, 0.1)
            for message in messages:
                if message.error():
                    self.errors.append(message.error())
                else:
                    self._seen.add(message.value())
            if messages:
                self._commit()
            self._owned = frozenset(partition.partition for partition in self._consumer.assignment())
        self._commit()
        self._consumer.close()

    def _commit(self):
        try:
            self._consumer.commit(asynchronous=False)
        except KafkaException as error:
            # In a rebalance the next owner reads again; without anything new there is nothing to commit.
            allowed = (KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION, KafkaError._NO_OFFSET)
            if error.args[0].code() not in allowed:
                self.errors.append(error)


def commit_and_restart():
    topic = create("restart", 1)
    writer = producer()
    for i in range(100):
        writer.produce(topic, text(i), partition=0)
    equal(0, writer.flush(30), "records not acked")
    group = name("group-restart")
    first = consumer(group_id=group)
    first.subscribe([topic])
    seen = []
    until("forty records", lambda: seen.extend(first.consume(10, 0.2)) or len(seen) >= 40)
    first.commit(offsets=[TopicPartition(topic, 0, 40, metadata="half way")], asynchronous=False)
    equal(40, first.committed([TopicPartition(topic, 0)])[0].offset, "committed")
    first.close()
    second = consumer(group_id=group)
    second.subscribe([topic])
    rest = []
    until("the other sixty", lambda: rest.extend(second.consume(10, 0.2)) or len(rest) >= 60)
    equal(list(range(40, 100)), [message.offset() for message in rest], "offsets after the restart")
    second.close()


def seek():
    topic = create("seek", 1)
    writer = producer()
    for i in range(100):
        writer.produce(topic, text(i), partition=0, timestamp=1_700_000_000_000 + 1000 * i)
    equal(0, writer.flush(30), "records not acked")
    reader = consumer()
    reader.assign([TopicPartition(topic, 0, 73)])
    until("the record at 73", lambda: getattr(reader.poll(0.2), "offset", lambda: -1)() == 73)
    reader.seek(TopicPartition(topic, 0, 5))
    until("the record at 5", lambda: getattr(reader.poll(0.2), "offset", lambda: -1)() == 5)
    equal((0, 100), reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=10), "watermarks")
    at = reader.offsets_for_times([TopicPartition(topic, 0, 1_700_000_041_500)], timeout=10)
    equal(42, at[0].offset, "offset for a time")
    reader.close()


def offsets():
    topic = create("offsets", 1)
    writer = producer()
    for stamp in (1000, 5000, 3000, 5000, 2000):
        writer.produce(topic, b"x", partition=0, timestamp=1_700_000_000_000 + stamp)
        equal(0, writer.flush(30), "records not acked")
    partition = TopicPartition(topic, 0)

    def listed(spec):
        return admin.list_offsets({partition: spec})[partition].result().offset

    equal(0, listed(OffsetSpec.earliest()), "earliest")
    equal(5, listed(OffsetSpec.latest()), "latest")
    equal(1, listed(OffsetSpec.max_timestamp()), "offset of the largest timestamp")
    equal(1, listed(OffsetSpec.for_timestamp(1_700_000_001_500)), "first at or after")


def groups_admin():
    topic = create("groups", 1)
    group = name("group-admin")
    altered = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 3)])
    admin.alter_consumer_group_offsets([altered])[group].result()
    listed = admin.list_consumer_groups().result()
    equal(True, group in [entry.group_id for entry in listed.valid], "listed")
    described = admin.describe_consumer_groups([group])[group].result()
    equal("EMPTY", described.state.name, "state")
    admin.delete_consumer_groups([group])[group].result()
    equal(KafkaError.GROUP_ID_NOT_FOUND, code_of(admin.delete_consumer_groups([group])[group]), "deleted twice")


def auto_create():
    topic = name("automatic")
    writer = producer()
    reports = Acks()
    writer.produce(topic, b"first", on_delivery=reports)
    equal(0, writer.flush(30), "records not acked")
    equal(([], 1), (reports.errors, len(reports.offsets)), "a topic that did not exist")


run(
    [
        topics,
        configs,
        compressions,
        record_fields,
        acks,
        idempotence,
        large_records,
        group_rebalance,
        commit_and_restart,
        seek,
        offsets,
        groups_admin,
        auto_create,
    ],
    sys.argv[3:],
)
