"""Checkpoints that are whole or not there.

A checkpoint is a folder `step_00000012` with
    arrays/        the leaves by path, written by array_store (typed keys as their uint32 words)
    tree.json      step, shape and dtype of every leaf, and the caller's metadata
    manifest.json  sha256 of every other file, written last
It is built under another name, `step_00000012.pgd_jax-partial`, read back and compared with what was to be saved, and
renamed: that is the commit. A checkpoint whose files do not match the manifest does not count: readers fall back to the
one before it.

Only what was written here is ever removed, which its names tell: those of the folder and of everything in it.

Saving is synchronous: the leaves are on the host before it starts and the caller may donate them as soon as it returns.
One run writes to a directory at a time (see rundir). Of several processes all call `save`, as orbax has them meet, with
a tree that each can read whole, and the first one writes; each restores its own part.
"""

import hashlib
import itertools
import json
import os
import pathlib
import re
import shutil
from typing import Any

import jax
import numpy as np
from absl import logging

from pgd_jax.core import places, processes
from pgd_jax.core.errors import UserError
from pgd_jax.runs import array_store

PARTIAL, REPLACED = ".pgd_jax-partial", ".pgd_jax-replaced"  # of a save that did not come to its end
ARRAYS = "arrays"
TREE = "tree.json"
MANIFEST = "manifest.json"
MAX_LISTED = 20  # differences named in one error

NAME = re.compile(r"step_\d{8,}")
LEFTOVER = re.compile(rf"step_\d{{8,}}({re.escape(PARTIAL)}|{re.escape(REPLACED)})")

Tree = Any  # a pytree of arrays


def save(directory: str | os.PathLike, step: int, tree: Tree, metadata: dict[str, Any] | None = None) -> None:
    """Commits `tree` as checkpoint `step` and keeps one whole checkpoint before it.

    Leaves are JAX or numpy arrays, typed keys included. `metadata` is JSON data that `load_metadata` gives back. A
    checkpoint of the same step is replaced; later steps, which a caller that resumed from an earlier one has left
    behind, are removed. Raises OSError, committing nothing, where what was written does not read back the same.
    """
    directory = pathlib.Path(directory).absolute()  # orbax refuses relative paths
    leaves = _flatten(tree)
    specs = {name: _spec(name, leaf) for name, leaf in leaves.items()}
    impls = {name: str(jax.random.key_impl(leaf)) for name, leaf in leaves.items() if _is_key(leaf)}
    about = {"step": step, "leaves": specs, "key_impls": impls, "metadata": metadata or {}}
    description = json.dumps(about, indent=1)
    # Orbax refuses arrays without elements; their shape and dtype say all.
    stored = {name: jax.random.key_data(x) if name in impls else x for name, x in leaves.items() if x.size}
    partial = directory / f"{folder_name(step)}{PARTIAL}"
    if processes.is_first():
        directory.mkdir(parents=True, exist_ok=True)
        for entry in list(directory.iterdir()):
            if LEFTOVER.fullmatch(entry.name) and entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
        partial.mkdir()
    processes.wait("the checkpoint's folder is clean")
    arrays = jax.tree.map(np.asarray, jax.device_get(stored))
    array_store.save(partial / ARRAYS, arrays)
    array_store.check_same(partial / ARRAYS, arrays)
    if not processes.is_first():
        return
    (partial / TREE).write_text(description, encoding="utf-8")
    _seal(partial)
    _commit(partial, directory / folder_name(step))
    _prune(directory, step)


def exists(directory: str | os.PathLike) -> bool:
    """Whether any checkpoint, whole or damaged, was committed: a run that has only damaged ones must not start over."""
    return bool(_folders(pathlib.Path(directory).absolute()))


def is_there(directory: str | os.PathLike, name: str) -> bool:
    """Whether the checkpoint with this folder name was committed; its content is not looked at."""
    folder = pathlib.Path(directory) / name
    return bool(NAME.fullmatch(name)) and (folder / MANIFEST).is_file()


def latest(directory: str | os.PathLike) -> int | None:
    """The newest whole checkpoint's step, or None; warns of damaged ones it passes over."""
    newest = _newest_whole(pathlib.Path(directory).absolute())
    return None if newest is None else _step(newest)


