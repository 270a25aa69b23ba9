"""A module of the user's own adds one of everything, by --import, without a change to the library."""

import json
import subprocess
import sys

import pytest

MINE = '''
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

import pgd_jax as pgd
from pgd_jax.agents.base import AGENTS, Agent, AgentFamily
from pgd_jax.core.hyper import Float, setting
from pgd_jax.data.base import DATASETS
from pgd_jax.diffusion.guidance import GUIDANCE, Guided, Rule
from pgd_jax.diffusion.samplers import SAMPLERS, Options, Sampler, integrate
from pgd_jax.diffusion.schedules import SCHEDULES
from pgd_jax.envs.base import ENVS, EvalEnv
from pgd_jax.generators.base import GENERATORS, Generator, GeneratorFamily, compact
from pgd_jax.runs.sinks.base import SINKS, SinkFamily


@struct.dataclass
class Hyper:
    learning_rate: Float = setting(0.1, "of gradient descent")
    discount: Float = setting(0.9, "gamma")


def build_agent(obs_dim, action_dim, plan):
    """Clones the data by a linear policy."""

    def act(state, obs):
        return jnp.tanh(obs @ state)

    def update(key, state, batches, hyper):
        loss, gradient = jax.value_and_grad(lambda w: jnp.mean((act(w, batches.obs) - batches.action) ** 2))(state)
        return state - hyper.learning_rate * gradient, {"clone_loss": loss}

    def log_prob(state, obs, action):
        return -0.5 * jnp.sum((action - act(state, obs)) ** 2, axis=-1)

    return Agent(lambda key, hyper: jnp.zeros((obs_dim, action_dim)), update, act, log_prob, batches_per_update=1)


def sample(key, denoise, sigmas, shape, options=Options()):
    """Jumps to the denoised window and half of the way back."""

    def update(x, denoised, step, memory):
        x0 = denoised(x, step.sigma, step.number)
        return x0 + 0.5 * step.sigma_next / step.sigma * (x - x0), memory

    return integrate(key, denoise, sigmas, shape, options, update)


def build_rule(denoise, steering):
    """Adds a constant to the actions, whatever the policy."""

    def correct(x0, sigma, step):
        return x0.at[..., steering.normalizer.layout.action].add(0.1 * steering.strength(sigma))

    return Guided(denoise, correct)


@struct.dataclass
class NoiseHyper:
    scale: Float = setting(0.5, "standard deviation of the noise")


def build_generator(context):
    """Real rows with noise on their rewards: windows of two rows."""
    real, count = context.real, context.config.sampling.num_trajectories

    def generate(key, state, guide, hyper, model, normalizer, mesh=None):
        key_rows, key_noise = jax.random.split(key)
        rows = jax.random.randint(key_rows, (count, 2), 0, model.reward.shape[0])
        made = jax.tree.map(lambda leaf: leaf[rows], model)
        noise = hyper.scale * jax.random.normal(key_noise, made.reward.shape)
        return state + 1, compact(made._replace(reward=made.reward + noise), jnp.ones((count, 2), bool))

    def init(key, hyper, model, normalizer):
        return jnp.int32(0)

    return Generator(init, generate, window_length=2, num_windows=count, num_batches=1), real


def make_env():
    """A point that an action pushes; it is paid for being at 0."""

    def reset(key):
        obs = jax.random.normal(key, (2,))
        return obs, obs

    def step(key, state, action):
        state = state + 0.1 * action
        return state, state, -jnp.sum(state**2), jnp.array(False)

    return EvalEnv("mine", 2, 2, 5, reset, step, from_obs=lambda obs: obs)


def load():
    draw = np.random.default_rng(0)
    obs = draw.normal(size=(120, 2)).cumsum(axis=0) * 0.1
    end = np.arange(120) % 20 == 19
    return pgd.Dataset.from_arrays(
        obs, np.tanh(draw.normal(size=(120, 2))), draw.normal(size=120), np.zeros(120), end, name="mine-v0", env="mine"
    )


class Best:
    """Keeps the best return that the run has had in a file."""

    def __init__(self, target):
        self.file, self.best = target.path / "best.txt", -float("inf")
        self.write(target.rows)

    def write(self, rows):
        self.best = max([self.best, *(row["return_mean"] for row in rows)])
        self.file.write_text(f"{self.best}")

    def close(self):
        pass


AGENTS.add("mine", AgentFamily(Hyper, build_agent))
SAMPLERS.add("mine", Sampler(sample, order=1, calls=lambda n: n))
GUIDANCE.add("mine", Rule(build_rule))
SCHEDULES.add("mine", lambda n, low, high, rho: jnp.append(jnp.linspace(high, low, n), 0.0))
GENERATORS.add("mine", GeneratorFamily(NoiseHyper, build_generator))
ENVS.add("mine", make_env)
DATASETS.add("mine-v0", load)
SINKS.add("mine", SinkFamily(Best))
'''

