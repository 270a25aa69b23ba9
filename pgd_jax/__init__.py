"""Policy-Guided Diffusion (arXiv 2404.06356) as one compiled JAX program."""

from pgd_jax import interrupt

interrupt.begin_if_started("pgd_jax.cli", scripts="pgd-(datasets|collect|train-(denoiser|behaviour|agent)|sample|report)")

from pgd_jax import compilation

__version__ = "0.1.0"

compilation.use_eigen()
