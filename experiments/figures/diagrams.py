"""The drawings of the documentation's page "Concepts".

    python -m experiments.figures.diagrams

Writes them beside this file.
"""

import pathlib

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

HERE = pathlib.Path(__file__).parent
BLUE, GREEN, ORANGE, GREY = "#d4e4f7", "#d8efd9", "#fbe3c9", "#ececec"


def box(axes: Axes, x: float, y: float, width: float, height: float, text: str, colour: str) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (x, y), width, height, boxstyle="round,pad=0,rounding_size=0.08", facecolor=colour, edgecolor="#555"
        )
    )
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=10)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], bend: float = 0.0) -> None:
    style = f"arc3,rad={bend}"
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=14, color="#555", connectionstyle=style)
    )


def canvas(width: float, height: float) -> Axes:
    """Axes whose unit is two thirds of an inch."""
    _, axes = plt.subplots(figsize=(width / 1.5, height / 1.5), layout="constrained")
    axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    axes.axis("off")
    return axes


def phases() -> Axes:
    """What a phase does, and what flows between its parts."""
    axes = canvas(12, 4.6)
    box(axes, 0.2, 3.2, 2.6, 1.1, "offline dataset", GREY)
    box(axes, 0.2, 0.6, 2.6, 1.1, "denoiser\n(trained once)", GREY)
    axes.add_patch(
        FancyBboxPatch((3.5, 0.2), 8.3, 4.2, boxstyle="round,pad=0,rounding_size=0.1", fill=False, ls="--", ec="#888")
    )
    axes.text(11.6, 4.1, "a phase, repeated", ha="right", va="center", fontsize=10, style="italic", color="#555")
    box(axes, 3.9, 0.6, 2.1, 1.1, "generate\nguided windows", BLUE)
    box(axes, 6.6, 2.3, 2.1, 1.1, "learn\nK updates", GREEN)
    box(axes, 9.4, 0.6, 2.1, 1.1, "evaluate\nthe policy", ORANGE)
    arrow(axes, (2.8, 3.75), (6.6, 3.05), -0.1)
    axes.text(4.6, 3.75, "real rows", fontsize=9, color="#555")
    arrow(axes, (2.8, 1.15), (3.9, 1.15))
    arrow(axes, (5.0, 1.7), (6.6, 2.6), -0.2)
    axes.text(3.7, 2.5, "synthetic rows", fontsize=9, color="#555")
    arrow(axes, (8.7, 2.7), (10.4, 1.7), -0.2)
    arrow(axes, (7.6, 2.3), (6.0, 1.0), -0.25)
    axes.text(7.25, 1.35, "policy, which\nguides sampling", fontsize=9, color="#555")
    return axes


def lanes() -> Axes:
    """Settings that make jobs, and values that make lanes."""
    axes = canvas(12, 4.4)
    box(axes, 0.2, 2.6, 3.4, 1.5, "static settings\n(agent, sizes, sampler)\nmake programs", GREY)
    box(axes, 0.2, 0.4, 3.4, 1.5, "seeds and floats\n(λ, learning rate, ...)\nmake lanes of a program", GREY)
    for row, (name, y) in enumerate((("td3_bc: one compiled program", 2.5), ("iql: one compiled program", 0.3))):
        axes.add_patch(
            FancyBboxPatch((4.2, y), 7.5, 1.75, boxstyle="round,pad=0,rounding_size=0.1", fill=False, ec="#888")
        )
        axes.text(4.4, y + 1.47, name, va="center", fontsize=10, color="#555")
        for number in range(6):
            text = f"λ = {(0, 10, 30)[number // 2]}\nseed {number % 2}"
            box(axes, 4.4 + 1.2 * number, y + 0.2, 1.05, 1.0, text, (BLUE, GREEN)[row])
    return axes


def window() -> Axes:
    """A window is a matrix of T rows, one for each step, which is noised and denoised as a whole."""
    axes = canvas(12, 3.6)
    columns = (("observation", 4, BLUE), ("action", 2, GREEN), ("reward", 1, ORANGE), ("end", 1, GREY))
    left = 1.6
    for name, count, colour in columns:
        for column in range(count):
            for row in range(5):
                axes.add_patch(
                    plt.Rectangle((left + 0.7 * column, 0.3 + 0.5 * row), 0.7, 0.5, fc=colour, ec="white", lw=2)
                )
        axes.text(left + 0.35 * count, 3.0, name, ha="center", fontsize=10)
        left += 0.7 * count + 0.12
    for row, text in enumerate(("step t + T - 1", "", "...", "step t + 1", "step t")):
        axes.text(1.45, 0.55 + 0.5 * row, text, ha="right", va="center", fontsize=9, color="#555")
    arrow(axes, (8.0, 2.1), (9.4, 2.1))
    arrow(axes, (9.4, 1.1), (8.0, 1.1))
    axes.text(8.7, 2.3, "add noise σ", ha="center", fontsize=9, color="#555")
    axes.text(8.7, 0.65, "denoiser D(x; σ)", ha="center", fontsize=9, color="#555")
    box(axes, 9.5, 0.9, 2.2, 1.4, "noisy window x", GREY)
    return axes


def run() -> None:
    for draw in (window, phases, lanes):
        draw().figure.savefig(HERE / f"{draw.__name__}.svg")


if __name__ == "__main__":
    run()
