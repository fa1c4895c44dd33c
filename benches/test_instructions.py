"""The check of instruction counts must itself find what it is there to find."""

import unittest

import instructions


class InstructionsTest(unittest.TestCase):
    def test_what_is_written_is_read_again(self):
        text = instructions.written("1.95.0 (59807616e 2026-04-14)", {"get": 4893, "create-own": 64392})
        self.assertEqual(
            instructions.read(text), ("1.95.0 (59807616e 2026-04-14)", {"get": 4893, "create-own": 64392})
        )

    def test_growth_beyond_a_tenth_is_found_and_less_is_not(self):
        lines, grown = instructions.compared({"get": 1000, "set": 1000, "multi": 1000}, {"get": 1101, "set": 1100})
        self.assertEqual(grown, ["get"])
        self.assertEqual(lines[0].split(), ["get", "1101", "+10.1", "%"])

    def test_a_kind_without_a_figure_is_found(self):
        lines, grown = instructions.compared({}, {"get": 10})
        self.assertEqual((lines[0].split(), grown), (["get", "10", "not", "recorded"], ["get"]))


if __name__ == "__main__":
    unittest.main()
