"""The host's side of a run: its directory, checkpoints, driver, metrics, evaluators."""
