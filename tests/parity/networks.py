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


def critics(theta, s, a):
    """(q [E, B], how its gradient [E, B] becomes those of parameters and actions)."""
    count = theta["Dense_0"]["bias"].shape[0]
    each = [mlp(jax.tree.map(lambda p: p[i], theta), np.concatenate([s, a], axis=1)) for i in range(count)]

    def backward(grad):
        parts = [back(g[:, None]) for (_, back), g in zip(each, grad, strict=True)]
        params = jax.tree.map(lambda *leaves: np.stack(leaves), *(part[0] for part in parts))
        return params, sum(part[1][:, s.shape[1] :] for part in parts)

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
