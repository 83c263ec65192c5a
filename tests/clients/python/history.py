"""Writers and readers with confluent-kafka (librdkafka) that write down what they do: see history.md.

Usage: history.py KEY=VALUE ..."""

import json
import os
import random
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

OPTIONS = dict(word.split("=", 1) for word in sys.argv[1:])
SERVERS, TOPIC, NAME = OPTIONS["servers"], OPTIONS["topic"], OPTIONS["name"]
PARTITIONS, RATE = int(OPTIONS["partitions"]), int(OPTIONS["rate"])
IN_FLIGHT_MAX = 2000
FLUSH_LIMIT_S, READ_LIMIT_S = 150, 120

finish, end, aborted = threading.Event(), threading.Event(), threading.Event()
ends = {}
acked = 0


def now():
    return time.time_ns() // 1_000_000


class Lines:
    """A participant's file."""

    def __init__(self, participant, role, group=None):
        self.file = open(os.path.join(OPTIONS["dir"], participant + ".jsonl"), "w")
        head = {"participant": participant, "client": "librdkafka", "role": role}
        self.put(head if group is None else head | {"group": group})

    def put(self, line):
        self.file.write(json.dumps(line, separators=(",", ":")) + "\n")

    def say(self, kind, function, **more):
        self.put({"t": now(), "type": kind, "f": function, **more})

    def close(self):
        self.file.close()


class Writer(threading.Thread):
    def __init__(self, index):
        super().__init__()
        self.index, self.incarnation = index, 0
        self.in_flight = 0

    def run(self):
        while self.write():
            self.incarnation += 1

    def write(self):
        """True when the producer is of no use any more and another one is to go on."""
        participant = f"{NAME}-w{self.index}.{self.incarnation}"
        lines = Lines(participant, "writer")
        fatal = []

        def on_error(error):
            if error.fatal() and not fatal:
                fatal.append(str(error))

        producer = Producer({
            "bootstrap.servers": SERVERS,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 5,
            "delivery.timeout.ms": 120000,
            "socket.timeout.ms": 10000,
            "error_cb": on_error,
            # When it numbers its batches anew, which is when records may be written twice.
            "debug": "eos",
        })
        chance = random.Random(f"{OPTIONS['seed']} {participant}")
        self.in_flight = 0

        def report(number, partition):
            def delivered(error, message):
                global acked
                self.in_flight -= 1
                if error is None:
                    acked += 1
                    lines.say("ok", "send", partition=partition, number=number, offset=message.offset())
                else:
                    lines.say("info", "send", partition=partition, number=number, error=str(error))
            return delivered

        began, number = time.monotonic(), 0
        while not finish.is_set() and not fatal:
            wanted = int((time.monotonic() - began) * RATE)
            # What could not be sent in time is not made up for at once.
            if wanted - number > RATE:
                began, wanted = time.monotonic() - number / RATE, number
            while number < wanted and self.in_flight < IN_FLIGHT_MAX:
                partition = chance.randrange(PARTITIONS)
                lines.say("invoke", "send", partition=partition, number=number)
                value = f"{participant}/{number}/" + "." * chance.randrange(200)
                self.in_flight += 1
                try:
                    producer.produce(TOPIC, value, partition=partition, on_delivery=report(number, partition))
                except (BufferError, KafkaException) as error:
                    self.in_flight -= 1
                    lines.say("fail", "send", partition=partition, number=number, error=str(error))
                number += 1
            producer.poll(0.005)
        deadline = time.monotonic() + FLUSH_LIMIT_S
        while len(producer) and time.monotonic() < deadline and not aborted.is_set() and not fatal:
            producer.flush(1)
        if fatal:
            producer.purge()
            producer.flush(5)
            lines.say("fatal", "send", error=fatal[0])
        lines.close()
        return bool(fatal) and not finish.is_set()


def is_behind_end(positions):
    return end.is_set() and all(positions.get(partition, 0) >= offset for partition, offset in ends.items())


def goes_on(reader, lines, message, positions):
    """Whether a log that was told to be cut off is not.

    librdkafka compares the end of the epoch that it asked for with the position that it has when the answer comes; with a
    change of leader behind the other, and an answer in between, that is a later one."""
    partition = message.partition()
    position = positions.get(partition)
    if position is None:
        return False
    try:
        _, high = reader.get_watermark_offsets(TopicPartition(TOPIC, partition), timeout=30)
    except KafkaException:
        return False
    if high < position:
        return False
    lines.say("info", "poll", error=f"{message.error()}; partition {partition} goes on to {high}")
    reader.seek(TopicPartition(TOPIC, partition, position))
    return True


