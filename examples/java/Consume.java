// Prints a line for each notification, until it is stopped or has printed COUNT of them.
//
//   mvn --quiet dependency:copy-dependencies
//   java -cp 'target/dependency/*' Consume.java [BOOTSTRAP_SERVERS [TOPIC [GROUP [COUNT]]]]

import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Duration;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.StringDeserializer;

public class Consume {
    public static void main(String[] arguments) {
        String servers = arguments.length > 0 ? arguments[0] : "localhost:9092";
        String topic = arguments.length > 1 ? arguments[1] : "activity.notifications";
        String group = arguments.length > 2 ? arguments[2] : "activity-printer-java";
        long wanted = arguments.length > 3 ? Long.parseLong(arguments[3]) : Long.MAX_VALUE;

        // Ids that were printed already. If repeating an effect does harm, store the ids together with the effect.
        Set<String> printedIds = Collections.newSetFromMap(new LinkedHashMap<>() {
            @Override
            protected boolean removeEldestEntry(Map.Entry<String, Boolean> eldest) {
                return size() > 100_000;
            }
        });
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", servers,
            "group.id", group,
            "isolation.level", "read_committed", // the Java client's default is another one
            "enable.auto.commit", false,
            "auto.offset.reset", "earliest");
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            // On SIGINT the poll is woken up, and the consumer leaves its group.
            Thread main = Thread.currentThread();
            Runtime.getRuntime().addShutdownHook(new Thread(() -> {
                consumer.wakeup();
                try {
                    main.join(5_000);
                } catch (InterruptedException stopped) {
                    // The process ends all the same.
                }
            }));
            consumer.subscribe(List.of(topic));
            for (long printed = 0; printed < wanted;) {
                for (ConsumerRecord<String, String> notification : consumer.poll(Duration.ofSeconds(1))) {
                    if (printedIds.add(header(notification, "ce_id"))) {
                        System.out.printf("%s %s %s%n", header(notification, "ce_id"), notification.key(),
                            header(notification, "ce_subject"));
                        printed++;
                    }
                }
                // After the work: a crash then repeats work rather than losing it.
                consumer.commitSync();
            }
        } catch (WakeupException stopped) {
            // Expected at a stop.
        }
    }

    /** Id and object are in the headers too; the rest is JSON in the value. */
    static String header(ConsumerRecord<String, String> notification, String name) {
        return new String(notification.headers().lastHeader(name).value(), UTF_8);
    }
}
