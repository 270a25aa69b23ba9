"""Floating-point operations of agents by hand: matrix products only, two a multiply-add; the least that is needed.

Elementwise work (normalisation, Adam, noise) is left out, and so is every product that a compiler may share.
"""


def dense(in_dim: int, out_dim: int) -> int:
    """One row through one layer."""
    return 2 * in_dim * out_dim


def mlp(in_dim: int, out_dim: int, hidden_dim: int, num_hidden: int) -> int:
    """One row through networks/mlp.py."""
    return dense(in_dim, hidden_dim) + (num_hidden - 1) * dense(hidden_dim, hidden_dim) + dense(hidden_dim, out_dim)


def mlp_gradient(in_dim: int, out_dim: int, hidden_dim: int, num_hidden: int) -> int:
    """One row forward, then back to the parameters: two products a layer, one in the first, whose input is data."""
    return 3 * mlp(in_dim, out_dim, hidden_dim, num_hidden) - dense(in_dim, hidden_dim)


def iql(obs_dim: int, action_dim: int, hidden_dim: int, num_hidden: int) -> int:
    """One row of an update's batch: the losses' gradients, the target critics once, the new value twice."""
    sizes = (hidden_dim, num_hidden)
    gradients = mlp_gradient(obs_dim, 1, *sizes) + mlp_gradient(obs_dim, action_dim, *sizes)
    gradients += 2 * mlp_gradient(obs_dim + action_dim, 1, *sizes)
    return gradients + 2 * mlp(obs_dim + action_dim, 1, *sizes) + 2 * mlp(obs_dim, 1, *sizes)


def td3_bc(obs_dim: int, action_dim: int, hidden_dim: int, num_hidden: int) -> float:
    """One row of an update's batch, the mean over two updates: the actor moves with every second."""
    sizes = (hidden_dim, num_hidden)
    critic_dim = obs_dim + action_dim
    target = mlp(obs_dim, action_dim, *sizes) + 2 * mlp(critic_dim, 1, *sizes)
    # Through one critic there and back to the action, without its parameters.
    actor = mlp_gradient(obs_dim, action_dim, *sizes) + 2 * mlp(critic_dim, 1, *sizes)
    return target + 2 * mlp_gradient(critic_dim, 1, *sizes) + actor / 2


AGENTS = {"td3_bc": td3_bc, "iql": iql}
