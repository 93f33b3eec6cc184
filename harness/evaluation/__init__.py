"""From a method and a split to scores, ranks, measures, intervals, and the arrays kept of them."""
