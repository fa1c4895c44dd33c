package zketcd.test;

/** What stands behind one {@link org.apache.curator.test.TestingZooKeeperServer}. */
public interface Member {
    /** The port that clients connect to; {@link IllegalStateException} where it is not chosen yet. */
    int port();

    /** Returns when clients are served, or, in an ensemble, when they will be as soon as there is a majority. */
    void start() throws Exception;

    /** Ends in good order. Without effect where it does not run. */
    void stop();

    /** Ends at once. Without effect where it does not run. */
    void kill();
}
