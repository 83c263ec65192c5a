"""Tries a broker with kafka-python. Usage: check_kafka_python.py SERVERS PREFIX [CHECK ...]"""

import os
import sys
import threading

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import CommitFailedError, MessageSizeTooLargeError, RebalanceInProgressError
from kafka.structs import OffsetAndMetadata

from checks import equal, run, text, until

SERVERS, PREFIX = sys.argv[1], sys.argv[2]
# A poll that ends while its member joins loses the assignment for good (`ConsumerCoordinator.ensure_active_group` in version
# 3.0.12): it must be longer than that takes. With records it ends at once; members look in between whether to leave.
POLL_MS = 5000

admin = KafkaAdminClient(bootstrap_servers=SERVERS)


def name(suffix):
    return f"{PREFIX}-{suffix}"


def create(suffix, partitions):
    admin.create_topics([NewTopic(name(suffix), partitions, 1)])
    return name(suffix)


def producer(**more):
    return KafkaProducer(bootstrap_servers=SERVERS, **{"acks": "all", **more})


def consumer(*topics, **more):
    settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False, **more}
    return KafkaConsumer(*topics, bootstrap_servers=SERVERS, **settings)


def read(topic, count, partitions=1):
    reader = consumer()
    reader.assign([TopicPartition(topic, partition) for partition in range(partitions)])
    records = []

    def more():
        for batch in reader.poll(POLL_MS).values():
            records.extend(batch)
        return len(records) >= count

    until(f"{count} records of {topic}", more)
    reader.close()
    equal(count, len(records), f"records of {topic}")
    return records


def topics():
    topic = create("topics", 4)
    equal(True, topic in admin.list_topics(), "listed")
    reader = consumer()
    equal({0, 1, 2, 3}, reader.partitions_for_topic(topic), "partitions")
    reader.close()
    admin.delete_topics([topic])
    until("deleted", lambda: topic not in admin.list_topics())


def compressions():
    for codec in [None, "gzip", "snappy", "lz4", "zstd"]:
        topic = create(f"codec-{codec}", 1)
        writer = producer(compression_type=codec, linger_ms=20)
        futures = [writer.send(topic, text(i), f"key {i}".encode(), partition=0) for i in range(1000)]
        writer.flush(30)
        equal(list(range(1000)), [future.get(30).offset for future in futures], f"{codec}: offsets of the acks")
        writer.close()
        for i, record in enumerate(read(topic, 1000)):
            equal((i, text(i), f"key {i}".encode()), (record.offset, record.value, record.key), f"{codec}")


def record_fields():
    topic = create("fields", 1)
    writer = producer()
    stamp = 1_600_000_000_123
    headers = [("name", b"header"), ("empty", b""), ("name", b"again")]
    writer.send(topic, b"value", b"key", headers=headers, partition=0, timestamp_ms=stamp)
    writer.send(topic, b"no key", None, partition=0, timestamp_ms=stamp + 1)
    writer.send(topic, None, b"tombstone", partition=0, timestamp_ms=stamp + 2)
    writer.close()
    full, no_key, tombstone = read(topic, 3)
    equal((stamp, 0), (full.timestamp, full.timestamp_type), "timestamp")
    equal(headers, [tuple(header) for header in full.headers], "headers")
    equal(None, no_key.key, "null key")
    equal(None, tombstone.value, "null value")


def large_records():
    topic = create("large", 1)
    million = os.urandom(1_000_000)
    writer = producer(max_request_size=20_000_000)
    for _ in range(4):
        writer.send(topic, million, partition=0).get(30)
    try:
        writer.send(topic, bytes(1_100_000), partition=0).get(30)
        raise AssertionError("a record above the limit was taken")
    except MessageSizeTooLargeError:
        pass
    writer.close()
    for record in read(topic, 4):
        equal(True, record.value == million, "large value")


