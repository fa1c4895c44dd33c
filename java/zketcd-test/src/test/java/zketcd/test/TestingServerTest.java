package zketcd.test;

import static java.util.concurrent.TimeUnit.SECONDS;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.InputStream;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.Collections;
import java.util.Scanner;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryForever;
import org.apache.curator.test.FailedServerStartException;
import org.apache.curator.test.InstanceSpec;
import org.apache.curator.test.TestingCluster;
import org.apache.curator.test.TestingServer;
import org.apache.zookeeper.CreateMode;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** curator-test's own classes and real clients, on the binary that -Dzketcd.bin names. */
@Timeout(60)
class TestingServerTest {
    private static final byte[] DATA = {1, 2, 3};

    private CuratorFramework client;
    private final BlockingQueue<ConnectionState> states = new LinkedBlockingQueue<>();

    @AfterEach
    void closeClient() {
        if (client != null) {
            client.close();
        }
    }

    private CuratorFramework connect(String to) {
        client = CuratorFrameworkFactory.newClient(to, 15_000, 10_000, new RetryForever(50));
        client.getConnectionStateListenable().addListener((from, state) -> states.add(state));
        client.start();
        return client;
    }

    private void awaitState(ConnectionState wanted) throws InterruptedException {
        for (ConnectionState state = null; state != wanted; ) {
            state = states.poll(30, SECONDS);
            assertNotNull(state, "never " + wanted);
        }
    }

    @Test
    void itIsZketcd() throws Exception {
        try (TestingServer server = new TestingServer()) {
            assertTrue(fourLetters(server, "conf").contains("zketcd"), "ZooKeeper answered");
        }
    }

    @Test
    void aClientWorks() throws Exception {
        try (TestingServer server = new TestingServer()) {
            connect(server.getConnectString()).create().creatingParentsIfNeeded().forPath("/a/b", DATA);
            assertArrayEquals(DATA, client.getData().forPath("/a/b"));
            assertEquals(Collections.singletonList("b"), client.getChildren().forPath("/a"));
        }
    }

    @Test
    void locksAndElectionsWork() throws Exception {
        try (TestingServer server = new TestingServer()) {
            connect(server.getConnectString());
            InterProcessMutex lock = new InterProcessMutex(client, "/lock");
            lock.acquire();
            InterProcessMutex other = new InterProcessMutex(client, "/lock");
            assertFalse(takenElsewhere(other, 1), "two held the lock");
            lock.release();
            assertTrue(takenElsewhere(other, 30), "nobody held the lock, and it was not to be had");

            LeaderLatch first = new LeaderLatch(client, "/leader");
            LeaderLatch second = new LeaderLatch(client, "/leader");
            first.start();
            first.await();
            second.start();
            assertFalse(second.hasLeadership());
            first.close();
            second.await();
            second.close();
        }
    }

