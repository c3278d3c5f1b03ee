import gc
from dataclasses import replace

import numpy as np
import pytest

from app.engine.admission import plan
from app.engine.engine import Engine
from app.engine.held import Held
from app.engine.request import Summary, SummaryRequest
from app.errors import OverloadedError
from tests.api.waiting import PATIENCE
from tests.fakes import FakeModel


def test_an_array_counts_for_as_long_as_it_is_there() -> None:
    held = Held()
    first, second = np.zeros((2, 3), np.float32), np.zeros(5, np.float32)
    held.count(first)
    held.count(second)
    assert held.bytes == 4 * (6 + 5)
    view = first[:1]
    del first
    assert held.bytes == 4 * (6 + 5), "a part of it is still there"
    del view, second
    gc.collect()
    assert held.bytes == 0


def test_attention_that_is_not_written_yet_leaves_no_room_for_more_but_for_summaries() -> None:
    model = FakeModel()
    plain = SummaryRequest("alpha bravo charlie delta " * 4, model.info.defaults)
    wanted = replace(plain, attention=True)
    with Engine(model, max_rows=4, max_queue=10, max_queue_bytes=plan(model, wanted, 4).bytes) as engine:

        def ask(request: SummaryRequest) -> Summary:
            return engine.submit([request])[0].result(PATIENCE)

        unwritten: list[Summary] = []
        with pytest.raises(OverloadedError, match="Attention that is not written yet"):
            unwritten += (ask(wanted) for _ in range(1000))
        assert ask(plain).text
        unwritten.clear()
        gc.collect()
        assert ask(wanted).attention is not None
