"""Results in the tracking store and back as typed runs. The only folder that imports MLflow."""
