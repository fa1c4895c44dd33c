package zketcd.flink;

import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.connector.source.util.ratelimit.RateLimiterStrategy;
import org.apache.flink.connector.datagen.source.DataGeneratorSource;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;

/**
 * Counts the sequence 0, 1, 2, … per key. Arguments: the directory of the reports, the records per second.
 */
public final class SequenceJob {
    /** Key k gets k, k + KEYS, k + 2 * KEYS, …: its n-th record tells n. */
    static final int KEYS = 16;

    public static void main(String[] args) throws Exception {
        var env = StreamExecutionEnvironment.getExecutionEnvironment();
        var rate = RateLimiterStrategy.perSecond(Double.parseDouble(args[1]));
        var sequence = new DataGeneratorSource<Long>(n -> n, Long.MAX_VALUE, rate, Types.LONG);
        env.fromSource(sequence, WatermarkStrategy.noWatermarks(), "sequence")
                .setParallelism(1)
                .keyBy(n -> n % KEYS, Types.LONG)
                .process(new Counter(args[0]))
                .name("counter")
                .sinkTo(new DiscardingSink<>());
        env.execute("sequence");
    }

    private SequenceJob() {}
}
