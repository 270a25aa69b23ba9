"""Every agent solves small offline MDPs with known answers."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from pgd_jax import agents  # noqa: F401 (registers the agents)
from pgd_jax.agents.base import AGENTS
from tests import probes

NUM_UPDATES, BATCH = 1500, 128

CLONING = 0.4  # ReBRAC's weight of the data, large enough to be seen
SOFT = {"temperature_lr": 0.01}  # it has little time
SETTINGS = {
    "cql": {"conservatism": 0.1} | SOFT,  # as rewards are not in the hundreds; so is EDAC's weight
    "edac": {"diversity": 0.01} | SOFT,
    "rebrac": {"actor_bc": CLONING},
    "sac_n": SOFT,
    "td3_awr": {"actor_bc": CLONING},
}
SLOW = ("cql", "edac", "iql_deterministic", "rebrac", "sac_n", "td3_awr")  # as iql is; larger, and LayerNorm
CLONES = ("bc", "bc_gaussian")  # they do what the data do, and know no value
VALUED = [name for name in AGENTS.names() if name not in CLONES]

# What each agent's objective makes of the control probes; a new agent adds its line.
BANDIT_ACTION = {
    "awac": probes.iql_action(1.0)[0],  # its lambda of 1/3 is IQL's beta of 3; the values cancel in both
    "bc": 0.0,
    "bc_gaussian": 0.0,
    "cql": probes.soft_action(-1.0),
    "edac": probes.soft_action(-1.0),
    "iql": probes.iql_action(1.0)[0],
    "iql_deterministic": probes.iql_action(1.0)[0],
    "rebrac": probes.td3_bc_action(1.0, probes.peak, alpha=1.0 / CLONING),
    "sac_n": probes.soft_action(-1.0),
    "td3_awr": probes.td3_awr_action(1.0, probes.peak, CLONING),
    "td3_bc": probes.td3_bc_bandit_action(),
}
FIRST_ACTION = {
    "awac": probes.iql_action(0.9)[0],
    "bc": 0.0,
    "bc_gaussian": 0.0,
    "cql": probes.soft_first_action(-1.0),
    "edac": probes.soft_first_action(-1.0),
    "iql": probes.iql_action(0.9)[0],
    "iql_deterministic": probes.iql_action(0.9)[0],
    "rebrac": probes.td3_bc_action(0.9, probes.two_steps_mean_abs_q, alpha=1.0 / CLONING),
    "sac_n": probes.soft_first_action(-1.0),
    "td3_awr": probes.td3_awr_action(0.9, probes.two_steps_mean_abs_q, CLONING),
    "td3_bc": probes.td3_bc_two_steps_action(),
}


@functools.cache
def fit(name, make_probe, *args, **floats):
    """(agent, state, logs of one more update on the whole probe) after training at a higher learning rate."""
    family, probe = AGENTS.get(name), make_probe(*args)
    plan = dataclasses.replace(family.plan, hidden_dim=32, num_hidden=2)
    agent = family.build(probe.data.obs.shape[1], 1, plan)
    own = vars(family.hyper())
    rates = {field: 3e-3 for field in own if field.endswith("_lr")} | ({"polyak": 0.05} if "polyak" in own else {})
    hyper = family.hyper().replace(discount=probe.discount, **rates | SETTINGS.get(name, {}) | floats)
    shape = (agent.batches_per_update, BATCH)
    if not agent.needs_next_action:
        probe = probe._replace(data=probe.data._replace(next_action=None))

    def body(state, key):
        key_batch, key_update = jax.random.split(key)
        rows = jax.random.randint(key_batch, shape, 0, len(probe.data.reward))
        return agent.update(key_update, state, jax.tree.map(lambda x: jnp.asarray(x)[rows], probe.data), hyper)

    @jax.jit
    def run(key):
        key_init, key_learn, key_logs = jax.random.split(key, 3)
        state, _ = jax.lax.scan(body, agent.init(key_init, hyper), jax.random.split(key_learn, NUM_UPDATES))
        whole = jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * shape[0]), probe.data)
        return state, agent.update(key_logs, state, whole, hyper)[1]

    return agent, *run(jax.random.key(0))


@pytest.mark.slow
@pytest.mark.parametrize("name", VALUED)
@pytest.mark.parametrize("terminal, value", [(False, 2.0), (True, 1.0)])
def test_value_of_a_constant_reward(name, terminal, value):
    _, _, logs = fit(name, probes.constant_reward, terminal)
    # A constant is what a network with LayerNorm fits last, and EDAC's critics are to differ: their least lies below.
    atol = 0.03 if AGENTS.get(name).plan.critic_norm == "none" and name != "edac" else 0.1
    np.testing.assert_allclose(logs["q_mean"], value, atol=atol)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in AGENTS.names()]
)
def test_contextual_bandit(name):
    agent, state, logs = fit(name, probes.contextual_bandit)
    action = agent.act(state, jnp.array([[-1.0], [1.0]]))[:, 0]
    np.testing.assert_allclose(action, [-BANDIT_ACTION[name], BANDIT_ACTION[name]], atol=0.05)
    if name in CLONES:
        return
    # E peak(a), a uniform: 1 - (1/3 + 1/4)
    np.testing.assert_allclose(logs["q_mean"], 1.0 - 7.0 / 12.0, atol=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("name", AGENTS.names())
def test_credit_travels_one_step_back(name):
    agent, state, _ = fit(name, probes.two_steps)
    # Each second state has one action alone: there EDAC's critics differ, and their least is uneven between states.
    atol = 0.1 if name == "edac" else 0.05
    np.testing.assert_allclose(agent.act(state, jnp.zeros((1, 2)))[0, 0], FIRST_ACTION[name], atol=atol)


def test_iql_spread_and_value_of_the_bandit():
    agent, state, logs = fit("iql", probes.contextual_bandit)
    obs = jnp.ones((1, 1))
    log_peak_density = agent.log_prob(state, obs, agent.act(state, obs))[0]
    std = 1.0 / (jnp.exp(log_peak_density) * np.sqrt(2.0 * np.pi))
    np.testing.assert_allclose(std, probes.iql_action(1.0)[1], atol=0.03)
    best = scipy.stats.expectile(probes.peak(np.linspace(-1.0, 1.0, probes.NUM_ACTIONS)), 0.7)
    np.testing.assert_allclose(logs["v_mean"], best, atol=0.03)


@pytest.mark.slow
def test_cql_lowers_the_bandit_s_critics_as_its_objective_says():
    """With a wide policy, of which few samples estimate the integral well."""
    weight = 1.0
    _, _, logs = fit("cql", probes.contextual_bandit, conservatism=weight, entropy_per_action_dim=0.6)
    error, gap = probes.conservative_errors(weight)
    np.testing.assert_allclose(logs["critic_loss"] / 2.0, error, rtol=0.15)  # two critics
    np.testing.assert_allclose(logs["conservative_gap"] / 2.0, gap, rtol=0.05)
