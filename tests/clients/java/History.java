import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.InvalidOffsetException;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Writers and readers with kafka-clients that write down what they do: see history.md. */
public final class History {
    private static final int IN_FLIGHT_MAX = 2000;
    private static final Duration POLL = Duration.ofMillis(200);
    private static final long FLUSH_LIMIT_S = 150;
    private static final long READ_LIMIT_S = 120;

    private final Map<String, String> options;
    private final String topic;
    private final String name;
    private final int partitions;
    private final Map<Integer, Long> ends = new ConcurrentHashMap<>();
    private final AtomicLong acked = new AtomicLong();
    private volatile boolean finish;
    private volatile boolean end;
    private volatile boolean aborted;

    private History(Map<String, String> options) {
        this.options = options;
        topic = options.get("topic");
        name = options.get("name");
        partitions = Integer.parseInt(options.get("partitions"));
    }

    public static void main(String[] words) throws Exception {
        Map<String, String> options = new HashMap<>();
        for (String word : words) {
            String[] parts = word.split("=", 2);
            options.put(parts[0], parts[1]);
        }
        // Not by way of closing clients: one without a broker may take its time.
        Runtime.getRuntime().halt(new History(options).run());
    }

    private int count(String key) {
        return Integer.parseInt(options.get(key));
    }

