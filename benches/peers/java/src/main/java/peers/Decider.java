package peers;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.json.JsonWriteFeature;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.UUID;
import java.util.zip.CRC32C;

/**
 * Decides on one command: reads it with Jackson's tree model, and writes its normal form with a generator. For one thread.
 *
 * <p>Gives up: idempotency keys, CloudEvents, replies, limits of problems' and output's bytes, leap seconds, and the bytes of
 * free properties (their values are kept). After a repeated name nothing else is reported.
 */
final class Decider {
    static final int MAX_VALUE = 512 << 10, MAX_NESTING = 64;

    record Notification(byte[] id, byte[] key, byte[] value) {}

    /** With problems, or with everything else. */
    record Decision(List<Problems.Problem> problems, String objectType, String objectId, String time, byte[] json, List<Notification> notifications) {}

    private final JsonMapper mapper = JsonMapper.builder()
        .enable(DeserializationFeature.FAIL_ON_READING_DUP_TREE_KEY, DeserializationFeature.FAIL_ON_TRAILING_TOKENS, DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
        .enable(JsonWriteFeature.COMBINE_UNICODE_SURROGATES_IN_UTF8)
        .build();
    private final ObjectReader reader = mapper.reader();
    private final Problems problems = new Problems();
    private final EntryReader entries = new EntryReader(problems);
    private final NormalForm normalForm = new NormalForm(mapper);
    private final Times times = new Times();
    private final long topicBits;

    Decider(String topic) {
        CRC32C checksum = new CRC32C();
        checksum.update(topic.getBytes(StandardCharsets.UTF_8));
        topicBits = checksum.getValue() & 0xfff;
    }

    Decision decide(byte[] value, long timestamp, int partition, long offset) {
        problems.clear();
        Entry entry = null;
        try {
            ObjectNode object = object(value);
            if (object != null) entry = entries.read(object);
        } catch (JsonProcessingException e) {
            reportUnreadable(value, e);
        } catch (IOException e) {
            problems.add("", "not_utf8", e.getMessage());
        }
        if (!problems.isEmpty()) return new Decision(problems.list(), null, null, null, null, null);

        String time = times.utc(timestamp);
        if (entry.publishedAt == null) entry.publishedAt = time;
        String id = new UUID(timestamp << 16 | 0x8000 | topicBits, 1L << 63 | (long) partition << 48 | offset).toString();
        try {
            normalForm.write(entry);
        } catch (IOException e) {
            throw new IllegalStateException("writing to memory", e);
        }
        return new Decision(null, entry.objectType, entry.objectId, time, normalForm.json(), normalForm.notifications(id, entry));
    }

    byte[] json(List<Problems.Problem> all) {
        try {
            return mapper.writeValueAsBytes(all);
        } catch (JsonProcessingException e) {
            throw new IllegalStateException(e);
        }
    }

    private ObjectNode object(byte[] value) throws IOException {
        if (value == null) {
            problems.add("", "tombstone", "the record has no value");
        } else if (value.length > MAX_VALUE) {
            problems.add("", "too_large", "at most " + MAX_VALUE + " bytes");
        } else {
            JsonNode node = reader.readTree(value);
            if (depth(node) > MAX_NESTING) problems.add("", "too_deep", "at most " + MAX_NESTING + " levels of nesting");
            if (node instanceof ObjectNode object) return object;
            if (node.isMissingNode()) problems.add("", "not_json", "there is nothing but white space");
            else problems.add("", "not_an_object", "expected an object");
        }
        return null;
    }

    private void reportUnreadable(byte[] value, JsonProcessingException e) {
        String message = e.getOriginalMessage();
        if (!isUtf8(value)) {
            problems.add("", "not_utf8", message);
        } else if (message.startsWith("Duplicate") && e.getProcessor() instanceof JsonParser parser) {
            problems.add(parser.getParsingContext().pathAsPointer().toString(), "duplicate_property", message);
        } else {
            problems.add("", "not_json", message);
        }
    }

    private static boolean isUtf8(byte[] value) {
        try {
            StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(value));
            return true;
        } catch (CharacterCodingException e) {
            return false;
        }
    }

    private static int depth(JsonNode node) {
        if (!node.isContainerNode()) return 0;
        int deepest = 0;
        for (JsonNode child : node) {
            if (child.isContainerNode()) deepest = Math.max(deepest, depth(child));
        }
        return deepest + 1;
    }
}
