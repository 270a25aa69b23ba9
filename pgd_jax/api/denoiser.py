"""The trained diffusion model of the front door, and how it is sampled."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgd_jax.api import keywords, log_prob as log_probs
from pgd_jax.core import config as configs, hyper as floats, logging, ranges, validation
from pgd_jax.core.compilation import in_float32
from pgd_jax.core.errors import UserError
from pgd_jax.core.types import Layout, LogProb, Params
from pgd_jax.data import normalizer as normalizers, trace as traces, windows
from pgd_jax.data.trace import Trace
from pgd_jax.data.windows import Windows
from pgd_jax.diffusion import edm, guidance as guiding, likelihood, schedules
from pgd_jax.generators import diffusion, settings as sampling_settings
from pgd_jax.runs import denoiser as denoisers, footprint

IN_MEMORY = "in memory"  # stands for a denoiser's run directory


@dataclasses.dataclass(frozen=True)
class Denoiser:
    """A trained diffusion model of trajectory windows. Made by `train_denoiser` or `load_denoiser`."""

    trained: denoisers.Trained
    path: str = ""  # its run directory; "" in memory
    env: str = ""
    reference: str = ""

    def __repr__(self) -> str:
        layout, data = self.trained.normalizer.layout, self.trained.config.data
        sizes = f"obs {layout.obs_dim}, action {layout.action_dim}, windows of {data.window_length} rows"
        return f"Denoiser({data.dataset or 'arrays'!r}, {sizes})"

    @in_float32
    def sample(
        self,
        key: jax.Array,
        num_windows: int,
        log_prob: LogProb | None = None,
        guidance: float = guiding.COEFFICIENT,
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
            that JAX can trace, also one that closes over a network of your own. A policy a = tanh(u), as SAC has it, is
            better given as a `Squashed` with the density of u. None: unguided.
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
        own = {"guidance": rule, "num_trajectories": -(-num_windows // batch) * batch, "trajectories_per_batch": batch}
        x = self._drawn(diffusion.sample, key, log_prob, guidance, own | sampling, hyper or {})
        return self._windows(x[:num_windows], guidance)

    @in_float32
    def trace(
        self,
        key: jax.Array,
        num_windows: int,
        log_prob: LogProb | None = None,
        guidance: float = guiding.COEFFICIENT,
        *,
        rule: str = configs.SamplingConfig.guidance,
        hyper: Mapping[str, float] | None = None,
        **sampling: Any,
    ) -> Trace:
        """The windows of `sample`, all in one batch, and what each noise step saw: for a look at a few windows.

        Arguments are those of `sample`. The same key gives the same windows; where XLA compiles the larger program in
        another way, their last bit may differ. Every guided step costs one more denoiser call, for what it had been
        without guidance (two with rule="paper").

        Each of the four `Rows` of the result holds num_steps x num_windows x window_length x (obs + action + 2) floats.
        On the device there are up to seven arrays of that size at once.

        Raises UserError for what `sample` refuses, and for a sampler of your own that does not record its steps.
        """
        if num_windows < 1:
            raise UserError(f"num_windows={num_windows} must be at least 1")
        own = {"guidance": rule, "num_trajectories": num_windows, "trajectories_per_batch": num_windows}
        if taken := own.keys() & sampling.keys():
            raise UserError(f"{', '.join(sorted(taken))}: a trace is of one batch, whose size is num_windows")
        x, steps = self._drawn(diffusion.trace, key, log_prob, guidance, own | sampling, hyper or {})
        return traces.of(self.trained.normalizer, self._windows(x, guidance), *steps)

    def _drawn(
        self,
        draw: Callable[..., Any],
        key: jax.Array,
        log_prob: LogProb | None,
        guidance: float,
        sampling: Mapping[str, Any],
        hyper: Mapping[str, float],
    ) -> Any:
        """What `draw`, of generators/diffusion.py, makes of these settings once they are checked."""
        settings = keywords.config(configs.SamplingConfig, sampling)
        sampling_settings.check(settings)
        validation.validate_sampling(settings)
        one = _one_value(hyper)
        sampling_settings.check_hypers(settings, one)
        if found := sampling_settings.unlike_published(settings, one):
            logging.info(found.replace("guidance=", "rule=", 1))
        floats.check("guidance", (guidance,), ranges.NOT_NEGATIVE)
        network, params, normalizer = self.trained.network, self.trained.params, self.trained.normalizer
        plan = diffusion.Plan(settings, self.trained.config.data.window_length, network)
        plan = diffusion.specialised(plan, jax.tree.map(jnp.atleast_1d, one))
        coefficient = jnp.float32(guidance if log_prob is not None else 0.0)
        steer = guiding.uniform if log_prob is None else log_probs.in_network_space(log_prob, normalizer)

        @jax.jit
        def generate(key: jax.Array, model: diffusion.Model) -> Any:  # weights are an argument, never a constant
            return draw(plan, key, steer, coefficient, one, model, normalizer)

        model = diffusion.Model(params)
        compiled = footprint.compile(generate, key, model)
        footprint.announce_quietly(footprint.of_sampling(settings, compiled))
        return compiled(key, model)

    def _windows(self, x: jax.Array, guidance: float) -> Windows:
        made = windows.generated(self.trained.normalizer, x, self.env, self.reference)
        if not np.isfinite(made.obs).all():
            raise UserError(f"guidance={guidance} made windows that are not finite; use less, or a smoother log_prob")
        return made

    @in_float32
    def log_likelihood(
        self,
        windows: Windows,
        *,
        num_steps: int = 64,
        num_probes: int = 0,
        key: jax.Array | None = None,
        sigma_min: float = likelihood.SIGMA_MIN,
        sigma_max: float = likelihood.SIGMA_MAX,
        windows_per_batch: int = 64,
    ) -> np.ndarray:
        """log p f32[N] of `windows` under the unguided model, in nats, by its probability-flow ODE.

        The density is that of network space: of all rows of a window (also of those that are not `valid`), standardised
        and with actions through arctanh, with noise `sigma_min` on them (see pgd_jax/diffusion/likelihood.py). No
        change of variables to the environment's units is made. There is none: actions are clipped on the way, and a
        terminal is yes or no. So compare windows with each other, or models of the same dataset. A column that never
        changes in the data has the density of the noise alone: the number is then large, and depends on `sigma_min`.

        Args:
          num_steps: of Heun's rule, two denoiser calls each; the error falls with its square.
          num_probes: 0: the exact trace, which takes window_length (obs + action + 2) tangents a call. Else an estimate
            without bias from so many random directions, for which a `key` is needed.
          windows_per_batch: done at once; sets memory.

        Raises UserError for windows of another shape than the model's, and for settings that cannot work.
        """
        normalizer, length = self.trained.normalizer, self.trained.config.data.window_length
        rows = _rows(windows, length, normalizer.layout)
        if num_steps < 1 or num_probes < 0 or windows_per_batch < 1 or not 0.0 < sigma_min < sigma_max:
            raise UserError(
                f"num_steps={num_steps} and windows_per_batch={windows_per_batch} must be at least 1, num_probes="
                f"{num_probes} not negative, and 0 < sigma_min={sigma_min} < sigma_max={sigma_max}"
            )
        if num_probes and key is None:
            raise UserError(f"num_probes={num_probes} are drawn at random: give a key, or num_probes=0 for none")
        key = jax.random.key(0) if key is None else key
        sigmas = schedules.karras(num_steps + 1, sigma_min, sigma_max)
        network = self.trained.network

        @jax.jit
        def run(params: Params, x: jax.Array, sigmas: jax.Array, key: jax.Array) -> jax.Array:
            denoise = edm.denoiser(network, params)
            return likelihood.log_likelihood(denoise, x, sigmas, key, num_probes)

        size = min(windows_per_batch, len(rows))
        padded = np.concatenate([rows, np.repeat(rows[-1:], -len(rows) % size, axis=0)])  # one shape, one compilation
        x = normalizers.encode(normalizer, jnp.asarray(padded)).reshape(-1, size, *rows.shape[1:])
        keys = jax.random.split(key, len(x))
        found = [run(self.trained.params, batch, sigmas, key) for batch, key in zip(x, keys, strict=True)]
        return np.concatenate(jax.device_get(found))[: len(rows)]


def _rows(windows: Windows, length: int, layout: Layout) -> np.ndarray:
    """Windows as rows f32[N, T, D], environment space. Raises UserError where there are none of the model's shape."""
    found = (windows.obs.shape[1], windows.obs.shape[2], windows.action.shape[2])
    expected = (length, layout.obs_dim, layout.action_dim)
    if found != expected or not len(windows):
        raise UserError(
            f"{len(windows)} windows of {found[0]} rows, obs {found[1]}, action {found[2]}; the denoiser takes at "
            f"least one of {expected[0]} rows, obs {expected[1]}, action {expected[2]}"
        )
    columns = (windows.obs, windows.action, windows.reward[..., None], windows.terminal[..., None])
    return np.concatenate(columns, axis=-1).astype(np.float32)


def _one_value(hyper: Mapping[str, float]) -> diffusion.Hyper:
    """The floats of one sampling, f32[] each; raises UserError for an unknown one, or several values of one."""
    if "guidance_coefficient" in hyper:
        raise UserError("hyper: guidance_coefficient is the argument `guidance` of a sampling")
    return keywords.one_value(diffusion.Hyper(), hyper)
