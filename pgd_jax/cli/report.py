"""Makes a page with figures out of agent runs: scores with intervals, on-policy-ness, dynamics error, pictures, time.

    pgd-report --runs=runs/quickstart/real,runs/quickstart/synthetic --out=runs/quickstart/report

The runs must share dataset and agent. The report's directory gets report.md, report.json (every number shown) and PNG
figures; an older report in it is replaced. Nothing is written into the runs.
"""

from absl import flags

from pgd_jax.cli import entry
from pgd_jax.core.errors import UserError


def run() -> None:
    entry.run(_prepare, __doc__, keeps_nothing=True)


def _prepare():
    runs = flags.DEFINE_list("runs", None, "run directories of train_agent, separated by commas", required=True)
    out = entry.define_path("out", "directory of the report: new, empty, or an older report")

    def main() -> None:
        from pgd_jax.report import writer  # after the flags: --help and mistakes need not wait for JAX

        if not all(name.strip() for name in runs.value):
            raise UserError(f"--runs={','.join(runs.value)} holds an empty name; name run directories, by commas")
        print(writer.write(out.value, runs.value))

    return main


if __name__ == "__main__":
    run()
