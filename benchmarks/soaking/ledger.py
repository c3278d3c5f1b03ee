"""Whether the service counts its answers as those who got them do."""

from collections import Counter
from collections.abc import Iterator, Mapping

from prometheus_client.parser import text_string_to_metric_families

CALLER_LEFT, OVERLOADED = 499, 503
Counts = Mapping[tuple[str, int], float]


class Ledger:
    """What came of all requests whose head was sent whole, by route and status; those who left do not know theirs."""

    def __init__(self) -> None:
        self.answered: Counter[tuple[str, int]] = Counter()
        self.left: Counter[str] = Counter()

    def copy(self) -> "Ledger":
        other = Ledger()
        other.answered, other.left = self.answered.copy(), self.left.copy()
        return other

    def differences(self, served: Counts) -> Iterator[str]:
        """Between this and what the service has counted in the same time.

        Who is refused for overload may have been turned away before there was a route.
        """
        sent, counted = self.answered.total() + self.left.total(), sum(served.values())
        if sent != counted:
            yield f"{sent} requests were sent, {counted:g} are counted"
        for key in sorted(self.answered.keys() | served.keys()):
            if key[1] not in (CALLER_LEFT, OVERLOADED):
                yield from _difference(key, self.answered[key], self.left[key[0]], served.get(key, 0))
        answered, counted = _refused(self.answered), _refused(served)
        yield from _difference(("all routes", OVERLOADED), answered, self.left.total(), counted)


def _refused(counts: Counts) -> float:
    return sum(count for (_, status), count in counts.items() if status == OVERLOADED)


def _difference(key: tuple[str, int], answered: float, left: int, counted: float) -> Iterator[str]:
    if not answered <= counted <= answered + left:
        yield f"{key[0]}, {key[1]}: {answered:g} answers and {left} who left, {counted:g} are counted"


class Metrics:
    """What /metrics tells at one moment."""

    def __init__(self, text: str) -> None:
        families = text_string_to_metric_families(text)
        self._samples = [sample for family in families for sample in family.samples]

    def total(self, name: str, **labels: str) -> float:
        """Over all others of its labels."""
        found = (sample for sample in self._samples if sample.name == name and labels.items() <= sample.labels.items())
        return sum(sample.value for sample in found)

    @property
    def requests(self) -> dict[tuple[str, int], float]:
        return {
            (sample.labels["route"], int(sample.labels["status"])): sample.value
            for sample in self._samples
            if sample.name == "precis_requests_total"
        }

    def requests_since(self, other: "Metrics") -> dict[tuple[str, int], float]:
        before = other.requests
        return {key: count - before.get(key, 0) for key, count in self.requests.items()}
