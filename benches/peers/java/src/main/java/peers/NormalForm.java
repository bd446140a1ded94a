package peers;

import com.fasterxml.jackson.core.JsonEncoding;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/** Writes the normal form of one entry after the other, and notifications, which are made of its parts. */
final class NormalForm {
    private static final byte[] ID = bytes("{\"id\":\""), ACTIVITY_ID = bytes("\",\"activityId\":\""), TARGET = bytes("\",\"target\":"), ACTIVITY = bytes("},\"activity\":");

    /** A target that is notified: its index, and where it is in the JSON, without {@code notify}. */
    private record Notified(int index, int from, int to) {}

    private final JsonMapper mapper;
    private final Buffer out = new Buffer();
    private final List<Notified> notified = new ArrayList<>();
    private int beforeTargets, afterTargets;

    NormalForm(JsonMapper mapper) { this.mapper = mapper; }

    byte[] json() { return Arrays.copyOf(out.bytes, out.length); }

    void write(Entry entry) throws IOException {
        out.length = 0;
        notified.clear();
        try (JsonGenerator json = mapper.getFactory().createGenerator(out, JsonEncoding.UTF8)) {
            json.writeStartObject();
            json.writeStringField("@type", entry.verb);
            if (entry.actor != null) {
                json.writeFieldName("actor");
                write(json, entry.actor);
            }
            json.writeStringField("objectType", entry.objectType);
            json.writeStringField("objectId", entry.objectId);
            json.writeStringField("publishedAt", entry.publishedAt);
            beforeTargets = length(json);
            json.writeArrayFieldStart("targets");
            for (int index = 0; index < entry.targets.size(); index++) write(json, entry.targets.get(index), index);
            json.writeEndArray();
            afterTargets = length(json);
            if (!entry.attachments.isEmpty()) {
                json.writeArrayFieldStart("attachments");
                for (Entry.Attachment attachment : entry.attachments) write(json, attachment);
                json.writeEndArray();
            }
            if (entry.content != null) json.writeStringField("content", entry.content);
            write(json, entry.free);
            json.writeEndObject();
        }
    }

    private void write(JsonGenerator json, Entry.Target target, int index) throws IOException {
        // A comma is written with what follows it.
        int from = target.isNotified() ? length(json) + (index == 0 ? 0 : 1) : 0;
        json.writeStartObject();
        json.writeStringField("@type", target.type());
        if (target.identity() != null) {
            json.writeFieldName("targetId");
            write(json, target.identity());
        } else if (target.channel() != null) {
            json.writeStringField("targetId", target.channel());
        }
        if (target.isNotified()) notified.add(new Notified(index, from, length(json)));
        json.writeBooleanField("notify", target.isNotified());
        json.writeEndObject();
    }

    private static void write(JsonGenerator json, Entry.Identity identity) throws IOException {
        json.writeStartObject();
        json.writeStringField("id", identity.id());
        if (identity.domain() != null) json.writeStringField("domain", identity.domain());
        if (identity.name() != null) json.writeStringField("name", identity.name());
        if (identity.type() != null) json.writeStringField("type", identity.type());
        json.writeEndObject();
    }

    private void write(JsonGenerator json, Entry.Attachment attachment) throws IOException {
        json.writeStartObject();
        json.writeStringField("@type", attachment.type());
        json.writeStringField("id", attachment.id());
        write(json, attachment.free());
        json.writeEndObject();
    }

    private void write(JsonGenerator json, List<Map.Entry<String, JsonNode>> free) throws IOException {
        for (Map.Entry<String, JsonNode> property : free) {
            json.writeFieldName(property.getKey());
            mapper.writeTree(json, property.getValue());
        }
    }

    private int length(JsonGenerator json) throws IOException {
        json.flush();
        return out.length;
    }

    List<Decider.Notification> notifications(String activityId, Entry entry) {
        if (notified.isEmpty()) return List.of();
        List<Decider.Notification> all = new ArrayList<>(notified.size());
        byte[] activity = bytes(activityId);
        for (Notified target : notified) {
            byte[] id = bytes(activityId + "/" + target.index);
            int targetLength = target.to - target.from, rest = out.length - afterTargets;
            Buffer value = new Buffer(ID.length + id.length + ACTIVITY_ID.length + activity.length + TARGET.length + targetLength + ACTIVITY.length + beforeTargets + rest + 1);
            for (byte[] part : new byte[][] {ID, id, ACTIVITY_ID, activity, TARGET}) value.write(part, 0, part.length);
            value.write(out.bytes, target.from, targetLength);
            value.write(ACTIVITY, 0, ACTIVITY.length);
            value.write(out.bytes, 0, beforeTargets);
            value.write(out.bytes, afterTargets, rest);
            value.write('}');
            all.add(new Decider.Notification(id, bytes(key(entry.targets.get(target.index), entry)), value.bytes));
        }
        return all;
    }

    private static String key(Entry.Target target, Entry entry) {
        return switch (target.type()) {
            case "Identity" -> {
                Entry.Identity identity = target.identity();
                yield "Identity:" + (identity.domain() == null ? "" : encoded(identity.domain()) + "/") + encoded(identity.id());
            }
            case "Members" -> target.channel() != null ? "Members:channel:" + encoded(target.channel()) : "Members:object:" + encoded(entry.objectType) + "/" + encoded(entry.objectId);
            default -> target.type();
        };
    }

    private static String encoded(String part) {
        if (part.indexOf('/') < 0 && part.indexOf(':') < 0 && part.indexOf('%') < 0) return part;
        return part.replace("%", "%25").replace("/", "%2F").replace(":", "%3A");
    }

    private static byte[] bytes(String text) { return text.getBytes(StandardCharsets.UTF_8); }

    /** ByteArrayOutputStream without its locks and its copy. */
    private static final class Buffer extends OutputStream {
        byte[] bytes;
        int length;

        Buffer() { this(1 << 16); }

        Buffer(int size) { bytes = new byte[size]; }

        @Override public void write(int b) {
            makeRoom(1);
            bytes[length++] = (byte) b;
        }

        @Override public void write(byte[] from, int at, int count) {
            makeRoom(count);
            System.arraycopy(from, at, bytes, length, count);
            length += count;
        }

        private void makeRoom(int count) {
            if (length + count > bytes.length) bytes = Arrays.copyOf(bytes, Math.max(bytes.length * 2, length + count));
        }
    }
}
