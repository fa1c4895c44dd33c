"""What the report computes: medians, ratios, tables, what was met."""

import unittest

import report
from report import Samples


def samples(**rates):
    """For each server a list of rates of get in two shapes."""
    made = Samples()
    for server, values in rates.items():
        for value in values:
            made.add("get", "64x1", server, {"rate": value, "p99_us": 2000, "cpu": [10, 5], "client_cpu": 3})
    return made


class SamplesTest(unittest.TestCase):
    def test_the_median_is_of_the_rounds_and_the_ratio_of_the_medians(self):
        made = samples(zookeeper=[10, 30, 20], etcd=[50, 40, 1000])
        self.assertEqual(made.median("get", "64x1", "etcd"), 50)
        self.assertEqual(made.ratio("get", "64x1", "etcd"), 2.5)

    def test_what_was_not_measured_has_no_figure(self):
        made = samples(zookeeper=[10], etcd=[20])
        self.assertIsNone(made.median("get", "64x1", "embedded"))
        self.assertIsNone(made.ratio("get", "1x1", "etcd"))

    def test_a_round_that_failed_takes_the_row_with_it(self):
        made = samples(zookeeper=[10], etcd=[20])
        made.add("get", "64x1", "etcd", {})
        self.assertIsNone(made.ratio("get", "64x1", "etcd"))

    def test_the_least_ratio_needs_all_of_them(self):
        made = samples(zookeeper=[10], etcd=[20])
        self.assertEqual(report.least(made, "etcd", ["get"], ["64x1"]), (2.0, "get 64x1"))
        self.assertEqual(report.least(made, "etcd", ["get", "exists"], ["64x1"]), (None, ""))


class TargetsTest(unittest.TestCase):
    def row(self, made, begin):
        [line] = [line for line in report.targets(made).splitlines() if line.startswith(f"| {begin}")]
        return [cell.strip() for cell in line.strip("|").split("|")]

    def test_more_is_better_where_it_is_a_rate(self):
        made = Samples()
        for server, rate in [("zookeeper", 100), ("etcd", 130), ("embedded", 129)]:
            made.add("get", "1x1", server, {"rate": rate})
        self.assertEqual(
            self.row(made, "get, 1 connection")[1:],
            ["1.3 x", "1.30 x (get 1x1)", "yes", "1.3 x", "1.29 x (get 1x1)", "no"],
        )

    def test_less_is_better_where_it_is_memory_or_time(self):
        made = Samples()
        for server, memory, start in [("zookeeper", 800, 4.6), ("etcd", 200, 6.5), ("embedded", 210, 3.9)]:
            made.add("tree", "", server, {"memory": memory, "start": start})
        self.assertEqual([self.row(made, "memory")[at] for at in (2, 3, 5, 6)], ["0.25 x", "yes", "0.26 x", "no"])
        self.assertEqual([self.row(made, "start")[at] for at in (2, 3, 5, 6)], ["6.50 s", "no", "3.90 s", "yes"])

    def test_no_session_may_be_lost(self):
        made = Samples()
        for server, lost in [("etcd", 0), ("embedded", 1)]:
            made.add("sessions", "", server, {"lost": lost})
        self.assertEqual([self.row(made, "many sessions: lost")[at] for at in (3, 6)], ["yes", "no"])

    def test_a_single_write_on_etcd_is_held_against_etcd_itself(self):
        made = Samples()
        for workload in report.ONE_AT_A_TIME:
            for server, rate in [("zookeeper", 2000), ("etcd", 900), ("embedded", 2200)]:
                made.add(workload, "1x1", server, {"rate": rate})
        made.add("limit", report.RAW_SINGLE, "raw", {"rate": 1000})
        self.assertEqual(
            self.row(made, "write, 1 connection at a time")[2:],
            ["0.90 x (create 1x1)", "yes", "1 x", "1.10 x (create 1x1)", "yes"],
        )

    def test_what_was_not_measured_is_neither_met_nor_not(self):
        self.assertEqual(self.row(Samples(), "get, 1 connection")[2:4], ["not measured", ""])


class TablesTest(unittest.TestCase):
    def test_a_row_has_median_spread_ratio_and_cost(self):
        made = samples(zookeeper=[100, 90, 110], etcd=[300, 310, 290], embedded=[200])
        row = report.rates(made).splitlines()[2]
        self.assertIn("| get 64x1 | 100 (90.0–110) | 300 (290–310) | 3 | 200 (200–200) | 2 | 2 / 2 / 2 |", row)
        self.assertIn("| 10.0 + 5 |", row)

    def test_a_load_that_failed_is_seen_to_have_no_figure(self):
        made = samples(etcd=[20])
        made.add("get", "64x1", "zookeeper", {})
        self.assertIn("| get 64x1 | – | 20.0 (20.0–20.0) | – | – | – |", report.rates(made))

    def test_memory_is_of_each_process(self):
        made = Samples()
        made.add("get", "memory", "etcd", {"hwm": [13.5, 43.8]})
        self.assertEqual(report.memories(made).splitlines()[2], "| get | – | 13.5 + 43.8 | – |")
        self.assertNotIn("memory", report.rates(made))

    def test_the_page_keeps_what_is_not_between_the_marks(self):
        self.assertEqual(report.replaced("a<b>old<e>z", "<b>", "<e>", "new"), "a<b>new<e>z")
        with self.assertRaises(ValueError):
            report.replaced("a<b>old", "<b>", "<e>", "new")


if __name__ == "__main__":
    unittest.main()
