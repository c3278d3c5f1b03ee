"""A plain FastAPI handler that runs the model under a lock: no batches."""

import threading

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.peers.items import Item
from benchmarks.peers.settings import PeerSettings


class Request(BaseModel):
    """One text."""

    text: str
    beams: int


def create_app(settings: PeerSettings) -> FastAPI:
    app, model, lock = FastAPI(), settings.load(), threading.Lock()

    @app.post("/summarize")
    def summarize(request: Request) -> dict[str, str]:
        with lock:
            return {"summary": model.summarize([Item(request.text, request.beams)])[0]}

    return app


if __name__ == "__main__":
    chosen = PeerSettings.read()
    uvicorn.run(create_app(chosen), port=chosen.port, log_level="error", backlog=2048)
