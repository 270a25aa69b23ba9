"""Lists the datasets that have a name, with their tasks and what of them is on this machine.

    pgd-datasets                                        every name: D4RL's, built-in, local ones of Minari and OGBench
    pgd-datasets --match=hopper                         those with "hopper" in their name
    pgd-datasets --cached                               those with a file here, and other files beside them

`judged` says where an agent is evaluated: in the compiled program, on the host through Gymnasium, or nowhere (-).
`steps` is the episode limit; `random` and `expert` are the returns that count as 0 and 100.
"""

from absl import flags

from pgd_jax.cli import entry


def run() -> None:
    entry.run(_prepare, __doc__, compiles=False, keeps_nothing=True)


def _prepare():
    match = flags.DEFINE_string("match", "", "list only names that contain this")
    cached = flags.DEFINE_boolean("cached", False, "list only what is on this machine")

    def main() -> None:
        from pgd_jax.data import listing  # after the flags: --help and mistakes need not wait for JAX

        print("\n".join(listing.table(match.value, cached.value)))

    return main


if __name__ == "__main__":
    run()
