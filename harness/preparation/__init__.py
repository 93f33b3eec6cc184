"""A dataset before its first trial: write its card, validate it."""
