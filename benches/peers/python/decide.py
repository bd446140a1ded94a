"""Decides on one command: orjson in, orjson out.

Gives up: idempotency keys, CloudEvents, replies, limits of problems' and output's bytes, leap seconds, the bytes of free
properties (their values are kept), repeated names (the last one counts), and halves of surrogate pairs (not JSON to orjson).
"""

import re
from datetime import datetime, timezone

import orjson

MAX_VALUE, MAX_TEXT, MAX_TARGETS, MAX_ATTACHMENTS, MAX_NESTING, MAX_PROBLEMS = 512 << 10, 512, 1000, 100, 64, 100
ENTRY_FIELDS = {
    "@type": "@type", "type": "@type", "actor": "actor", "objectType": "objectType", "objectId": "objectId",
    "publishedAt": "publishedAt", "published": "publishedAt", "targets": "targets", "attachments": "attachments",
    "attachment": "attachments", "content": "content",
}  # fmt: skip
IDENTITY_FIELDS = {name: name.lower() for name in ("id", "Id", "domain", "Domain", "name", "Name", "type", "Type")}
TARGET_FIELDS = {"@type": "@type", "type": "@type", "targetId": "targetId", "notify": "notify", "name": "name"}
IDENTITY_TYPES = {"User", "OrganizationUnit", "Position", "Group"}
TARGET_TYPES = {"Identity", "Everyone", "Members", "Public"}
ATTACHMENT_TYPES = {"file", "link", "video"}
FOREIGN_AUDIENCES = {"cc", "bto", "bcc", "audience", "audiences", "recipient", "recipients", "notify"}
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)").fullmatch
FRACTION = re.compile(r"\.\d+")
has_control = re.compile("[\x00-\x1f\x7f-\x9f]").search
has_separator = re.compile("[/:%]").search


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 & -(crc & 1))
    return crc ^ 0xFFFFFFFF


def pointer(parent, name):
    return f"{parent}/{name.replace('~', '~0').replace('/', '~1')}"


class Problems(list):
    def add(self, at, code, message):
        if len(self) < MAX_PROBLEMS:
            self.append((at, code, message))
        elif len(self) == MAX_PROBLEMS:
            self.append(("", "too_many_problems", f"more than {MAX_PROBLEMS}"))


def fields(value, known, at, problems, unknown):
    """The fields by their names in the normal form, with the names that they have here; `unknown` gets the others."""
    found = {}
    for name, v in value.items():
        field = known.get(name)
        if field is None:
            unknown(name, v)
        elif field in found:
            problems.add(pointer(at, name), "duplicate_property", "two names of the same field")
        else:
            found[field] = name, v
    return found


def text(value, at, problems, may_be_empty=False):
    """A string that is bound by the rules of ids and names."""
    if type(value) is not str:
        problems.add(at, "wrong_type", f"expected a string, found {value!r:.100}")
        return None
    if not value and not may_be_empty:
        problems.add(at, "empty", "expected at least one character")
    if len(value) > MAX_TEXT:
        problems.add(at, "too_long", f"at most {MAX_TEXT} characters")
    if has_control(value):
        problems.add(at, "control_character", "no control characters")
    return value


def word(value, known, at, problems):
    if type(value) is not str:
        problems.add(at, "wrong_type", "expected a string")
    elif value not in known:
        problems.add(at, "unknown_value", f"expected one of {sorted(known)}")
    return value


def identity(value, at, problems):
    if type(value) is str:
        return {"id": text(value, at, problems)}
    if type(value) is not dict:
        problems.add(at, "wrong_type", "expected a string or an identity")
        return None

    def unknown(name, _):
        problems.add(pointer(at, name), "unknown_property", "an identity has no such property")

    found = fields(value, IDENTITY_FIELDS, at, problems, unknown)
    made = {}
    for field in ("id", "domain", "name", "type"):
        name, v = found.get(field, (field, None))
        if v is None:
            if field == "id":
                problems.add(f"{at}/id", "missing", "it is required")
        elif field == "type":
            made[field] = word(v, IDENTITY_TYPES, pointer(at, name), problems)
        else:
            made[field] = text(v, pointer(at, name), problems, may_be_empty=field == "name")
    return made


