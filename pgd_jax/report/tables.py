"""Estimates as words and Markdown tables."""

from collections.abc import Iterable, Sequence

from pgd_jax.report.stats import Estimate, Interval

LABELS = {
    "normalised_score": "normalised score (0 random, 100 expert)",
    "return_mean": "return of an episode",
    "host_normalised_score": "normalised score on the host (0 random, 100 expert)",
    "host_success_rate": "share of episodes on the host that succeed",
    "host_return_mean": "return of an episode on the host",
    "synthetic_log_likelihood": "log-likelihood per action",
    "dynamics_error": "dynamics error",
}
DIGITS = {
    "normalised_score": ".1f",
    "return_mean": ".1f",
    "host_normalised_score": ".1f",
    "host_success_rate": ".1%",
    "host_return_mean": ".1f",
    "synthetic_log_likelihood": ".2f",
    "dynamics_error": ".2g",
}
INTERVALS = (
    "Square brackets: 95 % Student-t interval of the mean over seeds, given from 3 seeds on; "
    "with fewer, the seeds' own values stand in round brackets."
)
BOOTSTRAPS = (
    "The interquartile mean leaves out the lowest and the highest quarter of the scores; its square brackets are the "
    "95 % interval of a bootstrap over the seeds of each dataset."
)


def show(estimate: Estimate | None, digits: str) -> str:
    """ "35.1 [20.3, 49.9]", or with the seeds' values where there is no interval."""
    if estimate is None:
        return "–"
    mean = f"{estimate.mean:{digits}}"
    if estimate.has_interval:
        return f"{mean} [{estimate.low:{digits}}, {estimate.high:{digits}}]"
    if len(estimate.values) == 1:
        return f"{mean} (1 seed)"
    return f"{mean} ({', '.join(f'{value:{digits}}' for value in estimate.values)})" if estimate.values else mean


def show_interval(found: Interval, digits: str) -> str:
    """ "35.1 [20.3, 49.9]", or the number alone where there is no interval."""
    number = f"{found.value:{digits}}"
    return f"{number} [{found.low:{digits}}, {found.high:{digits}}]" if found.has_interval else number


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown's; a "|" in a cell, as in a run's name, does not end it."""
    lines = [[cell.replace("|", r"\|") for cell in line] for line in (header, ["---"] * len(header), *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)
