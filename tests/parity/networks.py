"""Networks in numpy's float64, their gradients worked out by hand, and Adam."""

from typing import Any, NamedTuple

import jax
import numpy as np

BETA1, BETA2 = 0.9, 0.999
NORM_EPS = 1e-6


class Net(NamedTuple):
    """Parameters and Adam's moments; a target has none."""

    theta: Any
    m: Any = None
    v: Any = None
    t: Any = None


def adam(net, grad, lr, eps):
    """Kingma & Ba 2015, Algorithm 1."""
    t = net.t + 1
    m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, net.m, grad)
    v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g**2, net.v, grad)

    def moved(theta, m, v):
        return theta - lr * (m / (1 - BETA1**t)) / (np.sqrt(v / (1 - BETA2**t)) + eps)

    return Net(jax.tree.map(moved, net.theta, m, v), m, v, t)


def polyak(target, net, tau):
    return Net(jax.tree.map(lambda a, b: (1 - tau) * a + tau * b, target.theta, net.theta))


def mlp(theta, x):
    """(output [B, F], how its gradient [B, F] becomes those of parameters and input).

    Dense, ReLU, and LayerNorm (Ba et al. 2016, equations 3 and 4) where there is one; linear at the end.
    """
    num_layers, kept = sum(name.startswith("Dense") for name in theta), []
    for i in range(num_layers):
        layer, norm = theta[f"Dense_{i}"], theta.get(f"LayerNorm_{i}")
        z, xhat, std = x @ layer["kernel"] + layer["bias"], None, None
        kept.append([x, z, xhat, std])
        x = z if i == num_layers - 1 else np.maximum(z, 0.0)
        if norm is not None:
            std = np.sqrt(x.var(axis=1, keepdims=True) + NORM_EPS)
            xhat = (x - x.mean(axis=1, keepdims=True)) / std
            kept[-1][2:] = xhat, std
            x = xhat * norm["scale"] + norm["bias"]

    def backward(grad):
        grads = {}
        for i in reversed(range(num_layers)):
            x, z, xhat, std = kept[i]
            if xhat is not None:
                grads[f"LayerNorm_{i}"] = {"scale": (grad * xhat).sum(axis=0), "bias": grad.sum(axis=0)}
                grad = grad * theta[f"LayerNorm_{i}"]["scale"]
                mean, along = (part.mean(axis=1, keepdims=True) for part in (grad, grad * xhat))
                grad = (grad - mean - xhat * along) / std
            if i < num_layers - 1:
                grad = grad * (z > 0.0)
            grads[f"Dense_{i}"] = {"kernel": x.T @ grad, "bias": grad.sum(axis=0)}
            grad = grad @ theta[f"Dense_{i}"]["kernel"].T
        return grads, grad

    return x, backward


def policy(theta, s):
    """(tanh of an MLP [B, A], the gradient of parameters from the action's)."""
    z, backward = mlp(theta, s)
    return np.tanh(z), lambda grad: backward(grad * (1.0 - np.tanh(z) ** 2))[0]


def value(theta, s):
    """([B], the gradient of parameters from [B])."""
    v, backward = mlp(theta, s)
    return v[:, 0], lambda grad: backward(grad[:, None])[0]


def members(theta):
    return [jax.tree.map(lambda p: p[i], theta) for i in range(theta["Dense_0"]["bias"].shape[0])]


def together(thetas):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *thetas)


def critics(theta, s, a):
    """(q [E, B], how its gradient [E, B] becomes those of parameters and actions)."""
    each = [mlp(member, np.concatenate([s, a], axis=1)) for member in members(theta)]

    def backward(grad):
        parts = [back(g[:, None]) for (_, back), g in zip(each, grad, strict=True)]
        return together([part[0] for part in parts]), sum(part[1][:, s.shape[1] :] for part in parts)

    return np.stack([q[:, 0] for q, _ in each]), backward


def min_q(theta, s, a):
    return critics(theta, s, a)[0].min(axis=0)


def gaussian(theta, s):
    """(mean, standard deviation, the gradient of parameters from those of mean and its logarithm)."""
    mean, backward = policy(theta["mean"], s)
    inside = (theta["log_std"] > -5.0) & (theta["log_std"] < 2.0)

    def back(of_mean, of_log_std):
        return {"mean": backward(of_mean), "log_std": of_log_std.sum(axis=0) * inside}

    return mean, np.exp(np.clip(theta["log_std"], -5.0, 2.0)), back


def squashed(theta, s, noise, low):
    """a = tanh(mean + std noise): (a, log pi(a | s), the gradient of parameters from those of both).

    `noise` is [S, B, A] for S actions in each state, or [B, A]. log std lies in [low, 2].
    """
    z, backward = mlp(theta, s)
    mean, raw = np.split(z, 2, axis=1)
    std = np.exp(np.clip(raw, low, 2.0))
    a = np.tanh(mean + std * noise)
    normal = -0.5 * noise**2 - np.log(std) - 0.5 * np.log(2.0 * np.pi)
    log_prob = (normal - np.log(1.0 - a**2)).sum(axis=-1)

    def back(of_a, of_log_prob):
        """With u = mean + std noise, d log pi / du = 2 a at constant noise, and -1 by log std besides."""
        of_u = of_a * (1.0 - a**2) + 2.0 * a * of_log_prob[:, None]
        of_log_std = (of_u * std * noise - of_log_prob[:, None]) * ((raw > low) & (raw < 2.0))
        return backward(np.concatenate([of_u, of_log_std], axis=1))[0]

    return a, log_prob, back


def action_gradient(theta, s, a):
    """(dQ/da [B, A] of one critic of ReLU layers, the gradient of parameters from dQ/da's).

    Masks do not move with parameters, so dQ/da is a product of matrices, and so is each gradient; biases have none.
    """
    num_layers, x, masks = len(theta), np.concatenate([s, a], axis=1), []
    kernels = [theta[f"Dense_{i}"]["kernel"] for i in range(num_layers)]
    for i in range(num_layers - 1):
        x = x @ kernels[i] + theta[f"Dense_{i}"]["bias"]
        masks.append(x > 0.0)
        x = np.maximum(x, 0.0)
    deltas = [np.ones((len(a), 1))]  # dQ / d(output of each layer), the last layer first
    for i in reversed(range(num_layers - 1)):
        deltas.append((deltas[-1] @ kernels[i + 1].T) * masks[i])
    deltas.reverse()
    first = s.shape[1]  # the row of the first layer's kernel where actions begin

    def backward(grad):
        """delta_i = mask_i (delta_i+1 W_i+1^T) and dQ/da = delta_0 W_0^T, differentiated from the end on."""
        grads, grad = {}, np.concatenate([np.zeros_like(s), grad], axis=1)
        for i in range(num_layers):
            bias = np.zeros_like(theta[f"Dense_{i}"]["bias"])
            grads[f"Dense_{i}"] = {"kernel": grad.T @ deltas[i], "bias": bias}
            grad = grad @ kernels[i] * (masks[i] if i < num_layers - 1 else 1.0)
        return grads

    return (deltas[0] @ kernels[0].T)[:, first:], backward
