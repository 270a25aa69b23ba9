"""How far a run has come: a bar on a terminal or in a notebook, elsewhere a line a minute at the most."""

import collections
import pathlib
import time

import tqdm

from pgd_jax.core import logging

LINE_S = 60.0  # from one line to the next
NUM_RECENT = 20  # chunks whose mean time is taken for the time of those to come
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} {unit}s [{elapsed}{postfix}]"


class Progress:
    """Of a run of equal chunks. To be closed, or used in a `with` statement.

    The time left is that of whole chunks, and so of generating, learning and evaluating. The first chunk is not like
    the others (its first phase is unguided, and some programs are compiled in it): it counts until there is a second.
    """

    def __init__(
        self, name: str, unit: str, units_per_chunk: int, num_chunks: int, num_done: int = 0, is_hidden: bool = False
    ):
        """`name` is the run's directory, or what it is called; what is counted is `unit`, from `num_done` chunks on."""
        self._name, self._unit, self._units_per_chunk = name, unit, units_per_chunk
        self._num_chunks, self._num_done = num_chunks, num_done
        self._began = self._last = self._said = time.monotonic()
        self._seconds: collections.deque[float] = collections.deque(maxlen=NUM_RECENT)
        self._num_timed = 0
        self._has_lines = not is_hidden and not logging.is_interactive()
        self._bar = logging.bar(
            total=num_chunks * units_per_chunk, initial=num_done * units_per_chunk, unit=unit, unit_scale=True,
            desc=pathlib.PurePath(name).name, mininterval=0.5, bar_format=BAR, disable=is_hidden,
        )  # fmt: skip

    def chunk_done(self, summary: str) -> None:
        """To be called after each chunk; `summary` is how well it went, in a few words."""
        now = time.monotonic()
        if self._num_timed == 1:
            self._seconds.clear()
        self._seconds.append(now - self._last)
        self._num_timed, self._num_done, self._last = self._num_timed + 1, self._num_done + 1, now
        is_end = self._num_done == self._num_chunks
        about = f"{duration(now - self._began)} in all" if is_end else f"{duration(self.seconds_left())} left"
        text = f"{summary}, {about}" if summary else about
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(self._units_per_chunk)
        if self._has_lines and (is_end or now - self._said >= LINE_S):
            self._said = now
            logging.info(f"{self._name}: {self._counted()}, {text}")

    def _counted(self) -> str:
        counts = (self._num_done * self._units_per_chunk, self._num_chunks * self._units_per_chunk)
        done, total = map(tqdm.tqdm.format_sizeof, counts)
        return f"{done} of {total} {self._unit}s ({self._num_done / self._num_chunks:.0%})"

    def seconds_left(self) -> float:
        """Until the end, by the chunks that this process has finished: one at least."""
        return (self._num_chunks - self._num_done) * sum(self._seconds) / len(self._seconds)

    def close(self) -> None:
        self._bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def duration(seconds: float) -> str:
    """ "3.2 h", for people."""
    units = ((86_400.0, "days"), (3_600.0, "h"), (60.0, "min"))
    return next((f"{seconds / size:.1f} {unit}" for size, unit in units if seconds >= 2.0 * size), f"{seconds:.0f} s")
