"""The front door: what `import pgd_jax as pgd` gives. Everything in environment space, in memory unless a folder is named.

    data = pgd.load_dataset("maze2d-umaze-waypoint-v0")
    denoiser = pgd.train_denoiser(data, num_steps=2_000)
    guided = denoiser.sample(jax.random.key(0), 256, log_prob=log_prob, guidance=10.0)
    result = pgd.train_agent(data, denoiser, agent="td3_bc", num_seeds=4, guidance_coefficient=[0, 10])
    pgd.evaluate(result.policy(lane=0), data.env, num_episodes=16)

The command lines have the same settings under the same names. Mistakes raise `pgd.UserError`.
"""

import dataclasses
import functools
import inspect
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pgd_jax.agents  # noqa: F401  registers
import pgd_jax.data  # noqa: F401  registers
import pgd_jax.envs  # noqa: F401  registers
from pgd_jax import config as configs, denoiser as denoisers, experiment as experiments, footprint, judges, lanes, loop
from pgd_jax import planning, rundir, windows
from pgd_jax.data import codec as codecs, columns, sources
from pgd_jax.data.base import RawDataset
from pgd_jax.diffusion import guidance as guiding
from pgd_jax.envs import evaluate as evaluation, host
from pgd_jax.envs.base import ENVS, HOST_ENVS
from pgd_jax.errors import UserError
from pgd_jax.program import GUIDANCE_COEFFICIENT
from pgd_jax.registry import nearest
from pgd_jax.windows import Windows

IN_MEMORY = "in memory"  # stands for a denoiser's run directory
Float = float | Sequence[float]
LogProb = Callable[[jax.Array, jax.Array], jax.Array]  # (obs [..., O], action [..., A]) -> [...], environment space
Policy = Callable[[Any], jax.Array]  # obs [..., O] -> action [..., A], environment space


@dataclasses.dataclass(frozen=True)
class Dataset(RawDataset):
    """Rows of offline experience in time order, environment space; checked. Made by `load_dataset` or `from_arrays`."""

    source: str = ""  # the name or path that it was loaded by; "" for arrays
    max_rows: int = 0  # read at most; 0: all

    @classmethod
    def from_arrays(
        cls,
        observations: Any,
        actions: Any,
        rewards: Any,
        terminals: Any,
        timeouts: Any = None,
        next_observations: Any = None,
        *,
        name: str = "arrays",
        env: str = "",
    ) -> "Dataset":
        """Observations [N, O], actions [N, A] in [-1, 1], rewards and flags [N], rows in time order.

        `terminals` says that the task ended after a row, `timeouts` that the recording was cut there: episodes need
        one of the two, or `next_observations` [N, O]. `env` names the task that judges agents ("" for none). Raises
        UserError, naming array and row, for what no dataset may hold.
        """
        given = {"observations": observations, "actions": actions, "rewards": rewards, "terminals": terminals}
        given |= {"timeouts": timeouts, "next_observations": next_observations}
        arrays = {key: np.asarray(array) for key, array in given.items() if array is not None}
        columns.agree(name, arrays)
        arrays = {key: columns.convert(name, key, array) for key, array in arrays.items()}
        if timeouts is None and next_observations is None and not arrays["terminals"].any():
            raise UserError(f"{name}: nothing says where an episode ends; give timeouts, or next_observations")
        arrays.setdefault("timeouts", np.zeros(len(arrays["rewards"]), bool))
        return cls(name, env, "", **{"next_observations": None} | arrays)

    def __repr__(self) -> str:
        count, obs_dim = self.observations.shape
        return f"Dataset({self.name!r}, {count} rows, obs {obs_dim}, action {self.actions.shape[1]}, env {self.env!r})"

    def windows(self, num_windows: int, length: int = configs.DataConfig.window_length, seed: int = 0) -> Windows:
        """Random windows of `length` rows, drawn with replacement."""
        return windows.recorded(self, num_windows, length, jax.random.key(seed))