DENOISER = ["dataset=mine-v0", "window_length=8", "window_stride=4"]
DENOISER = [f"--config.data.{each}" for each in DENOISER] + ["--config.unet.width=8", "--config.unet.num_blocks=1"]
DENOISER += [f"--config.training.{each}" for each in ("num_steps=10", "steps_per_chunk=10", "batch_size=8")]
SIZES = [
    "num_phases=2",
    "updates_per_phase=3",
    "batch_size=8",
    "synthetic_per_batch=6",
    "num_episodes=2",
    "num_seeds=1",
]
SIZES += ["agent=mine", "dataset=mine-v0", "sampling.num_trajectories=8", "sampling.trajectories_per_batch=4"]
SIZES = [f"--config.{each}" for each in SIZES]


def command(folder, name, *flags, status=0):
    line = [sys.executable, "-m", f"pgd_jax.cli.{name}", *flags]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=400)
    assert done.returncode == status, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A project of one module, with a denoiser trained on its own dataset."""
    path = tmp_path_factory.mktemp("project")
    (path / "mine.py").write_text(MINE)
    command(path, "train_denoiser", "--import", "mine", "--workdir=denoiser", *DENOISER)
    return path


def last_row(path):
    return json.loads((path / "metrics.jsonl").read_text().splitlines()[-1])


def test_an_agent_a_sampler_a_rule_a_schedule_an_environment_a_sink_and_a_dataset(folder):
    flags = ["--config.denoiser=denoiser", "--config.sampling.sampler=mine", "--config.sampling.guidance=mine"]
    flags += ["--config.sampling.noise_schedule=mine", "--config.sampling.num_steps=3"]
    flags += ["--config.hyper.agent.learning_rate=0.1,0.2"]
    done = command(folder, "train_agent", "--import=mine", "--workdir=agent", "--sinks=mine,csv", *SIZES, *flags)
    assert "agent: every number goes to agent/metrics.jsonl, and to mine, csv\n" in done.stderr
    assert "\r" not in done.stderr and done.stderr.splitlines()[-1].startswith("agent: 12.0 of 12.0 updates (100%), ")
    row = last_row(folder / "agent")
    assert row["setting"] == {"learning_rate": 0.2, "guidance_coefficient": 10.0}
    assert {"clone_loss", "return_mean", "dynamics_error"} <= row.keys()
    # Rows say which of two rates was better: the lanes differ.
    rows = [json.loads(line) for line in (folder / "agent" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["clone_loss"] != rows[-2]["clone_loss"]
    assert float((folder / "agent" / "best.txt").read_text()) == max(row["return_mean"] for row in rows)
    assert len((folder / "agent" / "metrics.csv").read_text().splitlines()) == 1 + len(rows)
    command(folder, "sample", "--import=mine", "--run=agent", "--out=x.hdf5", "--num_trajectories=4")
    refused = command(folder, "sample", "--run=agent", "--out=y.hdf5", status=2)
    assert 'unknown agent "mine"' in refused.stderr and "--import=" in refused.stderr


def test_a_generator(folder):
    flags = ["--config.generator=mine", "--config.hyper.generator.scale=0,2", "--config.hyper.reward_scale=2"]
    done = command(folder, "train_agent", "--import=mine", "--workdir=generated", "--quiet", *SIZES, *flags)
    assert done.stderr == done.stdout == ""
    row = last_row(folder / "generated")
    assert row["setting"] == {"scale": 2.0, "reward_scale": 2.0} and "synthetic_log_likelihood" in row
    listed = command(folder, "train_agent", "--import=mine", "--config.generator=mine", "--help", status=1).stdout
    assert "--config.hyper.generator.scale=0.5: standard deviation of the noise" in listed


@pytest.mark.parametrize(
    ("name", "message"),
    [("nothing_like_it", "--import=nothing_like_it: the module cannot be imported (ModuleNotFoundError"),
     ("broken", "--import=broken: the module cannot be imported (ZeroDivisionError: division by zero)")],
)  # fmt: skip
def test_a_module_that_cannot_be_imported_is_one_clear_error(folder, name, message):
    (folder / "broken.py").write_text("1 / 0")
    refused = command(folder, "train_denoiser", f"--import={name}", "--workdir=new", status=2)
    assert refused.stderr.startswith("error: ") and message in refused.stderr and "Traceback" not in refused.stderr
    assert not (folder / "new").exists()
