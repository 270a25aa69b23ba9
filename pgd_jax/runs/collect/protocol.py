"""D4RL's collection protocol for gym-mujoco (Fu et al. 2020, arXiv 2004.07219, section 5 and D4RL's wiki), by own SAC.

random          rollouts of a randomly initialised policy
medium          rollouts of the policy that first scored a fraction (a third) of the expert's normalised score
expert          rollouts of the policy that first reached the expert score, or of the one at the step limit
medium-replay   every step of training up to the medium policy
full-replay     every step of training up to the expert policy; like the replay buffer, at most the newest `num_rows`
medium-expert   half rollouts of the medium, half of the expert policy

Policies act stochastically, as in training. Rows are in time order, one stream of episodes after the other; the last
row of a stream is a timeout where it is not terminal, so that no window crosses into the next one.

A work directory holds what the datasets of one environment share: `training/` (see online_run) and `rollouts_*/`, run
directories all. A file is put together from their parts in memory, about three times its size.
"""

import dataclasses
import json
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from pgd_jax.core import logging, places
from pgd_jax.core.errors import UserError
from pgd_jax.data import catalogue, export
from pgd_jax.envs.base import ENVS
from pgd_jax.runs.collect import online, online_run, parts, rollouts, streams
from pgd_jax.runs.collect.collection import OnlinePlan, Settings

KINDS = ("random", "medium", "expert", "medium-replay", "full-replay", "medium-expert")
NUM_ROWS = 1_000_000  # as D4RL's; twice as many where two policies share a file
TRAINING, ROLLOUTS = "training", "rollouts_"  # names in a work directory


class Request(NamedTuple):
    """A dataset that can be collected."""

    name: str
    env: str
    kind: str  # one of KINDS
    reference: str  # D4RL name whose reference scores apply; "" where there is none


class _Piece(NamedTuple):
    """Rows of one policy or one buffer, and how they came about."""

    rows: streams.Rows  # [N, ...]
    policy: online_run.Policy


def requests() -> dict[str, Request]:
    """By name: gym-mujoco's v2 names, and those of other in-graph tasks with version 0. Mazes have their own recipe."""
    found = {}
    for env in ENVS:
        for kind in KINDS if not env.startswith("maze2d") else ():
            name = f"{env}-{kind}-v{2 if env in catalogue.LOCOMOTION else 0}"
            found[name] = Request(name, env, kind, name if name in catalogue.TASKS else "")
    return found


def goals(request: Request, settings: Settings) -> online_run.Goals:
    """Raises UserError where returns that normalise a score are unknown, or the fraction is none."""
    scores = catalogue.reference_scores(request.reference) or (None, None)
    random = scores[0] if settings.random_return is None else settings.random_return
    expert = scores[1] if settings.expert_return is None else settings.expert_return
    if random is None or expert is None:
        raise UserError(
            f"{request.name}: D4RL has no reference scores of {request.env}; give the returns of a random and of an "
            "expert policy, random_return and expert_return"
        )
    if not random < expert:
        raise UserError(f"random_return={random} must be less than expert_return={expert}")
    if not 0.0 < settings.fraction <= 1.0:
        raise UserError(f"fraction={settings.fraction} must be above 0 and at most 1")
    return online_run.Goals(medium=random + settings.fraction * (expert - random), expert=expert)


def write(
    request: Request, plan: OnlinePlan, settings: Settings, num_rows: int | None, workdir: pathlib.Path,
    path: pathlib.Path, command: str = "",
) -> bool:  # fmt: skip
    """Collects a dataset into HDF5 file `path`, or resumes in `workdir`; False where a signal ended it before.

    Of a buffer with fewer than `num_rows` rows all are written. Raises UserError, before anything is collected, for
    settings that cannot work, an existing `path` and a `workdir` that holds other things; and where the medium return
    is not reached within `max_steps`.
    """
    places.check_place(path)
    if num_rows is None:
        num_rows = NUM_ROWS * (2 if request.kind == "medium-expert" else 1)
    if num_rows < 2 or settings.max_steps < 1:
        raise UserError(f"num_rows must be at least 2 and max_steps 1, found {num_rows} and {settings.max_steps}")
    _check_folder(workdir)
    online.validate(plan)
    target = None if request.kind == "random" else goals(request, settings)
    collection = _Collection(request, online.build(plan, request.env), settings, target, workdir)
    pieces = []
    for kind in ("medium", "expert") if request.kind == "medium-expert" else (request.kind,):
        share = num_rows // 2 if request.kind == "medium-expert" else num_rows
        piece = collection.replay(kind, share) if kind.endswith("-replay") else collection.rollouts(kind, share)
        if piece is None:
            return False
        pieces.append(piece)
    _write(path, collection, pieces, command)
    return True


