package zketcd.test;

import java.io.File;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.apache.curator.test.InstanceSpec;

/**
 * The servers that a test takes for one ZooKeeper ensemble: one, or several that serve the same tree.
 *
 * <p>With etcd each member is a zketcd of its own. With the embedded store, whose data is in one process, the members of
 * a larger ensemble are relays before one zketcd. Its data is in the first instance's data directory.
 *
 * <p>Tests of an ensemble expect that nobody is served without a majority. zketcd needs none, so its servers are stopped
 * here while there is none.
 */
public final class Ensemble {
    /** By directories and ports: the servers of a cluster are made one by one, and a cluster may be made again. */
    private static final Map<String, Ensemble> ALL = new HashMap<>();

    private final List<Member> members = new ArrayList<>();
    private final boolean[] wanted;

    /** What the relays lead to; null where there are none. */
    private final Server behind;

    private Ensemble(List<InstanceSpec> specs) {
        InstanceSpec first = specs.get(0);
        File data = first.getDataDirectory();
        wanted = new boolean[specs.size()];
        behind = specs.size() > 1 && Settings.etcd() == null ? new Server(first, data, "127.0.0.1", 0) : null;
        for (InstanceSpec spec : specs) {
            members.add(
                    behind == null
                            ? new Server(spec, data, spec.getHostname(), spec.getPort())
                            : new Relay(spec.getHostname(), spec.getPort(), behind));
        }
    }

    /** The ensemble of these instances: the same one for the same instances. */
    public static synchronized Ensemble of(List<InstanceSpec> specs) {
        if (specs.size() == 1) {
            return new Ensemble(specs);
        }
        String key = specs.stream()
                .map(spec -> spec.getDataDirectory() + ":" + spec.getPort())
                .collect(Collectors.joining(","));
        return ALL.computeIfAbsent(key, made -> new Ensemble(specs));
    }

    /** One of the servers, by its place among the instances. */
    public Member member(int index) {
        return members.size() == 1 ? members.get(0) : new Seat(index);
    }

    private synchronized void settle(int index, boolean wants) throws Exception {
        wanted[index] = wants;
        int count = 0;
        for (boolean one : wanted) {
            count += one ? 1 : 0;
        }
        boolean majority = 2 * count > wanted.length;
        if (majority && behind != null) {
            behind.start();
        }
        for (int i = 0; i < wanted.length; i++) {
            if (majority && wanted[i]) {
                members.get(i).start();
            } else {
                members.get(i).stop();
            }
        }
        if (count == 0 && behind != null) {
            behind.stop();
        }
    }

    /** A member that comes and goes with the majority. */
    private final class Seat implements Member {
        private final int index;

        Seat(int index) {
            this.index = index;
        }

        @Override
        public int port() {
            return members.get(index).port();
        }

        @Override
        public void start() throws Exception {
            settle(index, true);
        }

        @Override
        public void stop() {
            try {
                settle(index, false);
            } catch (Exception e) {
                throw new IllegalStateException("another member did not start", e);
            }
        }

        @Override
        public void kill() {
            members.get(index).kill();
            stop();
        }
    }
}