def group_rebalance():
    topic, group = create("rebalance", 4), name("group-rebalance")
    seen, stop = set(), threading.Event()
    writer = producer()

    def send(first, last):
        for i in range(first, last):
            writer.send(topic, str(i).encode(), str(i).encode())
        writer.flush(30)

    first = Member(topic, group, seen, stop)
    until("the first member has all", lambda: len(first.owned) == 4)
    send(0, 200)
    until("all of the first records", lambda: len(seen) == 200)
    second = Member(topic, group, seen, stop)
    until("two each", lambda: len(first.owned) == 2 and len(second.owned) == 2)
    equal({0, 1, 2, 3}, first.owned | second.owned, "partitions owned by either")
    send(200, 400)
    until("all of the second records", lambda: len(seen) == 400)
    second.leave.set()
    second.thread.join(30)
    until("the first has all again", lambda: len(first.owned) == 4)
    send(400, 600)
    until("all of the third records", lambda: len(seen) == 600)
    stop.set()
    first.thread.join(30)
    writer.close()
    equal([], first.errors + second.errors, "errors of members")


class Member:
    """One consumer in its own thread that commits what it has seen."""

    def __init__(self, topic, group, seen, stop):
        self.owned, self.errors, self.leave = frozenset(), [], threading.Event()
        self._topic, self._group, self._seen, self._stop = topic, group, seen, stop
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            member = consumer(
                self._topic, group_id=self._group, session_timeout_ms=10_000, heartbeat_interval_ms=300
            )
            while not self._stop.is_set() and not self.leave.is_set():
                batches = member.poll(1000)
                for batch in batches.values():
                    self._seen.update(record.value for record in batch)
                if batches:
                    self._commit(member)
                self.owned = frozenset(partition.partition for partition in member.assignment())
            self._commit(member)
            member.close()
        except Exception as error:
            self.errors.append(error)

    def _commit(self, member):
        try:
            member.commit()
        except (CommitFailedError, RebalanceInProgressError):
            # In a rebalance the next owner reads again.
            pass


def commit_and_restart():
    topic, group = create("restart", 1), name("group-restart")
    writer = producer()
    for i in range(100):
        writer.send(topic, text(i), partition=0)
    writer.close()
    partition = TopicPartition(topic, 0)
    first = consumer(topic, group_id=group, max_poll_records=10)
    seen = []
    until("forty records", lambda: seen.extend(sum(first.poll(POLL_MS).values(), [])) or len(seen) >= 40)
    first.commit({partition: OffsetAndMetadata(40, "half way", -1)})
    equal(40, first.committed(partition), "committed")
    first.close()
    second = consumer(topic, group_id=group)
    rest = []
    until("the other sixty", lambda: rest.extend(sum(second.poll(POLL_MS).values(), [])) or len(rest) >= 60)
    equal(list(range(40, 100)), [record.offset for record in rest], "offsets after the restart")
    second.close()


def seek():
    topic = create("seek", 1)
    writer = producer()
    for i in range(100):
        writer.send(topic, text(i), partition=0, timestamp_ms=1_700_000_000_000 + 1000 * i)
    writer.close()
    reader, partition = consumer(), TopicPartition(topic, 0)
    reader.assign([partition])

    def first():
        records = []
        until("a record", lambda: records.extend(sum(reader.poll(POLL_MS).values(), [])) or records)
        return records[0].offset

    reader.seek(partition, 73)
    equal(73, first(), "seek")
    reader.seek_to_beginning(partition)
    equal(0, first(), "seek to the beginning")
    equal({partition: 0}, reader.beginning_offsets([partition]), "earliest")
    equal({partition: 100}, reader.end_offsets([partition]), "latest")
    equal(42, reader.offsets_for_times({partition: 1_700_000_041_500})[partition].offset, "offset for a time")
    equal(None, reader.offsets_for_times({partition: 1_800_000_000_000})[partition], "past the end")
    reader.close()


run(
    [topics, compressions, record_fields, large_records, group_rebalance, commit_and_restart, seek],
    sys.argv[3:],
)
