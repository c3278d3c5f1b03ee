"""Ray Serve with `@serve.batch`."""

import asyncio
import os
import signal
import tempfile
import threading

import ray
import torch
from ray import serve
from starlette.requests import Request

from benchmarks.peers.items import Item
from benchmarks.peers.settings import PeerSettings

SETTINGS = PeerSettings.read()


class Summarize:
    """The batch runs in a thread of its own, so that the next one fills meanwhile."""

    def __init__(self, settings: PeerSettings) -> None:
        self._model = settings.load()

    async def __call__(self, request: Request) -> dict[str, str]:
        body = await request.json()
        return {"summary": await self.summarize(Item(body["text"], body["beams"]))}

    @serve.batch(max_batch_size=SETTINGS.batch, batch_wait_timeout_s=SETTINGS.wait_ms / 1000)
    async def summarize(self, items: list[Item]) -> list[str]:
        return await asyncio.to_thread(self._model.summarize, items)


DEPLOYMENT = serve.deployment(
    Summarize,
    num_replicas=SETTINGS.workers,
    max_ongoing_requests=4096,
    ray_actor_options={"num_cpus": 0.1, "num_gpus": torch.cuda.is_available() / SETTINGS.workers},
)


def main() -> None:
    """Serve until SIGTERM."""
    stopped = threading.Event()
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            object_store_memory=128 * 2**20,
            _temp_dir=folder,
            _node_ip_address="127.0.0.1",
        )
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": SETTINGS.port, "access_log": False})
            serve.run(DEPLOYMENT.bind(SETTINGS), route_prefix="/summarize")
            signal.signal(signal.SIGTERM, lambda *_: stopped.set())  # after Ray has set its own
            stopped.wait()
        finally:
            serve.shutdown()
            ray.shutdown()


if __name__ == "__main__":
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    main()
