package zketcd.test;

import java.io.Closeable;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/** A member of an ensemble that has one server: a port of its own before that server. */
final class Relay implements Member {
    private static final int BUFFER = 8192;

    private final String host;
    private final Member behind;
    private int port;
    private ServerSocket listener;
    private Set<Closeable> open;

    /** @param port 0: to be chosen at the first start */
    Relay(String host, int port, Member behind) {
        this.host = host;
        this.port = port;
        this.behind = behind;
    }

    @Override
    public synchronized int port() {
        if (port == 0) {
            throw new IllegalStateException("server is configured to bind to port 0 but not started");
        }
        return port;
    }

    @Override
    public synchronized void start() throws IOException {
        if (listener != null) {
            return;
        }
        listener = new ServerSocket();
        listener.setReuseAddress(true);
        listener.bind(new InetSocketAddress(InetAddress.getByName(host), port));
        port = listener.getLocalPort();
        open = ConcurrentHashMap.newKeySet();
        ServerSocket socket = listener;
        Set<Closeable> sockets = open;
        open.add(socket);
        background(() -> accept(socket, sockets));
    }

    @Override
    public synchronized void stop() {
        if (listener != null) {
            close(listener);
            open.forEach(Relay::close);
            listener = null;
        }
    }

    @Override
    public void kill() {
        stop();
    }

    private void accept(ServerSocket socket, Set<Closeable> sockets) {
        while (!socket.isClosed()) {
            try {
                Socket client = socket.accept();
                sockets.add(client);
                Socket server = new Socket();
                sockets.add(server);
                background(() -> connect(client, server, sockets));
                // stop() has not seen a client that came at that moment
                if (socket.isClosed()) {
                    close(client);
                }
            } catch (IOException e) {
                close(socket);
            }
        }
    }

    private void connect(Socket client, Socket server, Set<Closeable> sockets) {
        try {
            server.connect(new InetSocketAddress("127.0.0.1", behind.port()));
            client.setTcpNoDelay(true);
            server.setTcpNoDelay(true);
            background(() -> copy(server, client));
            copy(client, server);
        } catch (IOException e) {
            close(client);
            close(server);
        }
        sockets.remove(client);
        sockets.remove(server);
    }

    /** Until one of them ends: then both do. */
    private static void copy(Socket from, Socket to) {
        byte[] buffer = new byte[BUFFER];
        try {
            InputStream in = from.getInputStream();
            OutputStream out = to.getOutputStream();
            for (int count = in.read(buffer); count > 0; count = in.read(buffer)) {
                out.write(buffer, 0, count);
            }
        } catch (IOException e) {
            // the other side learns of it
        }
        close(from);
        close(to);
    }

    private static void background(Runnable task) {
        Thread thread = new Thread(task, "relay");
        thread.setDaemon(true);
        thread.start();
    }

    private static void close(Closeable socket) {
        try {
            socket.close();
        } catch (IOException e) {
            // it is closed all the same
        }
    }
}
