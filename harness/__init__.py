"""A benchmark harness for image-text matching: comparable methods, one data and evaluation API."""

__version__ = "0.1.0"
