"""Tables name -> object for everything that a plug-in can add."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from pgd_jax.core.errors import UserError

T = TypeVar("T")


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean "heun"?` for the known name nearest to `name`, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f'; did you mean "{close[0]}"?' if close else ""


class Registry(Generic[T]):
    """A table of objects of one kind. `add` refuses duplicates; `get` suggests the nearest name."""

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        if name in self._entries:
            raise ValueError(f'{self.kind} "{name}" is registered twice')
        self._entries[name] = entry
        return entry

    def get(self, name: str) -> T:
        """The entry called `name`. Raises UserError with the nearest known name for an unknown one."""
        if name not in self._entries:
            raise UserError(
                f'unknown {self.kind} "{name}"{nearest(name, self._entries)} '
                f"(known: {', '.join(self.names()) or 'none'}; one of your own needs --import=<its module>)"
            )
        return self._entries[name]

    def names(self) -> list[str]:
        return sorted(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())
