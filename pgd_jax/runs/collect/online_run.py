"""Online training as a run directory: chunks of `online.run_chunk`, resumable, with the policies that datasets ask for.

    checkpoints/            SAC's networks and the environments, without the replay buffer
    parts/                  every step taken, chunk by chunk: the replay buffer, which is filled again from here
    policies/medium, expert the first policy whose greedy episodes reached that goal
    policies/limit_N        the policy after N steps, where training was told to end there
    metrics.jsonl           a row a chunk

The disk holds about 4 (2 O + A + nq + nv + 2) bytes a step, 158 MB for a million of hopper's, and a few MB besides.
Training ends where the policy asked for is there; asked for a later one, it goes on, so that datasets share one run.
"""

import dataclasses
import functools
import pathlib
from typing import Any, NamedTuple

import jax

from pgd_jax.core.errors import UserError
from pgd_jax.core.types import Params, Transition
from pgd_jax.runs import checkpoint, driver, rundir
from pgd_jax.runs.collect import online, parts

KIND = "sac"
POLICIES = "policies"
LIMIT = "limit_"  # and the steps: a policy that reached no goal
LOGGED = ("return_mean", "critic_loss", "temperature")


@dataclasses.dataclass(frozen=True)
class Goals:
    """Mean undiscounted returns of greedy episodes that make a policy the medium or the expert one."""

    medium: float
    expert: float


class Policy(NamedTuple):
    """A policy that was kept, and how it came about."""

    name: str  # "medium", "expert", "limit_<steps>"; "random": not trained
    actor: Params
    num_steps: int
    return_mean: float | None  # of its greedy episodes when it was kept


class _Training:
    """A run at work. The replay buffer is here, not in the state: it would be in every checkpoint."""

    def __init__(self, program: online.OnlineProgram, goals: Goals, path: pathlib.Path, replay: Transition):
        self.program, self.goals, self.path, self._replay = program, goals, path, replay

    def advance(self, state: online.State) -> tuple[online.State, dict[str, Any]]:
        state, self._replay, rows, logs = online.run_chunk(self.program, state, self._replay)
        return state, {"rows": rows, "logs": logs}

    def keep_rows(self, chunk: int, found: dict[str, Any], seconds: float) -> list[dict[str, Any]]:
        """Called before the checkpoint that takes the rows as written."""
        parts.write(self.path, chunk, found["rows"])
        return [{"lane": 0, "phase": chunk, "step": self._num_steps(chunk), **found["logs"], "wall_s": seconds}]

    def keep_policies(
        self, num_chunks: int, chunk: int, state: online.State, rows: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        num_steps, return_mean = self._num_steps(chunk), float(rows[0]["return_mean"])
        reached = [name for name, goal in dataclasses.asdict(self.goals).items() if return_mean >= goal]
        new = [name for name in reached if not checkpoint.exists(self.path / POLICIES / name)]
        if chunk + 1 == num_chunks:
            new.append(limit_name(num_steps))
        for name in new:
            metadata = {"num_steps": num_steps, "return_mean": return_mean}
            checkpoint.save(self.path / POLICIES / name, num_steps, state.sac.actor.params, metadata)
        return rows

    def _num_steps(self, chunk: int) -> int:
        return (chunk + 1) * self.program.plan.steps_per_chunk


def limit_name(num_steps: int) -> str:
    return f"{LIMIT}{num_steps}"


def train(
    program: online.OnlineProgram, goals: Goals, path: pathlib.Path, wanted: str, max_steps: int
) -> Policy | None:
    """Trains in run directory `path`, or resumes, until policy `wanted` ("medium", "expert") is there.

    Returns it, or after `max_steps` steps (whole chunks) the policy of that moment; None where a signal ended it
    before. Raises UserError where the run went past `max_steps` without `wanted`.
    """
    online.validate(program.plan)
    plan = program.plan
    num_chunks = max(-(-max_steps // plan.steps_per_chunk), 1)
    limit = limit_name(num_chunks * plan.steps_per_chunk)
    config = {"env": program.env.name, **dataclasses.asdict(plan), "goals": dataclasses.asdict(goals)}
    with rundir.open_run(path, KIND, config) as directory:
        parts.clean(path)
        found = load_policy(program, path, wanted) or load_policy(program, path, limit)
        if found is not None:
            return found
        done = checkpoint.latest(directory.checkpoints_path) or 0
        if done > num_chunks:
            raise UserError(
                f"{path} has trained {done * plan.steps_per_chunk} steps already without reaching the {wanted} goal; "
                f"max_steps={max_steps} must be larger"
            )
        training = _Training(program, goals, path, refill(program, path, done))
        initial = functools.partial(online.init, program)
        if not driver.run(_job(training, num_chunks, wanted), directory, initial, jax.eval_shape(initial)):
            return None
        return load_policy(program, path, wanted) or load_policy(program, path, limit)


def _job(training: _Training, num_chunks: int, wanted: str) -> driver.Job:
    return driver.Job(
        training.advance,
        rows=training.keep_rows,
        summary=lambda rows: ", ".join(f"{name} {rows[-1][name]:.4g}" for name in LOGGED),
        num_chunks=num_chunks,
        phases_per_chunk=1,
        units_per_chunk=training.program.plan.steps_per_chunk,
        unit="step",
        metadata={},
        judge=functools.partial(training.keep_policies, num_chunks),
        is_done=lambda: checkpoint.exists(training.path / POLICIES / wanted),
    )


def refill(program: online.OnlineProgram, path: pathlib.Path, num_chunks: int) -> Transition:
    """The buffer on the device as it was after `num_chunks` chunks, from the rows on the disk."""
    replay, size = online.empty_replay(program), program.plan.steps_per_chunk
    num_slots = program.plan.replay_capacity // size
    for chunk in range(max(0, num_chunks - num_slots), num_chunks):
        start = chunk % num_slots * size
        read = jax.tree.leaves(online.transitions(parts.read(path, chunk)))
        for array, part in zip(jax.tree.leaves(replay), read, strict=True):
            array[start : start + size] = part.reshape(size, *array.shape[1:])
    # may_alias=False: donated, and numpy's memory is not JAX's to reuse.
    return jax.device_put(replay, may_alias=False)


def load_policy(program: online.OnlineProgram, path: pathlib.Path, name: str) -> Policy | None:
    """The policy kept as `name` in run directory `path`; None where there is none."""
    folder = path / POLICIES / name
    if not checkpoint.exists(folder):
        return None
    template = jax.eval_shape(functools.partial(online.init, program)).sac.actor.params
    return Policy(name, checkpoint.restore(folder, template)[1], **checkpoint.load_metadata(folder))
