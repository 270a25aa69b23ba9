"""Datasets by D4RL's protocol: online training of SAC, its replay buffer and rollouts."""
