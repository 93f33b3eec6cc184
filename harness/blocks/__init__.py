"""What papers share: encoders, pooling, losses, score algebra. With harness.method all that a method may import."""
