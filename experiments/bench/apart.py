"""Calls in processes of their own: what one has imported, compiled or held does not touch the next."""

import concurrent.futures
import multiprocessing
from collections.abc import Callable
from typing import Any


def call(function: Callable[[], Any]) -> Any:
    """`function()` in a new process."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function).result()