@dataclasses.dataclass(frozen=True)
class Denoiser:
    """A trained diffusion model of trajectory windows. Made by `train_denoiser` or `load_denoiser`."""

    trained: denoisers.Trained
    path: str = ""  # its run directory; "" in memory
    env: str = ""
    reference: str = ""

    def __repr__(self) -> str:
        layout, data = self.trained.codec.layout, self.trained.config.data
        sizes = f"obs {layout.obs_dim}, action {layout.action_dim}, windows of {data.window_length} rows"
        return f"Denoiser({data.dataset or 'arrays'!r}, {sizes})"

    def sample(
        self,
        key: jax.Array,
        num_windows: int,
        log_prob: LogProb | None = None,
        guidance: float = GUIDANCE_COEFFICIENT,
        *,
        rule: str = configs.SamplingConfig.guidance,
        windows_per_batch: int = configs.SamplingConfig.trajectories_per_batch,
        hyper: Mapping[str, float] | None = None,
        **sampling: Any,
    ) -> Windows:
        """`num_windows` windows, steered toward actions that `log_prob` makes likely.

        Args:
          key: typed JAX key; the same key gives the same windows.
          log_prob: (obs [..., O], action [..., A]) -> [...], log density of the policy, environment space. Any function
            that JAX can trace, also one that closes over a network of your own. None: unguided.
          guidance: lambda, the strength; 0 is unguided.
          rule: of guidance: "proximal", "score", "pigdm", "jacobian", "paper", ...
          windows_per_batch: sampled at once; sets memory.
          hyper: floats by name, such as {"sigma_max": 80.0, "guidance.sigma_max": 80.0, "noise.eta": 0.5}.
          sampling: the other settings of `SamplingConfig`: sampler, num_steps, noise_schedule, guidance_schedule, ...

        Raises UserError for settings that cannot work and for a `log_prob` that is not such a function.
        """
        batch = min(windows_per_batch, num_windows)
        if num_windows < 1 or batch < 1:
            raise UserError(f"num_windows={num_windows} and windows_per_batch={windows_per_batch} must be at least 1")
        own = {"sampling": {"guidance": rule, "num_trajectories": -(-num_windows // batch) * batch} | sampling}
        own["sampling"]["trajectories_per_batch"] = batch
        config = _config(configs.AgentConfig, {"denoiser": IN_MEMORY, "sweep": _sweep(hyper or {})} | own)
        planning.refuse_unknown_choices(config.sampling)
        configs.validate_sampling(config.sampling)
        found = lanes.build(loop.ProgramHyper(None), config.sweep, 1, 0)
        if len(found.settings) > 1:
            raise UserError("hyper: a sampling takes one value of each float")
        codec, length = self.trained.codec, self.trained.config.data.window_length
        program = loop.Program(planning.plan_of(config, length, found), None, self.trained.network, None)
        shared = loop.Shared(self.trained.params, codec, None)
        one = jax.tree.map(lambda leaf: leaf[0], found.hypers)
        coefficient = jnp.float32(guidance if log_prob is not None else 0.0)
        steer = guiding.uniform if log_prob is None else in_network_space(log_prob, codec)
        generate = jax.jit(lambda key: loop.generate(key, steer, coefficient, one, shared, program))
        footprint.announce_quietly(footprint.of_sampling(program.plan, codec.layout, generate.trace(key)))
        made = windows.generated(codec, generate(key)[:num_windows], self.env, self.reference)
        if not np.isfinite(made.obs).all():
            raise UserError(f"guidance={guidance} made windows that are not finite; use less, or a smoother log_prob")
        return made


@dataclasses.dataclass(frozen=True)
class AgentResult:
    """Trained agents, a lane for each combination of floats and seed."""

    experiment: experiments.Experiment
    states: Any  # of the lanes, after the last phase
    rows: list[dict[str, Any]]  # a row for each lane and phase, as in metrics.jsonl

    @property
    def lanes(self) -> list[dict[str, Any]]:
        """What each lane is: {"group": ..., "seed": ..., and the floats that differ}."""
        last = self.rows[-1]["phase"]
        of_last = sorted((row for row in self.rows if row["phase"] == last), key=lambda row: row["lane"])
        return [{"group": row["group"], "seed": row["seed"], **row["setting"]} for row in of_last]

    @property
    def scores(self) -> dict[str, np.ndarray]:
        """By group, of each of its seeds: D4RL's normalised score after the last phase, or the return where none applies."""
        return {name: curve[-1] for name, curve in self.curves.items()}

    @property
    def curves(self) -> dict[str, np.ndarray]:
        """By group, f64[P, seeds]: the score after each phase. Empty where nothing judges the agent."""
        key = next((key for key in experiments.SUMMARISED[:4] if key in self.rows[-1]), None)
        if key is None:
            return {}
        groups = dict.fromkeys(row["group"] for row in self.rows)
        phases = sorted({row["phase"] for row in self.rows if key in row})

        def column(group: str, phase: int) -> list[float]:
            return [row[key] for row in self.rows if row["group"] == group and row["phase"] == phase]

        return {group: np.array([column(group, phase) for phase in phases], np.float64) for group in groups}

    def policy(self, lane: int = 0) -> "AgentPolicy":
        """The greedy policy of a lane, environment space; its `log_prob` guides `Denoiser.sample`."""
        if not 0 <= lane < len(self.experiment.lanes.settings):
            raise UserError(f"lane={lane}: there are lanes 0 to {len(self.experiment.lanes.settings) - 1}")
        state = jax.tree.map(lambda leaf: leaf[lane], self.states.agent)
        return AgentPolicy(self.experiment.program.agent, state, self.experiment.shared.codec)


@dataclasses.dataclass(frozen=True)
class AgentPolicy:
    """A trained policy: `policy(obs [..., O]) -> action [..., A]`, environment space."""

    agent: Any
    state: Any
    codec: Any

    def __call__(self, obs: Any) -> jax.Array:
        return self.agent.act(self.state, codecs.encode_obs(self.codec, jnp.asarray(obs, jnp.float32)))

    def log_prob(self, obs: Any, action: Any) -> jax.Array:
        """log pi(a | s) [...], of which a deterministic policy has a Gaussian of unit variance around its action."""
        obs = codecs.encode_obs(self.codec, jnp.asarray(obs, jnp.float32))
        return self.agent.log_prob(self.state, obs, jnp.asarray(action, jnp.float32))


def load_dataset(source: str | os.PathLike, *, download: bool = False, max_rows: int = 0) -> Dataset:
    """A dataset by its name or path: a built-in or D4RL name, "minari:<id>", or an HDF5 file in D4RL's layout.

    `download` fetches a D4RL or Minari dataset that is not on this machine; `max_rows` reads the first rows only.
    Raises UserError for an unknown name, a missing file and anything wrong inside it.
    """
    raw = sources.load(os.fspath(source), download, max_rows)
    fields = {field.name: getattr(raw, field.name) for field in dataclasses.fields(raw)}
    return Dataset(**fields, source=os.fspath(source), max_rows=max_rows)


def train_denoiser(data: Dataset, workdir: str | os.PathLike | None = None, **settings: Any) -> Denoiser:
    """Trains a diffusion model of the windows of `data`.

    With a `workdir` it is the run of `pgd-train-denoiser`: it resumes, and a finished one returns at once. `settings`
    are those of the command by their last names: num_steps, batch_size, width, window_length, seed, ... Raises
    UserError for settings that cannot work.
    """
    names = {part: list(configs.to_dict(configs.DenoiserConfig())[part]) for part in ("data", "unet", "training")}
    nested: dict[str, dict[str, Any]] = {"data": {"dataset": data.source, "max_rows": data.max_rows}}
    for name, value in settings.items():
        part = next((part for part, known in names.items() if name in known), None)
        if part is None or name in nested["data"]:
            raise UserError(f'train_denoiser has no setting "{name}"{nearest(name, sum(names.values(), []))}')
        nested.setdefault(part, {})[name] = value
    config = _whole_chunks(_config(configs.DenoiserConfig, nested), settings)
    if workdir is None:
        return Denoiser(denoisers.fit_in_memory(config, data), "", data.env, data.reference)
    _require_source(data, workdir)
    _require_end(denoisers.fit(config, workdir, data), workdir)
    return load_denoiser(workdir, data)


def load_denoiser(path: str | os.PathLike, data: Dataset | None = None) -> Denoiser:
    """The denoiser of a finished run of `train_denoiser`; `data` says which task its windows belong to."""
    env, reference = (data.env, data.reference) if data is not None else ("", "")
    return Denoiser(denoisers.load(path), os.fspath(path), env, reference)


def train_agent(
    data: Dataset,
    denoiser: Denoiser | None = None,
    agent: str = configs.AgentConfig.agent,
    *,
    workdir: str | os.PathLike | None = None,
    guidance_coefficient: Float = GUIDANCE_COEFFICIENT,
    hyper: Mapping[str, Float] | None = None,
    **settings: Any,
) -> AgentResult:
    """Trains agents on windows of the denoiser, guided by their own policies, and on `data`; on `data` alone without one.

    Several values of a float are lanes of one compiled program, each with `num_seeds` seeds. `hyper` are floats by
    name, such as {"agent.alpha": [2.5, 10]}; `settings` are those of `pgd-train-agent` by their last names: num_seeds,
    num_phases, updates_per_phase, batch_size, sampler, num_steps, ... With a `workdir` it is the command's run, which
    resumes. Raises UserError for settings that cannot work.
    """
    sampling = [field.name for field in dataclasses.fields(configs.SamplingConfig)]
    known = [field.name for field in dataclasses.fields(configs.AgentConfig) if field.name != "sampling"]
    nested: dict[str, Any] = {"agent": agent, "dataset": data.source, "max_rows": data.max_rows, "sampling": {}}
    floats = dict(hyper or {})
    if denoiser is None:
        nested["synthetic_per_batch"] = 0
    else:
        nested["denoiser"] = denoiser.path or IN_MEMORY
        floats = {"guidance_coefficient": guidance_coefficient} | floats
    for name, value in settings.items():
        if name not in sampling + known or name in nested or name in ("denoiser", "sweep", "download"):
            raise UserError(f'train_agent has no setting "{name}"{nearest(name, sampling + known)}')
        (nested["sampling"] if name in sampling else nested)[name] = value
    config = _config(configs.AgentConfig, nested | {"sweep": _sweep(floats)})
    if workdir is None:
        return AgentResult(*experiments.fit_in_memory(config, denoiser and denoiser.trained, data))
    _require_source(data, workdir)
    if denoiser is not None and not denoiser.path:
        raise UserError(f"workdir={workdir}: the denoiser is in memory, so that the run could not resume; train it in one too")
    _require_end(experiments.fit(config, workdir, data), workdir)
    return load_agents(workdir)


def load_agents(path: str | os.PathLike) -> AgentResult:
    """What a run of `train_agent` has come to: its newest checkpoint, and all rows of its metrics."""
    from pgd_jax import metrics

    experiment, states, _ = experiments.load(path)
    return AgentResult(experiment, states, metrics.read(pathlib.Path(path) / "metrics.jsonl"))


def evaluate(policy: Policy, env: str, num_episodes: int = 16, seed: int = 0) -> np.ndarray:
    """Undiscounted returns f32[E] of episodes of `policy` in the task called `env`, which runs as compiled JAX.

    Raises UserError for a task that is not among the in-graph ones.
    """
    if env not in ENVS:
        on_host = " (it runs on the host only: train_agent judges by it)" if env in HOST_ENVS else ""
        raise UserError(f'no in-graph environment "{env}"{on_host}{nearest(env, ENVS)} (known: {", ".join(ENVS)})')
    made = ENVS.get(env)()
    run = functools.partial(evaluation.evaluate, policy=policy, env=made, num_episodes=num_episodes)
    return np.asarray(jax.jit(run)(jax.random.key(seed)).returns)


def in_network_space(log_prob: LogProb, codec: Any) -> LogProb:
    """A user's `log_prob` as guidance takes it. Raises UserError where it is no function that guidance can use."""
    layout = codec.layout
    count = len(inspect.signature(log_prob).parameters) if callable(log_prob) else 0
    if count < 2:
        raise UserError(f"log_prob must be a function of (obs [..., {layout.obs_dim}], action [..., {layout.action_dim}])")
    shapes = [jax.ShapeDtypeStruct((2, 3, dim), jnp.float32) for dim in (layout.obs_dim, layout.action_dim)]
    try:
        found = jax.eval_shape(log_prob, *shapes)
    except Exception as error:  # of the user's own code, or JAX's at a value that it does not know
        text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"log_prob cannot be traced by JAX at obs {shapes[0].shape}, action {shapes[1].shape}: {text}. It must be "
            "made of jax.numpy operations, and take any leading axes"
        ) from error
    if getattr(found, "shape", None) != (2, 3):
        raise UserError(
            f"log_prob of obs {shapes[0].shape} and action {shapes[1].shape} has shape {getattr(found, 'shape', found)}; "
            "expected (2, 3): one number for each row"
        )
    _require_finite(log_prob, codec)

    def steer(obs: jax.Array, action: jax.Array) -> jax.Array:
        return log_prob(codecs.decode_obs(codec, obs), action)

    return steer


def _require_finite(log_prob: LogProb, codec: Any) -> None:
    """At states and actions like the dataset's."""
    x = jax.random.normal(jax.random.key(0), (64, 1, codec.layout.dim))
    rows = codecs.decode(codec, x)
    obs, action = rows[..., codec.layout.obs], rows[..., codec.layout.action]
    value, gradient = jax.vmap(jax.value_and_grad(lambda a, s: log_prob(s, a).sum()))(action, obs)
    for what, array in (("value", value), ("gradient", gradient)):
        if not bool(jnp.isfinite(array).all()):
            raise UserError(f"log_prob has a {what} that is not finite at states and actions like the dataset's")


def _config(cls: type[configs.Config], nested: Mapping[str, Any]) -> configs.Config:
    """The config with these values, of which each must be of its default's type."""
    config = configs.from_dict(cls, dict(nested))
    _require_types(config)
    return config


def _require_types(config: Any, prefix: str = "") -> None:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            _require_types(value, f"{prefix}{field.name}.")
            continue
        wanted = type(field.default)
        is_right = isinstance(value, (int, float)) if wanted is float else isinstance(value, wanted)
        if not is_right or (isinstance(value, bool) and wanted is not bool):
            raise UserError(f"{prefix}{field.name}={value!r} must be of type {wanted.__name__}")


def _sweep(floats: Mapping[str, Float]) -> str:
    """Floats as `config.sweep` has them."""
    parts = []
    for name, values in floats.items():
        listed = np.atleast_1d(np.asarray(values, np.float64))
        parts.append(f"{name}={','.join(repr(float(value)) for value in listed)}")
    return "; ".join(parts)


def _whole_chunks(config: configs.DenoiserConfig, settings: Mapping[str, Any]) -> configs.DenoiserConfig:
    """With a chunk that divides the number of steps, where the caller named only that."""
    training = config.training
    if "steps_per_chunk" in settings or training.num_steps < 1 or training.ema_period < 1:
        return config
    sizes = range(training.ema_period, min(training.steps_per_chunk, training.num_steps) + 1, training.ema_period)
    chunk = max((size for size in sizes if training.num_steps % size == 0), default=training.steps_per_chunk)
    return dataclasses.replace(config, training=dataclasses.replace(training, steps_per_chunk=chunk))


def _require_source(data: Dataset, workdir: str | os.PathLike) -> None:
    if not data.source:
        raise UserError(
            f"workdir={os.fspath(workdir)}: a run must be able to read its dataset again, and {data.name} is in memory; "
            "write it to a file and load that (pgd.load_dataset)"
        )


def _require_end(is_finished: bool, workdir: str | os.PathLike) -> None:
    if not is_finished:
        raise KeyboardInterrupt(f"{os.fspath(workdir)} was stopped; the same call resumes")
