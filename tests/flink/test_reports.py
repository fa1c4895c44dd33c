"""The check of the reports must itself find what it is there to find."""

import pathlib
import tempfile
import unittest

from processes import Failed
from reports import Reports

FIRST = {
    "100-0-0": "start -\nfirst 1 0\nsnapshot 1 1=10\nsnapshot 2 1=20\n",
    "101-1-0": "start -\nfirst 2 0\nsnapshot 1 2=11\nsnapshot 2 2=21\n",
}


class ReportsTest(unittest.TestCase):
    def verify(self, more):
        with tempfile.TemporaryDirectory() as name:
            directory = pathlib.Path(name)
            for report, text in {**FIRST, **more}.items():
                (directory / f"{report}.report").write_text(text)
            return Reports(directory).verify()

    def refused(self, why, more):
        with self.assertRaisesRegex(Failed, why):
            self.verify(more)

    def test_a_restore_goes_on_where_its_checkpoint_was(self):
        self.assertEqual(self.verify({}), 41)
        again = {"200-0-0": "start 1\nfirst 1 10\nsnapshot 3 1=40\n", "200-1-0": "start 1\nfirst 2 11\nsnapshot 3 2=41\n"}
        self.assertEqual(self.verify(again), 81)

    def test_a_key_not_seen_since_the_restore_keeps_its_count(self):
        third = {"200-0-0": "start 2\nsnapshot 3\n", "300-0-0": "start 3\nfirst 1 20\n"}
        self.verify(third)
        self.refused("key 1 was 20 in the checkpoint and 0 after", {**third, "300-0-0": "start 3\nfirst 1 0\n"})

    def test_a_gap_or_a_repeat_is_found(self):
        self.refused("gap 1 5 7", {"200-0-0": "start 2\ngap 1 5 7\n"})
        self.refused("repeat 1 7 5", {"200-0-0": "start 2\nrepeat 1 7 5\n"})

    def test_state_of_another_checkpoint_is_found(self):
        self.refused("key 1 was 20 in the checkpoint and 10 after", {"200-0-0": "start 2\nfirst 1 10\n"})

    def test_a_job_that_began_anew_is_found(self):
        self.refused("subtask 0 began anew", {"200-0-0": "start -\nfirst 1 0\n"})

    def test_a_checkpoint_nobody_took_is_found(self):
        self.refused("restored checkpoint 9", {"200-0-0": "start 9\n"})

    def test_a_line_still_being_written_is_left_out(self):
        self.assertEqual(self.verify({"200-0-0": "start 2\nrepe"}), 41)


if __name__ == "__main__":
    unittest.main()
