"""LitServe with batching."""

from collections.abc import Sequence
from typing import Any

import litserve

from benchmarks.peers.items import Item
from benchmarks.peers.settings import PeerSettings


class SummarizeAPI(litserve.LitAPI):
    """Texts that arrive within the wait are one batch."""

    def setup(self, device: str) -> None:
        del device  # the model takes a GPU by itself
        self.model = PeerSettings.read().load()

    def decode_request(self, request: dict[str, Any]) -> Item:
        return Item(request["text"], request["beams"])

    def batch(self, inputs: Sequence[Item]) -> list[Item]:
        return list(inputs)

    def predict(self, items: list[Item]) -> list[str]:
        return self.model.summarize(items)

    def unbatch(self, output: list[str]) -> list[str]:
        return output

    def encode_response(self, output: str) -> dict[str, str]:
        return {"summary": output}


if __name__ == "__main__":
    chosen = PeerSettings.read()
    api = SummarizeAPI(max_batch_size=chosen.batch, batch_timeout=chosen.wait_ms / 1000, api_path="/summarize")
    server = litserve.LitServer(api, workers_per_device=chosen.workers, devices=1, timeout=False)
    server.run(host="127.0.0.1", port=chosen.port, num_api_servers=1, generate_client_file=False, log_level="error")
