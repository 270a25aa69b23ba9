"""Policy-Guided Diffusion (arXiv 2404.06356) as one compiled JAX program."""

__version__ = "0.1.0"
