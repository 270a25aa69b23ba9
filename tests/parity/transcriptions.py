"""The published updates, written from the papers' equations: they share no line with the library.

A transcription is `step(nets, batches, noise, h) -> nets`: `nets` are networks by name, `batches` a list of dicts of
arrays, `noise` standard normal draws by name, `h` the floats by name. All in float64, with gradients by hand.
"""

import numpy as np

from tests.parity.networks import adam, critics, gaussian, min_q, policy, polyak, value


def fit_critics(critic, b, y, h):
    """TD3, Algorithm 1: sum over critics of the mean squared error."""
    q, backward = critics(critic.theta, b["obs"], b["action"])
    return adam(critic, backward(2.0 * (q - y) / len(y))[0], h["critic_lr"], h["adam_eps"])


def smoothed(nets, b, noise, h):
    """a' = clip(pi'(s') + clip(N(0, std), -c, c)) (TD3, Algorithm 1)."""
    shift = np.clip(h["target_noise"] * noise, -h["target_noise_clip"], h["target_noise_clip"])
    return np.clip(policy(nets["target_actor"].theta, b["next_obs"])[0] + shift, -1.0, 1.0)


def bootstrap(b, next_value, h):
    return b["reward"] + h["discount"] * (1.0 - b["terminal"]) * next_value


def targets_follow(nets, h):
    """Those that there are."""
    names = [name for name in ("actor", "critic") if f"target_{name}" in nets]
    return nets | {f"target_{name}": polyak(nets[f"target_{name}"], nets[name], h["polyak"]) for name in names}


def td3_bc(nets, batches, noise, h):
    """Fujimoto & Gu 2021, equations 3 to 5: min |pi - a|^2 - lambda Q_1(s, pi), lambda = alpha / mean |Q_1|."""
    critic = nets["critic"]
    for i, b in enumerate(batches):
        q_next = min_q(nets["target_critic"].theta, b["next_obs"], smoothed(nets, b, noise["target"][i], h))
        critic = fit_critics(critic, b, bootstrap(b, q_next, h), h)
    b = batches[-1]
    a, backward = policy(nets["actor"].theta, b["obs"])
    q, of_q = critics(critic.theta, b["obs"], a)
    of_first = np.stack([np.full(len(a), -h["alpha"] / np.abs(q[0]).mean() / len(a)), np.zeros(len(a))])
    grad = backward(2.0 * (a - b["action"]) / a.size + of_q(of_first)[1])
    return targets_follow(
        nets | {"critic": critic, "actor": adam(nets["actor"], grad, h["actor_lr"], h["adam_eps"])}, h
    )


def rebrac_critics(nets, batches, noise, h):
    """Tarasov et al. 2023: the target loses beta_c |a' - a'_data|^2."""
    critic = nets["critic"]
    for i, b in enumerate(batches):
        a_next = smoothed(nets, b, noise["target"][i], h)
        penalty = ((a_next - b["next_action"]) ** 2).sum(axis=1)
        q_next = min_q(nets["target_critic"].theta, b["next_obs"], a_next) - h["critic_bc"] * penalty
        critic = fit_critics(critic, b, bootstrap(b, q_next, h), h)
    return critic


def rebrac_actor(actor, critic, b, weight, q_weight, h):
    """min weight |pi - a|^2 - q_weight min_i Q_i(s, pi) / mean |min_i Q_i(s, pi)|."""
    a, backward = policy(actor.theta, b["obs"])
    q, of_q = critics(critic.theta, b["obs"], a)
    is_least = np.arange(len(q))[:, None] == q.argmin(axis=0)
    of_least = -q_weight / np.abs(q.min(axis=0)).mean() / len(a) * is_least
    of_a = 2.0 * np.broadcast_to(weight, len(a))[:, None] * (a - b["action"]) / len(a) + of_q(of_least)[1]
    return adam(actor, backward(of_a), h["actor_lr"], h["adam_eps"])


def rebrac(nets, batches, noise, h):
    """Tarasov et al. 2023."""
    critic = rebrac_critics(nets, batches, noise, h)
    actor = rebrac_actor(nets["actor"], critic, batches[-1], h["actor_bc"], 1.0, h)
    return targets_follow(nets | {"critic": critic, "actor": actor}, h)


