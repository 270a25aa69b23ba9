"""Compiled several times as fast, and run slower, which small programs that run once do not feel."""

import functools

import jax

_OPTIONS = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
jit = functools.partial(jax.jit, compiler_options=_OPTIONS)
XLA_FLAGS = " ".join(f"--{name}={str(value).lower()}" for name, value in _OPTIONS.items())  # for a test's own processes
