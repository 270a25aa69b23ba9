"""The built-in maze datasets, recorded as D4RL records its own."""
