"""The papers' formulas as they stand, a module for each of `methods`: the oracle of tests, the yardstick of speed."""
