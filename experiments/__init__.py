from pgd_jax.core import signals

signals.begin_if_started("experiments")
