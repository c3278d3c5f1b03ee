import asyncio
from collections import Counter

import pytest

from app.api import line as lines
from app.api.line import MOST_AT_ONCE, Line
from tests.api.waiting import Rounds


def test_who_comes_at_once_has_a_turn_in_order_one_each_time_the_loop_goes_round() -> None:
    turns: list[tuple[int, int]] = []

    async def come() -> None:
        line, rounds = Line(), Rounds()

        async def one(number: int) -> None:
            await line.turn()
            turns.append((number, rounds.count))

        going = asyncio.create_task(rounds.go())
        await asyncio.gather(*map(one, range(5)))
        going.cancel()

    asyncio.run(come())
    assert [number for number, _ in turns] == list(range(5))
    assert len({count for _, count in turns}) == 5


def test_where_the_loop_goes_round_slowly_more_have_a_turn_but_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "USUAL_WAIT", 1e-9)
    counts: list[int] = []

    async def come() -> None:
        line, rounds = Line(), Rounds()

        async def one() -> None:
            await line.turn()
            counts.append(rounds.count)

        going = asyncio.create_task(rounds.go())
        await asyncio.gather(*(one() for _ in range(4 * MOST_AT_ONCE)))
        going.cancel()

    asyncio.run(come())
    assert set(Counter(counts).values()) == {MOST_AT_ONCE}


def test_who_leaves_the_line_keeps_nobody_waiting() -> None:
    async def come() -> None:
        line = Line()
        first, second, third = (asyncio.create_task(line.turn()) for _ in range(3))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(first, third)

    asyncio.run(come())


def test_the_line_is_too_long_only_while_somebody_is_in_it_and_others_waited_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def come(line: Line, callers: int) -> list[bool]:
        seen: list[bool] = []

        async def one() -> None:
            await line.turn()
            seen.append(line.too_long)

        await asyncio.gather(*(one() for _ in range(callers)))
        return seen

    assert asyncio.run(come(Line(), 3)) == [False] * 3
    monkeypatch.setattr(lines, "LONGEST_WAIT", -1.0)
    line = Line()
    seen = asyncio.run(come(line, 3))
    assert seen[0] is True
    assert seen[-1] is line.too_long is False
