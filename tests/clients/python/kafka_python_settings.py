"""Settings of the client for a run of kafka-python's integration tests, loaded as a pytest plugin.

A consumer that subscribes while its first metadata request is under way loses the wish for another: that request's
answer clears the mark, though it asked for no topics (`ClusterMetadata.update_metadata` against `request_update`, both
in version 3.0.12). It then sleeps for `metadata_max_age_ms`, 5 minutes as delivered, which no test waits for. Half a
second makes it look again.

The suite knows one address. `KAFKA_SERVERS` holds all of a cluster's, so that clients start while one node is away.
"""

import os

from kafka import KafkaConsumer

from test.integration.fixtures import KafkaFixture

KafkaConsumer.DEFAULT_CONFIG["metadata_max_age_ms"] = 500

if os.environ.get("KAFKA_SERVERS"):
    KafkaFixture.bootstrap_server = lambda self: os.environ["KAFKA_SERVERS"]
