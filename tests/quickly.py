"""Compiled several times as fast, and run slower, which small programs that run once do not feel."""

import functools
import importlib.metadata

import jax

# By the release: XLA's options come and go, and one that it does not know ends a process. They are not tried, as tests
# of several processes import this before JAX may start.
_RELEASE = tuple(int(part) for part in importlib.metadata.version("jaxlib").split(".")[:2])
_OPTIONS = {"xla_backend_optimization_level": 0}
if _RELEASE < (0, 11):
    _OPTIONS["xla_cpu_use_fusion_emitters"] = False
jit = functools.partial(jax.jit, compiler_options=_OPTIONS)
XLA_FLAGS = " ".join(f"--{name}={str(value).lower()}" for name, value in _OPTIONS.items())  # for a test's own processes
