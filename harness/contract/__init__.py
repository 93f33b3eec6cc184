"""The contract of a method: every rule as a check of a card, for `harness validate` and for the tests."""