def restore(directory: str | os.PathLike, template: Tree) -> tuple[int, Tree]:
    """(step, tree) of the newest whole checkpoint; a damaged newer one is passed over with a warning.

    `template` has the tree's structure, shapes and dtypes: arrays, or the `jax.ShapeDtypeStruct`s of `jax.eval_shape`.
    JAX leaves come back on the template's devices where it is bound to any, numpy leaves as numpy arrays; the
    number of devices need not be that of the save. Raises UserError where there is no whole checkpoint, or where the
    trees differ (by path: missing, unexpected, shape, dtype).
    """
    folder = _check_whole(directory)
    description = _description(folder)
    wanted = _flatten(template)
    _check_tree(folder, description["leaves"], {name: _spec(name, leaf) for name, leaf in wanted.items()})
    stored = array_store.load(folder / ARRAYS)
    impls = description["key_impls"]
    leaves = [_place(stored.get(name), impls.get(name), leaf) for name, leaf in wanted.items()]
    return _step(folder), jax.tree.unflatten(jax.tree.structure(template), leaves)


def load_metadata(directory: str | os.PathLike) -> dict[str, Any]:
    """The metadata of the newest whole checkpoint; UserError where there is none."""
    return _description(_check_whole(directory))["metadata"]


def _flatten(tree: Tree) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _spec(name: str, leaf: Any) -> dict[str, Any]:
    if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
        raise TypeError(f"leaf {name} is a {type(leaf).__name__}; checkpoints hold arrays")
    return {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}  # a typed key's dtype names its implementation


def _place(data: np.ndarray | None, key_impl: str | None, template: Any) -> Any:
    """One leaf as the template has it: numpy, or a JAX array on the template's devices if it is bound to any."""
    if data is None:
        data = np.zeros(template.shape, template.dtype)
    if isinstance(template, (np.ndarray, np.generic)):
        return data
    is_bound = template.committed if isinstance(template, jax.Array) else template.sharding is not None
    target = template.sharding if is_bound else None
    # may_alias=False: the caller may donate the leaf, and the loader's memory is not JAX's to reuse.
    if key_impl is None:
        return jax.device_put(data, target, may_alias=False)
    return jax.random.wrap_key_data(jax.device_put(data, target, may_alias=False), impl=key_impl)


def _check_tree(folder: pathlib.Path, held: dict[str, Any], wanted: dict[str, Any]) -> None:
    lines = [f"missing in the checkpoint: {name}" for name in wanted if name not in held]
    lines += [f"unexpected in the checkpoint: {name}" for name in held if name not in wanted]
    for name in wanted.keys() & held.keys():
        for field, ours in wanted[name].items():
            theirs = held[name][field]
            if theirs != ours:
                lines.append(f"{field} of {name}: checkpoint has {theirs}, program has {ours}")
    if lines:
        lines = sorted(lines)
        more = [f"and {len(lines) - MAX_LISTED} more"] if len(lines) > MAX_LISTED else []
        listed = "\n".join(f"  {line}" for line in lines[:MAX_LISTED] + more)
        advice = "Use the settings it was saved under."
        raise UserError(f"{folder} was saved by another program or config:\n{listed}\n{advice}")


def folder_name(step: int) -> str:
    return f"step_{step:08d}"


def _step(folder: pathlib.Path) -> int:
    return int(folder.name.removeprefix("step_"))


def _folders(directory: pathlib.Path) -> list[pathlib.Path]:
    """Committed checkpoints, newest first: by the names that `_folder` gives, and no others."""
    entries = directory.iterdir() if directory.is_dir() else ()
    found = [entry for entry in entries if NAME.fullmatch(entry.name) and entry.name == folder_name(_step(entry))]
    return sorted((folder for folder in found if folder.is_dir()), key=_step, reverse=True)


def _is_ours(folder: pathlib.Path) -> bool:
    """Whether a folder holds what a checkpoint does, whole or damaged, and nothing else."""
    return {entry.name for entry in folder.iterdir()} <= {ARRAYS, TREE, MANIFEST, MANIFEST + places.PARTIAL}


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    """All but the manifest. Links are none of ours: they may lead anywhere."""
    return [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink() and p != folder / MANIFEST]


