"""SAC swings the in-graph pendulum up, in the very loop that collects datasets."""

import jax
import numpy as np

from pgd_jax.runs.collect import online


def test_sac_swings_the_pendulum_up():
    """A policy that does nothing useful gets some -1200, one that balances at once -150."""
    plan = online.OnlinePlan(
        num_envs=4, steps_per_chunk=1000, num_exploring_steps=1000, batch_size=128, hidden_dim=64,
        replay_capacity=12_000,
    )  # fmt: skip
    program = online.build(plan, "pendulum")
    state, replay, returns, logs = online.init(program), jax.device_put(online.empty_replay(program)), [], {}
    compiled = online.run_chunk._cache_size()
    for _ in range(12):
        state, replay, _, logs = online.run_chunk(program, state, replay)
        returns.append(float(logs["return_mean"]))
    assert online.run_chunk._cache_size() == compiled + 1
    assert max(returns[:3]) < -700.0 and np.mean(returns[-3:]) > -350.0, returns
    # The temperature has brought the entropy from that of a wide policy near its target, -1.
    assert abs(float(logs["entropy"]) + 1.0) < 0.3 and int(state.num_steps) == 12_000
