"""Modules of a user's own that add to the registries: `--import=my_module`, or a plain `import` in Python."""

import importlib
import os
import sys
from collections.abc import Iterable

from pgd_jax.core.errors import UserError


def load(names: Iterable[str]) -> None:
    """Imports the modules, looked for in the current folder too. Raises UserError for one that cannot be imported."""
    names = list(names)
    if names and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for name in names:
        try:
            importlib.import_module(name)
        except UserError:
            raise
        except Exception as error:  # whatever a user's module does wrong
            where = f"{type(error).__name__}: {error}"
            raise UserError(f"--import={name}: the module cannot be imported ({where})") from error
