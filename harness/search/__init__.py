"""Settings found by search: spaces, studies, the search campaign and its report. Only this folder imports Optuna."""
