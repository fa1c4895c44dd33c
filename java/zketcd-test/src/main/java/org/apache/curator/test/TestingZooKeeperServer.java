package org.apache.curator.test;

import java.io.Closeable;
import java.io.IOException;
import java.util.Collection;
import zketcd.test.Ensemble;
import zketcd.test.Member;

/**
 * Stands in for curator-test's class of this name, which runs ZooKeeper in the JVM: this one runs zketcd beside it.
 *
 * <p>curator-test's {@link TestingServer} and {@link TestingCluster} leave all that concerns the server to this class,
 * and stay as they are. So it must come first on the class path; the README says how to see to that.
 */
public class TestingZooKeeperServer implements Closeable {
    private enum State {
        LATENT,
        STARTED,
        STOPPED,
        CLOSED
    }

    private final QuorumConfigBuilder config;
    private final InstanceSpec spec;
    private final Member member;
    private State state = State.LATENT;

    /** The first (mostly: the only) server of {@code config}. */
    public TestingZooKeeperServer(QuorumConfigBuilder config) {
        this(config, 0);
    }

    /** One of the servers of {@code config}; those of the same instances, in the same JVM, are one ensemble. */
    public TestingZooKeeperServer(QuorumConfigBuilder config, int index) {
        this.config = config;
        spec = config.getInstanceSpec(index);
        member = Ensemble.of(config.getInstanceSpecs()).member(index);
    }

    public Collection<InstanceSpec> getInstanceSpecs() {
        return config.getInstanceSpecs();
    }

    public InstanceSpec getInstanceSpec() {
        return spec;
    }

    /** The port, also where the specification leaves the choice of it (0) to the server's first start. */
    public int getLocalPort() {
        return member.port();
    }

    /** Starts the server where it has not been started yet, and returns when clients are served. */
    public synchronized void start() throws Exception {
        if (state == State.LATENT) {
            member.start();
            state = State.STARTED;
        }
    }

    /** Ends the server in good order. Its data stays, and with it the sessions, until they time out. */
    public synchronized void stop() throws IOException {
        if (state == State.STARTED) {
            member.stop();
            state = State.STOPPED;
        }
    }

    /** Ends the server as a crash does (SIGKILL). */
    public synchronized void kill() {
        member.kill();
        state = State.STOPPED;
    }

    /** Stops the server where it runs, and starts it: same port, same data. */
    public synchronized void restart() throws Exception {
        if (state == State.CLOSED) {
            throw new IllegalStateException("Cannot restart a closed instance");
        }
        stop();
        state = State.LATENT;
        start();
    }

    /** Stops the server for good, and deletes its data directory where the specification says so. */
    @Override
    public synchronized void close() throws IOException {
        stop();
        if (state == State.STOPPED) {
            state = State.CLOSED;
            config.close();
            if (spec.deleteDataDirectoryOnClose()) {
                DirectoryUtils.deleteRecursively(spec.getDataDirectory());
            }
        }
    }
}
