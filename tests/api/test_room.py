from contextlib import ExitStack

from hypothesis import given
from hypothesis import strategies as st

from app.api.room import Room

sizes = st.lists(st.lists(st.integers(0, 300), max_size=5), max_size=8)


@given(sizes)
def test_all_together_never_take_more_than_there_is_but_for_one_alone(asked: list[list[int]]) -> None:
    room = Room(100, little=10)
    with ExitStack() as stack:
        for growing in asked:
            need, others, own = stack.enter_context(room.share()), room.taken, 0
            for size in growing:
                if need(size):
                    own = max(own, size - 10)
                else:
                    assert others > 0
                    assert others + size - 10 > 100
                assert room.taken == others + own
                assert room.taken <= 100 or not (others and own)
    assert room.taken == 0


def test_a_little_is_always_to_be_had() -> None:
    room = Room(100, little=10)
    with room.share() as first, room.share() as second:
        assert first(110)
        assert second(10)
        assert not second(11)
    assert room.taken == 0


def test_what_was_needed_is_free_again_however_it_ends() -> None:
    room = Room(100, little=10)
    try:
        with room.share() as need:
            need(50)
            raise ValueError
    except ValueError:
        pass
    assert room.taken == 0
