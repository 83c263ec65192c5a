import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Tries a broker with the official Java client. Usage: Check SERVERS PREFIX [CHECK ...] */
public class Check {
    private static final int PARTITIONS = 4;
    private static final Duration POLL = Duration.ofMillis(200);
    private static final long LIMIT_NS = 60_000_000_000L;
    /** What is tried: so many nodes, of which one is restarted now and then, or none is. */
    private static final int NODES = Integer.parseInt(System.getenv().getOrDefault("CHECK_NODES", "1"));
    private static final boolean RESTARTS = !System.getenv().getOrDefault("CHECK_RESTARTS", "").isEmpty();
    private static final int COPIES = Math.min(NODES, 3);

    private final String servers;
    private final String prefix;
    private final Admin admin;

    private Check(String servers, String prefix) {
        this.servers = servers;
        this.prefix = prefix;
        this.admin = Admin.create(properties(Map.of("request.timeout.ms", "20000", "default.api.timeout.ms", "40000")));
    }

    private interface Body {
        void run() throws Exception;
    }

    public static void main(String[] args) {
        if (args.length < 2) {
            System.err.println("usage: Check SERVERS PREFIX [CHECK ...]");
            System.exit(2);
        }
        Check check = new Check(args[0], args[1]);
        Map<String, Body> bodies = new java.util.LinkedHashMap<>();
        bodies.put("topics", check::topics);
        bodies.put("topic_errors", check::topicErrors);
        bodies.put("configs", check::configs);
        bodies.put("partitions_added", check::partitionsAdded);
        bodies.put("cluster", check::cluster);
        bodies.put("compressions", check::compressions);
        bodies.put("record_fields", check::recordFields);
        bodies.put("acks", check::acks);
        bodies.put("large_records", check::largeRecords);
        bodies.put("group_rebalance_classic", () -> check.groupRebalance("org.apache.kafka.clients.consumer.RangeAssignor"));
        bodies.put("group_rebalance_cooperative",
                () -> check.groupRebalance("org.apache.kafka.clients.consumer.CooperativeStickyAssignor"));
        bodies.put("group_static_member", check::groupStaticMember);
        bodies.put("commit_and_restart", check::commitAndRestart);
        bodies.put("seek", check::seek);
        bodies.put("offsets", check::offsets);
        bodies.put("groups_admin", check::groupsAdmin);
        bodies.put("log_append_time", check::logAppendTime);
        bodies.put("topic_recreated", check::topicRecreated);
        Set<String> wanted = new HashSet<>(Arrays.asList(args).subList(2, args.length));
        int failed = 0;
        for (var body : bodies.entrySet()) {
            if (!wanted.isEmpty() && !wanted.contains(body.getKey())) {
                continue;
            }
            long start = System.nanoTime();
            try {
                body.getValue().run();
                System.out.printf("ok %s %.1fs%n", body.getKey(), (System.nanoTime() - start) / 1e9);
            } catch (Throwable error) {
                failed++;
                System.out.printf("FAILED %s: %s%n", body.getKey(), error);
                error.printStackTrace();
            }
        }
        check.admin.close(Duration.ofSeconds(5));
        System.exit(failed == 0 ? 0 : 1);
    }

