"""Many devices as a mesh: lanes over one axis, the windows of a phase over the other.

Lanes do not communicate: each device runs its own lanes. With fewer lanes than devices, several devices share a lane.
Each samples a part of the phase's windows; then one gather gives all windows to all of them; and each computes the rest
of the phase in full. The training of a denoiser divides its batch instead. Random numbers do not depend on the mesh, so
results differ by rounding only.

On CPU, each core can appear as a JAX device (`compilation.divide_cpu`). Cores divide lanes only. They share memory and
speed, so work that each device repeats would cost the same cores several times.

A mesh of a single device is None: nothing is divided.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pgd_jax.core import memory, processes
from pgd_jax.core.errors import UserError

LANES, WINDOWS = "lanes", "windows"
AUTO = "auto"
SHARE_OF_FREE = 0.25  # part of a CPU's free memory that further copies of the data may take

Tree = Any  # a pytree of arrays


def mesh_of(choice: str, num_lanes: int, num_batches: int, copied_bytes: float = 0.0) -> Mesh | None:
    """The mesh for L lanes whose phase has `num_batches` batches of windows (0: it generates nothing).

    `choice` is "auto", or a number of devices along each axis: "lanes=4,windows=2". "auto" takes as many devices as
    divide the work evenly, and prefers lanes. CPU cores divide lanes only, and each needs memory for a copy of the
    `copied_bytes` that all read. Raises UserError for a choice that does not fit.
    """
    available: float = len(jax.devices())
    if choice == AUTO:
        if are_cores():
            num_batches = 1
            available = min(available, 1 + SHARE_OF_FREE * memory.available().host / max(copied_bytes, 1.0))
        divisors = [(a, b) for a in _divisors(num_lanes) for b in _divisors(num_batches or 1) if a * b <= available]
        by_lanes, by_windows = max(divisors, key=lambda pair: (pair[0] * pair[1], pair[0]))
    else:
        by_lanes, by_windows = _parse(choice)
        if by_lanes * by_windows > available:
            raise UserError(f"mesh={choice} needs {by_lanes * by_windows} devices; there are {available}")
        if num_lanes % by_lanes:
            raise UserError(f"mesh={choice}: {num_lanes} lanes (values of floats x seeds) do not divide evenly")
        if by_windows > 1 and (not num_batches or num_batches % by_windows):
            raise UserError(
                f"mesh={choice}: the {num_batches} batches of a phase (sampling.num_trajectories / "
                "sampling.trajectories_per_batch, or those of rollout) do not divide evenly"
            )
    return _mesh((by_lanes, by_windows), (LANES, WINDOWS))


def batch_mesh_of(batch_size: int) -> Mesh | None:
    """The mesh for training on batches of windows: as many devices as divide a batch evenly; one for CPU cores."""
    if are_cores():
        return None
    return _mesh((max(n for n in _divisors(batch_size) if n <= len(jax.devices())),), (WINDOWS,))


def are_cores() -> bool:
    """Whether the devices are the cores of one CPU."""
    return jax.default_backend() == "cpu" and not processes.are_several()


def sharing_memory(mesh: Mesh | None) -> int:
    """The number of devices of the mesh that share one memory."""
    return mesh.size if mesh is not None and are_cores() else 1


def _mesh(sizes: tuple[int, ...], names: tuple[str, ...]) -> Mesh | None:
    num_devices = math.prod(sizes)
    if num_devices < len(jax.devices()) and processes.are_several():
        raise UserError(
            f"{jax.process_count()} processes have {len(jax.devices())} devices, of which {num_devices} would be used "
            f"({', '.join(f'{name}={size}' for name, size in zip(names, sizes, strict=True))}): every process must "
            "have its share; choose lanes, batches of windows or the number of processes so that they divide evenly"
        )
    if num_devices == 1:
        return None
    auto = (jax.sharding.AxisType.Auto,) * len(names)
    return jax.make_mesh(sizes, names, auto, devices=jax.devices()[:num_devices])


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def _parse(choice: str) -> tuple[int, int]:
    found = {LANES: 1, WINDOWS: 1}
    for part in choice.split(","):
        name, _, number = part.partition("=")
        if name not in found or not number.isdecimal() or int(number) < 1:
            raise UserError(f'mesh="{choice}" must be "{AUTO}", or read "{LANES}=4", "{WINDOWS}=2" or both by a comma')
        found[name] = int(number)
    return found[LANES], found[WINDOWS]


def size(mesh: Mesh | None, axis: str) -> int:
    """Devices along `axis`."""
    return 1 if mesh is None else mesh.shape[axis]


def place(tree: Tree, mesh: Mesh | None, axis: str | None = None) -> Tree:
    """`tree` on the devices of the mesh. Leading axes are divided along `axis`; with None each device has a copy."""
    if mesh is None:
        return tree
    sharding = _sharding(mesh, axis)
    if processes.are_several():  # device_put reaches this process's own devices only
        return jax.tree.map(functools.partial(_place_across, sharding), tree)
    return jax.device_put(tree, sharding)


def _place_across(sharding: NamedSharding, leaf: jax.Array) -> jax.Array:
    """This process's part of a leaf; every process holds the whole leaf."""
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        words = _place_across(sharding, jax.random.key_data(leaf))
        return jax.random.wrap_key_data(words, impl=jax.random.key_impl(leaf))
    whole = np.asarray(leaf)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


