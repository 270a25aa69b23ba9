"""Datasets: loaders, windows, normalizer, export. Importing the package registers the built-in datasets."""

from pgd_jax.data.mazes import collect as collect
