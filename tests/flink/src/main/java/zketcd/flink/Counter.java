package zketcd.flink;

import java.io.IOException;
import java.io.Writer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.runtime.state.FunctionInitializationContext;
import org.apache.flink.runtime.state.FunctionSnapshotContext;
import org.apache.flink.streaming.api.checkpoint.CheckpointedFunction;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/**
 * Keeps each key's count in checkpointed state, and compares it with the record, which tells how many came before it.
 *
 * <p>Each attempt of each subtask writes a report of its own, one line for each of:
 *
 * <ul>
 *   <li>{@code start ID}: the checkpoint it was restored from, {@code -} for none
 *   <li>{@code first KEY COUNT}: the count found in the state at the key's first record in this attempt
 *   <li>{@code snapshot ID KEY=COUNT…}: what checkpoint ID holds, of the keys seen in this attempt
 *   <li>{@code gap KEY COUNT FOUND}, {@code repeat KEY COUNT FOUND}: state and source disagree
 * </ul>
 */
final class Counter extends KeyedProcessFunction<Long, Long, Long> implements CheckpointedFunction {
    private static final long serialVersionUID = 1;

    private final String directory;
    private transient ValueState<Long> state;
    private transient Map<Long, Long> seen;
    private transient Writer report;

    Counter(String directory) {
        this.directory = directory;
    }

    @Override
    public void initializeState(FunctionInitializationContext context) throws IOException {
        var task = getRuntimeContext().getTaskInfo();
        var name = System.currentTimeMillis() + "-" + task.getIndexOfThisSubtask() + "-" + task.getAttemptNumber();
        report = Files.newBufferedWriter(Path.of(directory, name + ".report"));
        var restored = context.getRestoredCheckpointId();
        write("start " + (restored.isPresent() ? restored.getAsLong() : "-"));
    }

    @Override
    public void open(OpenContext context) {
        state = getRuntimeContext().getState(new ValueStateDescriptor<>("count", Types.LONG));
        seen = new TreeMap<>();
    }

    @Override
    public void processElement(Long record, Context context, Collector<Long> out) throws IOException {
        Long key = context.getCurrentKey();
        long count = state.value() == null ? 0 : state.value();
        long expected = record / SequenceJob.KEYS;
        if (!seen.containsKey(key)) {
            write("first " + key + " " + count);
        }
        if (count != expected) {
            write((count < expected ? "gap " : "repeat ") + key + " " + count + " " + expected);
        }
        state.update(expected + 1);
        seen.put(key, expected + 1);
        out.collect(record);
    }

    @Override
    public void snapshotState(FunctionSnapshotContext context) throws IOException {
        var counts = seen.entrySet().stream().map(e -> " " + e.getKey() + "=" + e.getValue());
        write("snapshot " + context.getCheckpointId() + counts.collect(Collectors.joining()));
    }

    @Override
    public void close() throws IOException {
        if (report != null) {
            report.close();
        }
    }

    private void write(String line) throws IOException {
        report.write(line + "\n");
        report.flush();
    }
}
