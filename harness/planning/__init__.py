"""What a campaign can detect before it is run: variances from the rows of the store, and the power of the test."""
