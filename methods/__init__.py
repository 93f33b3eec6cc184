"""The papers: one file and one card each; they never import one another."""
