package peers;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.DateTimeException;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;

/** Reads an entry, and reports everything that is wrong with it. */
final class EntryReader {
    private static final int MAX_TEXT = 512, MAX_TARGETS = 1000, MAX_ATTACHMENTS = 100;
    private static final List<String> IDENTITY_TYPES = List.of("User", "OrganizationUnit", "Position", "Group");
    private static final List<String> TARGET_TYPES = List.of("Identity", "Everyone", "Members", "Public");
    private static final List<String> ATTACHMENT_TYPES = List.of("file", "link", "video");
    private static final Set<String> FOREIGN_AUDIENCES = Set.of("cc", "bto", "bcc", "audience", "audiences", "recipient", "recipients", "notify");
    private static final Pattern RFC_3339 = Pattern.compile("\\d{4}-\\d\\d-\\d\\d[Tt]\\d\\d:\\d\\d:\\d\\d(\\.\\d{1,9})?([Zz]|[+-]\\d\\d:\\d\\d)");

    private final Problems problems;

    EntryReader(Problems problems) { this.problems = problems; }

    /** A field, which may have several names. The first that is given counts. */
    private final class Field {
        String at;
        JsonNode value;

        void set(String parent, String name, JsonNode given) {
            String here = Problems.at(parent, name);
            if (at != null) {
                problems.add(here, "duplicate_property", "two names of the same field");
                return;
            }
            at = here;
            value = given;
        }

        boolean isAbsent() { return value == null || value.isNull(); }

        String text() { return isAbsent() ? null : EntryReader.this.text(value, at, true); }

        String required(String parent, String name) {
            if (isAbsent()) problems.add(Problems.at(parent, name), "missing", "it is required");
            return text();
        }
    }

    /** Use it only where no problem was found. */
    Entry read(ObjectNode object) {
        Field verb = new Field(), actor = new Field(), objectType = new Field(), objectId = new Field(), publishedAt = new Field();
        Field targets = new Field(), attachments = new Field(), content = new Field();
        Entry entry = new Entry();
        for (Map.Entry<String, JsonNode> property : object.properties()) {
            String name = property.getKey();
            JsonNode value = property.getValue();
            switch (name) {
                case "@type", "type" -> verb.set("", name, value);
                case "actor" -> actor.set("", name, value);
                case "objectType" -> objectType.set("", name, value);
                case "objectId" -> objectId.set("", name, value);
                case "publishedAt", "published" -> publishedAt.set("", name, value);
                case "targets" -> targets.set("", name, value);
                case "attachments", "attachment" -> attachments.set("", name, value);
                case "content" -> content.set("", name, value);
                default -> {
                    if (isAlmostTargets(name)) problems.add(Problems.at("", name), "misspelt_targets", "did you mean \"targets\"?");
                    else if (isForeignAudience(name, value)) problems.add(Problems.at("", name), "foreign_audience", "put its audience in \"targets\"");
                    if (entry.free.isEmpty()) entry.free = new ArrayList<>();
                    entry.free.add(property);
                }
            }
        }
        entry.verb = verb.isAbsent() ? "share" : verb.text();
        entry.actor = actor.isAbsent() ? null : identity(actor.value, actor.at);
        entry.objectType = objectType.required("", "objectType");
        entry.objectId = objectId.required("", "objectId");
        entry.publishedAt = publishedAt.isAbsent() ? null : dateTime(publishedAt);
        entry.targets = targets.value == null ? List.of(new Entry.Target("Everyone", null, null, false)) : targets(targets.value);
        if (!attachments.isAbsent()) entry.attachments = attachments(attachments.value, attachments.at);
        entry.content = content.isAbsent() ? null : text(content.value, content.at, false);
        return entry;
    }

    private String text(JsonNode node, String at, boolean isId) { return text(node, at, isId, isId); }

