package peers;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.List;
import java.util.Map;

/** A valid entry, with aliases resolved and defaults filled in. */
final class Entry {
    record Identity(String id, String domain, String name, String type) {}

    record Target(String type, Identity identity, String channel, boolean isNotified) {
        boolean isSameAudience(Target other) { return audience().equals(other.audience()); }

        List<String> audience() {
            return identity == null ? List.of(type, channel == null ? "" : channel) : List.of(type, identity.id, identity.domain == null ? "" : identity.domain);
        }

        Target notified() { return isNotified ? this : new Target(type, identity, channel, true); }
    }

    record Attachment(String type, String id, List<Map.Entry<String, JsonNode>> free) {}

    String verb, objectType, objectId, publishedAt, content;
    Identity actor;
    List<Target> targets;
    List<Attachment> attachments = List.of();
    List<Map.Entry<String, JsonNode>> free = List.of();
}
