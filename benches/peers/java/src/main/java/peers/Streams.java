package peers;

import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaClientSupplier;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.processor.api.RecordMetadata;

/**
 * Kafka Streams with exactly_once_v2: a processor decides and forwards to two sinks. Rows wait in the stream thread, and are
 * appended to SQLite just before its Kafka transaction commits. Streams has no hook for that (a state store is not flushed
 * before each commit), so the producer is wrapped, through the public KafkaClientSupplier.
 *
 * <p>Safe to kill, as {@link Plain} is, and gives up the same. By hand: as {@link Plain}, with {@code peers.Streams}.
 */
public final class Streams {
    /** Rows of this stream thread's transaction. */
    private static final ThreadLocal<List<EventLog.Row>> ROWS = ThreadLocal.withInitial(ArrayList::new);

    public static void main(String[] words) throws Exception {
        String servers = words[0], group = words[1], commands = words[2], notifications = words[3], rejections = words[4], file = words[5];
        Properties settings = new Properties();
        settings.put("application.id", group);
        settings.put("bootstrap.servers", servers);
        settings.put("processing.guarantee", "exactly_once_v2");
        settings.put("commit.interval.ms", 300);
        // Two cores, which the broker shares: more threads are slower.
        settings.put("num.stream.threads", 1);
        settings.put("statestore.cache.max.bytes", 0);
        settings.put("buffered.records.per.partition", 10_000);
        settings.put("state.dir", file + "-streams");
        settings.put("replication.factor", 1);
        settings.put("default.key.serde", Serdes.ByteArraySerde.class);
        settings.put("default.value.serde", Serdes.ByteArraySerde.class);
        settings.put("poll.ms", 20);
        settings.put("consumer.auto.offset.reset", "earliest");
        settings.put("consumer.max.poll.records", 4_000);
        settings.put("consumer.fetch.max.wait.ms", 100);
        settings.put("producer.linger.ms", 20);
        settings.put("producer.batch.size", 512 << 10);
        settings.put("producer.buffer.memory", 64 << 20);
        settings.put("producer.transaction.timeout.ms", 10_000);
        Topology topology = new Topology();
        topology.addSource("commands", commands);
        topology.addProcessor("decide", () -> new Deciding(commands), "commands");
        topology.addSink("notifications", notifications, "decide");
        topology.addSink("rejections", rejections, "decide");
        KafkaStreams streams = new KafkaStreams(topology, settings, new Clients(new EventLog(file)));
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return null;
        });
        streams.start();
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    }

    private static final class Deciding implements Processor<byte[], byte[], byte[], byte[]> {
        private final String topic;
        private final Decider decider;
        private ProcessorContext<byte[], byte[]> context;

        Deciding(String topic) {
            this.topic = topic;
            decider = new Decider(topic);
        }

        @Override public void init(ProcessorContext<byte[], byte[]> context) { this.context = context; }

        @Override public void process(Record<byte[], byte[]> record) {
            RecordMetadata at = context.recordMetadata().orElseThrow();
            Outcome outcome = new Outcome(decider, topic, at.partition(), at.offset(), record.timestamp(), record.key(), record.value(), record.headers());
            ROWS.get().add(outcome.row);
            for (Outcome.Output output : outcome.outputs) {
                context.forward(new Record<>(output.key(), output.value(), record.timestamp(), output.headers()), output.isRejection() ? "rejections" : "notifications");
            }
        }
    }

    private static final class AppendingProducer extends KafkaProducer<byte[], byte[]> {
        private final EventLog log;

        AppendingProducer(Map<String, Object> config, EventLog log) {
            super(config, new ByteArraySerializer(), new ByteArraySerializer());
            this.log = log;
        }

        @Override public void commitTransaction() {
            try {
                log.append(ROWS.get());
            } catch (SQLException e) {
                throw new IllegalStateException(e);
            }
            ROWS.get().clear();
            super.commitTransaction();
        }

        @Override public void abortTransaction() {
            ROWS.get().clear();
            super.abortTransaction();
        }
    }

    private record Clients(EventLog log) implements KafkaClientSupplier {
        @Override public Admin getAdmin(Map<String, Object> config) { return Admin.create(config); }

        @Override public Producer<byte[], byte[]> getProducer(Map<String, Object> config) { return new AppendingProducer(config, log); }

        @Override public Consumer<byte[], byte[]> getConsumer(Map<String, Object> config) { return consumer(config); }

        @Override public Consumer<byte[], byte[]> getRestoreConsumer(Map<String, Object> config) { return consumer(config); }

        @Override public Consumer<byte[], byte[]> getGlobalConsumer(Map<String, Object> config) { return consumer(config); }

        private static Consumer<byte[], byte[]> consumer(Map<String, Object> config) { return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer()); }
    }
}
