"""What a trained method takes to answer queries, and how alone it was on its machine while that was measured."""
