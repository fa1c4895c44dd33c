package zketcd.test;

import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import org.apache.curator.test.FailedServerStartException;
import org.apache.curator.test.InstanceSpec;
import org.apache.curator.test.compatibility.Timing2;

/** Which binary runs, and with which flags: what ZooKeeper would read from its configuration, told to zketcd. */
final class Settings {
    /** zketcd's own lower limit of session timeouts. */
    private static final int SHORTEST_SESSION_MS = 1000;

    private Settings() {}

    /** The binary, from -Dzketcd.bin, ZKETCD_BIN or the PATH. */
    static String binary() {
        String told = option("zketcd.bin", "ZKETCD_BIN");
        if (told != null) {
            if (!new File(told).canExecute()) {
                throw new FailedServerStartException("zketcd.bin (ZKETCD_BIN) is " + told + ", which is no program");
            }
            return told;
        }
        for (String directory : String.valueOf(System.getenv("PATH")).split(File.pathSeparator)) {
            File file = new File(directory, "zketcd");
            if (file.isFile() && file.canExecute()) {
                return file.getPath();
            }
        }
        throw new FailedServerStartException(
                "no zketcd found: name the binary by -Dzketcd.bin=… or ZKETCD_BIN=…, or put it on the PATH");
    }

    /** etcd's client URLs where everything is to be kept in etcd, from -Dzketcd.etcd.endpoints or ZKETCD_ETCD_ENDPOINTS. */
    static String etcd() {
        return option("zketcd.etcd.endpoints", "ZKETCD_ETCD_ENDPOINTS");
    }

    /** Where the server's log goes: the file at -Dzketcd.log or ZKETCD_LOG is added to, else it is with the data. */
    static File log(File data) {
        String told = option("zketcd.log", "ZKETCD_LOG");
        return told == null ? new File(data, "zketcd.log") : new File(told);
    }

    /**
     * The command line of a server.
     *
     * @param spec tick time, limits and custom properties
     * @param data where the embedded store is, or what tells which keys in etcd are its own
     */
    static List<String> command(InstanceSpec spec, File data, String host, int port) throws IOException {
        int tick = spec.getTickTime() > 0 ? spec.getTickTime() : new Timing2().tickTime();
        // the lower one as curator-test has it, the upper one as ZooKeeper
        int shortest = Math.max(SHORTEST_SESSION_MS, number(spec, "minSessionTimeout", tick));
        int longest = Math.max(shortest, number(spec, "maxSessionTimeout", 20 * tick));

        List<String> command = new ArrayList<>();
        command.add(binary());
        command.add("serve");
        add(command, "--listen", (host.contains(":") ? "[" + host + "]" : host) + ":" + port);
        add(command, "--admin-listen", "none");
        add(command, "--four-letter-words", "*");
        add(command, "--min-session-timeout", shortest + "ms");
        add(command, "--max-session-timeout", longest + "ms");
        if (etcd() == null) {
            add(command, "--store", "embedded");
            add(command, "--data-dir", new File(data, "zketcd").getPath());
        } else {
            add(command, "--store", "etcd");
            add(command, "--etcd-endpoints", etcd());
            add(command, "--prefix", prefix(data));
        }
        int connections = number(spec, "maxClientCnxns", spec.getMaxClientCnxns());
        if (connections >= 0) {
            add(command, "--max-client-connections", "" + connections);
        }
        // what configures a ZooKeeper in the same JVM by system properties
        addProperty(command, "--super-digest", "zookeeper.DigestAuthenticationProvider.superDigest", "");
        addProperty(command, "--container-check-interval", "znode.container.checkIntervalMs", "ms");
        addProperty(command, "--jute-max-buffer", "jute.maxbuffer", "");
        return command;
    }

    private static void add(List<String> command, String flag, String value) {
        command.add(flag);
        command.add(value);
    }

    private static void addProperty(List<String> command, String flag, String property, String unit) {
        String value = System.getProperty(property);
        if (value != null) {
            add(command, flag, value + unit);
        }
    }

    private static int number(InstanceSpec spec, String property, int otherwise) {
        Object value = spec.getCustomProperties().get(property);
        return value == null ? otherwise : Integer.parseInt(value.toString());
    }

    /** Drawn when a data directory is first used and kept there: with the directory go the keys' prefix and the data. */
    private static String prefix(File data) throws IOException {
        Path file = data.toPath().resolve("zketcd.prefix");
        if (!Files.exists(file)) {
            Files.write(file, ("/zketcd-test/" + UUID.randomUUID()).getBytes(StandardCharsets.UTF_8));
        }
        return new String(Files.readAllBytes(file), StandardCharsets.UTF_8);
    }

    private static String option(String property, String variable) {
        String value = System.getProperty(property, System.getenv(variable));
        return value == null || value.isEmpty() ? null : value;
    }
}
