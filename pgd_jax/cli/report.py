"""Makes a page with figures out of agent runs: scores with intervals, on-policy-ness, dynamics error, pictures, time.

    pgd-report --runs=runs/quickstart/real,runs/quickstart/synthetic --out=runs/quickstart/report

Runs of a dataset must share the agent. The report's directory gets report.md with PNG figures, the same page as
report.html (one file, figures inside, that can be mailed), report.json (every number shown) and results.csv (a row for
each seed and evaluation); an older report in it is replaced. Nothing is written into the runs. Runs of several datasets
make a report of each, and one over all of them.

    pgd-report --runs=runs/umaze/guided --out=report --num_pool_episodes=100

also judges each final policy over 100 episodes, keeps them in final_returns/ as Unifloral (arXiv 2504.11453) does, and
draws what its bandit reaches with so many online evaluations.
"""

import os

from absl import flags

from pgd_jax.cli import entry, settings
from pgd_jax.core.errors import UserError


def run() -> None:
    entry.run(_prepare, __doc__, keeps_nothing=True)


def _prepare():
    runs = flags.DEFINE_list("runs", None, "run directories of train_agent, separated by commas", required=True)
    out = entry.define_path("out", "directory of the report: new, empty, or an older report")
    num_pool_episodes = flags.DEFINE_integer(
        "num_pool_episodes",
        0,
        "episodes of each final policy for a policy pool and the bandit's curve; 0: none",
        lower_bound=0,
    )
    sinks = settings.sinks("where the figures go besides")

    def main() -> None:
        if not all(name.strip() for name in runs.value):
            raise UserError(f"--runs={','.join(runs.value)} holds an empty name; name run directories, by commas")
        from pgd_jax.report import several  # after the flags: --help and mistakes need not wait for it

        page = several.write(out.value, directories(runs.value), num_pool_episodes.value, sinks.value)
        print(page, page.with_suffix(".html"), sep="\n")

    return main


def directories(parts: list[str]) -> list[str]:
    """Names that were cut at each comma, put together again where a directory's own name has some."""
    found, rest = [], [os.path.expanduser(part) for part in parts]
    while rest:
        lengths = range(len(rest), 0, -1)  # the longest name that there is
        length = next((size for size in lengths if os.path.isdir(",".join(rest[:size]))), 1)
        found.append(",".join(rest[:length]))
        rest = rest[length:]
    return found


if __name__ == "__main__":
    run()
