"""A value that is not finite stops a run, says where, and leaves it as it was before."""

import jax
import numpy as np
import pytest

from pgd_jax.core.errors import Diverged
from pgd_jax.runs import agent as agent_runs, metrics
from tests import worlds


def test_a_diverging_lane_stops_the_run_and_keeps_the_checkpoint_before(dataset, tmp_path):
    """IQL, one update a phase: the first, at a rate of 1e25, has finite losses and leaves a critic of huge weights."""
    config = worlds.agent_config(
        denoiser="", dataset=dataset, synthetic_per_batch=0, environment="none", agent="iql", num_phases=4,
        updates_per_phase=1, first_seed=5, hyper={"agent.critic_lr": (3e-4, 1e25)},
    )  # fmt: skip
    path = tmp_path / "run"
    for _ in range(2):  # the same command runs into it again
        with pytest.raises(Diverged) as error:
            agent_runs.fit(config, path)
        where = "is not finite in lane 2, phase 1 (seed 5, setting {'critic_lr': 1e+25})"
        assert str(path) in str(error.value) and where in str(error.value)
        assert not (path / "finished").exists()
        _, states, num_phases = agent_runs.load(path)
        assert num_phases == 1
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(states.agent)))
    # The rows that tell of it are kept, once.
    rows = metrics.read(path / "metrics.jsonl")
    assert [(row["phase"], row["lane"]) for row in rows] == [(phase, lane) for phase in range(2) for lane in range(4)]
    assert np.isfinite([row["critic_loss"] for row in rows[:4]]).all() and np.isfinite(rows[4]["critic_loss"])
