"""The calls of notebooks and scripts: what the command line does, as values, frames and arrays. Nothing is printed."""
