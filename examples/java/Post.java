// Posts a command and prints its id, from the delivery report. The processor decides whether it becomes an activity:
// run twice, the second command is a duplicate.
//
//   mvn --quiet dependency:copy-dependencies
//   java -cp 'target/dependency/*' Post.java [BOOTSTRAP_SERVERS [TOPIC [OBJECT_ID]]]

import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.Map;
import java.util.UUID;
import java.util.zip.CRC32C;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.StringSerializer;

public class Post {
    public static void main(String[] arguments) throws Exception {
        String servers = arguments.length > 0 ? arguments[0] : "localhost:9092";
        String topic = arguments.length > 1 ? arguments[1] : "activity.commands";
        String objectId = arguments.length > 2 ? arguments[2] : "w-9";

        // In your own program, use a JSON library: the id is not escaped here.
        String command = """
            {"@type": "complete", "objectType": "workitem", "objectId": "%s",
             "targets": [{"targetId": "anna", "notify": true}], "content": "Approved."}"""
            .formatted(objectId);
        var producerRecord = new ProducerRecord<>(topic, "workitem/" + objectId, command);
        producerRecord.headers().add("idempotency-key", ("complete-workitem-" + objectId).getBytes(UTF_8));

        Map<String, Object> settings = Map.of(
            "bootstrap.servers", servers,
            "acks", "all",
            "enable.idempotence", true);
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            UUID id = activityId(producer.send(producerRecord).get());
            System.out.println(id);
            System.err.printf("sent, not yet accepted: 'activity-stream log show %s' says what it became%n", id);
        }
    }

    static UUID activityId(RecordMetadata at) {
        var crc = new CRC32C();
        crc.update(at.topic().getBytes(UTF_8));
        long topicBits = crc.getValue() & 0xfff;
        return new UUID(
            at.timestamp() << 16 | 0x8000 | topicBits,
            0b10L << 62 | (long) at.partition() << 48 | at.offset());
    }
}
