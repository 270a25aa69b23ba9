"""Guided samplers of one trajectory [T, D] in network space; the caller vmaps them over trajectories.

    x <- x_0;  for each of N steps from s to t:  x <- steer(x, s);  x <- a step of the sampler

Guidance is PGD's (arXiv 2404.06356): the policy's score at the denoised trajectory, by a denoiser call of its own.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

# S_churn, S_tmin, S_tmax, S_noise of algorithm 2 (Karras et al. 2022, arXiv 2206.00364), at PGD's values
CHURN, CHURN_MIN, CHURN_MAX, CHURN_SCALE = 80.0, 0.05, 50.0, 1.003

Denoise = Callable[[jax.Array, jax.Array], jax.Array]  # (x [T, D], sigma []) -> D(x; sigma) [T, D]
Steer = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]  # (x [T, D], sigma [], step i32[]) -> x [T, D]
Score = Callable[[jax.Array], jax.Array]  # x [T, D] -> grad log pi w.r.t. its action columns [T, A]


def karras(num_steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> jax.Array:
    """Noise levels f32[N + 1], the last one 0 (Karras et al. 2022, eq. 5)."""
    i = jnp.arange(num_steps, dtype=jnp.float32)
    top, bottom = sigma_max ** (1.0 / rho), sigma_min ** (1.0 / rho)
    levels = (top + i / (num_steps - 1) * (bottom - top)) ** rho
    return jnp.concatenate([levels, jnp.zeros(1)])


def precondition(network: Callable[[jax.Array, jax.Array], jax.Array]) -> Denoise:
    """D(x; s) = c_skip x + c_out F(c_in x; c_noise) (Karras et al. 2022, eq. 7 and Table 1) for sigma_data = 1."""

    def denoise(x: jax.Array, sigma: jax.Array) -> jax.Array:
        total = jnp.sqrt(sigma**2 + 1.0)
        return x / total**2 + sigma / total * network(x / total, jnp.log(sigma) / 4.0)

    return denoise


def guidance(denoise: Denoise, score: Score, coefficient: jax.Array, num_steps: int, action: slice) -> Steer:
    """PGD's rule (arXiv 2404.06356 and its released code), with the gradient normalised over the trajectory.

    x_a + lambda_n g / |g|, lambda_n = lambda [(1 - n/N) + 0.3 sin(pi (n + 1) / N)], g at D(x; s). The rule has
    lambda_n = 0 in the last step, so that the samplers leave it out there, and save its call.
    """

    def steer(x: jax.Array, sigma: jax.Array, step: jax.Array) -> jax.Array:
        g = score(denoise(x, sigma))
        g = g / jnp.maximum(jnp.sqrt(jnp.sum(g**2)), 1e-8)
        n = step.astype(jnp.float32)
        strength = coefficient * ((1.0 - n / num_steps) + 0.3 * jnp.sin(jnp.pi * (n + 1.0) / num_steps))
        return x.at[:, action].add(strength * g)

    return steer


def churned_heun(key: jax.Array, x: jax.Array, denoise: Denoise, steer: Steer, sigmas: jax.Array) -> jax.Array:
    """Algorithm 2 of Karras et al. 2022 from x [T, D] at noise level sigmas[0]."""
    num_steps = sigmas.shape[0] - 1
    keys = jax.random.split(key, num_steps)
    gamma_max = min(CHURN / num_steps, 2.0**0.5 - 1.0)

    def add_noise(key: jax.Array, x: jax.Array, s: jax.Array) -> tuple[jax.Array, jax.Array]:
        gamma = jnp.where((CHURN_MIN <= s) & (s <= CHURN_MAX), gamma_max, 0.0)
        # sqrt(s_hat^2 - s^2), put so that it is 0 where gamma is: of the squares, rounding would be left at high s.
        added = s * jnp.sqrt(gamma * (2.0 + gamma))
        return x + added * CHURN_SCALE * jax.random.normal(key, x.shape), s + gamma * s

    def body(x: jax.Array, step: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        key, n, s, t = step
        x_hat, s_hat = add_noise(key, steer(x, s, n), s)
        d = (x_hat - denoise(x_hat, s_hat)) / s_hat
        x_next = x_hat + (t - s_hat) * d
        d_next = (x_next - denoise(x_next, t)) / t
        return x_hat + (t - s_hat) * 0.5 * (d + d_next), None

    x, _ = jax.lax.scan(body, x, (keys[:-1], jnp.arange(num_steps - 1), sigmas[:-2], sigmas[1:-1]))
    # The last step, to 0, is Euler's, which ends at D itself.
    return denoise(*add_noise(keys[-1], x, sigmas[-2]))


def dpmpp_2m_sde(key: jax.Array, x: jax.Array, denoise: Denoise, steer: Steer, sigmas: jax.Array) -> jax.Array:
    """SDE-DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, section 5) from x [T, D] at noise level sigmas[0]."""
    num_steps = sigmas.shape[0] - 1
    keys = jax.random.split(key, num_steps)

    def body(carry: tuple[jax.Array, ...], step: tuple[jax.Array, ...]) -> tuple[tuple[jax.Array, ...], None]:
        x, x0_before, h_before = carry
        key, n, s, t = step
        x = steer(x, s, n)
        x0, h = denoise(x, s), jnp.log(s / t)
        extrapolated = x0 + 0.5 * h / h_before * (x0 - x0_before)  # h_before is infinite in the first step
        decay = jnp.exp(-2.0 * h)
        noise = t * jnp.sqrt(1.0 - decay) * jax.random.normal(key, x.shape)
        return (decay * x + (1.0 - decay) * extrapolated + noise, x0, h), None

    steps = (keys[:-1], jnp.arange(num_steps - 1), sigmas[:-2], sigmas[1:-1])
    x = jax.lax.scan(body, (x, jnp.zeros_like(x), jnp.float32(jnp.inf)), steps)[0][0]
    # The last step, to 0, is of first order, and ends at D itself.
    return denoise(x, sigmas[-2])


SAMPLERS = {"churned_heun": churned_heun, "dpmpp_2m_sde": dpmpp_2m_sde}
