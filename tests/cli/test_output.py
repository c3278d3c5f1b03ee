"""What people read on standard error."""

import pytest

from app.cli.output import complain, harmless, told
from app.client.errors import UnprocessableError
from app.errors import CheckpointError, FieldError, InvalidRequestError
from app.schemas import FieldProblem, Problem


def refused(*errors: FieldError) -> UnprocessableError:
    """As the client tells what a service refused."""
    problem = Problem(
        type="urn:x",
        title="",
        status=422,
        detail="detail",
        instance="/summarize",
        error="detail",
        error_type="x",
        errors=[FieldProblem(pointer=each.pointer, message=each.message) for each in errors],
        request_id="1",
    )
    return UnprocessableError(422, "detail", problem=problem)


@pytest.mark.parametrize(
    ("pointer", "message", "words"),
    [
        ("/text", "must not be empty or blank", "the text must not be empty or blank"),
        ("/summary", "has 65 tokens", "--summary has 65 tokens"),
        ("/parameters/num_beams", "must be at most 8 for x", "--num-beams must be at most 8 for x"),
        ("/parameters/min_length", "must not be above max_length", "--min-length must not be above --max-length"),
    ],
)
def test_fields_are_called_as_their_options_whoever_found_them_wrong(pointer: str, message: str, words: str) -> None:
    error = FieldError(pointer, message)
    assert told(InvalidRequestError("detail", (error,))) == words
    assert told(refused(error)) == words


def test_every_wrong_field_is_told() -> None:
    errors = FieldError("/text", "a"), FieldError("/parameters/max_length", "b")
    assert told(InvalidRequestError("detail", errors)) == "the text a; --max-length b"


def test_an_error_is_one_line_whatever_its_message(capsys: pytest.CaptureFixture[str]) -> None:
    complain(CheckpointError("a\n\n  b"), "na\nme")
    captured = capsys.readouterr()
    assert captured.err == "precis: na\N{REPLACEMENT CHARACTER}me: a b\n"
    assert captured.out == ""


def test_nothing_that_steers_a_terminal_is_shown() -> None:
    assert harmless("a\x1b[31mb\x07\x9bc\u202ed\udce9") == "a�[31mb��c�d�"
    assert harmless("naïve 北京 👩‍👩‍👧 e\u0301") == "naïve 北京 👩‍👩‍👧 e\u0301"