def polls(reader, lines, positions):
    """Asks once and writes down what there is, a line for each partition."""
    by_partition, resets = {}, []
    try:
        messages = reader.consume(500, 0.2)
    except KafkaException as error:
        # Told for the call and not for a message: it goes on.
        lines.say("info", "poll", error=str(error))
        time.sleep(0.2)
        return by_partition
    for message in messages:
        error = message.error()
        if error is None:
            text = b"/".join(message.value().split(b"/")[:2]).decode(errors="replace")
            by_partition.setdefault(message.partition(), []).append([message.offset(), text])
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            resets.append(message)
        else:
            lines.say("info", "poll", error=str(error))
    for partition, records in by_partition.items():
        lines.say("ok", "poll", partition=partition, records=records)
        positions[partition] = records[-1][0] + 1
    for message in resets:
        if "truncation" not in str(message.error()) or not goes_on(reader, lines, message, positions):
            lines.say("fail", "poll", partition=message.partition(), error=str(message.error()))
    return by_partition


def consumer(group, **more):
    return Consumer({
        "bootstrap.servers": SERVERS,
        "group.id": group,
        "enable.auto.commit": False,
        "socket.timeout.ms": 10000,
        **more,
    })


def read(index):
    participant = f"{NAME}-r{index}"
    lines = Lines(participant, "reader")
    reader = consumer(participant, **{"auto.offset.reset": "error"})
    reader.assign([TopicPartition(TOPIC, partition, 0) for partition in range(PARTITIONS)])
    positions = {}
    while not aborted.is_set() and not is_behind_end(positions):
        polls(reader, lines, positions)
    reader.close()
    lines.close()


def take_part(index):
    participant, group = f"{NAME}-m{index}", OPTIONS["group"]
    lines = Lines(participant, "reader", group)
    member = consumer(group, **{
        "auto.offset.reset": "earliest",
        "partition.assignment.strategy": "range",
        "session.timeout.ms": 10000,
    })

    def on_assign(_, partitions):
        lines.say("ok", "assign", partitions=[partition.partition for partition in partitions])

    member.subscribe([TOPIC], on_assign=on_assign)
    while not aborted.is_set() and not end.is_set():
        got = polls(member, lines, {})
        offsets = [[partition, records[-1][0] + 1] for partition, records in got.items()]
        if not offsets:
            continue
        try:
            member.commit(
                offsets=[TopicPartition(TOPIC, partition, offset) for partition, offset in offsets], asynchronous=False)
            lines.say("ok", "commit", offsets=offsets)
        except KafkaException as error:
            lines.say("info", "commit", error=str(error))
    # Others may still read: what the group has is looked at by the one who watches it.
    member.close()
    lines.close()


def tell():
    while True:
        print(f"acked {acked}", flush=True)
        time.sleep(0.5)


def join(threads, limit_s):
    deadline = time.monotonic() + limit_s
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    return all(not thread.is_alive() for thread in threads)


def main():
    writers = [Writer(index) for index in range(int(OPTIONS["writers"]))]
    readers = [threading.Thread(target=read, args=(index,)) for index in range(int(OPTIONS["readers"]))]
    readers += [threading.Thread(target=take_part, args=(index,)) for index in range(int(OPTIONS["members"]))]
    for thread in writers + readers:
        thread.daemon = True
        thread.start()
    threading.Thread(target=tell, daemon=True).start()
    status = 1
    for line in sys.stdin:
        words = line.split()
        if words[:1] == ["finish"]:
            finish.set()
            done = join(writers, FLUSH_LIMIT_S + 10)
            print("written" if done else "stuck", flush=True)
        elif words[:1] == ["end"]:
            ends.update((int(partition), int(offset)) for partition, offset in (word.split(":") for word in words[1:]))
            end.set()
            done = join(readers, READ_LIMIT_S)
            print("read" if done else "behind", flush=True)
            status = 0 if done else 1
            break
    aborted.set()
    join(writers + readers, 10)
    # Not by way of destructors: a client without a broker may take its time.
    sys.stdout.flush()
    os._exit(status)


main()
