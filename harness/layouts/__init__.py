"""Readers: one module for each layout of files that a dataset may come in; `opening` picks the reader."""
