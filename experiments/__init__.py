from pgd_jax import interrupt

interrupt.begin_if_started("experiments")
