import java.io.*;
import java.net.*;
import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Reads topics with Kafka's own consumer, for all tests of a run: a Java of its own for each topic would take longer to start
 * than to read it.
 *
 * Each connection asks for one topic with a line, "servers topic most idle-ms", and gets its records, then their end.
 */
public class Reader {
    static final int RECORD = 1, END = 2, FAILED = 3;

    public static void main(String[] arguments) throws Exception {
        ServerSocket server = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        System.out.println(server.getLocalPort());
        while (true) {
            Socket socket = server.accept();
            new Thread(() -> serve(socket)).start();
        }
    }

    static void serve(Socket socket) {
        try (socket) {
            BufferedReader input = new BufferedReader(new InputStreamReader(socket.getInputStream(), "UTF-8"));
            String[] words = input.readLine().split(" ");
            DataOutputStream out = new DataOutputStream(new BufferedOutputStream(socket.getOutputStream(), 1 << 20));
            try {
                read(words[0], words[1], Long.parseLong(words[2]), Duration.ofMillis(Long.parseLong(words[3])), out);
                out.writeByte(END);
            } catch (KafkaException | IllegalStateException failure) {
                out.writeByte(FAILED);
                write(out, failure.toString().getBytes("UTF-8"));
            }
            out.flush();
        } catch (IOException gone) {
            // The test has seen enough.
        }
    }

    /** Up to the end that the topic has now, or until nothing comes for a while: an open transaction hides what is behind it. */
    static void read(String servers, String topic, long most, Duration idle, DataOutputStream out) throws IOException {
        try (Consumer<byte[], byte[]> consumer = consumer(servers, "read_committed")) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (PartitionInfo info : consumer.partitionsFor(topic)) {
                partitions.add(new TopicPartition(topic, info.partition()));
            }
            Map<TopicPartition, Long> ends;
            try (Consumer<byte[], byte[]> uncommitted = consumer(servers, "read_uncommitted")) {
                uncommitted.assign(partitions);
                ends = uncommitted.endOffsets(partitions);
            }
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            long read = 0, left = left(consumer, ends), moved = System.nanoTime();
            while (left > 0 && read < most && System.nanoTime() - moved < idle.toNanos()) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                    if (read == most) {
                        return;
                    }
                    write(out, record);
                    read++;
                }
                out.flush();
                // Past markers of transactions too, which are no records.
                long now = left(consumer, ends);
                if (now < left) {
                    left = now;
                    moved = System.nanoTime();
                }
            }
        }
    }

    static Consumer<byte[], byte[]> consumer(String servers, String isolation) {
        return new KafkaConsumer<>(
            Map.of(
                "bootstrap.servers", servers,
                "isolation.level", isolation,
                "auto.offset.reset", "earliest",
                "allow.auto.create.topics", "false",
                "enable.auto.commit", "false"),
            new ByteArrayDeserializer(),
            new ByteArrayDeserializer());
    }

    static long left(Consumer<byte[], byte[]> consumer, Map<TopicPartition, Long> ends) {
        long left = 0;
        for (Map.Entry<TopicPartition, Long> end : ends.entrySet()) {
            left += Math.max(0, end.getValue() - consumer.position(end.getKey()));
        }
        return left;
    }

    static void write(DataOutputStream out, ConsumerRecord<byte[], byte[]> record) throws IOException {
        out.writeByte(RECORD);
        out.writeInt(record.partition());
        out.writeLong(record.offset());
        out.writeLong(record.timestamp());
        Header[] headers = record.headers().toArray();
        out.writeInt(headers.length);
        for (Header header : headers) {
            write(out, header.key().getBytes("UTF-8"));
            write(out, header.value());
        }
        write(out, record.key());
        write(out, record.value());
    }

    static void write(DataOutputStream out, byte[] bytes) throws IOException {
        out.writeInt(bytes == null ? -1 : bytes.length);
        if (bytes != null) {
            out.write(bytes);
        }
    }
}
