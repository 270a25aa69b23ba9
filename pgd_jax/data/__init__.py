"""Datasets: loaders, windows, normalizer, export; importing the package registers the built-in ones."""

from pgd_jax.data.mazes import collect as collect
