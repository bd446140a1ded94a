package peers;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Phaser;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * A consumer and a transactional producer by hand, with Jackson and SQLite. Three threads in a row: one polls and decides,
 * one appends to the log, one publishes and commits the offsets in the same Kafka transaction.
 *
 * <p>Exactly-once, and safe to kill: a batch is in the log before its transaction commits, and the log ignores commands that
 * it has. What it gives up is in {@link Decider} and in docs/performance.md.
 *
 * <p>By hand: {@code mvn package dependency:copy-dependencies -DoutputDirectory=target}, then
 * {@code java -cp 'target/*' peers.Plain SERVERS GROUP COMMANDS NOTIFICATIONS REJECTIONS FILE}; SIGTERM ends it.
 */
public final class Plain {
    private static final int BATCH = 10_000;

    private record Batch(List<EventLog.Row> rows, List<ProducerRecord<byte[], byte[]>> outputs, Map<TopicPartition, OffsetAndMetadata> offsets, ConsumerGroupMetadata group) {}

    public static void main(String[] words) throws Exception {
        String servers = words[0], group = words[1], commands = words[2], notifications = words[3], rejections = words[4], file = words[5];
        Map<String, Object> consuming = Map.of(
            "bootstrap.servers", servers,
            "group.id", group,
            "isolation.level", "read_committed",
            "enable.auto.commit", false,
            "auto.offset.reset", "earliest",
            "max.poll.records", BATCH,
            "fetch.max.wait.ms", 100,
            "max.partition.fetch.bytes", 4 << 20,
            "partition.assignment.strategy", CooperativeStickyAssignor.class.getName());
        Map<String, Object> producing = Map.of(
            "bootstrap.servers", servers,
            "transactional.id", group + "-plain",
            "transaction.timeout.ms", 10_000,
            "linger.ms", 5,
            "batch.size", 512 << 10,
            "buffer.memory", 64 << 20);
        BlockingQueue<Batch> toAppend = new ArrayBlockingQueue<>(1), toPublish = new ArrayBlockingQueue<>(1);
        // Batches that are under way, and this thread.
        Phaser underWay = new Phaser(1);
        try (EventLog log = new EventLog(file);
            KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(consuming, new ByteArrayDeserializer(), new ByteArrayDeserializer());
            KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(producing, new ByteArraySerializer(), new ByteArraySerializer())) {
            producer.initTransactions();
            start("append", () -> {
                Batch batch = toAppend.take();
                log.append(batch.rows);
                toPublish.put(batch);
            });
            start("publish", () -> {
                Batch batch = toPublish.take();
                producer.beginTransaction();
                // A failed send fails the commit.
                for (ProducerRecord<byte[], byte[]> output : batch.outputs) producer.send(output);
                producer.sendOffsetsToTransaction(batch.offsets, batch.group);
                producer.commitTransaction();
                underWay.arriveAndDeregister();
            });
            consumer.subscribe(List.of(commands), new ConsumerRebalanceListener() {
                @Override public void onPartitionsAssigned(Collection<TopicPartition> partitions) {}

                @Override public void onPartitionsRevoked(Collection<TopicPartition> partitions) { underWay.arriveAndAwaitAdvance(); }
            });
            Decider decider = new Decider(commands);
            while (true) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(100));
                if (records.isEmpty()) continue;
                Batch batch = new Batch(new ArrayList<>(records.count()), new ArrayList<>(records.count()), new HashMap<>(records.nextOffsets()), consumer.groupMetadata());
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    Outcome outcome = new Outcome(decider, commands, record.partition(), record.offset(), record.timestamp(), record.key(), record.value(), record.headers());
                    batch.rows.add(outcome.row);
                    for (Outcome.Output output : outcome.outputs) {
                        batch.outputs.add(new ProducerRecord<>(output.isRejection() ? rejections : notifications, null, output.key(), output.value(), output.headers()));
                    }
                }
                underWay.register();
                toAppend.put(batch);
            }
        }
    }

    private interface Work { void run() throws Exception; }

    /** Repeats the work. An error ends the process, and what was under way comes again. */
    private static void start(String name, Work work) {
        Thread thread = new Thread(() -> {
            try {
                while (true) work.run();
            } catch (Throwable error) {
                error.printStackTrace();
                Runtime.getRuntime().halt(1);
            }
        }, name);
        thread.setDaemon(true);
        thread.start();
    }
}
