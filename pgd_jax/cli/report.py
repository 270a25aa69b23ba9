"""Makes a page with figures out of agent runs: scores with intervals, on-policy-ness, dynamics error, pictures, time.

    pgd-report --runs=runs/quickstart/real,runs/quickstart/synthetic --out=runs/quickstart/report

The runs must share dataset and agent. The report's directory gets report.md, report.json (every number shown) and PNG
figures; an older report in it is replaced. Nothing is written into the runs.
"""

import os

from absl import flags

from pgd_jax.cli import entry
from pgd_jax.core.errors import UserError


def run() -> None:
    entry.run(_prepare, __doc__, keeps_nothing=True)


def _prepare():
    runs = flags.DEFINE_list("runs", None, "run directories of train_agent, separated by commas", required=True)
    out = entry.define_path("out", "directory of the report: new, empty, or an older report")

    def main() -> None:
        if not all(name.strip() for name in runs.value):
            raise UserError(f"--runs={','.join(runs.value)} holds an empty name; name run directories, by commas")
        from pgd_jax.report import writer  # after the flags: --help and mistakes need not wait for it

        print(writer.write(out.value, directories(runs.value)))

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
