"""Claims 2 and 3: how on-policy and how true guided windows are, against rollouts of a one-step world model."""
