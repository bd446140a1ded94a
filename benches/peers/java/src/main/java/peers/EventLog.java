package peers;

import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Events, rejections and the next offset of each partition, in SQLite. A batch is one transaction. */
final class EventLog implements AutoCloseable {
    private static final String[] SCHEMA = {
        "PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA cache_size = -16384", "PRAGMA wal_autocheckpoint = 16000",
        "CREATE TABLE IF NOT EXISTS events (position INTEGER PRIMARY KEY, partition INTEGER NOT NULL, offset INTEGER NOT NULL, timestamp INTEGER NOT NULL, object_type TEXT NOT NULL, object_id TEXT NOT NULL, json TEXT NOT NULL)",
        "CREATE TABLE IF NOT EXISTS rejections (partition INTEGER NOT NULL, offset INTEGER NOT NULL, timestamp INTEGER NOT NULL, problems TEXT NOT NULL, PRIMARY KEY (partition, offset)) WITHOUT ROWID",
        "CREATE TABLE IF NOT EXISTS cursors (partition INTEGER PRIMARY KEY, next INTEGER NOT NULL)",
    };

    /** {@code problems} is null where the command was accepted, {@code json} where it was not. */
    record Row(int partition, long offset, long timestamp, String objectType, String objectId, byte[] json, byte[] problems) {}

    private final Connection connection;
    private final PreparedStatement event, rejection, cursor;
    private final Map<Integer, Long> next = new HashMap<>();

    EventLog(String file) throws SQLException {
        connection = DriverManager.getConnection("jdbc:sqlite:" + file);
        try (Statement statement = connection.createStatement()) {
            for (String sql : SCHEMA) statement.execute(sql);
            try (ResultSet rows = statement.executeQuery("SELECT partition, next FROM cursors")) {
                while (rows.next()) next.put(rows.getInt(1), rows.getLong(2));
            }
        }
        connection.setAutoCommit(false);
        event = connection.prepareStatement("INSERT INTO events (partition, offset, timestamp, object_type, object_id, json) VALUES (?, ?, ?, ?, ?, ?)");
        rejection = connection.prepareStatement("INSERT INTO rejections VALUES (?, ?, ?, ?)");
        cursor = connection.prepareStatement("INSERT INTO cursors VALUES (?, ?) ON CONFLICT (partition) DO UPDATE SET next = excluded.next");
    }

    /** After a crash between this and the Kafka transaction, the same commands come again: they are in the log already. */
    synchronized void append(List<Row> rows) throws SQLException {
        for (Row row : rows) {
            if (row.offset < next.getOrDefault(row.partition, 0L)) continue;
            next.put(row.partition, row.offset + 1);
            PreparedStatement into = row.problems == null ? event : rejection;
            into.setInt(1, row.partition);
            into.setLong(2, row.offset);
            into.setLong(3, row.timestamp);
            if (row.problems == null) {
                into.setString(4, row.objectType);
                into.setString(5, row.objectId);
                into.setString(6, text(row.json));
            } else {
                into.setString(4, text(row.problems));
            }
            into.addBatch();
        }
        for (Map.Entry<Integer, Long> partition : next.entrySet()) {
            cursor.setInt(1, partition.getKey());
            cursor.setLong(2, partition.getValue());
            cursor.addBatch();
        }
        for (PreparedStatement each : List.of(event, rejection, cursor)) each.executeBatch();
        connection.commit();
    }

    private static String text(byte[] utf8) { return new String(utf8, StandardCharsets.UTF_8); }

    @Override public void close() throws SQLException { connection.close(); }
}
