import pytest
import torch

from app.errors import ConfigurationError
from app.models import kernels
from app.models.devices import DTYPES, choose_device, choose_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["toaster", "cuda:0"])
def test_a_device_that_is_not_there_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigurationError, match=f"PRECIS_DEVICE={name}: "):
        choose_device(name)


def test_auto_chooses_among_what_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "missing", lambda: None)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert choose_precision("auto", CPU) == "int8"
    assert choose_precision("auto", CPU, DTYPES) == "bfloat16"


def test_what_is_not_offered_is_refused_with_what_is() -> None:
    with pytest.raises(ConfigurationError, match=r"PRECIS_PRECISION=int8: not one of auto, float32, bfloat16$"):
        choose_precision("int8", CPU, DTYPES)
