"""Datasets: loaders, windows, codec, export; importing the package registers the built-in ones."""

from pgd_jax.data import collect as collect
