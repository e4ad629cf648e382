"""A batch in parts, one for each thread; the kernels release the GIL."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

_WORTH = 50_000  # nanoseconds of work that pay for waking a thread
_GRAIN = 64  # elements: parts begin at full vectors

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_owner = 0  # process that made the pool


def split(length: int, nanoseconds: float, run: Callable[[int, int], object]) -> None:
    """Call run(start, stop) over 0..length, on as many of torch's threads as the work is worth."""
    count = min(torch.get_num_threads(), 1 + int(nanoseconds / _WORTH), 1 + length // _GRAIN)
    if count <= 1:
        run(0, length)
        return
    edges = [length * part // count // _GRAIN * _GRAIN for part in range(count)] + [length]
    futures = [_executor().submit(run, edges[part], edges[part + 1]) for part in range(1, count)]
    try:
        run(edges[0], edges[1])
    finally:
        for future in futures:
            future.result()


def _executor() -> ThreadPoolExecutor:
    global _pool, _owner
    with _lock:
        if _pool is None or _owner != os.getpid():  # a forked child has no worker threads
            _pool = ThreadPoolExecutor(max(1, os.cpu_count() or 1), thread_name_prefix="ga")
            _owner = os.getpid()
        return _pool
