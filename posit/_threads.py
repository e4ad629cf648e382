"""A small pool for kernels that release the GIL.

Numba's own parallel layers are avoided: the default one aborts the process when two Python threads enter it, and
each parallel kernel costs seconds to compile.  Results never depend on the number of threads: workers write
disjoint parts, and everything summed across them is an integer.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from posit.errors import PositError

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_pid = 0
_threads = 0


class ThreadCountError(PositError, ValueError):
    """A number of threads below 1."""


def get_num_threads() -> int:
    """Threads that posit's kernels may use; by default the processors this process may run on."""
    return _threads or int(os.environ.get("POSIT_NUM_THREADS", "0")) or len(os.sched_getaffinity(0))


def set_num_threads(count: int) -> None:
    """Use `count` threads in posit's kernels from now on.  Results are the same bits for every count.

    Raises:
        ThreadCountError: `count` is below 1.
    """
    global _threads
    if count < 1:
        raise ThreadCountError(f"the number of threads must be at least 1, got {count}")
    _threads = count


def split(length: int, work: int, run: Callable[[int, int], None]) -> None:
    """Call run(start, stop) over 0..length, in parallel where `work` (about nanoseconds) is worth it."""
    count = min(get_num_threads(), length, 1 + work // 100_000)
    if count <= 1:
        run(0, length)
        return
    edges = [length * part // count for part in range(count + 1)]
    futures = [_executor().submit(run, edges[part], edges[part + 1]) for part in range(1, count)]
    run(edges[0], edges[1])
    for future in futures:
        future.result()


def _executor() -> ThreadPoolExecutor:
    global _pool, _pool_pid
    with _lock:
        if _pool is None or _pool_pid != os.getpid():  # a forked child has no worker threads
            _pool = ThreadPoolExecutor(max_workers=max(64, os.cpu_count() or 1), thread_name_prefix="posit")
            _pool_pid = os.getpid()
        return _pool