class _Collection(NamedTuple):
    request: Request
    program: online.OnlineProgram
    settings: Settings
    goals: online_run.Goals | None  # None: no training
    workdir: pathlib.Path

    def policy(self, kind: str) -> online_run.Policy | None:
        """The random, medium or expert policy; None where a signal ended training."""
        if kind == "random":
            return online_run.Policy("random", online.init(self.program).sac.actor.params, 0, None)
        assert self.goals is not None  # every other kind is trained for
        path, limit = self.workdir / TRAINING, self.settings.max_steps
        found = online_run.train(self.program, self.goals, path, kind, limit)
        if found is None or found.name == kind:
            return found
        goal = getattr(self.goals, kind)
        reached = f"{path}: greedy return {found.return_mean:.1f} after {found.num_steps} steps, {kind} is {goal:.1f}"
        if kind == "medium" and not self.settings.allow_partial:
            raise UserError(
                f"{reached}; go on with a larger max_steps, write what there is with allow_partial, or use a smaller "
                "fraction in another work directory"
            )
        logging.info(f"{reached}; taken as the {kind} policy")
        return found

    def replay(self, kind: str, num_rows: int) -> _Piece | None:
        found = self.policy("medium" if kind == "medium-replay" else "expert")
        if found is None:
            return None
        chunks = range(found.num_steps // self.program.plan.steps_per_chunk)
        return _Piece(parts.join(self.workdir / TRAINING, chunks, num_rows, from_end=True), found)

    def rollouts(self, kind: str, num_rows: int) -> _Piece | None:
        found, plan = self.policy(kind), self.program.plan
        if found is None:
            return None
        path = self.workdir / f"{ROLLOUTS}{found.name}"
        program = rollouts.RolloutProgram(
            self.program.env, self.program.agent, plan.num_envs, plan.steps_per_chunk // plan.num_envs
        )
        key = jax.random.fold_in(jax.random.key(plan.seed), 1 + found.num_steps)
        config = {"env": self.request.env, "policy": found.name, **dataclasses.asdict(plan)}
        if not rollouts.record(program, found.actor, key, num_rows, path, config):
            return None
        chunks = range(-(-num_rows // plan.steps_per_chunk))
        return _Piece(parts.join(path, chunks, num_rows, from_end=False), found)


def _check_folder(workdir: pathlib.Path) -> None:
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"workdir {workdir} is a file; a directory is needed")
    names = sorted(entry.name for entry in workdir.iterdir()) if workdir.exists() else []
    strangers = [name for name in names if name != TRAINING and not name.startswith(ROLLOUTS)]
    if strangers:
        raise UserError(f"workdir {workdir} holds other things ({strangers[0]}); use a new or empty directory")


def episode_returns(rows: streams.Rows, horizon: int) -> np.ndarray:
    """f64[M]: sums of rewards of the pieces that end in a terminal or are `horizon` steps long."""
    stop = np.flatnonzero(rows.terminals | rows.timeouts) + 1
    length = np.diff(stop, prepend=0)
    returns = np.add.reduceat(rows.rewards.astype(np.float64), stop - length)
    return returns[rows.terminals[stop - 1] | (length == horizon)]


def _write(path: pathlib.Path, collection: _Collection, pieces: list[_Piece], command: str) -> None:
    rows = pieces[0].rows
    if len(pieces) > 1:
        rows = streams.Rows(*map(np.concatenate, zip(*(piece.rows for piece in pieces), strict=True)))
    flat = export.Flat(*(getattr(rows, name) for name in export.Flat._fields))
    infos = {"action_log_probs": rows.action_log_probs}
    if rows.qpos.shape[1]:
        infos |= {"qpos": rows.qpos, "qvel": rows.qvel}
    metadata = _metadata(collection, pieces, rows) | export.origin(command)
    export.write_hdf5(path, **flat._asdict(), metadata=metadata, infos=infos)


def _metadata(collection: _Collection, pieces: list[_Piece], rows: streams.Rows) -> dict[str, str]:
    request, program, settings = collection.request, collection.program, collection.settings
    returns = episode_returns(rows, program.env.horizon)
    policies: list[dict[str, Any]] = [
        {
            "name": policy.name,
            "training_steps": policy.num_steps,
            "greedy_return": policy.return_mean,
            "reached_goal": not policy.name.startswith(online_run.LIMIT),
        }
        for _, policy in pieces
    ]
    return {
        "env": request.env,
        "reference": request.reference,
        "horizon": str(program.env.horizon),
        "dataset": request.name,
        "algorithm": "SAC (arXiv 1812.05905)" if collection.goals else "randomly initialised policy of SAC",
        "policies": json.dumps(policies),
        "goals": json.dumps(dataclasses.asdict(collection.goals) if collection.goals else {}),
        "fraction": str(settings.fraction),
        "seed": str(program.plan.seed),
        "plan": json.dumps(dataclasses.asdict(program.plan)),
        "num_episodes": str(len(returns)),
        "return_mean": str(returns.mean()) if len(returns) else "",
    }
