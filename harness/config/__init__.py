"""What the user writes: harness.toml, cards, and the registry that turns a name into a card and a class."""
