"""How fast the program is, and how far from what the machine could do: what `pgd_jax.cli.bench` runs."""
