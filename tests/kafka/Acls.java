import java.io.*;
import java.util.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.common.acl.*;
import org.apache.kafka.common.resource.*;
import org.apache.kafka.common.utils.SecurityUtils;

/** Grants what standard input says, a line each: user, operation, resource type, pattern type, name. */
public class Acls {
    public static void main(String[] arguments) throws Exception {
        List<AclBinding> bindings = new ArrayList<>();
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
        for (String line; (line = input.readLine()) != null; ) {
            String[] words = line.split(" ");
            ResourceType type = ResourceType.fromString(words[2]);
            PatternType pattern = PatternType.fromString(words[3].toUpperCase());
            AclOperation operation = SecurityUtils.operation(words[1]);
            bindings.add(new AclBinding(
                new ResourcePattern(type, words[4], pattern),
                new AccessControlEntry("User:" + words[0], "*", operation, AclPermissionType.ALLOW)));
        }
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", arguments[0]))) {
            admin.createAcls(bindings).all().get();
        }
    }
}