def _sharding(mesh: Mesh, axis: str | None) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec() if axis is None else PartitionSpec(axis))


def template(make: Callable[[], Tree], mesh: Mesh | None, axis: str | None = None) -> Tree:
    """Shapes, dtypes and shardings of `make()`, as if `place` had placed it."""
    shapes = jax.eval_shape(make)
    if mesh is None:
        return shapes
    sharding = _sharding(mesh, axis)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)


def in_turn(function: Callable[..., Tree], mesh: Mesh | None) -> Callable[..., Tree]:
    """`function`; on the cores of a CPU it runs the vmapped lanes one after another.

    This is for functions whose time goes into arithmetic and memory. The arrays of one lane fit into a core's caches;
    those of all lanes do not. Without it a phase of the quickstart takes a tenth longer.
    """
    if mesh is None or not are_cores():
        return function
    return jax.custom_batching.sequential_vmap(jax.jit(function))  # which asks for it twice; a jit is traced once


def by_lane(function: Callable[..., Tree], mesh: Mesh | None, num_by_lane: int, num_copied: int) -> Callable[..., Tree]:
    """`function` on every device of the mesh, for the lanes of that device.

    Its arguments are `num_by_lane` trees with leading axis L, then `num_copied` trees that all lanes share. Its result
    has leading axis L too.
    """
    specs = (PartitionSpec(LANES),) * num_by_lane + (PartitionSpec(),) * num_copied
    return _over(mesh, function, specs, PartitionSpec(LANES))


def on_each(function: Callable[..., Tree], mesh: Mesh | None) -> Callable[..., Tree]:
    """`function` on every device, with arguments that are copied to each. Its result must be the same on each."""
    return _over(mesh, function, PartitionSpec(), PartitionSpec())


def _over(
    mesh: Mesh | None, function: Callable[..., Tree], in_specs: Any, out_specs: PartitionSpec
) -> Callable[..., Tree]:
    if mesh is None:
        return function
    # check_vma=False: JAX cannot prove that results are the same on all devices after a gather, but they are.
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def mean(tree: Tree, mesh: Mesh | None) -> Tree:
    """The mean over devices that each computed a part of a batch."""
    return tree if size(mesh, WINDOWS) == 1 else jax.lax.pmean(tree, WINDOWS)


def map_windows(function: Callable[[Tree], Tree], batches: Tree, mesh: Mesh | None) -> Tree:
    """`lax.map` over batches of windows, leading axis K. Each device does its share; every device gets all results."""
    if size(mesh, WINDOWS) == 1:
        return jax.lax.map(function, batches)
    return jax.lax.all_gather(jax.lax.map(function, own(batches, mesh)), WINDOWS, tiled=True)


def own(tree: Tree, mesh: Mesh | None) -> Tree:
    """This device's part of the leading axis, within a function that runs on each device of the mesh."""
    num_parts = size(mesh, WINDOWS)
    if num_parts == 1:
        return tree

    def part(leaf: jax.Array) -> jax.Array:
        length = leaf.shape[0] // num_parts
        return jax.lax.dynamic_slice_in_dim(leaf, jax.lax.axis_index(WINDOWS) * length, length)

    return jax.tree.map(part, tree)
