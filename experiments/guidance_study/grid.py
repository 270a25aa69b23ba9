"""The points of the study: which rules, samplers, noise levels and numbers of calls, at which strengths."""

import dataclasses
from typing import Any, NamedTuple

from experiments.guidance_study.cells import Cell

Fields = dict[str, Any]  # how a cell differs from the default one

PAPER_STRENGTHS = [0.1, 0.3, 1.0, 3.0]
STRENGTHS = [0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0]
SOME = [1.0, 10.0, 100.0]
LAMBDA_OVER_CALLS = 10.0

# 256 churned Heun steps from 80 at every noise level, the rule at the denoised point.
EDM: Fields = {"sigma_max": 80.0, "sigma_min": 0.002, "rho": 7.0, "guided_from": 1e6, "guided_to": 0.0}
PAPER: Fields = {"rule": "paper", "sampler": "churned_heun", "num_steps": 256} | EDM

CANDIDATES: dict[str, Fields] = {
    f"{sampler}, {num_steps} steps": {"sampler": sampler, "num_steps": num_steps}
    for num_steps in (12, 16, 32)
    for sampler in ("dpmpp_2m_sde", "dpmpp_2m")
}
CHOSEN = "dpmpp_2m_sde, 16 steps"

RULES: dict[str, Fields] = {
    "proximal": {},
    "score": {"rule": "score"},
    "pigdm": {"rule": "pigdm"},
    "jacobian": {"rule": "jacobian"},
    "proximal, twisted": {"sampler": "twisted", "num_particles": 8},
    "paper": PAPER,
    "paper, 16 steps": PAPER | {"num_steps": 16},
    "paper, noised point": PAPER | {"rule": "paper_noised", "num_steps": 64},
}

SAMPLERS = ("euler", "heun", "churned_heun", "ancestral", "dpmpp_2m", "dpmpp_2m_sde")
OVER_CALLS: Fields = {}
STEPS_OVER_CALLS = (8, 16, 32)  # halved for the samplers that call twice a step
MOST_STEPS = 256

# A line each: lambda is fixed, the number of steps varies.
OVER_STEPS: dict[str, tuple[Fields, float]] = {
    "proximal": ({}, LAMBDA_OVER_CALLS),
    "score": ({"rule": "score"}, 1.0),
    "paper, churned Heun": (PAPER, 0.3),
}


class Group(NamedTuple):
    """Cells that answer one question, each at every one of the coefficients."""

    name: str
    cells: list[Cell]
    coefficients: list[float]


def cell(*parts: Fields, **fields: Any) -> Cell:
    merged: Fields = {}
    for part in (*parts, fields):
        merged |= part
    return Cell(**merged)


def groups() -> list[Group]:
    """In the order in which they are measured: what decides comes first."""
    return [
        Group("candidates", [cell(fields) for fields in CANDIDATES.values()], STRENGTHS),
        Group("paper", [cell(PAPER)], PAPER_STRENGTHS),
        Group("unguided", [cell(PAPER, rule="proximal"), cell(EDM, num_steps=16), cell(EDM, num_steps=32)], [0.0]),
        Group("levels", _levels(), [10.0, 30.0]),
        Group("rules", [cell(RULES[name]) for name in RULES if name not in ("proximal", "paper")], SOME),
        Group("weak score", [cell(rule="score")], [0.1, 0.3]),
        Group("intervals", _intervals(), SOME),
        Group("behaviour", [cell(behaviour=kappa) for kappa in (0.25, 0.5, 0.75)], SOME),
        Group("guidance schedules", [cell(guidance_schedule=name) for name in ("rising", "falling")], SOME),
        Group("noise schedules", _noise_schedules(), [LAMBDA_OVER_CALLS]),
        Group("start", [cell(sigma_max=s) for s in (5.0, 10.0, 40.0, 80.0)], [LAMBDA_OVER_CALLS]),
        Group("samplers", _samplers(), [LAMBDA_OVER_CALLS]),
        Group("steps", [cell(num_steps=n) for n in (64, MOST_STEPS)], [LAMBDA_OVER_CALLS]),
        Group("steps of score", [cell(rule="score", num_steps=n) for n in (64, MOST_STEPS)], [1.0]),
        Group("steps of the paper's rule", [cell(PAPER, num_steps=n) for n in (16, 64)], [0.3]),
    ]


def _levels() -> list[Cell]:
    """Where the noise levels start and end, how they are spaced between, and how much noise comes back."""
    cells = [cell(num_steps=24)]
    for num_steps in (16, 24):
        for sigma_max, sigma_min, rho in ((20.0, 0.01, 7.0), (10.0, 0.01, 7.0), (20.0, 0.02, 7.0), (10.0, 0.01, 4.0)):
            cells.append(cell(num_steps=num_steps, sigma_max=sigma_max, sigma_min=sigma_min, rho=rho))
    return [*cells, cell(num_steps=24, sigma_max=10.0, sigma_min=0.01, eta=0.7)]


def _intervals() -> list[Cell]:
    every = {"guided_from": 1e6, "guided_to": 0.0}
    limits = [every, every | {"guided_from": 5.0}, every | {"guided_from": 2.0}, every | {"guided_from": 0.5}]
    limits += [every | {"guided_to": 0.02}, every | {"guided_to": 0.1}]
    return [cell(limit) for limit in limits]


def _noise_schedules() -> list[Cell]:
    names = ("karras", "log_linear", "cosine", "fitted")
    return [cell(noise_schedule=name, num_steps=n) for name in names for n in (8, 16)]


def _samplers() -> list[Cell]:
    cells = []
    for sampler in SAMPLERS:
        halved = 2 if "heun" in sampler else 1
        cells += [cell(sampler=sampler, num_steps=n // halved) for n in STEPS_OVER_CALLS]
    return [*cells, cell(sampler="heun", num_steps=MOST_STEPS)]
