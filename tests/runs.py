"""Agent runs written by hand, as train_agent leaves them."""

from pgd_jax.core import config as configs
from pgd_jax.runs import agent as agent_runs, metrics, rundir

SYNTHETIC_LANES = [("unguided", 0.0, s) for s in range(3)] + [
    ("guided guidance_coefficient=3", 3.0, s) for s in range(3)
]
REAL_LANES = [("real", 0.0, s) for s in range(3)]
FINAL = [1.0, 2.0, 6.0, 11.0, 12.5, 16.0]  # guided - unguided by seed: 10, 10.5, 10


def write_run(path, scores, lanes, finished=True, **config):
    """A run as train_agent leaves it, without checkpoints: scores [P][L] with lanes of (group, coefficient, seed)."""
    settings = dict(denoiser=str(path.parent / "gone"), dataset="some-dataset", num_phases=max(len(scores), 1)) | config
    base = configs.AgentConfig(**settings)
    with rundir.open_run(path, agent_runs.KIND, configs.to_dict(base)) as directory:
        with metrics.MetricsWriter(directory.metrics_path) as writer:
            for phase, values in enumerate(scores):
                for lane, ((group, coefficient, seed), value) in enumerate(zip(lanes, values, strict=True)):
                    row = {"lane": lane, "phase": phase, "seed": seed, "group": group, "wall_s": 1.0}
                    row |= {"setting": {"guidance_coefficient": coefficient}, "updates": 10 * (phase + 1)}
                    writer.write([row | ({} if value is None else {"return_mean": value})])
        if finished:
            directory.mark_finished()
    return path
