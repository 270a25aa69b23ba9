"""Strictness for every test: no silent rank or dtype promotion; setup.cfg turns warnings into errors."""

import atexit
import os
import shutil
import signal
import tempfile

# Under nohup, or in the background of a script, these two are ignored, and so they would be in every process of a test.
for number, handler in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# A command has the cores of a CPU as devices, and a run's lanes divide over them: here, whatever the number of cores.
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
# Most of the time goes into compiling, and many tests, also in processes of their own, compile the same programs: what
# one has compiled, the others of this session read. The process that starts the session makes the folder.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="pgd_jax_compiled_")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import jax
import pytest

from tests import quickly

if os.environ.get("COMPILE_QUICKLY"):  # XLA reads its flags when JAX starts its devices: not yet
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {quickly.XLA_FLAGS}".strip()

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture
def key():
    return jax.random.key(0)
