"""What a trained method attends to, and example queries of a board."""
