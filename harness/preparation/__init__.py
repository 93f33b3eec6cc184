"""A dataset before its first trial: extract regions, write its card, validate it."""
