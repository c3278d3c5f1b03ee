import pytest

from app.engine.costs import Load
from app.engine.observer import EngineObserver
from app.metrics import Metrics, PrometheusObserver


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


LIMITS = Load(10, 1000, 100, 8192)


@pytest.fixture
def observer(metrics: Metrics) -> PrometheusObserver:
    return PrometheusObserver(metrics, "news-en", LIMITS)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_every_application_counts_for_itself() -> None:
    first, second = Metrics(), Metrics()
    first.count_request("/summarize", 200, 0.1)
    assert value(first, "precis_requests_total", route="/summarize", status="200") == 1
    assert value(second, "precis_requests_total", route="/summarize", status="200") is None


def test_everything_that_an_engine_tells_is_counted() -> None:
    told = {name for name in vars(EngineObserver) if not name.startswith("_")}
    assert told <= set(vars(PrometheusObserver))


def test_gauges_hold_the_last_value_of_each_model(metrics: Metrics, observer: PrometheusObserver) -> None:
    PrometheusObserver(metrics, "other", LIMITS).queue_changed(Load(9), 1.0)
    observer.queue_changed(Load(5), 1.0)
    observer.queue_changed(Load(3, 120, 12, 4096), 0.5)
    observer.rows_changed(16, 64)
    for name, last in (("texts", 3), ("tokens", 120), ("rows", 12), ("bytes", 4096)):
        assert value(metrics, f"precis_queue_{name}", model="news-en") == last
    assert value(metrics, "precis_queue_texts", model="other") == 9
    assert value(metrics, "precis_expected_wait_seconds", model="news-en") == 0.5
    assert value(metrics, "precis_live_rows", model="news-en") == 16
    assert value(metrics, "precis_slot_occupancy", model="news-en") == 0.25


@pytest.mark.parametrize("waiting", [Load(5, 1, 1, 1), Load(1, 500, 1, 1), Load(1, 1, 50, 1), Load(1, 1, 1, 4096)])
def test_the_fullest_limit_tells_how_full_the_queue_is(
    metrics: Metrics, observer: PrometheusObserver, waiting: Load
) -> None:
    observer.queue_changed(waiting, 1.0)
    assert value(metrics, "precis_queue_fill", model="news-en") == 0.5


def test_padding_efficiency_is_real_tokens_over_computed_ones(metrics: Metrics, observer: PrometheusObserver) -> None:
    observer.encoded(30, 40, 0.1)
    observer.encoded(60, 80, 0.1)
    assert value(metrics, "precis_padding_efficiency", model="news-en") == 0.75


def test_times_are_observed(metrics: Metrics, observer: PrometheusObserver) -> None:
    observer.first_token(0.2)
    observer.stepped(4, 0.01)
    observer.stepped(4, 0.03)
    assert value(metrics, "precis_first_token_seconds_sum", model="news-en") == 0.2
    assert value(metrics, "precis_token_seconds_count", model="news-en") == 2
    assert value(metrics, "precis_token_seconds_sum", model="news-en") == pytest.approx(0.04)


def test_the_shares_of_encoder_and_decoder_are_told_in_seconds(metrics: Metrics, observer: PrometheusObserver) -> None:
    observer.encoded(30, 40, 0.5)
    observer.stepped(4, 0.25)
    observer.stepped(4, 0.25)
    observer.encoded(30, 40, 0.25)
    assert value(metrics, "precis_worker_seconds_total", model="news-en", phase="encode") == 0.75
    assert value(metrics, "precis_worker_seconds_total", model="news-en", phase="decode") == 0.5


def test_refusals_are_counted_by_reason_and_start_at_zero(metrics: Metrics, observer: PrometheusObserver) -> None:
    observer.refused("queue_full")
    assert value(metrics, "precis_refused_total", reason="queue_full") == 1
    assert value(metrics, "precis_refused_total", reason="deadline") == 0


def test_losses_are_counted(metrics: Metrics, observer: PrometheusObserver) -> None:
    observer.cancelled()
    observer.worker_restarted()
    assert value(metrics, "precis_cancelled_total") == 1
    assert value(metrics, "precis_worker_restarts_total") == 1


def test_what_a_process_uses_is_said_to_be_that_of_the_service_alone() -> None:
    lines = Metrics().exposition().decode().splitlines()
    (told,) = [line for line in lines if line.startswith("# HELP process_resident_memory_bytes ")]
    assert told.endswith("bytes: of the service without its lanes' processes.")
