"""One trial from spec to result, and the folder that holds it. Knows no Ray, MLflow, Optuna, terminal."""
