"""Answers are counted on both sides."""

from benchmarks.soaking.ledger import Ledger, Metrics


def ledger() -> Ledger:
    kept = Ledger()
    kept.answered.update({("/summarize", 200): 5, ("/summarize", 422): 1, ("/livez", 200): 2})
    kept.left["/summarize"] = 3
    return kept


TRUE = {("/summarize", 200): 6, ("/summarize", 422): 1, ("/summarize", 499): 2, ("/livez", 200): 2}


def test_those_who_left_may_have_been_answered_or_not() -> None:
    for answered in range(5, 9):
        served = {**TRUE, ("/summarize", 200): answered, ("/summarize", 499): 8 - answered}
        assert list(ledger().differences(served)) == []


def test_any_other_count_is_told() -> None:
    for key, count in (
        (("/summarize", 200), 7),
        (("/summarize", 200), 4),
        (("/summarize", 499), 3),
        (("/livez", 200), 1),
        (("/livez", 500), 1),
        (("/models", 200), 1),
    ):
        assert list(ledger().differences({**TRUE, key: count})) != []


def test_an_answer_of_another_status_is_told_though_the_sum_is_right() -> None:
    served = {**TRUE, ("/livez", 200): 1, ("/livez", 404): 1}
    assert list(ledger().differences(served)) == [
        "/livez, 200: 2 answers and 0 who left, 1 are counted",
        "/livez, 404: 0 answers and 0 who left, 1 are counted",
    ]


def test_who_was_turned_away_at_the_door_has_no_route() -> None:
    kept = ledger()
    kept.answered["/summarize", 503] = 4
    assert list(kept.differences({**TRUE, ("unmatched", 503): 3, ("/summarize", 503): 1})) == []
    assert list(kept.differences({**TRUE, ("unmatched", 503): 1, ("/summarize", 200): 9})) != []


def test_counts_are_read_as_the_service_tells_them() -> None:
    before = Metrics('# TYPE precis_requests counter\nprecis_requests_total{route="/",status="200"} 2.0\n')
    after = Metrics(
        '# TYPE precis_requests counter\nprecis_requests_total{route="/",status="200"} 5.0\n'
        'precis_requests_total{route="/",status="404"} 1.0\n'
    )
    assert after.requests_since(before) == {("/", 200): 3.0, ("/", 404): 1.0}
    assert after.total("precis_requests_total") == 6.0
