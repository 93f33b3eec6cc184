"""Weights of a trial in a folder that needs no project: exported, loaded, and scored on other datasets."""