def target(value, at, problems):
    """Its type, its targetId in normal form, whether it notifies, and what makes two audiences the same."""
    is_object = type(value) is dict
    if type(value) is str or is_object and ("id" in value or "Id" in value) and not ("@type" in value or "targetId" in value or "notify" in value):
        who = identity(value, at, problems)
        return "Identity", who, False, ("Identity", who.get("id"), who.get("domain"))
    if not is_object:
        problems.add(at, "wrong_type", "expected an identity or a target")
        return None

    def unknown(name, _):
        problems.add(pointer(at, name), "unknown_property", "a target has no such property")

    found = fields(value, TARGET_FIELDS, at, problems, unknown)
    notify = found.get("notify", (None, None))[1]
    if notify is None:
        notify = False
    elif type(notify) is not bool:
        problems.add(f"{at}/notify", "wrong_type", f"expected true or false, found {notify!r:.100}")
    type_name, kind = found.get("@type", (None, None))
    who = found.get("targetId", (None, None))[1]
    if kind is None and who is None:
        problems.add(at, "missing", 'expected "@type" or "targetId"')
        return None
    if kind is None:
        kind = "Identity"
    elif word(kind, TARGET_TYPES, f"{at}/{type_name}", problems) not in TARGET_TYPES:
        return None
    made, audience = None, (kind,)
    is_name_allowed = kind == "Identity" and (who is None or type(who) is str)
    if kind == "Identity":
        if who is None:
            problems.add(f"{at}/targetId", "missing", "it is required")
        else:
            made = identity(who, f"{at}/targetId", problems)
            audience = made and (kind, made.get("id"), made.get("domain"))
    elif kind == "Members":
        made = who if who is None else text(who, f"{at}/targetId", problems)
        audience = kind, made
    elif who is not None:
        problems.add(f"{at}/targetId", "unexpected_target_id", f"a target of type {kind} has none")
    name = found.get("name", (None, None))[1]
    if name is not None:
        if is_name_allowed:
            name = text(name, f"{at}/name", problems, may_be_empty=True)
            if made is not None:
                made["name"] = name
        else:
            is_second = kind == "Identity" and made is not None and "name" in made
            problems.add(f"{at}/name", "duplicate_property" if is_second else "unknown_property", "only an identity that is a string has a name beside it")
    return kind, made, notify, audience


def targets(given, problems):
    if given is None or given == []:
        problems.add("/targets", "no_targets", "omit targets to publish to everyone")
        return []
    if type(given) is not list:
        problems.add("/targets", "wrong_type", "expected an array of targets")
        return []
    if len(given) > MAX_TARGETS:
        problems.add("/targets", "too_many_targets", f"at most {MAX_TARGETS}")
    first = {}
    for index, value in enumerate(given[:MAX_TARGETS]):
        made = target(value, f"/targets/{index}", problems)
        if made is None:
            continue
        kind, who, notify, audience = made
        known = first.setdefault(audience, made)
        if notify and not known[2]:
            first[audience] = *known[:2], True, audience
    return list(first.values())


def attachment(value, at, problems):
    if type(value) is str:
        return {"@type": "file", "id": text(value, at, problems)}
    if type(value) is not dict:
        problems.add(at, "wrong_type", "expected a file's id or an attachment")
        return None
    kind, own_id = value.get("@type"), value.get("id")
    if kind is None:
        kind = "file"
    else:
        word(kind, ATTACHMENT_TYPES, f"{at}/@type", problems)
    if own_id is None:
        problems.add(f"{at}/id", "missing", "it is required")
    else:
        text(own_id, f"{at}/id", problems)
    return {"@type": kind, "id": own_id} | {name: v for name, v in value.items() if name not in ("@type", "id")}


def attachments(given, at, problems):
    if type(given) is not list:
        problems.add(at, "wrong_type", "expected an array of attachments")
        return []
    if len(given) > MAX_ATTACHMENTS:
        problems.add(at, "too_many_attachments", f"at most {MAX_ATTACHMENTS}")
    return [attachment(value, f"{at}/{index}", problems) for index, value in enumerate(given[:MAX_ATTACHMENTS])]


def is_date_time(value):
    if not RFC_3339(value):
        return False
    try:
        # Not all versions read as many digits.
        datetime.fromisoformat(FRACTION.sub("", value.upper()))
    except ValueError:
        return False
    return True


def is_almost_targets(name):
    """In another case, or with one letter added, left out or changed, or two swapped."""
    if not 6 <= len(name) <= 8:
        return False
    a, b = name.lower(), "targets"
    while a and b and a[0] == b[0]:
        a, b = a[1:], b[1:]
    return a[1:] == b[1:] or a == b[1:] or a[1:] == b or (a[:2] == b[1::-1] and a[2:] == b[2:])


def is_foreign_audience(name, value):
    name = name.lower()
    return name in FOREIGN_AUDIENCES or name == "to" and type(value) in (dict, list)


def depth(value):
    if type(value) is dict:
        value = value.values()
    elif type(value) is not list:
        return 0
    return 1 + max(map(depth, value), default=0)


def encoded(part):
    return part.replace("%", "%25").replace("/", "%2F").replace(":", "%3A") if has_separator(part) else part


