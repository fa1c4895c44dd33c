package zketcd.test;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.net.BindException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import org.apache.curator.test.FailedServerStartException;
import org.apache.curator.test.InstanceSpec;

/** A zketcd process. */
final class Server implements Member {
    /** A start takes a fraction of a second; a machine under load, or an etcd that elects a leader, takes its time. */
    private static final int START_SECONDS = 60;

    /** Between two looks whether it serves: short beside the start. */
    private static final int POLL_MS = 5;

    /** zketcd itself gives its clients 10 s and its lease 5 s when it ends. */
    private static final int STOP_SECONDS = 20;

    /** How much of the log an error quotes. */
    private static final int QUOTED_LINES = 5;

    /** Those that run: they end with the JVM. */
    private static final Set<Process> RUNNING = ConcurrentHashMap.newKeySet();

    static {
        Runtime.getRuntime().addShutdownHook(new Thread(() -> RUNNING.forEach(Process::destroyForcibly)));
    }

    private final InstanceSpec spec;
    private final File data;
    private final String host;
    private int port;
    private Process process;

    /**
     * @param port 0: to be chosen at the first start
     * @param data see {@link Settings#command}
     */
    Server(InstanceSpec spec, File data, String host, int port) {
        this.spec = spec;
        this.data = data;
        this.host = host;
        this.port = port;
    }

    @Override
    public synchronized int port() {
        if (port == 0) {
            throw new IllegalStateException("server is configured to bind to port 0 but not started");
        }
        return port;
    }

    @Override
    public synchronized void start() throws Exception {
        if (process != null && process.isAlive()) {
            return;
        }
        port = reserve();
        Files.createDirectories(data.toPath());
        List<String> command = Settings.command(spec, data, host, port);
        File log = Settings.log(data);
        process = new ProcessBuilder(command)
                .redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.appendTo(log))
                .start();
        process.getOutputStream().close();
        RUNNING.add(process);
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(START_SECONDS);
        while (!serves()) {
            boolean over = process.waitFor(POLL_MS, TimeUnit.MILLISECONDS);
            if (over || System.nanoTime() > end) {
                kill();
                String why = over ? "zketcd has ended" : "zketcd does not serve within " + START_SECONDS + " s";
                throw new FailedServerStartException(why + ": " + String.join(" ", command) + "\n" + lastLines(log));
            }
        }
    }

    @Override
    public synchronized void stop() {
        if (process == null) {
            return;
        }
        process.destroy();
        try {
            process.waitFor(STOP_SECONDS, TimeUnit.SECONDS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        kill();
    }

    @Override
    public synchronized void kill() {
        if (process == null) {
            return;
        }
        process.destroyForcibly();
        boolean interrupted = Thread.interrupted();
        while (process.isAlive()) {
            try {
                process.waitFor();
            } catch (InterruptedException e) {
                interrupted = true;
            }
        }
        RUNNING.remove(process);
        process = null;
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    /** The port, or a free one for 0. Where it is taken, the other's answers must not be mistaken for this server's. */
    private int reserve() {
        try (ServerSocket socket = new ServerSocket()) {
            socket.setReuseAddress(true);
            socket.bind(new InetSocketAddress(InetAddress.getByName(host), port));
            return socket.getLocalPort();
        } catch (IOException e) {
            throw new FailedServerStartException(
                    new BindException("cannot listen on " + host + ":" + port + ": " + e.getMessage()));
        }
    }

    /** Whether srvr is answered: a server does so from when it takes sessions. */
    private boolean serves() {
        try (Socket socket = new Socket()) {
            InetAddress address = InetAddress.getByName(host);
            InetAddress reached = address.isAnyLocalAddress() ? InetAddress.getLoopbackAddress() : address;
            int patience = (int) TimeUnit.SECONDS.toMillis(START_SECONDS);
            socket.connect(new InetSocketAddress(reached, port), patience);
            socket.setSoTimeout(patience);
            socket.getOutputStream().write("srvr".getBytes(StandardCharsets.US_ASCII));
            InputStream in = socket.getInputStream();
            byte[] expected = "Zookeeper version".getBytes(StandardCharsets.US_ASCII);
            for (byte b : expected) {
                if (in.read() != b) {
                    return false;
                }
            }
            return true;
        } catch (IOException e) {
            return false;
        }
    }

    private static String lastLines(File log) throws IOException {
        List<String> lines = Files.readAllLines(log.toPath());
        return String.join("\n", lines.subList(Math.max(0, lines.size() - QUOTED_LINES), lines.size()));
    }
}
