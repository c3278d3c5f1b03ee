"""How work of fixed shapes is given to a device: as CUDA graphs and on two streams; or, for tests, as it is written.

A graph is a recording of kernels and of the addresses they read and write: to be replayed it needs no Python, and its
inputs must be where they were.
"""

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

_CAPTURE = threading.Lock()  # there may be only one at a time in a process
WARM_UPS = 3  # before a capture, as torch's notes on CUDA graphs have it: libraries make their plans and workspaces


class Runner(ABC):
    """Makes steps ready to be run again and again, and lets newcomers be encoded beside them."""

    @abstractmethod
    def prepare(self, step: Callable[[], None]) -> Callable[[], None]:
        """step: reads and writes the same memory whenever it is called, and never waits for the device.

        It may be run meanwhile, so what it reads must be such that this changes nothing.
        """

    @abstractmethod
    def beside(self) -> AbstractContextManager[torch.cuda.Event | None]:
        """What is launched in here runs after all that was launched before, and beside all that follows.

        The event is when it is done; None when it is done at once.
        """


class Eager(Runner):
    """Runs the step itself, one thing after another."""

    def prepare(self, step: Callable[[], None]) -> Callable[[], None]:
        return step

    def beside(self) -> AbstractContextManager[torch.cuda.Event | None]:
        return nullcontext()


class CudaRunner(Runner):
    """Captures each step once and replays it on the stream that is current then.

    All graphs take what they need in between from one pool of memory. Nothing in there is read after the replay that
    wrote it (what stays was allocated outside), and replays follow one another on one stream: any order is right.
    """

    def __init__(self, device: torch.device) -> None:
        """Before the first product on the device."""
        # Else cuBLAS may add up in another order when several streams are in use.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        self._device = device
        with torch.cuda.device(device):
            self._pool = torch.cuda.graph_pool_handle()
            self._capturing: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            self._encoding: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def prepare(self, step: Callable[[], None]) -> Callable[[], None]:
        with _CAPTURE, torch.cuda.device(self._device):
            self._warm_up(step)
            graph = torch.cuda.CUDAGraph()
            # Other models have threads of their own that allocate meanwhile: only this thread may not.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._capturing, capture_error_mode="thread_local"):
                step()
        return graph.replay

    def _warm_up(self, step: Callable[[], None]) -> None:
        """On the stream of the capture, so that it finds the libraries' workspaces there."""
        current = torch.cuda.current_stream()
        self._capturing.wait_stream(current)
        with torch.cuda.stream(self._capturing):
            for _ in range(WARM_UPS):
                step()
        current.wait_stream(self._capturing)

    @contextmanager
    def beside(self) -> Iterator[torch.cuda.Event | None]:
        # Memory that was let go may still be read by what was launched before: this stream takes it again only then.
        self._encoding.wait_stream(torch.cuda.current_stream(self._device))
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._encoding):
            yield done
            done.record(self._encoding)
