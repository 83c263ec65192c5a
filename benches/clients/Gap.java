import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Records at a fixed rate with the official client as it is by default; prints the longest time between two acks of a
 * partition after the first seconds. Usage: Gap SERVERS TOPIC PARTITIONS RATE SECONDS WARM_UP
 */
public class Gap {
    public static void main(String[] arguments) throws Exception {
        String topic = arguments[1];
        int partitions = Integer.parseInt(arguments[2]);
        long rate = Long.parseLong(arguments[3]);
        long seconds = Long.parseLong(arguments[4]);
        long warmUp = Long.parseLong(arguments[5]) * 1_000_000_000L;
        long[] last = new long[partitions];
        AtomicLong gap = new AtomicLong();
        AtomicLong acked = new AtomicLong();
        AtomicLong failed = new AtomicLong();
        var serializer = new ByteArraySerializer();
        try (var producer = new KafkaProducer<>(Map.of("bootstrap.servers", arguments[0]), serializer, serializer)) {
            producer.partitionsFor(topic);
            long start = System.nanoTime();
            for (long number = 0; number < rate * seconds; number++) {
                long wait = start + number * 1_000_000_000L / rate - System.nanoTime();
                if (wait > 0) {
                    Thread.sleep(wait / 1_000_000, (int) (wait % 1_000_000));
                }
                int partition = (int) (number % partitions);
                // All acks come on the client's one thread.
                producer.send(new ProducerRecord<>(topic, partition, null, new byte[100]), (metadata, error) -> {
                    if (error != null) {
                        failed.incrementAndGet();
                        return;
                    }
                    acked.incrementAndGet();
                    long now = System.nanoTime();
                    if (last[partition] > start + warmUp) {
                        gap.accumulateAndGet(now - last[partition], Math::max);
                    }
                    last[partition] = now;
                });
            }
            producer.flush();
        }
        System.out.printf("{\"acked\":%d,\"failed\":%d,\"gap_ms\":%.1f}%n", acked.get(), failed.get(), gap.get() / 1e6);
    }
}
