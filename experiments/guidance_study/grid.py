"""The points of the study: which rules, samplers, noise levels and numbers of calls, at which strengths."""

from typing import Any, NamedTuple

from experiments.guidance_study import setting
from experiments.guidance_study.cells import Cell

Fields = dict[str, Any]  # how a cell differs from the default one

PAPER_STRENGTHS = [0.1, 0.3, 1.0, 3.0]
STRENGTHS = [0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0]
SOME = [10.0, 100.0]
LAMBDA_OVER_CALLS = 10.0

# 256 churned Heun steps from 80 at every noise level, the rule at the denoised point.
EDM: Fields = {"sigma_max": 80.0, "sigma_min": 0.002, "rho": 7.0, "guided_from": 1e6, "guided_to": 0.0}
PAPER: Fields = {"rule": "paper", "sampler": "churned_heun", "num_steps": 256} | EDM

CANDIDATES: dict[str, Fields] = {
    f"{sampler}, {num_steps} steps": {"sampler": sampler, "num_steps": num_steps}
    for sampler, counts in (("dpmpp_2m_sde", (24, 32, 16, 12)), ("dpmpp_2m", (24, 12)), ("ancestral", (32, 16)))
    for num_steps in counts
}
CANDIDATES |= {f"dpmpp_2m_sde, 32 steps, eta {eta:g}": {"eta": eta} for eta in (1.5, 2.0, 3.0)}
CHOSEN = "dpmpp_2m_sde, 32 steps"
DRAWN = [CHOSEN, *(f"dpmpp_2m_sde, {n} steps" for n in (24, 16, 12)), "dpmpp_2m, 24 steps"]
DRAWN += [*(f"ancestral, {n} steps" for n in (32, 16)), "dpmpp_2m_sde, 32 steps, eta 3"]

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

PAPERS = ("paper", "paper, 16 steps", "paper, noised point")

SAMPLERS = ("euler", "heun", "churned_heun", "ancestral", "dpmpp_2m", "dpmpp_2m_sde")
STEPS_OVER_CALLS = (8, 16, 24, 32)  # halved for the samplers that call twice a step
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
    noise: int = setting.NOISE


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
        Group("unguided", [cell(PAPER, rule="proximal"), cell(EDM)], [0.0]),
        Group("rules", [cell(RULES[name]) for name in RULES if name not in ("proximal", *PAPERS)], SOME),
        Group("the paper's variants", [cell(RULES[name]) for name in PAPERS[1:]], PAPER_STRENGTHS),
        Group("weak score", [cell(rule="score")], [0.1, 0.3]),
        Group("intervals", _intervals(), [*SOME, 1000.0]),
        Group("behaviour", [cell(behaviour=kappa) for kappa in (0.25, 0.5, 0.75)], SOME),
        Group("guidance schedules", [cell(guidance_schedule=name) for name in ("rising", "falling")], SOME),
        Group("noise schedules", _noise_schedules(), [LAMBDA_OVER_CALLS]),
        Group("levels", _levels(), [LAMBDA_OVER_CALLS]),
        Group("samplers", _samplers(), [LAMBDA_OVER_CALLS]),
        Group("steps", [cell(num_steps=n) for n in (16, 64, MOST_STEPS)], [LAMBDA_OVER_CALLS]),
        Group("steps of score", [cell(rule="score", num_steps=n) for n in (16, 64, MOST_STEPS)], [1.0]),
        Group("steps of the paper's rule", [cell(PAPER, num_steps=64)], [0.3]),
        Group("fresh noise", [cell(CANDIDATES[CHOSEN])], STRENGTHS, setting.FRESH_NOISE),
        Group("the paper's rule on fresh noise", [cell(PAPER)], PAPER_STRENGTHS, setting.FRESH_NOISE),
    ]


def _levels() -> list[Cell]:
    """Where the noise levels start and end, how they are spaced between, and how much noise comes back."""
    changes: list[Fields] = [{"sigma_max": sigma} for sigma in (5.0, 10.0, 40.0, 80.0)]
    changes += [{"sigma_min": 0.002}, {"sigma_min": 0.02}, {"rho": 4.0}, {"sigma_max": 10.0, "rho": 4.0}, {"eta": 0.7}]
    return [cell(change) for change in changes]


def _intervals() -> list[Cell]:
    cells = [cell(guided_from=s) for s in (0.5, 1.0, 5.0, 1e6)] + [cell(guided_to=s) for s in (0.02, 0.05, 0.1)]
    return [*cells, cell(guided_from=1.0, guided_to=0.05)]


def _noise_schedules() -> list[Cell]:
    names = ("karras", "log_linear", "cosine", "fitted")
    return [cell(noise_schedule=name, num_steps=n) for name in names for n in (12, 32)]


def _samplers() -> list[Cell]:
    cells = []
    for sampler in SAMPLERS:
        halved = 2 if "heun" in sampler else 1
        cells += [cell(sampler=sampler, num_steps=n // halved) for n in STEPS_OVER_CALLS]
    return [*cells, cell(sampler="heun", num_steps=MOST_STEPS)]