    private void topics() throws Exception {
        String topic = create("topics", PARTITIONS);
        var described = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
        equal(PARTITIONS, described.partitions().size(), "partitions");
        equal(COPIES, described.partitions().get(0).replicas().size(), "replicas");
        equal(false, described.isInternal(), "internal");
        truth(!described.topicId().toString().equals("AAAAAAAAAAAAAAAAAAAAAA"), "a topic id");
        truth(admin.listTopics().names().get().contains(topic), "listed");
        var byId = admin.describeTopics(org.apache.kafka.common.TopicCollection.ofTopicIds(List.of(described.topicId())))
                .allTopicIds().get();
        equal(topic, byId.get(described.topicId()).name(), "described by id");

        var options = new org.apache.kafka.clients.admin.CreateTopicsOptions().validateOnly(true);
        var only = admin.createTopics(List.of(new NewTopic(name("validated"), 3, (short) 1)), options);
        only.all().get();
        equal(3, only.numPartitions(name("validated")).get(), "partitions of a validated topic");
        truth(!admin.listTopics().names().get().contains(name("validated")), "validate-only created");

        var created = admin.createTopics(List.of(new NewTopic(name("returned"), 2, (short) 1)
                .configs(Map.of("max.message.bytes", "123456"))));
        equal(2, created.numPartitions(name("returned")).get(), "partitions returned");
        equal(COPIES, created.replicationFactor(name("returned")).get(), "replication factor returned");
        equal("123456", created.config(name("returned")).get().get("max.message.bytes").value(), "config returned");

        admin.deleteTopics(List.of(topic, name("returned"))).all().get();
        until("deleted", () -> !admin.listTopics().names().get().contains(topic));
        fails(UnknownTopicOrPartitionException.class, admin.describeTopics(List.of(topic)).allTopicNames());
        fails(UnknownTopicOrPartitionException.class, admin.deleteTopics(List.of(topic)).all());
    }

    private void topicErrors() throws Exception {
        String topic = create("errors", 1);
        fails(TopicExistsException.class, admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all());
        fails(InvalidTopicException.class, admin.createTopics(List.of(new NewTopic("no spaces", 1, (short) 1))).all());
        fails(InvalidTopicException.class, admin.createTopics(List.of(new NewTopic(".", 1, (short) 1))).all());
        fails(InvalidTopicException.class,
                admin.createTopics(List.of(new NewTopic("x".repeat(250), 1, (short) 1))).all());
        fails(InvalidPartitionsException.class,
                admin.createTopics(List.of(new NewTopic(name("none"), 0, (short) 1))).all());
        fails(InvalidReplicationFactorException.class,
                admin.createTopics(List.of(new NewTopic(name("two"), 1, (short) (NODES + 1)))).all());
        fails(InvalidConfigurationException.class, admin.createTopics(List.of(
                new NewTopic(name("config"), 1, (short) 1).configs(Map.of("no.such.key", "1")))).all());
        fails(InvalidConfigurationException.class, admin.createTopics(List.of(
                new NewTopic(name("config"), 1, (short) 1).configs(Map.of("max.message.bytes", "many")))).all());
        var mixed = admin.createTopics(List.of(new NewTopic(name("good"), 1, (short) 1), new NewTopic("b d", 1, (short) 1)));
        mixed.values().get(name("good")).get();
        fails(InvalidTopicException.class, mixed.values().get("b d"));
        var unknown = org.apache.kafka.common.Uuid.randomUuid();
        fails(UnknownTopicIdException.class,
                admin.describeTopics(org.apache.kafka.common.TopicCollection.ofTopicIds(List.of(unknown))).allTopicIds());
    }

    private void configs() throws Exception {
        String topic = create("configs", 1);
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        var before = admin.describeConfigs(List.of(resource)).all().get().get(resource);
        equal("1048588", before.get("max.message.bytes").value(), "the default of max.message.bytes");
        truth(before.get("max.message.bytes").isDefault(), "is a default");
        equal("delete", before.get("cleanup.policy").value(), "the default of cleanup.policy");
        equal("604800000", before.get("retention.ms").value(), "the default of retention.ms");
        truth(before.entries().size() >= 25, "every topic key is described: " + before.entries().size());

        alter(resource, new ConfigEntry("max.message.bytes", "2000000"), AlterConfigOp.OpType.SET);
        alter(resource, new ConfigEntry("retention.ms", "-1"), AlterConfigOp.OpType.SET);
        until("altered", () -> {
            var now = admin.describeConfigs(List.of(resource)).all().get().get(resource);
            return now.get("max.message.bytes").value().equals("2000000") && now.get("retention.ms").value().equals("-1");
        });
        var after = admin.describeConfigs(List.of(resource)).all().get().get(resource).get("max.message.bytes");
        equal(ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, after.source(), "source");
        alter(resource, new ConfigEntry("max.message.bytes", ""), AlterConfigOp.OpType.DELETE);
        until("back to the default", () -> admin.describeConfigs(List.of(resource)).all().get().get(resource)
                .get("max.message.bytes").value().equals("1048588"));
        fails(InvalidConfigurationException.class, admin.incrementalAlterConfigs(Map.of(resource,
                List.of(new AlterConfigOp(new ConfigEntry("no.such.key", "1"), AlterConfigOp.OpType.SET)))).all());

        var node = admin.describeCluster().nodes().get().iterator().next().idString();
        var broker = new ConfigResource(ConfigResource.Type.BROKER, node);
        var entries = admin.describeConfigs(List.of(broker)).all().get().get(broker);
        for (String key : List.of("num.partitions", "default.replication.factor", "auto.create.topics.enable",
                "message.max.bytes", "log.retention.ms", "offsets.retention.minutes", "group.max.session.timeout.ms")) {
            truth(entries.get(key) != null, "the broker key " + key);
        }
    }