    /** A string; one that is bound by the rules of ids and names has few characters, and none that control. */
    private String text(JsonNode node, String at, boolean bound, boolean notEmpty) {
        if (!node.isTextual()) {
            problems.add(at, "wrong_type", "expected a string, found " + node);
            return null;
        }
        String text = node.textValue();
        if (notEmpty && text.isEmpty()) problems.add(at, "empty", "expected at least one character");
        if (bound && text.length() > MAX_TEXT && text.codePointCount(0, text.length()) > MAX_TEXT) problems.add(at, "too_long", "at most " + MAX_TEXT + " characters");
        boolean controls = false;
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c < 0x20 || c >= 0x7f && c < 0xa0) controls = true;
            if (!Character.isSurrogate(c)) continue;
            if (Character.isHighSurrogate(c) && i + 1 < text.length() && Character.isLowSurrogate(text.charAt(i + 1))) {
                i++;
                continue;
            }
            problems.add(at, "unpaired_surrogate", "half of a surrogate pair");
            return null;
        }
        if (bound && controls) problems.add(at, "control_character", "no control characters");
        return text;
    }

    private String word(Field field, List<String> known) {
        String text = text(field.value, field.at, false);
        if (text != null && !known.contains(text)) problems.add(field.at, "unknown_value", "expected one of " + known);
        return text;
    }

    private String dateTime(Field field) {
        String text = text(field.value, field.at, false);
        if (text == null) return null;
        try {
            if (RFC_3339.matcher(text).matches()) {
                OffsetDateTime.parse(text.toUpperCase(Locale.ROOT));
                return text;
            }
        } catch (DateTimeException e) {
            // Reported below.
        }
        problems.add(field.at, "bad_date_time", "expected a date-time with offset (RFC 3339), found " + text);
        return null;
    }

    private Entry.Identity identity(JsonNode node, String at) {
        if (node.isTextual()) return new Entry.Identity(text(node, at, true), null, null, null);
        if (!(node instanceof ObjectNode)) {
            problems.add(at, "wrong_type", "expected a string or an identity");
            return null;
        }
        Field id = new Field(), domain = new Field(), name = new Field(), type = new Field();
        for (Map.Entry<String, JsonNode> property : node.properties()) {
            JsonNode value = property.getValue();
            switch (property.getKey()) {
                case "id", "Id" -> id.set(at, property.getKey(), value);
                case "domain", "Domain" -> domain.set(at, property.getKey(), value);
                case "name", "Name" -> name.set(at, property.getKey(), value);
                case "type", "Type" -> type.set(at, property.getKey(), value);
                default -> problems.add(Problems.at(at, property.getKey()), "unknown_property", "an identity has no such property");
            }
        }
        return new Entry.Identity(id.required(at, "id"), domain.text(), name.isAbsent() ? null : text(name.value, name.at, true, false), type.isAbsent() ? null : word(type, IDENTITY_TYPES));
    }

    private List<Entry.Target> targets(JsonNode node) {
        String at = "/targets";
        if (node.isNull() || node.isArray() && node.isEmpty()) {
            problems.add(at, "no_targets", "omit \"targets\" to publish to everyone");
            return List.of();
        }
        if (!node.isArray()) {
            problems.add(at, "wrong_type", "expected an array of targets");
            return List.of();
        }
        if (node.size() > MAX_TARGETS) problems.add(at, "too_many_targets", "at most " + MAX_TARGETS);
        List<Entry.Target> all = new ArrayList<>(node.size());
        Map<List<String>, Integer> seen = node.size() > 8 ? new HashMap<>() : null;
        for (int index = 0; index < Math.min(node.size(), MAX_TARGETS); index++) {
            Entry.Target target = target(node.get(index), at + "/" + index);
            if (target == null || target.identity() != null && target.identity().id() == null) continue;
            int same = seen == null ? indexOfAudience(all, target) : seen.getOrDefault(target.audience(), -1);
            if (same < 0) {
                if (seen != null) seen.put(target.audience(), all.size());
                all.add(target);
            } else if (target.isNotified()) {
                all.set(same, all.get(same).notified());
            }
        }
        return all;
    }

    private static int indexOfAudience(List<Entry.Target> all, Entry.Target target) {
        for (int index = 0; index < all.size(); index++) {
            if (all.get(index).isSameAudience(target)) return index;
        }
        return -1;
    }

    private Entry.Target target(JsonNode node, String at) {
        boolean isIdentity = (node.has("id") || node.has("Id")) && !node.has("@type") && !node.has("targetId") && !node.has("notify");
        if (node.isTextual() || isIdentity) return new Entry.Target("Identity", identity(node, at), null, false);
        if (!(node instanceof ObjectNode)) {
            problems.add(at, "wrong_type", "expected an identity or a target");
            return null;
        }
        Field type = new Field(), targetId = new Field(), notify = new Field(), name = new Field();
        for (Map.Entry<String, JsonNode> property : node.properties()) {
            JsonNode value = property.getValue();
            switch (property.getKey()) {
                case "@type", "type" -> type.set(at, property.getKey(), value);
                case "targetId" -> targetId.set(at, property.getKey(), value);
                case "notify" -> notify.set(at, property.getKey(), value);
                case "name" -> name.set(at, property.getKey(), value);
                default -> problems.add(Problems.at(at, property.getKey()), "unknown_property", "a target has no such property");
            }
        }
        boolean notifies = false;
        if (!notify.isAbsent()) {
            notifies = notify.value.booleanValue();
            if (!notify.value.isBoolean()) problems.add(notify.at, "wrong_type", "expected true or false, found " + notify.value);
        }
        if (type.isAbsent() && targetId.isAbsent()) {
            problems.add(at, "missing", "expected \"@type\" or \"targetId\"");
            return null;
        }
        String kind = type.isAbsent() ? "Identity" : word(type, TARGET_TYPES);
        if (kind == null || !TARGET_TYPES.contains(kind)) return null;
        Entry.Identity identity = null;
        String channel = null;
        switch (kind) {
            case "Identity" -> {
                if (targetId.isAbsent()) problems.add(at + "/targetId", "missing", "it is required");
                else identity = identity(targetId.value, targetId.at);
            }
            case "Members" -> channel = targetId.text();
            default -> {
                if (!targetId.isAbsent()) problems.add(targetId.at, "unexpected_target_id", "a target of type " + kind + " has none");
            }
        }
        if (!name.isAbsent()) identity = named(identity, kind, targetId, name);
        return new Entry.Target(kind, identity, channel, notifies);
    }

    /** The identity with the name that stands beside its id, which is a string. */
    private Entry.Identity named(Entry.Identity identity, String kind, Field targetId, Field name) {
        if (kind.equals("Identity") && (targetId.isAbsent() || targetId.value.isTextual())) {
            String given = text(name.value, name.at, true, false);
            return identity == null ? null : new Entry.Identity(identity.id(), null, given, null);
        }
        boolean isSecond = identity != null && identity.name() != null;
        problems.add(name.at, isSecond ? "duplicate_property" : "unknown_property", "only an identity that is a string has a name beside it");
        return identity;
    }

    private List<Entry.Attachment> attachments(JsonNode node, String at) {
        if (!node.isArray()) {
            problems.add(at, "wrong_type", "expected an array of attachments");
            return List.of();
        }
        if (node.size() > MAX_ATTACHMENTS) problems.add(at, "too_many_attachments", "at most " + MAX_ATTACHMENTS);
        List<Entry.Attachment> all = new ArrayList<>(node.size());
        for (int index = 0; index < Math.min(node.size(), MAX_ATTACHMENTS); index++) all.add(attachment(node.get(index), at + "/" + index));
        return all;
    }

    private Entry.Attachment attachment(JsonNode node, String at) {
        if (node.isTextual()) return new Entry.Attachment("file", text(node, at, true), List.of());
        if (!(node instanceof ObjectNode)) {
            problems.add(at, "wrong_type", "expected a file's id or an attachment");
            return null;
        }
        Field type = new Field(), id = new Field();
        List<Map.Entry<String, JsonNode>> free = new ArrayList<>();
        for (Map.Entry<String, JsonNode> property : node.properties()) {
            switch (property.getKey()) {
                case "@type" -> type.set(at, "@type", property.getValue());
                case "id" -> id.set(at, "id", property.getValue());
                default -> free.add(property);
            }
        }
        return new Entry.Attachment(type.isAbsent() ? "file" : word(type, ATTACHMENT_TYPES), id.required(at, "id"), free);
    }

    private static boolean isForeignAudience(String name, JsonNode value) {
        if (name.length() < 2 || name.length() > 10) return false;
        String lower = name.toLowerCase(Locale.ROOT);
        return FOREIGN_AUDIENCES.contains(lower) || lower.equals("to") && value.isContainerNode();
    }

    /** In another case, or with one letter added, left out or changed, or two swapped. */
    private static boolean isAlmostTargets(String name) {
        if (name.length() < 6 || name.length() > 8) return false;
        String given = name.toLowerCase(Locale.ROOT), wanted = "targets";
        int same = 0;
        while (same < given.length() && same < wanted.length() && given.charAt(same) == wanted.charAt(same)) same++;
        String a = given.substring(same), b = wanted.substring(same);
        if (a.length() < b.length()) return a.equals(b.substring(1));
        if (a.length() > b.length()) return b.equals(a.substring(1));
        if (a.isEmpty() || a.substring(1).equals(b.substring(1))) return true;
        return a.charAt(0) == b.charAt(1) && a.charAt(1) == b.charAt(0) && a.substring(2).equals(b.substring(2));
    }
}
