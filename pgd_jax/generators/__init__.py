"""What fills a phase with synthetic data; importing the package registers them."""

from pgd_jax.generators import diffusion as diffusion, ensemble as ensemble
