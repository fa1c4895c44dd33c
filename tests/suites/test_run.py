"""The runner must itself see what it is there to see."""

import pathlib
import types
import unittest
from unittest import mock

import run

CLASS = "org.example.SomeTest"


class RunTest(unittest.TestCase):
    def checked(self, *outcomes, count=2, excluded=(), flaky=(), part="all"):
        """What one class comes to, whose runs go as said."""
        suite = types.SimpleNamespace(
            counts={CLASS: count},
            flaky={f"{CLASS}#{test}" for test in flaky},
            excluded_of=lambda name: set(excluded),
        )
        runs = []
        for tests in outcomes:
            outcome = run.Outcome()
            outcome.tests = dict(tests)
            runs.append(outcome)
        options = types.SimpleNamespace(test=None, part=part)
        with mock.patch.object(run, "run", side_effect=runs):
            return run.checked(suite, CLASS, options, pathlib.Path("/nowhere"), 1)

    def test_all_passed(self):
        self.assertEqual(self.checked({"a": None, "b": None}).failures(), {})

    def test_a_failure_is_one(self):
        self.assertEqual(self.checked({"a": None, "b": "why"}).failures(), {"b": "why"})

    def test_a_test_that_is_lost_is_a_failure(self):
        self.assertIn("1 tests ran, 2", self.checked({"a": None}).failures()["(the class)"])
        self.assertEqual(self.checked({"a": None}, excluded=["b"]).failures(), {})

    def test_only_what_is_flaky_is_repeated(self):
        repeated = self.checked({"a": None, "b": "why"}, {"b": "why"}, {"b": None}, flaky=["b"])
        self.assertEqual((repeated.failures(), repeated.repeated), ({}, ["b"]))
        in_vain = self.checked({"a": None, "b": "why"}, *[{"b": "again"}] * run.REPEATS, flaky=["b"])
        self.assertEqual((in_vain.failures(), in_vain.repeated), ({"b": "why"}, []))

    def test_in_ci_what_failed_once_must_pass_each_time(self):
        once = self.checked({"a": None, "b": "why"}, *[{"b": None}] * run.REPEATS, part="ci")
        self.assertEqual((once.failures(), once.once), ({}, {"b": "why"}))
        twice = self.checked({"a": None, "b": "why"}, {"b": None}, {"b": "again"}, part="ci")
        self.assertEqual((twice.failures(), twice.once), ({"b": "why"}, {}))

    def test_the_lists_are_well_formed(self):
        for name in run.NAMES:
            for store in run.STORES:
                suite = run.Suite(name, store)
                self.assertTrue(all(count > 0 for count in suite.counts.values()))
                self.assertTrue(suite.ci)
            for file in ("excluded", "flaky"):
                self.assertTrue(all(len(words) > 2 for words in suite.lines(file)), f"{name}: without a reason")

    def test_the_cause_is_told_with_its_place(self):
        trace = "java.lang.IllegalStateException: no\n\tat org.other.Thing.go(Thing.java:1)\n\tat org.example.SomeTest.a(SomeTest.java:7)\n"
        self.assertEqual(
            run.cause(CLASS, f"{trace}Caused by: java.io.IOException: broken\n"),
            "java.lang.IllegalStateException: no at org.example.SomeTest.a(SomeTest.java:7) Caused by: java.io.IOException: broken",
        )


if __name__ == "__main__":
    unittest.main()
