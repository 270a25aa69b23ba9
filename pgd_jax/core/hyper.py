"""Typed floats: dataclasses whose fields are traced, so that every lane may have its own values.

A field made by `setting` has a default and a help text. Dataclasses nest; a float's name is its path, such as
"agent.alpha". A name may be cut to its last words ("alpha"). If several names end in these, the shortest one is meant.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import struct

from pgd_jax.core import ranges
from pgd_jax.core.errors import UserError
from pgd_jax.core.ranges import Range
from pgd_jax.core.registry import nearest

Float = jax.Array | float
Values = float | Sequence[float]  # one value, or one for each of several lanes


def setting(default: float, text: str, among: Range = ranges.ANY) -> Any:
    """A float of a flax.struct.dataclass with its help text for `--help`, and its range."""
    return struct.field(default=default, metadata={"help": text, "range": among})


def group(factory: Any) -> Any:
    """A field that is itself a dataclass of floats."""
    return struct.field(default_factory=factory)


def described(hyper: Any, prefix: str = "") -> Iterator[tuple[str, float, str]]:
    """(name, default, help text) of every float of `hyper`, a dataclass instance or None."""
    for name, default, text, among in _floats(hyper, prefix):
        yield name, default, text if among == ranges.ANY else f"{text} ({among})"


def _floats(hyper: Any, prefix: str = "") -> Iterator[tuple[str, float, str, Range]]:
    """As `described`, with help text and range apart."""
    for field in dataclasses.fields(hyper) if hyper is not None else ():
        value = getattr(hyper, field.name)
        if value is None or dataclasses.is_dataclass(value):
            yield from _floats(value, f"{prefix}{field.name}.")
        else:
            told = field.metadata
            yield prefix + field.name, float(value), told.get("help", ""), told.get("range", ranges.ANY)


def names(hyper: Any) -> list[str]:
    return [name for name, _, _ in described(hyper)]


def short(name: str, known: Iterable[str]) -> str:
    """`name` cut to the fewest last words that still mean it."""
    known, words = list(known), name.split(".")
    cuts = (".".join(words[-count:]) for count in range(1, len(words)))
    return next((cut for cut in cuts if meant(cut, known) == [name]), name)


def full(name: str, known: Iterable[str]) -> str:
    """The whole name of a float given by its last words. Raises UserError for one that is unknown or ambiguous."""
    known = list(known)
    found = meant(name, known)
    if len(found) > 1:
        raise UserError(f'"{name}" may be {" or ".join(found)}: write more of the name')
    if not found:
        close = nearest(name, [*known, *(short(each, known) for each in known)])
        raise UserError(f'unknown float "{name}"{close} (known: {", ".join(known)})')
    return found[0]


def meant(name: str, known: list[str]) -> list[str]:
    """The known names that end in the words of `name`. Of these, those with the fewest words before."""
    ending = [each for each in known if each == name or each.endswith(f".{name}")]
    fewest = min((each.count(".") for each in ending), default=0)
    return [each for each in ending if each.count(".") == fewest]


def values(hyper: Any, given: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    """The values of every float: those in `given` (nested, or by names that may be cut), else the default.

    Raises UserError for an unknown name, for a float that is given twice, and for a value that is outside the range or
    is not a finite number or a list of them.
    """
    known = {name: (default,) for name, default, _ in described(hyper)}
    among = {name: each for name, _, _, each in _floats(hyper)}
    found: dict[str, tuple[float, ...]] = {}
    for name, value in flatten(given).items():
        whole = full(name, known)
        if whole in found:
            raise UserError(f'the float "{whole}" is given twice')
        found[whole] = as_tuple(name, value)
        check(f"hyper.{name}", found[whole], among[whole])
    return known | found


def check(name: str, values: Sequence[float], among: Range) -> None:
    """Raises UserError for a value outside the range, and for two values that are equal as float32."""
    for value in values:
        if value not in among:
            raise UserError(f"{name}={value:g} must be {among}")
    if len(values) > 1 and len(np.unique(np.asarray(values, np.float32))) < len(values):
        raise UserError(
            f"{name}={','.join(f'{value:g}' for value in values)} has a value twice: two lanes would be one"
        )


def applicable(given: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """The floats of a preset that exist in this run, by name. Another agent, or real data alone, has other floats."""
    known = list(known)
    return {name: value for name, value in flatten(given).items() if meant(name, known)}


def as_tuple(name: str, value: Any) -> tuple[float, ...]:
    """One number or several as a tuple of floats. Raises UserError for anything else."""
    numbers = np.atleast_1d(np.asarray(value)) if _is_numeric(value) else np.zeros(0)
    if numbers.ndim != 1 or not numbers.size or not np.isfinite(numbers).all():
        raise UserError(f"hyper.{name}={value!r} must be a finite number, or several separated by commas")
    return tuple(numbers.astype(np.float64).tolist())


def _is_numeric(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_numeric, value))
    return np.asarray(value).dtype.kind in "iuf"


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"agent": {"alpha": 1}} -> {"agent.alpha": 1}. Names may have dots already."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = name.split(".")
        branch = tree
        for word in path:
            branch = branch.setdefault(word, {})
        branch[last] = value
    return tree


def filled(hyper: Any, flat: Mapping[str, Any], prefix: str = "") -> Any:
    """`hyper` with the floats of `flat`, which has whole names."""
    if hyper is None:
        return None
    changes = {}
    for field in dataclasses.fields(hyper):
        value, name = getattr(hyper, field.name), prefix + field.name
        if value is None or dataclasses.is_dataclass(value):
            changes[field.name] = filled(value, flat, f"{name}.")
        elif name in flat:
            changes[field.name] = flat[name]
    return dataclasses.replace(hyper, **changes)
