"""The one-step world model of the front door, and how a policy is rolled out in it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgd_jax.api import keywords
from pgd_jax.core import config as configs, validation
from pgd_jax.core.compilation import in_float32
from pgd_jax.core.errors import UserError, first_line
from pgd_jax.core.types import Normalizer, Policy, Transition
from pgd_jax.data import normalizer as normalizers, windows
from pgd_jax.data.windows import Windows
from pgd_jax.envs.base import ENVS, IsTerminal
from pgd_jax.generators import ensemble
from pgd_jax.runs import footprint, world_model as world_models

# Of what is looked at, not trained on; `train_agent` has the command's defaults.
DEFAULTS = {"penalty": 0.0, "action_noise": 0.0}


@dataclasses.dataclass(frozen=True)
class WorldModel:
    """A trained one-step world model. Made by `train_world_model` or `load_world_model`."""

    trained: world_models.Trained
    path: str = ""  # its run directory; "" in memory
    env: str = ""
    reference: str = ""
    starts: Any = None  # f32[N, O] observations of the dataset, environment space; None where it is not known

    def __repr__(self) -> str:
        layout, config = self.trained.normalizer.layout, self.trained.config
        sizes = f"obs {layout.obs_dim}, action {layout.action_dim}, {config.num_elites} of {config.num_members} members"
        return f"WorldModel({config.data.dataset or 'arrays'!r}, {sizes})"

    @in_float32
    def sample(
        self,
        key: jax.Array,
        num_windows: int,
        policy: Policy,
        *,
        horizon: int = configs.RolloutConfig.horizon,
        starts: Any = None,
        windows_per_batch: int = configs.RolloutConfig.rollouts_per_batch,
        hyper: Mapping[str, float] | None = None,
        **rollout: Any,
    ) -> Windows:
        """`num_windows` rollouts of `horizon` steps under `policy`, as windows of `horizon` + 1 rows.

        Args:
          key: typed JAX key; the same key gives the same windows.
          policy: obs [..., O] -> action [..., A], environment space; any function that JAX can trace.
          starts: observations f32[K, O], environment space, of which each rollout draws its first; None: the dataset's.
          windows_per_batch: at once; sets memory.
          hyper: floats by name: {"model_noise": 0.0} takes the mean of the model's Gaussian. "penalty" and
            "action_noise" are 0 here unless given.
          rollout: the other settings of `RolloutConfig`: terminals, uncertainty.

        Raises UserError for settings that cannot work and for a `policy` that is not such a function.
        """
        batch = min(windows_per_batch, num_windows)
        if num_windows < 1 or batch < 1 or horizon < 1:
            raise UserError(
                f"num_windows={num_windows}, windows_per_batch={windows_per_batch} and horizon={horizon} must be at "
                "least 1"
            )
        # The last row is a state and an action alone, as a generated window's is.
        own = {"horizon": horizon + 1, "num_rollouts": -(-num_windows // batch) * batch, "rollouts_per_batch": batch}
        settings = keywords.config(configs.RolloutConfig, own | rollout)
        validation.validate_rollout(settings)
        normalizer, one = self.trained.normalizer, keywords.one_value(ensemble.Hyper(), DEFAULTS | dict(hyper or {}))
        plan = ensemble.Plan(settings, self._rule() if settings.terminals == configs.RULE else None)
        plan = ensemble.specialised(plan, jax.tree.map(jnp.atleast_1d, one))
        model = ensemble.Model(self.trained.params, self.trained.scale, self._starts(starts))
        act = in_network_space(policy, normalizer)

        @jax.jit
        def generate(key: jax.Array, model: ensemble.Model) -> tuple[Transition, jax.Array]:
            return ensemble.sample(plan, key, act, one, model, normalizer)

        compiled = footprint.compile(generate, key, model)
        footprint.announce_quietly(footprint.of_rollouts(settings, compiled))
        rows, valid = jax.tree.map(lambda leaf: leaf[:num_windows], compiled(key, model))
        made = windows.rolled_out(normalizer, rows, valid, self.env, self.reference)
        if not (np.isfinite(made.obs).all() and np.isfinite(made.action).all()):
            raise UserError(f"the rollouts are not finite within horizon={horizon}; use a shorter one")
        return made

    def _rule(self) -> IsTerminal | None:
        return ENVS.get(self.env)().is_terminal if self.env in ENVS else None

    def _starts(self, given: Any) -> jax.Array:
        found = self.starts if given is None else given
        if found is None:
            raise UserError("nothing says where rollouts start: give starts=..., or load_world_model(path, data)")
        obs_dim = self.trained.normalizer.layout.obs_dim
        obs = np.asarray(found, np.float32)
        if obs.ndim != 2 or obs.shape[1] != obs_dim or not len(obs) or not np.isfinite(obs).all():
            raise UserError(f"starts of shape {obs.shape} must be finite observations [K, {obs_dim}], K at least 1")
        return normalizers.encode_obs(self.trained.normalizer, jnp.asarray(obs))


def in_network_space(policy: Callable[[Any], Any], normalizer: Normalizer) -> Policy:
    """A user's policy as rollouts take it. Raises UserError where it is no function that they can use."""
    layout = normalizer.layout
    shape = jax.ShapeDtypeStruct((2, layout.obs_dim), jnp.float32)
    if not callable(policy):
        raise UserError(f"policy must be a function of obs [..., {layout.obs_dim}], found {policy!r}")
    try:
        found = jax.eval_shape(policy, shape)
    except Exception as error:  # of the user's own code, or JAX's at a value that it does not know
        raise UserError(f"policy cannot be traced by JAX at obs {shape.shape}: {first_line(error)}") from error
    if getattr(found, "shape", None) != (2, layout.action_dim):
        raise UserError(
            f"policy of obs {shape.shape} has shape {getattr(found, 'shape', found)}; expected (2, {layout.action_dim})"
        )
    return lambda obs: jnp.asarray(policy(normalizers.decode_obs(normalizer, obs)), jnp.float32)