def key(kind, who, entry):
    if kind == "Identity":
        domain = who.get("domain")
        return f"Identity:{encoded(who['id'])}" if domain is None else f"Identity:{encoded(domain)}/{encoded(who['id'])}"
    if kind == "Members":
        return f"Members:object:{encoded(entry['objectType'])}/{encoded(entry['objectId'])}" if who is None else f"Members:channel:{encoded(who)}"
    return kind


class Decider:
    def __init__(self, topic):
        self.topic_bits = crc32c(topic.encode()) & 0xFFF
        self.second = self.prefix = None

    def decide(self, value, timestamp, partition, offset):
        """Problems and None, or None and the event: (id, time, objectType, objectId, json, notifications)."""
        problems = Problems()
        entry = self.load(value, problems)
        if entry is None:
            return problems, None
        time = self.utc(timestamp)
        normal, audience = self.read(entry, time, problems)
        if problems:
            return problems, None
        high, low = timestamp << 16 | 0x8000 | self.topic_bits, 1 << 63 | partition << 48 | offset
        digits = f"{high << 64 | low:032x}"
        activity = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
        json = orjson.dumps(normal)
        notifications = []
        if any(notify for _, _, notify, _ in audience):
            del normal["targets"]
            less = orjson.dumps(normal)
            for index, (kind, who, notify, _) in enumerate(audience):
                if notify:
                    own_id = f"{activity}/{index}"
                    notified = orjson.dumps({"@type": kind} if who is None else {"@type": kind, "targetId": who})
                    value = b'{"id":"%b","activityId":"%b","target":%b,"activity":%b}' % (own_id.encode(), activity.encode(), notified, less)
                    notifications.append((own_id, key(kind, who, normal), value))
        return None, (activity, time, normal["objectType"], normal["objectId"], json, notifications)

    def load(self, value, problems):
        if value is None:
            problems.add("", "tombstone", "the record has no value")
            return None
        if len(value) > MAX_VALUE:
            problems.add("", "too_large", f"at most {MAX_VALUE} bytes")
            return None
        try:
            entry = orjson.loads(value)
        except orjson.JSONDecodeError as e:
            try:
                value.decode()
                problems.add("", "not_json", str(e))
            except UnicodeDecodeError as e:
                problems.add("", "not_utf8", str(e))
            return None
        # Counted first, since almost no command has more brackets than levels that are allowed.
        if value.count(b"{") + value.count(b"[") > MAX_NESTING and depth(entry) > MAX_NESTING:
            problems.add("", "too_deep", f"at most {MAX_NESTING} levels of nesting")
        if type(entry) is not dict:
            problems.add("", "not_an_object", "expected an object")
            return None
        return entry

    def read(self, entry, time, problems):
        """The normal form, and the targets."""
        free = {}

        def unknown(name, value):
            if is_almost_targets(name):
                problems.add(pointer("", name), "misspelt_targets", "did you mean targets?")
            elif is_foreign_audience(name, value):
                problems.add(pointer("", name), "foreign_audience", "put its audience in targets")
            free[name] = value

        found = fields(entry, ENTRY_FIELDS, "", problems, unknown)
        nothing = None, None
        name, verb = found.get("@type", nothing)
        normal = {"@type": "share" if verb is None else text(verb, f"/{name}", problems)}
        actor = found.get("actor", nothing)[1]
        if actor is not None:
            normal["actor"] = identity(actor, "/actor", problems)
        for field in ("objectType", "objectId"):
            value = found.get(field, nothing)[1]
            if value is None:
                problems.add(f"/{field}", "missing", "it is required")
            else:
                normal[field] = text(value, f"/{field}", problems)
        name, published = found.get("publishedAt", nothing)
        normal["publishedAt"] = time if published is None else published
        if published is not None:
            if type(published) is not str:
                problems.add(f"/{name}", "wrong_type", "expected a string")
            elif not is_date_time(published):
                problems.add(f"/{name}", "bad_date_time", f"expected a date-time with offset, found {published!r:.100}")
        audience = targets(found["targets"][1], problems) if "targets" in found else [("Everyone", None, False, None)]
        normal["targets"] = [{"@type": kind, "notify": notify} if who is None else {"@type": kind, "targetId": who, "notify": notify} for kind, who, notify, _ in audience]
        name, files = found.get("attachments", nothing)
        if files is not None:
            files = attachments(files, f"/{name}", problems)
            if files:
                normal["attachments"] = files
        content = found.get("content", nothing)[1]
        if content is not None:
            normal["content"] = content
            if type(content) is not str:
                problems.add("/content", "wrong_type", "expected a string")
        normal.update(free)
        return normal, audience

    def utc(self, timestamp):
        second, millisecond = divmod(timestamp, 1000)
        if second != self.second:
            self.second, self.prefix = second, datetime.fromtimestamp(second, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.")
        return f"{self.prefix}{millisecond:03}Z"