    private void alter(ConfigResource resource, ConfigEntry entry, AlterConfigOp.OpType type) throws Exception {
        admin.incrementalAlterConfigs(Map.of(resource, List.of(new AlterConfigOp(entry, type)))).all().get();
    }

    private void partitionsAdded() throws Exception {
        String topic = create("grown", 2);
        admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all().get();
        until("five partitions", () -> admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic)
                .partitions().size() == 5);
        fails(InvalidPartitionsException.class,
                admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all());
        fails(UnknownTopicOrPartitionException.class,
                admin.createPartitions(Map.of(name("absent"), NewPartitions.increaseTo(3))).all());
        try (var producer = producer(Map.of())) {
            equal(0L, producer.send(new ProducerRecord<>(topic, 4, null, bytes("new"))).get().offset(), "first offset");
        }
    }

    private void cluster() throws Exception {
        var cluster = admin.describeCluster();
        var nodes = cluster.nodes().get();
        // A node that is away just then is not listed.
        truth(nodes.size() == NODES || RESTARTS && nodes.size() == NODES - 1, "nodes: " + nodes);
        truth(nodes.contains(cluster.controller().get()), "the controller is a listed broker");
        truth(cluster.clusterId().get() != null && !cluster.clusterId().get().isEmpty(), "a cluster id");
    }

    private void compressions() throws Exception {
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            String topic = create("codec-" + codec, 1);
            List<Future<RecordMetadata>> acks = new ArrayList<>();
            try (var producer = producer(Map.of("compression.type", codec, "linger.ms", "20"))) {
                for (int i = 0; i < 1000; i++) {
                    acks.add(producer.send(new ProducerRecord<>(topic, 0, bytes("key " + i), text(i))));
                }
                producer.flush();
            }
            for (int i = 0; i < acks.size(); i++) {
                equal((long) i, acks.get(i).get().offset(), codec + ": offset of the ack");
            }
            var read = readAll(topic, 1000);
            for (int i = 0; i < 1000; i++) {
                equal((long) i, read.get(i).offset(), codec + ": offset");
                truth(Arrays.equals(text(i), read.get(i).value()), codec + ": value");
                truth(Arrays.equals(bytes("key " + i), read.get(i).key()), codec + ": key");
            }
        }
    }

    private void recordFields() throws Exception {
        String topic = create("fields", 1);
        long stamp = 1_600_000_000_123L;
        try (var producer = producer(Map.of())) {
            var full = new ProducerRecord<>(topic, 0, stamp, bytes("key"), bytes("value"));
            full.headers().add("name", bytes("header")).add("empty", new byte[0]).add("none", null).add("name", bytes("again"));
            producer.send(full).get();
            producer.send(new ProducerRecord<>(topic, 0, stamp + 1, null, bytes("no key"))).get();
            producer.send(new ProducerRecord<>(topic, 0, stamp + 2, bytes("tombstone"), (byte[]) null)).get();
            producer.send(new ProducerRecord<>(topic, 0, stamp + 3, new byte[0], new byte[0])).get();
        }
        var read = readAll(topic, 4);
        equal(stamp, read.get(0).timestamp(), "timestamp");
        equal(TimestampType.CREATE_TIME, read.get(0).timestampType(), "timestamp type");
        var headers = read.get(0).headers().toArray();
        equal(4, headers.length, "headers");
        equal("name", headers[0].key(), "header");
        truth(Arrays.equals(bytes("header"), headers[0].value()), "header's value");
        equal(0, headers[1].value().length, "empty header");
        truth(headers[2].value() == null, "null header");
        truth(read.get(1).key() == null, "null key");
        truth(read.get(2).value() == null, "null value");
        equal(0, read.get(3).key().length, "empty key");
        equal(0, read.get(3).value().length, "empty value");
        truth(read.get(0).leaderEpoch().isPresent(), "leader epoch");
    }

    private void acks() throws Exception {
        String topic = create("acks", 1);
        // While a node stops, records that nobody answers may be lost, and those sent again may be there twice.
        for (String acks : RESTARTS ? List.of("all") : List.of("0", "1", "all")) {
            try (var producer = producer(Map.of("acks", acks, "enable.idempotence", Boolean.toString(RESTARTS)))) {
                for (int i = 0; i < 100; i++) {
                    producer.send(new ProducerRecord<>(topic, 0, null, bytes(acks + i)));
                }
                producer.flush();
            }
            // Records sent with acks=0 are not answered, so their arrival is what can be waited for.
            int expected = RESTARTS ? 100 : switch (acks) { case "0" -> 100; case "1" -> 200; default -> 300; };
            equal(expected, readAll(topic, expected).size(), "records with acks=" + acks);
        }
        String one = create("pipelined", 1);
        try (var producer = producer(Map.of("max.in.flight.requests.per.connection", "5", "batch.size", "200"))) {
            for (int i = 0; i < 5000; i++) {
                producer.send(new ProducerRecord<>(one, 0, null, bytes(Integer.toString(i))));
            }
        }
        var read = readAll(one, 5000);
        for (int i = 0; i < 5000; i++) {
            equal(Integer.toString(i), new String(read.get(i).value(), StandardCharsets.UTF_8), "order of pipelined records");
        }
    }

    private void largeRecords() throws Exception {
        String topic = create("large", 1);
        byte[] million = new byte[1_000_000];
        new Random(1).nextBytes(million);
        try (var producer = producer(Map.of("max.request.size", "20000000", "buffer.memory", "64000000"))) {
            for (int i = 0; i < 8; i++) {
                producer.send(new ProducerRecord<>(topic, 0, null, million)).get();
            }
            fails(RecordTooLargeException.class, producer.send(new ProducerRecord<>(topic, 0, null, new byte[1_100_000])));
            var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            alter(resource, new ConfigEntry("max.message.bytes", "10000000"), AlterConfigOp.OpType.SET);
            until("a larger limit", () -> {
                try {
                    producer.send(new ProducerRecord<>(topic, 0, null, new byte[5_000_000])).get();
                    return true;
                } catch (ExecutionException notYet) {
                    return false;
                }
            });
        }
        // Each is larger than what a fetch asks for, and must come all the same.
        var read = readAll(topic, 9, Map.of("max.partition.fetch.bytes", "1000", "fetch.max.bytes", "1000"));
        for (int i = 0; i < 8; i++) {
            truth(Arrays.equals(million, read.get(i).value()), "large value " + i);
        }
        equal(5_000_000, read.get(8).value().length, "five megabytes");
    }

    private void groupRebalance(String assignor) throws Exception {
        String topic = create("rebalance-" + assignor.length(), PARTITIONS);
        String group = name("group-rebalance-" + assignor.length());
        Map<String, String> settings = Map.of("group.id", group, "partition.assignment.strategy", assignor,
                "session.timeout.ms", "10000", "heartbeat.interval.ms", "300", "enable.auto.commit", "false");
        Set<String> seen = java.util.concurrent.ConcurrentHashMap.newKeySet();
        AtomicBoolean stop = new AtomicBoolean();
        try (var producer = producer(Map.of())) {
            Member first = new Member(topic, settings, seen, stop);
            first.start();
            until("the first member has all", () -> first.owned.size() == PARTITIONS);
            send(producer, topic, 0, 200);
            until("all of the first records", () -> seen.size() == 200);

            Member second = new Member(topic, settings, seen, stop);
            second.start();
            until("two each", () -> first.owned.size() == 2 && second.owned.size() == 2);
            Set<Integer> both = new HashSet<>(first.owned);
            both.addAll(second.owned);
            equal(PARTITIONS, both.size(), "partitions owned by either");
            send(producer, topic, 200, 400);
            until("all of the second records", () -> seen.size() == 400);

            second.leave.set(true);
            second.join(30_000);
            until("the first has all again", () -> first.owned.size() == PARTITIONS);
            send(producer, topic, 400, 600);
            until("all of the third records", () -> seen.size() == 600);
            stop.set(true);
            first.join(30_000);
            truth(first.error == null && second.error == null, "members without error: " + first.error + second.error);
        }
        var committed = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        equal(600L, committed.values().stream().mapToLong(OffsetAndMetadata::offset).sum(), "committed");
    }

    /** One consumer in its own thread that commits what it has seen. */
    private final class Member extends Thread {
        final Set<Integer> owned = java.util.concurrent.ConcurrentHashMap.newKeySet();
        final AtomicBoolean leave = new AtomicBoolean();
        private final String topic;
        private final Map<String, String> settings;
        private final Set<String> seen;
        private final AtomicBoolean stop;
        volatile Throwable error;

        Member(String topic, Map<String, String> settings, Set<String> seen, AtomicBoolean stop) {
            this.topic = topic;
            this.settings = settings;
            this.seen = seen;
            this.stop = stop;
            setDaemon(true);
        }

        @Override
        public void run() {
            try (var consumer = consumer(settings)) {
                consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                    @Override
                    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                        partitions.forEach(partition -> owned.remove(partition.partition()));
                    }

                    @Override
                    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                        partitions.forEach(partition -> owned.add(partition.partition()));
                    }
                });
                while (!stop.get() && !leave.get()) {
                    var records = consumer.poll(Duration.ofMillis(100));
                    for (var record : records) {
                        seen.add(new String(record.value(), StandardCharsets.UTF_8));
                    }
                    if (!records.isEmpty()) {
                        try {
                            consumer.commitSync();
                        } catch (org.apache.kafka.common.errors.RebalanceInProgressException
                                | org.apache.kafka.clients.consumer.CommitFailedException duringRebalance) {
                            // The next owner reads them again.
                        }
                    }
                }
                try {
                    consumer.commitSync();
                } catch (org.apache.kafka.common.errors.RebalanceInProgressException duringRebalance) {
                    consumer.poll(Duration.ofMillis(500));
                    consumer.commitSync();
                }
            } catch (Throwable caught) {
                error = caught;
                caught.printStackTrace();
            }
        }
    }

    private void groupStaticMember() throws Exception {
        String topic = create("static", 2);
        String group = name("group-static");
        Map<String, String> settings = Map.of("group.id", group, "group.instance.id", "one", "session.timeout.ms", "20000",
                "heartbeat.interval.ms", "300");
        String memberBefore;
        int generation;
        try (var consumer = consumer(settings)) {
            consumer.subscribe(List.of(topic));
            awaitAssignment(consumer, 2);
            memberBefore = consumer.groupMetadata().memberId();
            generation = consumer.groupMetadata().generationId();
        }
        // A static member that closes does not leave: its return within the session timeout is no rebalance.
        try (var consumer = consumer(settings)) {
            consumer.subscribe(List.of(topic));
            awaitAssignment(consumer, 2);
            equal(generation, consumer.groupMetadata().generationId(), "generation after the return");
            truth(!memberBefore.equals(consumer.groupMetadata().memberId()), "a new member id");
            var members = admin.describeConsumerGroups(List.of(group)).all().get().get(group).members();
            equal(1, members.size(), "members");
            equal("one", members.iterator().next().groupInstanceId().orElse(""), "instance id");
        }
        admin.removeMembersFromConsumerGroup(group,
                new org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions(List.of(
                        new org.apache.kafka.clients.admin.MemberToRemove("one")))).all().get();
        until("empty", () -> admin.describeConsumerGroups(List.of(group)).all().get().get(group).members().isEmpty());
    }

    private void awaitAssignment(KafkaConsumer<byte[], byte[]> consumer, int partitions) throws Exception {
        until("assigned", () -> {
            consumer.poll(Duration.ofMillis(50));
            return consumer.assignment().size() == partitions;
        });
    }

    private void commitAndRestart() throws Exception {
        String topic = create("restart", 1);
        Map<String, String> settings = Map.of("group.id", name("group-restart"), "enable.auto.commit", "false",
                "max.poll.records", "10");
        try (var producer = producer(Map.of())) {
            send(producer, topic, 0, 100);
        }
        var partition = new TopicPartition(topic, 0);
        try (var consumer = consumer(settings)) {
            consumer.subscribe(List.of(topic));
            int[] read = {0};
            until("forty records", () -> {
                read[0] += consumer.poll(POLL).count();
                return read[0] >= 40;
            });
            consumer.commitSync(Map.of(partition, new OffsetAndMetadata(40, "half way")));
            equal(40L, consumer.committed(Set.of(partition)).get(partition).offset(), "committed");
            equal("half way", consumer.committed(Set.of(partition)).get(partition).metadata(), "metadata");
        }
        try (var consumer = consumer(settings)) {
            consumer.subscribe(List.of(topic));
            List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();
            until("the other sixty", () -> {
                consumer.poll(POLL).forEach(read::add);
                return read.size() >= 60;
            });
            equal(40L, read.get(0).offset(), "the first offset after the restart");
            equal(60, read.size(), "records after the restart");
        }
        try (var consumer = consumer(Map.of("group.id", name("group-unknown")))) {
            truth(consumer.committed(Set.of(partition)).get(partition) == null, "an unknown group has committed nothing");
        }
    }

    private void seek() throws Exception {
        String topic = create("seek", 1);
        var partition = new TopicPartition(topic, 0);
        try (var producer = producer(Map.of())) {
            for (int i = 0; i < 100; i++) {
                producer.send(new ProducerRecord<>(topic, 0, 1_700_000_000_000L + i * 1000L, null, text(i)));
            }
        }
        try (var consumer = consumer(Map.of())) {
            consumer.assign(List.of(partition));
            consumer.seek(partition, 73);
            equal(73L, first(consumer).offset(), "seek");
            consumer.seekToBeginning(List.of(partition));
            equal(0L, first(consumer).offset(), "seek to the beginning");
            consumer.seekToEnd(List.of(partition));
            equal(100L, consumer.position(partition), "seek to the end");
            var at = consumer.offsetsForTimes(Map.of(partition, 1_700_000_041_500L)).get(partition);
            equal(42L, at.offset(), "offset for a time");
            equal(1_700_000_042_000L, at.timestamp(), "timestamp for a time");
            truth(consumer.offsetsForTimes(Map.of(partition, 1_800_000_000_000L)).get(partition) == null, "past the end");
            consumer.seek(partition, 5000);
            equal(0L, first(consumer).offset(), "reset after an offset out of range");
        }
        try (var consumer = consumer(Map.of("auto.offset.reset", "none"))) {
            consumer.assign(List.of(partition));
            consumer.seek(partition, 5000);
            boolean thrown = false;
            try {
                for (int i = 0; i < 50; i++) {
                    consumer.poll(POLL);
                }
            } catch (org.apache.kafka.clients.consumer.OffsetOutOfRangeException expected) {
                thrown = true;
            }
            truth(thrown, "out of range is told");
        }
    }

    private ConsumerRecord<byte[], byte[]> first(KafkaConsumer<byte[], byte[]> consumer) throws Exception {
        List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();
        until("a record", () -> {
            consumer.poll(POLL).forEach(read::add);
            return !read.isEmpty();
        });
        return read.get(0);
    }

    private void offsets() throws Exception {
        String topic = create("offsets", 2);
        var zero = new TopicPartition(topic, 0);
        var one = new TopicPartition(topic, 1);
        long[] stamps = {1000, 5000, 3000, 5000, 2000};
        try (var producer = producer(Map.of("batch.size", "0"))) {
            for (long stamp : stamps) {
                producer.send(new ProducerRecord<>(topic, 0, 1_700_000_000_000L + stamp, null, text(1))).get();
            }
        }
        equal(0L, listed(zero, OffsetSpec.earliest()).offset(), "earliest");
        equal(5L, listed(zero, OffsetSpec.latest()).offset(), "latest");
        equal(0L, listed(one, OffsetSpec.latest()).offset(), "latest of an empty partition");
        equal(1L, listed(zero, OffsetSpec.maxTimestamp()).offset(), "offset of the largest timestamp");
        equal(1_700_000_005_000L, listed(zero, OffsetSpec.maxTimestamp()).timestamp(), "largest timestamp");
        equal(-1L, listed(one, OffsetSpec.maxTimestamp()).offset(), "largest timestamp of an empty partition");
        equal(1L, listed(zero, OffsetSpec.forTimestamp(1_700_000_001_500L)).offset(), "first at or after");
        equal(-1L, listed(zero, OffsetSpec.forTimestamp(1_700_000_005_001L)).offset(), "none at or after");
        equal(0L, listed(zero, OffsetSpec.earliestLocal()).offset(), "earliest local");
        fails(UnknownTopicOrPartitionException.class, admin.listOffsets(
                Map.of(new TopicPartition(name("absent"), 0), OffsetSpec.latest()),
                new org.apache.kafka.clients.admin.ListOffsetsOptions().timeoutMs(3000)).all());
    }

    private org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo listed(TopicPartition partition,
            OffsetSpec spec) throws Exception {
        return admin.listOffsets(Map.of(partition, spec)).partitionResult(partition).get();
    }

    private void groupsAdmin() throws Exception {
        String topic = create("groups", 2);
        String group = name("group-admin");
        var zero = new TopicPartition(topic, 0);
        var one = new TopicPartition(topic, 1);
        try (var producer = producer(Map.of())) {
            send(producer, topic, 0, 20);
        }
        admin.alterConsumerGroupOffsets(group, Map.of(zero, new OffsetAndMetadata(3), one, new OffsetAndMetadata(4)))
                .all().get();
        var committed = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        equal(3L, committed.get(zero).offset(), "altered offset");
        equal(4L, committed.get(one).offset(), "altered offset");
        truth(admin.listGroups().all().get().stream().anyMatch(listing -> listing.groupId().equals(group)), "listed");
        var described = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
        equal(org.apache.kafka.common.GroupState.EMPTY, described.groupState(), "state");

        Map<String, String> settings = Map.of("group.id", group, "heartbeat.interval.ms", "300", "client.id", "describer");
        try (var consumer = consumer(settings)) {
            consumer.subscribe(List.of(topic));
            awaitAssignment(consumer, 2);
            var stable = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
            equal(org.apache.kafka.common.GroupState.STABLE, stable.groupState(), "state with a member");
            equal("range", stable.partitionAssignor(), "assignor");
            var member = stable.members().iterator().next();
            equal("describer", member.clientId(), "client id");
            equal(2, member.assignment().topicPartitions().size(), "assignment");
            fails(org.apache.kafka.common.errors.GroupNotEmptyException.class,
                    admin.deleteConsumerGroups(List.of(group)).all());
            fails(org.apache.kafka.common.errors.GroupSubscribedToTopicException.class,
                    admin.deleteConsumerGroupOffsets(group, Set.of(zero)).all());
        }
        until("empty again", () -> admin.describeConsumerGroups(List.of(group)).all().get().get(group).members().isEmpty());
        admin.deleteConsumerGroupOffsets(group, Set.of(zero)).all().get();
        truth(!admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().containsKey(zero),
                "one offset deleted");
        admin.deleteConsumerGroups(List.of(group)).all().get();
        fails(org.apache.kafka.common.errors.GroupIdNotFoundException.class,
                admin.deleteConsumerGroups(List.of(group)).all());
        fails(org.apache.kafka.common.errors.GroupIdNotFoundException.class,
                admin.describeConsumerGroups(List.of(group)).all());
    }

    private void logAppendTime() throws Exception {
        String topic = name("append-time");
        admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1)
                .configs(Map.of("message.timestamp.type", "LogAppendTime")))).all().get();
        long before = System.currentTimeMillis();
        long acked;
        try (var producer = producer(Map.of("compression.type", "lz4"))) {
            acked = producer.send(new ProducerRecord<>(topic, 0, 1234L, null, text(1))).get().timestamp();
        }
        var record = readAll(topic, 1).get(0);
        equal(TimestampType.LOG_APPEND_TIME, record.timestampType(), "timestamp type");
        equal(acked, record.timestamp(), "the ack's timestamp is the record's");
        truth(record.timestamp() >= before - 5000 && record.timestamp() <= System.currentTimeMillis() + 5000, "time of append");
    }

    private void topicRecreated() throws Exception {
        String topic = create("recreated", 1);
        try (var producer = producer(Map.of())) {
            send(producer, topic, 0, 10);
            var before = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).topicId();
            admin.deleteTopics(List.of(topic)).all().get();
            until("recreated", () -> {
                try {
                    admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all().get();
                    return true;
                } catch (ExecutionException stillThere) {
                    return false;
                }
            });
            var after = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).topicId();
            truth(!before.equals(after), "a new topic id");
        }
        try (var producer = producer(Map.of())) {
            equal(0L, producer.send(new ProducerRecord<>(topic, 0, null, text(1))).get().offset(), "from offset 0 again");
        }
        equal(1, readAll(topic, 1).size(), "records of the new topic");
    }

    // What the checks share.

    private String name(String suffix) {
        return prefix + "-" + suffix;
    }

    private String create(String suffix, int partitions) throws Exception {
        admin.createTopics(List.of(new NewTopic(name(suffix), partitions, (short) 1))).all().get();
        return name(suffix);
    }

    private Properties properties(Map<String, String> more) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", servers);
        properties.putAll(more);
        return properties;
    }

    private KafkaProducer<byte[], byte[]> producer(Map<String, String> more) {
        Map<String, String> settings = new HashMap<>(Map.of("acks", "all"));
        settings.putAll(more);
        return new KafkaProducer<>(properties(settings), new ByteArraySerializer(), new ByteArraySerializer());
    }

    private KafkaConsumer<byte[], byte[]> consumer(Map<String, String> more) {
        Map<String, String> settings = new HashMap<>(Map.of("auto.offset.reset", "earliest"));
        settings.putAll(more);
        return new KafkaConsumer<>(properties(settings), new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private void send(KafkaProducer<byte[], byte[]> producer, String topic, int from, int to) {
        for (int i = from; i < to; i++) {
            producer.send(new ProducerRecord<>(topic, bytes("key " + i), bytes("record " + i)));
        }
        producer.flush();
    }

    private List<ConsumerRecord<byte[], byte[]>> readAll(String topic, int count) throws Exception {
        return readAll(topic, count, Map.of());
    }

    private List<ConsumerRecord<byte[], byte[]>> readAll(String topic, int count, Map<String, String> more)
            throws Exception {
        List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();
        try (var consumer = consumer(more)) {
            var partitions = consumer.partitionsFor(topic).stream()
                    .map(info -> new TopicPartition(topic, info.partition())).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            until(count + " records of " + topic, () -> {
                consumer.poll(POLL).forEach(read::add);
                return read.size() >= count;
            });
        }
        equal(count, read.size(), "records of " + topic);
        return read;
    }

    private interface Condition {
        boolean holds() throws Exception;
    }

    private static void until(String what, Condition condition) throws Exception {
        long deadline = System.nanoTime() + LIMIT_NS;
        while (!condition.holds()) {
            truth(System.nanoTime() < deadline, "not within a minute: " + what);
            Thread.sleep(10);
        }
    }

    private static void fails(Class<? extends Throwable> expected, Future<?> future) throws Exception {
        try {
            future.get();
        } catch (ExecutionException error) {
            truth(expected.isInstance(error.getCause()), "expected " + expected.getSimpleName() + ", got " + error.getCause());
            return;
        }
        throw new AssertionError("expected " + expected.getSimpleName() + ", got success");
    }

    private static void equal(Object expected, Object actual, String what) {
        truth(expected.equals(actual), what + ": expected " + expected + ", got " + actual);
    }

    private static void truth(boolean condition, String what) {
        if (!condition) {
            throw new AssertionError(what);
        }
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static byte[] text(int number) {
        return bytes("record " + number + " " + "abcdefghij".repeat(number % 20));
    }
}
