"""Leaderboards: rows, evidence, comparison, every form they are written in, export of rankings."""