def _digest(file: pathlib.Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _seal(folder: pathlib.Path) -> None:
    """Brings every file to the disk, then writes the manifest."""
    digests = {}
    for file in _files(folder):
        places.sync(file)
        digests[file.relative_to(folder).as_posix()] = _digest(file)
    for inner in folder.rglob("*"):
        if inner.is_dir():
            places.sync(inner)
    places.replace_text(folder / MANIFEST, json.dumps(digests, indent=1))


def _commit(partial: pathlib.Path, folder: pathlib.Path) -> None:
    replaced = folder.with_name(folder.name + REPLACED)
    if os.path.lexists(folder):  # a damaged one, or the same step saved again; a rename needs the name to be free
        is_ours = folder.is_dir() and not folder.is_symlink() and _is_ours(folder)
        os.replace(folder, replaced if is_ours else _aside(folder))
    os.replace(partial, folder)
    places.sync(folder.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _aside(path: pathlib.Path) -> pathlib.Path:
    """A free name for what is not ours and lies where a checkpoint must."""
    names = (path.with_name(f"{path.name}.aside-{number}") for number in itertools.count())
    free = next(name for name in names if not os.path.lexists(name))
    logging.warning("%s holds other things than a checkpoint: renamed to %s", path, free.name)
    return free


def _damage(folder: pathlib.Path) -> str | None:
    """Why a checkpoint does not count, or None for a whole one."""
    if not (folder / MANIFEST).is_file():
        return f"{MANIFEST} is missing"
    try:
        digests = dict(json.loads((folder / MANIFEST).read_bytes()))
    except (ValueError, TypeError, RecursionError):
        return f"{MANIFEST} cannot be read"
    files = {file.relative_to(folder).as_posix(): file for file in _files(folder)}
    for name, digest in digests.items():
        if name not in files:  # nothing outside the folder is looked at, whatever a manifest from elsewhere names
            return f"{name} is missing"
        if _digest(files[name]) != digest:
            return f"{name} does not match its checksum"
    if TREE not in digests:
        return f"{TREE} is missing"
    if not _is_description(folder):
        return f"{TREE} does not say what a checkpoint holds"
    return "it is a copy of another step" if _is_copy(folder) else None


def _is_description(folder: pathlib.Path) -> bool:
    try:
        held = _description(folder)
        kinds = {"step": int, "leaves": dict, "key_impls": dict, "metadata": dict}
        is_whole = all(isinstance(held.get(name), kind) for name, kind in kinds.items())
        return is_whole and all({"shape", "dtype"} <= leaf.keys() for leaf in held["leaves"].values())
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def _newest_whole(directory: pathlib.Path) -> pathlib.Path | None:
    for folder in _folders(directory):
        reason = _damage(folder)
        if reason is None:
            return folder
        logging.warning("checkpoint %s is damaged (%s); falling back to the one before it", folder, reason)
    return None


def _check_whole(directory: str | os.PathLike) -> pathlib.Path:
    directory = pathlib.Path(directory).absolute()
    newest = _newest_whole(directory)
    if newest is None:
        damaged = ", ".join(f"{folder.name}: {_damage(folder)}" for folder in _folders(directory))
        found = f"only damaged ones ({damaged})" if damaged else "none"
        raise UserError(f"no whole checkpoint in {directory}: found {found}; start the run again in a new directory")
    return newest


def _prune(directory: pathlib.Path, step: int) -> None:
    older = [folder for folder in _folders(directory) if _step(folder) < step]
    spare = next((folder for folder in older if _damage(folder) is None), None)
    for folder in _folders(directory):
        if _step(folder) != step and folder != spare and _is_ours(folder) and not _is_copy(folder):
            shutil.rmtree(folder)


def _is_copy(folder: pathlib.Path) -> bool:
    """Whether it was made of a checkpoint of another step: by its user, since nothing here does that."""
    try:
        return _description(folder).get("step", _step(folder)) != _step(folder)
    except (OSError, ValueError, AttributeError):  # a damaged one of our own
        return False


def _description(folder: pathlib.Path) -> dict[str, Any]:
    return json.loads((folder / TREE).read_text(encoding="utf-8"))
