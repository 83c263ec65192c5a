"""Records at a fixed rate with librdkafka as it is by default; prints the longest time between two acks of a partition
after the first seconds. Usage: gap.py SERVERS TOPIC PARTITIONS RATE SECONDS WARM_UP"""

import json
import sys
import time

from confluent_kafka import Producer

servers, topic = sys.argv[1:3]
partitions, rate, seconds, warm_up = map(int, sys.argv[3:7])
seen = {"acked": 0, "failed": 0, "gap_ms": 0.0}
last = [0.0] * partitions
start = 0.0


def delivered(error, message):
    if error is not None:
        seen["failed"] += 1
        return
    seen["acked"] += 1
    now = time.monotonic()
    partition = message.partition()
    if last[partition] > start + warm_up:
        seen["gap_ms"] = max(seen["gap_ms"], (now - last[partition]) * 1e3)
    last[partition] = now


producer = Producer({"bootstrap.servers": servers})
producer.list_topics(topic, 30)
value = bytes(100)
start = time.monotonic()
for number in range(rate * seconds):
    due = start + number / rate
    while (wait := due - time.monotonic()) > 0:
        producer.poll(wait)
    producer.produce(topic, value, partition=number % partitions, on_delivery=delivered)
    producer.poll(0)
producer.flush(60)
print(json.dumps(seen))
