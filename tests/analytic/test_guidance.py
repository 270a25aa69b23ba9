"""What all rules of guidance share: the policy's derivatives, where and how strongly it acts, what it costs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.core.types import Layout, Normalizer, Squashed
from pgd_jax.data import normalizer as normalizers
from pgd_jax.diffusion import guidance, rules, samplers
from tests import oracles, quickly

LAYOUT = Layout(obs_dim=2, action_dim=2)
SHAPE = (4, LAYOUT.dim)  # T, D
PLAIN = oracles.plain_normalizer(LAYOUT)
SQUASHED = Normalizer(jnp.full(LAYOUT.dim, 0.2), jnp.full(LAYOUT.dim, 0.8), LAYOUT)
RULES = {name: guidance.GUIDANCE.get(name) for name in guidance.GUIDANCE}
policy = oracles.gaussian_policy(jnp.tanh, 0.4)


def guide(rule, coefficient, log_prob=policy, normalizer=PLAIN, num_steps=16, **options):
    return oracles.guide(oracles.unit_denoise, log_prob, normalizer, coefficient, num_steps, rule, **options)


def acts(guided, x, sigma):
    """What the rule makes of x at this level: the denoised window, and the sample as the first step finds it."""
    return guided.denoised(x, sigma), guided.shift(x, sigma, jnp.int32(0))


def windows():
    return np.random.default_rng(0).normal(size=(8, *SHAPE)).astype(np.float32)


@functools.cache
def samples(squash, sampler, jit):
    """(index of a rule, lambda) -> samples; index None, without guidance at all: another program."""
    sigmas, shape, normalizer = (
        jnp.asarray(oracles.karras(16), jnp.float32),
        (64, *SHAPE),
        SQUASHED if squash else PLAIN,
    )

    def denoise(x, sigma):
        """Ends in a matrix product, as a network does: nothing is fused with it, to be rounded differently."""
        return oracles.unit_denoise(x, sigma) @ jnp.eye(LAYOUT.dim)

    def run(index, coefficient):
        guided = [oracles.guide(denoise, policy, normalizer, coefficient, 16, name) for name in RULES]
        guided = guidance.Guided(denoise) if index is None else oracles.any_of(index, guided)
        return oracles.sample(sampler, jax.random.key(3), guided, sigmas, shape)

    return jit(run)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "options",
    [(False, "heun", quickly.jit), (True, "heun", quickly.jit), (True, "dpmpp_2m", jax.jit)],
    ids=["plain", "squashed", "optimised"],
)
def test_coefficient_zero_is_unguided(rule, options):
    """Two programs, which XLA may round in two ways; what guidance does at strength 0 is nothing, to the bit: below."""
    run, index = samples(*options), np.int32(list(RULES).index(rule))
    unguided = np.asarray(run(None, np.float32(0.0)))
    np.testing.assert_allclose(run(index, np.float32(0.0)), unguided, atol=1e-5)
    moved = np.asarray(run(index, np.float32(1.0))) - unguided
    assert np.abs(moved)[..., LAYOUT.action].max() > 0.1, "the same program does guide"


@functools.cache
def limited_and_not():
    """(index of a rule, x, sigma) -> what it does in an interval of levels, at any, at strength 0; and without it."""
    cases = [
        (1.0, guidance.Interval(sigma_min=0.1, sigma_max=2.0)),
        (1.0, oracles.EVERYWHERE),
        (0.0, oracles.EVERYWHERE),
    ]

    def run(index, x, sigma):
        options = [[guide(name, jnp.float32(c), interval=interval) for name in RULES] for c, interval in cases]
        found = [jnp.stack(acts(oracles.any_of(index, guided), x, sigma)) for guided in options]
        return [*found, jnp.stack(acts(guidance.Guided(oracles.unit_denoise), x, sigma))]

    return quickly.jit(run)


@pytest.mark.parametrize("rule", RULES)
def test_outside_the_interval_of_noise_levels_nothing_is_guided_bit_for_bit(rule):
    for sigma in (0.05, 0.1, 1.0, 2.0, 2.1):
        found = limited_and_not()(np.int32(list(RULES).index(rule)), windows(), np.float32(sigma))
        limited, always, unguided, denoised = map(np.asarray, found)
        np.testing.assert_array_equal(unguided, denoised)
        np.testing.assert_array_equal(limited, always if 0.1 <= sigma <= 2.0 else unguided)
        assert np.any(always != unguided)


@pytest.mark.parametrize("rule", ["proximal", "paper"])
def test_the_schedule_weighs_lambda_by_the_noise_level(rule):
    # Level 2: rising 1 / (1 + 4) = 0.2, falling 4 / 5 = 0.8. Level 0.5: 0.8 and 0.2.
    weights = {"constant": {2.0: 1.0, 0.5: 1.0}, "rising": {2.0: 0.2, 0.5: 0.8}, "falling": {2.0: 0.8, 0.5: 0.2}}
    assert sorted(weights) == guidance.SCHEDULES.names()
    constant = quickly.jit(lambda x, sigma, coefficient: acts(guide(rule, coefficient), x, sigma))
    for name, by_level in weights.items():
        guided = guide(rule, jnp.float32(3.0), schedule=name)
        weighed = quickly.jit(lambda x, sigma, guided=guided: acts(guided, x, sigma))
        for sigma, weight in by_level.items():
            expected = constant(windows(), np.float32(sigma), np.float32(3.0 * weight))
            np.testing.assert_allclose(weighed(windows(), np.float32(sigma)), expected, rtol=1e-5, atol=1e-6)


def test_guided_steps_of_an_interval_of_noise_levels_cost_less():
    """Steps 3 .. 7 of 12: the same samples as from the interval of their levels, and the policy is asked less often."""
    sigmas, shape, key, asked = oracles.karras(12).astype(np.float32), (4, *SHAPE), jax.random.key(3), []

    def counting(obs, action):
        jax.debug.callback(lambda: asked.append(1))
        return policy(obs, action)

    def run(**options):
        """Samples, and how often the policy was asked; unguided too."""
        draw = quickly.jit(
            lambda key, c: oracles.sample(
                "heun", key, guide("proximal", c, counting, num_steps=12, **options), jnp.asarray(sigmas), shape
            )
        )
        asked.clear()
        x = np.asarray(draw(key, np.float32(1.0)))
        jax.effects_barrier()
        return x, len(asked), np.asarray(draw(key, np.float32(0.0)))

    x, every, free = run(interval=guidance.Interval(sigma_min=float(sigmas[7]), sigma_max=float(sigmas[3])))
    y, fewer, _ = run(guided_steps=tuple(3 <= step <= 7 for step in range(12)))
    np.testing.assert_allclose(x, y, atol=1e-5)
    assert np.abs(x - free).max() > 0.1
    # Of 23 calls ten, two at the level of each of the five steps: in the step before, and in itself.
    assert fewer * 23 == every * 10


def test_without_behaviour_divides_gaussians():
    """pi / beta^kappa of Gaussians has precision h = 1/sp^2 - kappa/sb^2: proximal hits it, samples too."""
    sp, sb, c, b, share, strength = 0.5, 0.6, 0.6, -0.3, 0.9, 0.8
    h, pull = 1.0 / sp**2 - share / sb**2, c / sp**2 - share * b / sb**2
    x = windows().astype(np.float64)
    with jax.enable_x64(True):
        guided = divided(sp, sb, c, b, share, strength)
        found = quickly.jit(guided.denoised)(x, 0.7)
        mean, covariance = oracles.affine_moments("heun", guided, oracles.karras(128), SHAPE)
    v = 0.49 / 1.49
    expected = (x / 0.49 + strength * pull) / (1.0 / v + strength * h)  # D = v x / s^2
    np.testing.assert_allclose(found[..., LAYOUT.action], expected[..., LAYOUT.action], atol=1e-12)
    # The start is that of noised data of mean 0: 1 / 80 of the mean is missing.
    assert mean[2] == pytest.approx(strength * pull / (1.0 + strength * h), rel=0.02)
    assert covariance[2, 2] == pytest.approx(1.0 / (1.0 + strength * h), abs=2e-3)


def divided(sp, sb, c, b, share, strength):
    pi, beta = (oracles.gaussian_policy(lambda obs, m=m: jnp.full_like(obs, m), std) for m, std in ((c, sp), (b, sb)))
    log_prob = guidance.without_behaviour(pi, beta, jnp.float64(share))
    normalizer = oracles.plain_normalizer(LAYOUT, jnp.float64)
    return oracles.guide(oracles.unit_denoise, log_prob, normalizer, jnp.float64(strength), 16, "proximal")


def test_where_the_behaviour_outweighs_the_policy_guidance_pushes_but_nothing_explodes():
    """h = 1/sp^2 - kappa/sb^2 = 4 - 12 = -8: 1/v + lambda h passes 0 on the way, and a tilt of it has no mean.

    The curvature is taken to be 0: D + v lambda |h| D, whose flow widens unit data to std exp(lambda |h| v / 2).
    """
    with jax.enable_x64(True):
        guided = divided(0.5, 0.25, 0.0, 0.0, 0.75, 0.25)
        _, covariance = oracles.affine_moments("heun", guided, oracles.karras(256), SHAPE)
    assert np.sqrt(covariance[2, 2]) == pytest.approx(np.exp(1.0), rel=2e-3)


@pytest.mark.parametrize(
    ("rule", "sampler", "num_steps", "calls"),
    [
        ("paper", "churned_heun", 256, 767),  # 511 + 256
        ("paper_raw", "euler", 32, 64),
        ("paper_noised", "churned_heun", 256, 511),
        ("paper_noised_raw", "heun", 16, 31),
        ("proximal", "dpmpp_2m", 32, 32),
        ("score", "heun", 32, 63),
        ("proximal", "twisted", 32, 32),
        ("pigdm", "dpmpp_2m", 32, 64),  # a product with the Jacobian in each call
        ("jacobian", "dpmpp_2m", 32, 192),  # the call, the first residual, 3 conjugate gradients, the covariance
    ],
)
def test_denoiser_calls_of_a_rule_with_a_sampler(rule, sampler, num_steps, calls):
    assert RULES[rule].calls(samplers.SAMPLERS.get(sampler), num_steps) == calls


@pytest.mark.parametrize("sampler", ["churned_heun", "dpmpp_2m"])
def test_denoiser_calls_of_rules_without_the_jacobian_are_counted_right(sampler):
    names, calls, sigmas = [name for name in RULES if not RULES[name].per_call], [], jnp.asarray(oracles.karras(5))

    def denoise(x, sigma):
        jax.debug.callback(lambda: calls.append(1))
        return oracles.unit_denoise(x, sigma)

    @quickly.jit
    def run(index):
        guided = [oracles.guide(denoise, policy, PLAIN, jnp.float32(1.0), 5, name) for name in names]
        return oracles.sample(sampler, jax.random.key(0), oracles.any_of(index, guided), sigmas, (1, *SHAPE))

    for i, rule in enumerate(names):
        calls.clear()
        run(np.int32(i)).block_until_ready()
        jax.effects_barrier()
        assert len(calls) == RULES[rule].calls(samplers.SAMPLERS.get(sampler), 5), rule


def test_tilt_through_tanh_by_hand():
    # One action dimension at network value u, pre-tanh p = 0.5 u + 0.1, a = tanh(p), da/du = 0.5 (1 - a^2).
    # log pi = -(a - c)^2 / (2 sp^2): g = da/du (c - a) / sp^2, Gauss-Newton curvature h = (da/du)^2 / sp^2.
    layout = Layout(1, 1)
    normalizer = Normalizer(jnp.array([0.0, 0.1, 0.0, 0.0]), jnp.array([1.0, 0.5, 1.0, 1.0]), layout)
    u, c, sp = 0.8, -0.2, 0.3
    a = np.tanh(0.5 * u + 0.1)
    slope = 0.5 * (1 - a**2)
    x = jnp.array([[[0.0, u, 0.0, 0.0]]])
    log_prob = oracles.gaussian_policy(lambda obs: jnp.full_like(obs, c), sp)
    tilt = quickly.jit(lambda x: guidance.tilt(log_prob, normalizer, x))(x)
    assert float(tilt.value[0]) == pytest.approx(-0.5 * (a - c) ** 2 / sp**2, rel=1e-5)
    assert float(tilt.gradient[0, 0, 0]) == pytest.approx(slope * (c - a) / sp**2, rel=1e-5)
    assert float(tilt.curvature[0, 0, 0]) == pytest.approx(slope**2 / sp**2, rel=1e-5)
    assert float(normalizers.decode_action(normalizer, x[..., layout.action])[0, 0, 0]) == pytest.approx(a, rel=1e-5)
    gradient = quickly.jit(lambda x: guidance.gradient(log_prob, normalizer, x))(x)
    np.testing.assert_allclose(gradient, tilt.gradient, rtol=1e-6)


@pytest.mark.parametrize("coefficient", [0.3, 10.0])
def test_a_squashed_policy_is_a_gaussian_before_tanh(coefficient):
    """The tilt of N(D, v) by N(mean, std^2)^lambda in network space, in closed form: at u = 1 and a policy at u = 2,
    where the density of the action has no curvature to go by."""
    layout = Layout(1, 1)
    normalizer = Normalizer(jnp.array([0.0, 0.1, 0.0, 0.0]), jnp.array([1.0, 0.5, 1.0, 1.0]), layout)
    mean, std, network_action, v = 2.0, 0.05, 1.8, 0.5  # u = 0.5 * 1.8 + 0.1

    def preimage(obs, u):
        return jax.scipy.stats.norm.logpdf(u, mean, std).sum(axis=-1)

    def action(obs, a):
        return preimage(obs, jnp.arctanh(a)) - jnp.log1p(-(a**2)).sum(axis=-1)

    log_prob = Squashed(action, preimage)
    x = jnp.array([[[0.0, network_action, 0.0, 0.0]]])
    found = quickly.jit(lambda x: guidance.tilt(log_prob, normalizer, x))(x)
    moved = network_action + rules.proximal_displacement(coefficient, found, v)[0, 0, 0]
    precision, centre = coefficient * (0.5 / std) ** 2, (mean - 0.1) / 0.5
    assert float(moved) == pytest.approx((network_action / v + precision * centre) / (1 / v + precision), rel=1e-5)
    np.testing.assert_allclose(guidance.gradient(log_prob, normalizer, x), found.gradient, rtol=1e-6)
    # Less its own density nothing is left.
    nothing = guidance.tilt(guidance.without_behaviour(log_prob, action, 1.0), normalizer, x)
    np.testing.assert_allclose(nothing.gradient, 0.0, atol=1e-2)


def test_diagonal_curvature_of_a_correlated_policy():
    # Precision [[3, 1], [1, 2]]: the diagonal is (3, 2), not its row sums (4, 3).
    precision = jnp.array([[3.0, 1.0], [1.0, 2.0]])

    def correlated(obs, a):
        return -0.5 * jnp.einsum("...i,ij,...j->...", a, precision, a)

    tilt = quickly.jit(lambda x: guidance.tilt(correlated, PLAIN, x))
    tilt = tilt(np.zeros((1, *SHAPE), np.float32))
    np.testing.assert_allclose(tilt.curvature[0, 0], [3.0, 2.0], rtol=1e-6)