    /** A mutex is held by a thread: another one tries. */
    private static boolean takenElsewhere(InterProcessMutex lock, int seconds) throws Exception {
        boolean[] taken = {false};
        Thread thread = new Thread(() -> {
            try {
                taken[0] = lock.acquire(seconds, SECONDS);
                if (taken[0]) {
                    lock.release();
                }
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
        });
        thread.start();
        thread.join();
        return taken[0];
    }

    @Test
    void sessionsAndDataOutliveARestart() throws Exception {
        try (TestingServer server = new TestingServer()) {
            int port = server.getPort();
            connect(server.getConnectString()).create().withMode(CreateMode.EPHEMERAL).forPath("/mine", DATA);
            long session = client.getZookeeperClient().getZooKeeper().getSessionId();

            server.stop();
            awaitState(ConnectionState.SUSPENDED);
            server.restart();
            awaitState(ConnectionState.RECONNECTED);

            assertEquals(port, server.getPort());
            assertEquals(session, client.getZookeeperClient().getZooKeeper().getSessionId());
            assertArrayEquals(DATA, client.getData().forPath("/mine"));
            assertEquals(session, client.checkExists().forPath("/mine").getEphemeralOwner());
        }
    }

    @Test
    void anotherServerHasOtherData() throws Exception {
        try (TestingServer one = new TestingServer();
                TestingServer two = new TestingServer()) {
            connect(one.getConnectString()).create().forPath("/a");
            client.close();
            assertNull(connect(two.getConnectString()).checkExists().forPath("/a"));
        }
    }

    @Test
    void aPortThatIsTakenIsAnError() throws Exception {
        try (TestingServer server = new TestingServer()) {
            int port = server.getPort();
            String why = assertThrows(FailedServerStartException.class, () -> new TestingServer(port)).getMessage();
            assertTrue(why.contains("" + port), why);
        }
    }

    @Test
    void portZeroIsAFreeOne() throws Exception {
        try (TestingServer server = new TestingServer(0, false)) {
            assertThrows(IllegalStateException.class, server::getPort);
            server.start();
            int port = server.getPort();
            assertTrue(port > 0);
            server.restart();
            assertEquals(port, server.getPort());
        }
    }

    @Test
    void closeDeletesTheDataWhereItShall() throws Exception {
        TestingServer server = new TestingServer();
        File data = server.getTempDirectory();
        assertTrue(data.isDirectory());
        server.close();
        assertFalse(data.exists());
        assertThrows(IllegalStateException.class, server::restart);

        InstanceSpec spec = new InstanceSpec(data, -1, -1, -1, false, -1);
        try (TestingServer first = new TestingServer(spec, true)) {
            connect(first.getConnectString()).create().forPath("/kept");
            client.close();
        }
        assertTrue(data.isDirectory());
        try (TestingServer second = new TestingServer(-1, data)) {
            assertNotNull(connect(second.getConnectString()).checkExists().forPath("/kept"));
        }
        assertFalse(data.exists());
    }

    @Test
    void theTickTimeLimitsSessions() throws Exception {
        InstanceSpec spec = new InstanceSpec(null, -1, -1, -1, true, -1, 2_000, -1);
        try (TestingServer server = new TestingServer(spec, true)) {
            String conf = fourLetters(server, "conf");
            assertTrue(conf.contains("minSessionTimeout=2000"), conf);
            assertTrue(conf.contains("maxSessionTimeout=40000"), conf);
        }
    }

    private static String fourLetters(TestingServer server, String word) throws Exception {
        try (Socket socket = new Socket()) {
            socket.connect(new InetSocketAddress("127.0.0.1", server.getPort()));
            socket.getOutputStream().write(word.getBytes(StandardCharsets.US_ASCII));
            InputStream in = socket.getInputStream();
            return new Scanner(in, "US-ASCII").useDelimiter("\\A").next();
        }
    }

    @Test
    void aMissingBinaryIsAClearError() {
        String binary = System.getProperty("zketcd.bin");
        System.setProperty("zketcd.bin", "/nowhere/zketcd");
        try {
            String why = assertThrows(FailedServerStartException.class, TestingServer::new).getMessage();
            assertTrue(why.contains("/nowhere/zketcd"), why);
        } finally {
            System.setProperty("zketcd.bin", binary);
        }
    }

    @Test
    void aServerThatEndsAtOnceSaysWhy() {
        System.setProperty("jute.maxbuffer", "7");
        try {
            String why = assertThrows(FailedServerStartException.class, TestingServer::new).getMessage();
            assertTrue(why.contains("--jute-max-buffer"), why);
        } finally {
            System.clearProperty("jute.maxbuffer");
        }
    }

    @Test
    void aClusterServesWhileItHasAMajority() throws Exception {
        try (TestingCluster cluster = new TestingCluster(3)) {
            cluster.start();
            connect(cluster.getConnectString()).create().forPath("/a", DATA);
            awaitState(ConnectionState.CONNECTED);

            InstanceSpec first = cluster.findConnectionInstance(client.getZookeeperClient().getZooKeeper());
            assertNotNull(first);
            cluster.killServer(first);
            awaitState(ConnectionState.SUSPENDED);
            awaitState(ConnectionState.RECONNECTED);
            assertArrayEquals(DATA, client.getData().forPath("/a"));

            InstanceSpec second = cluster.findConnectionInstance(client.getZookeeperClient().getZooKeeper());
            assertFalse(first.equals(second));
            for (InstanceSpec spec : cluster.getInstances()) {
                if (!spec.equals(second)) {
                    cluster.killServer(spec);
                }
            }
            awaitState(ConnectionState.SUSPENDED);
            cluster.restartServer(first);
            awaitState(ConnectionState.RECONNECTED);
            assertArrayEquals(DATA, client.getData().forPath("/a"));
        }
    }
}