    private int run() throws Exception {
        List<Thread> writers = start(count("writers"), this::write);
        List<Thread> readers = new ArrayList<>(start(count("readers"), this::read));
        readers.addAll(start(count("members"), this::takePart));
        start(1, index -> {
            while (true) {
                say("acked " + acked.get());
                Thread.sleep(500);
            }
        });
        int status = 1;
        var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            String[] words = line.trim().split(" ");
            if (words[0].equals("finish")) {
                finish = true;
                say(join(writers, FLUSH_LIMIT_S + 10) ? "written" : "stuck");
            } else if (words[0].equals("end")) {
                for (int i = 1; i < words.length; i++) {
                    String[] parts = words[i].split(":");
                    ends.put(Integer.parseInt(parts[0]), Long.parseLong(parts[1]));
                }
                end = true;
                boolean done = join(readers, READ_LIMIT_S);
                say(done ? "read" : "behind");
                status = done ? 0 : 1;
                break;
            }
        }
        aborted = true;
        join(writers, 5);
        join(readers, 5);
        return status;
    }

    private static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    private interface Task {
        void run(int index) throws Exception;
    }

    private static List<Thread> start(int count, Task task) {
        return IntStream.range(0, count).mapToObj(index -> {
            var thread = new Thread(() -> {
                try {
                    task.run(index);
                } catch (Exception error) {
                    error.printStackTrace();
                }
            });
            thread.setDaemon(true);
            thread.start();
            return thread;
        }).toList();
    }

    private static boolean join(List<Thread> threads, long seconds) throws InterruptedException {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
        for (Thread thread : threads) {
            long left = TimeUnit.NANOSECONDS.toMillis(deadline - System.nanoTime());
            thread.join(Math.max(1, left));
        }
        return threads.stream().noneMatch(Thread::isAlive);
    }

    /** A participant's file. */
    private final class Lines implements AutoCloseable {
        private final BufferedWriter file;

        Lines(String participant, String role, String group) throws IOException {
            file = Files.newBufferedWriter(Path.of(options.get("dir"), participant + ".jsonl"));
            String head = "{\"participant\":" + quoted(participant) + ",\"client\":\"kafka-clients\",\"role\":" + quoted(role);
            put(head + (group == null ? "" : ",\"group\":" + quoted(group)) + "}");
        }

        /** `more` are further fields, each with a comma before it. */
        void say(String type, String function, String more) {
            put("{\"t\":" + System.currentTimeMillis() + ",\"type\":" + quoted(type) + ",\"f\":" + quoted(function) + more + "}");
        }

        private synchronized void put(String line) {
            try {
                file.write(line);
                file.write('\n');
            } catch (IOException closed) {
                // An answer that came after the end of the run.
            }
        }

        @Override
        public synchronized void close() throws IOException {
            file.close();
        }
    }

    private static String quoted(String text) {
        var out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else {
                out.append(c < ' ' ? ' ' : c);
            }
        }
        return out.append('"').toString();
    }

    private static String error(Throwable error) {
        return ",\"error\":" + quoted(String.valueOf(error));
    }

    private Properties properties(Map<String, String> more) {
        var properties = new Properties();
        properties.put("bootstrap.servers", options.get("servers"));
        properties.put("request.timeout.ms", "10000");
        properties.putAll(more);
        return properties;
    }

    private void write(int index) throws Exception {
        for (int incarnation = 0; !finish; incarnation++) {
            String participant = name + "-w" + index + "." + incarnation;
            try (var lines = new Lines(participant, "writer", null)) {
                Throwable fatal = write(participant, lines);
                if (fatal != null) {
                    lines.say("fatal", "send", error(fatal));
                }
            }
        }
    }

    /** What makes the producer useless, or nothing at the end. */
    private Throwable write(String participant, Lines lines) throws Exception {
        Map<String, String> settings = Map.of("acks", "all", "linger.ms", "5", "delivery.timeout.ms", "120000");
        var fatal = new AtomicReference<Throwable>();
        var room = new Semaphore(IN_FLIGHT_MAX);
        var chance = new Random((options.get("seed") + participant).hashCode());
        int rate = count("rate");
        var producer = new KafkaProducer<>(properties(settings), new ByteArraySerializer(), new ByteArraySerializer());
        long began = System.nanoTime();
        int next = 0;
        while (!finish && fatal.get() == null) {
            int wanted = (int) ((System.nanoTime() - began) * rate / 1_000_000_000L);
            if (wanted - next > rate) {
                // What could not be sent in time is not made up for at once.
                began = System.nanoTime() - next * 1_000_000_000L / rate;
                wanted = next;
            }
            while (next < wanted && room.tryAcquire()) {
                int number = next++;
                int partition = chance.nextInt(partitions);
                String what = ",\"partition\":" + partition + ",\"number\":" + number;
                lines.say("invoke", "send", what);
                String value = participant + "/" + number + "/" + ".".repeat(chance.nextInt(200));
                try {
                    producer.send(new ProducerRecord<>(topic, partition, null, bytes(value)), (metadata, error) -> {
                        room.release();
                        if (error == null) {
                            acked.incrementAndGet();
                            lines.say("ok", "send", what + ",\"offset\":" + metadata.offset());
                            return;
                        }
                        lines.say("info", "send", what + error(error));
                        if (error instanceof ProducerFencedException) {
                            fatal.compareAndSet(null, error);
                        }
                    });
                } catch (KafkaException | IllegalStateException error) {
                    room.release();
                    lines.say("info", "send", what + error(error));
                    fatal.compareAndSet(null, error);
                    break;
                }
            }
            Thread.sleep(5);
        }
        // All answers are there when all permits are.
        if (fatal.get() == null && !room.tryAcquire(IN_FLIGHT_MAX, FLUSH_LIMIT_S, TimeUnit.SECONDS)) {
            System.err.println(participant + ": " + (IN_FLIGHT_MAX - room.availablePermits()) + " without an answer");
        }
        producer.close(Duration.ofSeconds(5));
        return fatal.get();
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String identity(ConsumerRecord<byte[], byte[]> record) {
        String[] parts = new String(record.value(), StandardCharsets.UTF_8).split("/", 3);
        return parts.length < 2 ? parts[0] : parts[0] + "/" + parts[1];
    }

    private KafkaConsumer<byte[], byte[]> consumer(Map<String, String> more) {
        Map<String, String> settings = new HashMap<>(Map.of("enable.auto.commit", "false"));
        settings.putAll(more);
        return new KafkaConsumer<>(properties(settings), new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** Polls once and writes down what came; the offsets behind it, by partition. */
    private Map<Integer, Long> poll(KafkaConsumer<byte[], byte[]> consumer, Lines lines) {
        Map<Integer, Long> behind = new TreeMap<>();
        ConsumerRecords<byte[], byte[]> records;
        try {
            records = consumer.poll(POLL);
        } catch (InvalidOffsetException error) {
            for (TopicPartition partition : error.partitions()) {
                lines.say("fail", "poll", ",\"partition\":" + partition.partition() + error(error));
                consumer.seekToBeginning(List.of(partition));
            }
            return behind;
        } catch (WakeupException error) {
            return behind;
        } catch (KafkaException error) {
            lines.say("info", "poll", error(error));
            return behind;
        }
        for (TopicPartition partition : records.partitions()) {
            var of = records.records(partition);
            String shown = of.stream().map(record -> "[" + record.offset() + "," + quoted(identity(record)) + "]")
                    .collect(Collectors.joining(","));
            lines.say("ok", "poll", ",\"partition\":" + partition.partition() + ",\"records\":[" + shown + "]");
            behind.put(partition.partition(), of.get(of.size() - 1).offset() + 1);
        }
        return behind;
    }

    private void read(int index) throws Exception {
        Map<Integer, Long> positions = new HashMap<>();
        try (var lines = new Lines(name + "-r" + index, "reader", null);
                var consumer = consumer(Map.of("auto.offset.reset", "none"))) {
            var all = IntStream.range(0, partitions).mapToObj(number -> new TopicPartition(topic, number)).toList();
            consumer.assign(all);
            all.forEach(partition -> consumer.seek(partition, 0));
            while (!aborted && !isBehindEnd(positions)) {
                positions.putAll(poll(consumer, lines));
            }
        }
    }

    private boolean isBehindEnd(Map<Integer, Long> positions) {
        return end && ends.entrySet().stream()
                .allMatch(entry -> positions.getOrDefault(entry.getKey(), 0L) >= entry.getValue());
    }

    private void takePart(int index) throws Exception {
        String group = options.get("group");
        Map<String, String> settings = Map.of("group.id", group, "auto.offset.reset", "earliest",
                "session.timeout.ms", "10000", "partition.assignment.strategy",
                "org.apache.kafka.clients.consumer.RangeAssignor");
        try (var lines = new Lines(name + "-m" + index, "reader", group); var consumer = consumer(settings)) {
            consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> gone) {
                }

                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> got) {
                    String shown = got.stream().map(partition -> String.valueOf(partition.partition()))
                            .collect(Collectors.joining(","));
                    lines.say("ok", "assign", ",\"partitions\":[" + shown + "]");
                }
            });
            while (!aborted && !end) {
                var behind = poll(consumer, lines);
                if (behind.isEmpty()) {
                    continue;
                }
                Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                behind.forEach((partition, offset) ->
                        offsets.put(new TopicPartition(topic, partition), new OffsetAndMetadata(offset)));
                String shown = behind.entrySet().stream().map(entry -> "[" + entry.getKey() + "," + entry.getValue() + "]")
                        .collect(Collectors.joining(","));
                try {
                    consumer.commitSync(offsets);
                    lines.say("ok", "commit", ",\"offsets\":[" + shown + "]");
                } catch (KafkaException error) {
                    lines.say("info", "commit", error(error));
                }
            }
        }
    }
}
