"""A dataset before its first trial: convert, extract, write its card, validate it."""
