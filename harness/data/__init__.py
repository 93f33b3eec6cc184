"""A split in memory: regions, tokens, pairs, the dataset object and the files behind them. Knows no layout."""
