"""Results in the tracking store and back as a data frame. The only folder that imports MLflow."""
