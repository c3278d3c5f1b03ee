"""The work done here: a checkpoint is loaded once, and its engine kept full."""

import logging
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from math import inf
from typing import Self

import orjson

from app.api.requests import attention_options, check_text, decoding_options
from app.api.responses import attention_json, model_json, summary_json
from app.api.service import Service
from app.cli.backend import Answer
from app.cli.output import complain
from app.config import Settings
from app.engine.engine import Engine
from app.engine.request import Summary as Written
from app.engine.request import SummaryRequest
from app.errors import CheckpointError, OverloadedError, PrecisError, RequestError
from app.main import build_engine
from app.metrics import Metrics
from app.models import registry
from app.models.base import Seq2SeqModel
from app.schemas import AttentionRequest, AttentionResponse, Model, ModelList, Options, Summary

Waiting = deque[Future[Written] | PrecisError]
MOST_WAITING = 256  # texts; with them no core waits for the next file


class Local:
    """A backend with an engine of our own. Started with the first text, stopped at the end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._started = ExitStack()
        # The engine logs how a text made the model fail; people are told that it did.
        logging.getLogger("app").addHandler(logging.NullHandler())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._started.close()

    def summarize_all(self, texts: Iterable[str], options: Options) -> Iterator[Answer]:
        waiting: Waiting = deque()
        for text in texts:
            yield from self._submit(text, options, waiting)
            while waiting and (len(waiting) >= MOST_WAITING or _done(waiting[0])):
                yield _answer(waiting.popleft())
        while waiting:
            yield _answer(waiting.popleft())

    def attention(self, request: AttentionRequest) -> AttentionResponse:
        check_text(request.text, self._settings)
        if request.summary is not None:
            check_text(request.summary, self._settings, "/summary")
        plain = self._request(request.text, request)
        asked = replace(plain, attention=True, attention_options=attention_options(request), given=request.summary)
        (future,) = self._engine.submit([asked])
        summary = future.result()
        content = summary_json(summary, uuid.uuid4().hex)
        content["attention"] = attention_json(summary, request)
        return AttentionResponse.model_validate_json(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY))

    def models(self) -> ModelList:
        """A checkpoint that is broken is told and left out, as the service does it."""
        models = []
        for name in registry.available(self._settings.model_store):
            try:
                models.append(self.model(name))
            except CheckpointError as error:
                complain(error, name)
        if not models:
            raise CheckpointError(f"no checkpoint in {self._settings.model_store}")
        return ModelList(default=self._settings.model, models=models)

    def model(self, name: str) -> Model:
        return Model.model_validate_json(orjson.dumps(model_json(self._load(name).info)))

    @cached_property
    def _engine(self) -> Engine:
        engine = build_engine(self._load(self._settings.model), Service(self._settings, Metrics()))
        return self._started.enter_context(engine)

    def _load(self, name: str) -> Seq2SeqModel:
        settings = self._settings
        return registry.load(settings.model_store, name, device=settings.device, precision=settings.precision)

    def _submit(self, text: str, options: Options, waiting: Waiting) -> Iterator[Answer]:
        """Puts one text behind those that wait; as long as there is no room for it, answers of the oldest come out."""
        try:
            check_text(text, self._settings)
            request = self._request(text, options)
        except RequestError as error:
            waiting.append(error)
            return
        while True:
            try:
                waiting.extend(self._engine.submit([request]))
                return
            except RequestError as error:
                if not waiting or not isinstance(error, OverloadedError):
                    waiting.append(error)
                    return
            yield _answer(waiting.popleft())

    def _request(self, text: str, options: Options) -> SummaryRequest:
        chosen = decoding_options(options.parameters, self._engine.info)
        return SummaryRequest(text, chosen, options.truncation, timeout=inf)


def _done(waiting: Future[Written] | PrecisError) -> bool:
    return isinstance(waiting, PrecisError) or waiting.done()


def _answer(waiting: Future[Written] | PrecisError) -> Answer:
    if isinstance(waiting, PrecisError):
        return waiting
    try:
        return Summary.model_validate_json(orjson.dumps(summary_json(waiting.result(), uuid.uuid4().hex)))
    except PrecisError as error:
        return error
