"""The user's own modules, which add to the registries: `--import=my_module`, or a plain `import` in Python."""

import importlib
import os
import sys
from collections.abc import Iterable

from pgd_jax.core.errors import UserError


def load(names: Iterable[str]) -> None:
    """Imports the modules, also from the current folder. Raises UserError for one that cannot be imported."""
    names = list(names)
    if names and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for name in names:
        try:
            importlib.import_module(name)
        except UserError:
            raise
        except Exception as error:  # a user's module may raise anything
            where = f"{type(error).__name__}: {error}"
            raise UserError(f"--import={name}: the module cannot be imported ({where})") from error
