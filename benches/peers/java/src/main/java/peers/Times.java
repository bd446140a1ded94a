package peers;

import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;

/** Timestamps in UTC, with milliseconds. Neighbours share their second, which is formatted once. */
final class Times {
    private static final DateTimeFormatter SECOND = DateTimeFormatter.ofPattern("uuuu-MM-dd'T'HH:mm:ss.").withZone(ZoneOffset.UTC);

    private long second = Long.MIN_VALUE;
    private String formatted;

    String utc(long timestamp) {
        if (timestamp / 1000 != second) {
            second = timestamp / 1000;
            formatted = SECOND.format(Instant.ofEpochSecond(second));
        }
        int millis = (int) (timestamp % 1000);
        return formatted + (char) ('0' + millis / 100) + (char) ('0' + millis / 10 % 10) + (char) ('0' + millis % 10) + 'Z';
    }
}
