"""Pictures to regions: vision models, what of a picture they are shown, and the region store that comes of it."""
