package peers;

import java.util.ArrayList;
import java.util.List;

/** What is wrong with a command, as far as it is known. */
final class Problems {
    private static final int MAX = 100;

    record Problem(String pointer, String code, String message) {}

    private List<Problem> all = new ArrayList<>();

    void clear() {
        // The list may have been passed on.
        if (!all.isEmpty()) all = new ArrayList<>();
    }

    boolean isEmpty() { return all.isEmpty(); }

    List<Problem> list() { return all; }

    void add(String pointer, String code, String message) {
        if (all.size() < MAX) all.add(new Problem(pointer, code, message));
        else if (all.size() == MAX) all.add(new Problem("", "too_many_problems", "more than " + MAX));
    }

    static String at(String parent, String name) {
        if (name.indexOf('~') >= 0 || name.indexOf('/') >= 0) name = name.replace("~", "~0").replace("/", "~1");
        return parent + "/" + name;
    }
}