def fit_value(nets, b, h):
    """Kostrikov et al. 2021, equation 5: (the new V, Q' - V by it)."""
    q = min_q(nets["target_critic"].theta, b["obs"], b["action"])
    v, backward = value(nets["value"].theta, b["obs"])
    u = q - v
    net = adam(
        nets["value"], backward(-2.0 * np.abs(h["expectile"] - (u < 0)) * u / len(u)), h["value_lr"], h["adam_eps"]
    )
    return net, q - value(net.theta, b["obs"])[0]


def td3_awr(nets, batches, noise, h):
    """Jackson et al. 2025: of ReBRAC's critic, and IQL's value and weight."""
    critic = rebrac_critics(nets, batches, noise, h)
    net, advantage = fit_value(nets, batches[-1], h)
    weight = np.minimum(np.exp(h["temperature"] * advantage), h["max_weight"])
    actor = rebrac_actor(nets["actor"], critic, batches[-1], h["actor_bc"] * weight, h["q_weight"], h)
    return targets_follow(nets | {"critic": critic, "value": net, "actor": actor}, h)


def likelihood(actor, b, weight, lr, h):
    """max weight log N(a; mean, std^2)."""
    mean, std, backward = gaussian(actor.theta, b["obs"])
    z = (b["action"] - mean) / std
    weight = -np.broadcast_to(weight, len(z))[:, None] / len(z)
    return adam(actor, backward(weight * z / std, weight * (z**2 - 1.0)), lr, h["adam_eps"])


def regression(actor, b, weight, lr, h):
    """min weight |pi - a|^2 / 2."""
    a, backward = policy(actor.theta, b["obs"])
    return adam(actor, backward(weight[:, None] * (a - b["action"]) / len(a)), lr, h["adam_eps"])


def iql_deterministic(nets, batches, noise, h):
    """The same by weighted regression."""
    return iql(nets, batches, noise, h, regression)


def iql(nets, batches, noise, h, clone=likelihood):
    """Kostrikov et al. 2021, equations 5 to 7."""
    (b,) = batches
    net, advantage = fit_value(nets, b, h)
    weight = np.minimum(np.exp(h["temperature"] * advantage), h["max_weight"])
    share = min(nets["actor"].t / h["actor_decay_updates"], 1.0)
    actor = clone(nets["actor"], b, weight, h["actor_lr"] * 0.5 * (1.0 + np.cos(np.pi * share)), h)
    critic = fit_critics(nets["critic"], b, bootstrap(b, value(net.theta, b["next_obs"])[0], h), h)
    return targets_follow(nets | {"value": net, "actor": actor, "critic": critic}, h)


def awac(nets, batches, noise, h):
    """Nair et al. 2020, Algorithm 1."""
    (b,) = batches

    def sampled(s, noise):
        mean, std, _ = gaussian(nets["actor"].theta, s)
        return np.clip(mean + std * noise, -1.0, 1.0)

    q_next = min_q(nets["target_critic"].theta, b["next_obs"], sampled(b["next_obs"], noise["critic"]))
    critic = fit_critics(nets["critic"], b, bootstrap(b, q_next, h), h)
    of_policy = min_q(critic.theta, b["obs"], sampled(b["obs"], noise["actor"]))
    advantage = min_q(critic.theta, b["obs"], b["action"]) - of_policy
    weight = np.minimum(np.exp(advantage / h["temperature"]), h["max_weight"])
    actor = likelihood(nets["actor"], b, weight, h["actor_lr"], h)
    return targets_follow(nets | {"critic": critic, "actor": actor}, h)


def bc(nets, batches, noise, h):
    """min |pi - a|^2 / A."""
    (b,) = batches
    a, backward = policy(nets["actor"].theta, b["obs"])
    return {"actor": adam(nets["actor"], backward(2.0 * (a - b["action"]) / a.size), h["actor_lr"], h["adam_eps"])}


def bc_gaussian(nets, batches, noise, h):
    (b,) = batches
    return {"actor": likelihood(nets["actor"], b, 1.0, h["actor_lr"], h)}
