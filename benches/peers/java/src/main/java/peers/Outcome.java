package peers;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.header.internals.RecordHeaders;

/** What becomes of a command: a row of the log, and records for the output topics. */
final class Outcome {
    record Output(boolean isRejection, byte[] key, byte[] value, Headers headers) {}

    private static final Header SPEC_VERSION = header("ce_specversion", "1.0"), SOURCE = header("ce_source", "activity-stream");
    private static final Header TYPE = header("ce_type", "activity-stream.notification"), JSON = header("content-type", "application/json");
    private static final Header STAGE = header("__connect.errors.stage", "decide");
    private static final String[] TRACE = {"traceparent", "tracestate"};
    private static final int MAX_TRACE = 4096;

    final EventLog.Row row;
    final List<Output> outputs;

    Outcome(Decider decider, String topic, int partition, long offset, long timestamp, byte[] key, byte[] value, Headers headers) {
        Decider.Decision decision = decider.decide(value, timestamp, partition, offset);
        if (decision.problems() == null) {
            row = new EventLog.Row(partition, offset, timestamp, decision.objectType(), decision.objectId(), decision.json(), null);
            outputs = new ArrayList<>(decision.notifications().size());
            Header time = header("ce_time", decision.time()), subject = header("ce_subject", decision.objectType() + "/" + decision.objectId());
            for (Decider.Notification notification : decision.notifications()) {
                Headers own = new RecordHeaders(new Header[] {SPEC_VERSION, new RecordHeader("ce_id", notification.id()), SOURCE, TYPE, time, subject, JSON});
                for (String name : TRACE) {
                    Header trace = headers.lastHeader(name);
                    if (trace != null && trace.value() != null && trace.value().length > 0 && trace.value().length <= MAX_TRACE) own.add(trace);
                }
                outputs.add(new Output(false, notification.key(), notification.value(), own));
            }
        } else {
            byte[] problems = decider.json(decision.problems());
            row = new EventLog.Row(partition, offset, timestamp, null, null, null, problems);
            Headers own = new RecordHeaders(headers);
            own.add(header("__connect.errors.topic", topic));
            own.add(header("__connect.errors.partition", Integer.toString(partition)));
            own.add(header("__connect.errors.offset", Long.toString(offset)));
            own.add(STAGE);
            own.add(header("__connect.errors.exception.class.name", decision.problems().get(0).code()));
            own.add(new RecordHeader("__connect.errors.exception.message", problems));
            outputs = List.of(new Output(true, key, value, own));
        }
    }

    private static Header header(String name, String value) { return new RecordHeader(name, value.getBytes(StandardCharsets.UTF_8)); }
}
