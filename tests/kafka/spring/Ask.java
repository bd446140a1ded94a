// Posts commands with Spring's ReplyingKafkaTemplate, and prints what is replied, a line each.
// Arguments: bootstrap servers, commands topic, topic of replies with two partitions.

import static java.nio.charset.StandardCharsets.UTF_8;

import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaProducerFactory;
import org.springframework.kafka.listener.ContainerProperties;
import org.springframework.kafka.listener.KafkaMessageListenerContainer;
import org.springframework.kafka.requestreply.ReplyingKafkaTemplate;
import org.springframework.kafka.support.KafkaHeaders;

public class Ask {
    static final String GOOD = "{\"objectType\": \"case\", \"objectId\": \"7\"}";
    static final String BAD = "{\"objectType\": \"case\", \"objectId\": \"\"}";

    // Spring's threads would keep the JVM alive, also after an exception.
    public static void main(String[] arguments) {
        try {
            ask(arguments);
            System.exit(0);
        } catch (Exception exception) {
            exception.printStackTrace();
            System.exit(1);
        }
    }

    static void ask(String[] arguments) throws Exception {
        String servers = arguments[0];
        String commands = arguments[1];
        String replies = arguments[2];
        var producers = new DefaultKafkaProducerFactory<>(
            Map.of("bootstrap.servers", servers), new StringSerializer(), new StringSerializer());
        var consumers = new DefaultKafkaConsumerFactory<>(
            Map.of("bootstrap.servers", servers, "isolation.level", "read_committed", "auto.offset.reset", "earliest"),
            new StringDeserializer(), new StringDeserializer());
        var listening = new ContainerProperties(replies);
        listening.setGroupId(replies);
        var container = new KafkaMessageListenerContainer<>(consumers, listening);
        var template = new ReplyingKafkaTemplate<>(producers, container);
        template.setDefaultReplyTimeout(Duration.ofSeconds(60));
        template.afterPropertiesSet();
        template.start();
        if (!template.waitForAssignment(Duration.ofSeconds(60))) {
            throw new IllegalStateException("no partitions of " + replies);
        }
        for (int partition : new int[] {-1, 0, 1}) {
            for (String value : new String[] {GOOD, BAD}) {
                var command = new ProducerRecord<>(commands, "case/7", value);
                command.headers().add(KafkaHeaders.REPLY_TOPIC, replies.getBytes(UTF_8));
                if (partition >= 0) {
                    byte[] bytes = ByteBuffer.allocate(Integer.BYTES).putInt(partition).array();
                    command.headers().add(KafkaHeaders.REPLY_PARTITION, bytes);
                }
                var reply = template.sendAndReceive(command).get(60, TimeUnit.SECONDS);
                System.out.printf("%d %d %s%n", partition, reply.partition(), reply.value());
            }
        }
        template.stop();
        producers.destroy();
    }
}
