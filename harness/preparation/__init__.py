"""A dataset before its first trial: download, convert, extract, write its card, validate it."""
