"""Messages arrive whole and in order, whoever writes how much and when."""

import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.channel import Channel

PATIENCE = 30.0  # seconds
MUCH = b"x" * 5_000_000  # more than any socket holds


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    first, second = map(Channel, socket.socketpair())
    yield first, second
    first.close()
    second.close()


@given(st.lists(st.binary(max_size=2000) | st.lists(st.integers()), max_size=20))
def test_what_is_sent_arrives_in_order(messages: list[object]) -> None:
    first, second = map(Channel, socket.socketpair())
    for message in messages:
        first.send(message)
    assert [second.receive() for _ in messages] == messages
    assert second.receive_now() is None
    first.close()
    with pytest.raises(EOFError):
        second.receive()
    second.close()


@given(st.binary(min_size=1, max_size=100), st.integers(1, 100))
def test_a_message_in_pieces_is_received_when_it_is_whole(message: bytes, piece: int) -> None:
    plain, copied = socket.socketpair()
    source = Channel(plain)
    source.send(message)
    whole = copied.recv(1 << 16)
    copied.close()
    source.close()
    writer, own = socket.socketpair()
    reader = Channel(own)
    for start in range(0, len(whole), piece):
        assert reader.receive_now() is None
        assert not reader.pending
        writer.sendall(whole[start : start + piece])
    assert reader.receive() == message
    writer.close()
    reader.close()


def test_two_ends_that_send_much_to_each_other_do_not_wait_for_ever(ends: tuple[Channel, Channel]) -> None:
    first, second = ends
    received: list[bytes] = []

    def send_and_receive() -> None:
        second.send(MUCH)
        received.append(second.receive(PATIENCE))

    other = threading.Thread(target=send_and_receive, daemon=True)
    other.start()
    first.send(MUCH)
    assert first.receive(PATIENCE) == MUCH
    other.join(PATIENCE)
    assert received == [MUCH]


def test_nothing_is_waited_for_in_vain(ends: tuple[Channel, Channel]) -> None:
    first, second = ends
    with pytest.raises(TimeoutError):
        first.receive(0.01)
    assert not first.hang_up(0.01), "the other end is open"
    with pytest.raises(EOFError):
        second.receive(PATIENCE)
    second.send(MUCH[:1000])
    second.close()
    assert first.hang_up(PATIENCE)


def test_who_does_not_read_is_not_waited_for_for_ever(ends: tuple[Channel, Channel]) -> None:
    first, _ = ends
    with pytest.raises(TimeoutError):
        first.send(MUCH, 0.01)


def test_nobody_is_written_to_who_is_gone(ends: tuple[Channel, Channel]) -> None:
    first, second = ends
    second.close()
    with pytest.raises(BrokenPipeError):
        first.send(MUCH)
