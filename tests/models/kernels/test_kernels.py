"""Products are exact but for the rounding of weights in int8, and of sums in float32; the kernels are there where they
can be."""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from app.models import kernels
from app.models.kernels import FloatWeights, Int8Weights
from tests.models.lstm.checkpoints import WITH_KERNELS


@pytest.mark.skipif(
    shutil.which("gcc") is None or not torch.cpu.get_capabilities().get("avx512_vnni"),
    reason="no compiler, or no AVX-512 VNNI",
)
def test_kernels_are_there_where_they_can_be_compiled_and_run() -> None:
    assert kernels.missing() is None


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    able = {f"avx512_{part}": True for part in ("f", "bw", "dq", "vl", "vnni")}
    for capabilities in ({}, able | {"avx512_vnni": False}):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda told=capabilities: told)
        assert kernels.missing() == "the processor has no AVX-512 VNNI"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    monkeypatch.setattr(kernels, "_files", list)
    assert kernels.missing() == "its kernels were not compiled when the project was installed"
    old = tmp_path / "_library.so"
    old.touch()
    os.utime(old, (0, 0))
    monkeypatch.setattr(kernels, "_files", lambda: [str(old)])
    assert kernels.missing() == "its kernels are older than their source; install the project again"


@WITH_KERNELS
@given(st.integers(0, 2**20), st.integers(1, 40), st.integers(1, 160), st.integers(1, 200))
@settings(deadline=None, max_examples=60)
def test_a_product_is_off_by_half_a_unit_of_its_weights_at_most(seed: int, count: int, fours: int, outer: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight, bias = torch.randn(outer, 4 * fours, generator=generator), torch.randn(outer, generator=generator)
    rows = torch.randint(-128, 128, (count, 4 * fours), generator=generator, dtype=torch.int8)
    units = torch.rand(count, generator=generator)
    exact = units.double().unsqueeze(1) * (rows.double() @ weight.double().T) + bias
    bound = units.unsqueeze(1) * rows.float().abs().sum(1, keepdim=True) * weight.abs().amax(1) / 127 / 2
    prepared = Int8Weights(weight, bias)
    got = prepared.multiply(rows, units)
    assert ((got - exact).abs() <= 1.001 * bound + 1e-4).all()
    some = torch.randperm(count, generator=generator)[: count // 2 + 1]
    assert torch.equal(prepared.multiply(rows[some], units[some]), got[some])


@WITH_KERNELS
def test_a_product_of_the_largest_numbers_is_exact() -> None:
    """Sums are taken of w + 128, and would show it where they did not fit."""
    signs = torch.tensor([1.0, -1.0, 1.0]).unsqueeze(1)
    rows = torch.tensor([[-128], [127]], dtype=torch.int8).expand(2, 2048).contiguous()
    got = Int8Weights(127 * signs.expand(3, 2048), torch.zeros(3)).multiply(rows, torch.ones(2))
    assert torch.equal(got, rows.float().sum(1, keepdim=True) * 127 * signs.T)


@WITH_KERNELS
def test_a_product_of_nothing_is_the_bias() -> None:
    bias = torch.randn(32)
    got = Int8Weights(torch.zeros(32, 64), bias).multiply(torch.zeros(4, 64, dtype=torch.int8), torch.ones(4))
    assert torch.equal(got, bias.expand(4, 32))


@WITH_KERNELS
@given(st.integers(0, 2**20), st.integers(1, 40), st.integers(1, 640), st.integers(1, 200))
@settings(deadline=None, max_examples=60)
def test_a_product_in_float32_is_off_by_the_rounding_of_its_sums(seed: int, count: int, inner: int, outer: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight, bias = torch.randn(outer, inner, generator=generator), torch.randn(outer, generator=generator)
    rows = torch.randn(count, inner, generator=generator)
    prepared = FloatWeights(weight, bias)
    got = prepared(rows)
    size = rows.double().abs() @ weight.double().abs().T + bias.abs()
    assert ((got - (rows.double() @ weight.double().T + bias)).abs() <= inner * 2**-23 * size).all()
    some = torch.randperm(count, generator=generator)[: count // 2 + 1]
    assert torch.equal(prepared(rows[some]), got[some])


@WITH_KERNELS
@given(st.integers(0, 2**20), st.integers(1, 40), st.integers(1, 40), st.integers(1, 200))
@settings(deadline=None, max_examples=60)
def test_rows_are_rounded_each_in_its_own_unit(seed: int, count: int, lanes: int, outer: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight, bias = torch.randn(outer, 16 * lanes, generator=generator), torch.randn(outer, generator=generator)
    rows = torch.randn(count, 16 * lanes, generator=generator) * torch.rand(count, 1, generator=generator)
    scale = weight.abs().amax(1, keepdim=True) / 127
    rounded = ((weight / scale).round() * scale).double()
    exact, bound = rows.double() @ rounded.T + bias, rows.abs().amax(1, keepdim=True) * rounded.abs().sum(1)
    prepared, split = Int8Weights(weight, bias), Int8Weights(weight, bias, split=True)
    got = prepared(rows)
    assert ((got - exact).abs() <= 1.001 * bound / 127 / 2 + 1e-5).all()
    assert ((split(rows) - exact).abs() <= 1.001 * bound / 127 / 128 / 2 + 1e-5).all()
    some = torch.randperm(count, generator=generator)[: count // 2 + 1]
    assert torch.equal(prepared(rows[some]), got[some])
    assert torch.equal(split(rows[some]), split(rows)[some])


@WITH_KERNELS
@pytest.mark.parametrize("weights", [FloatWeights, Int8Weights, partial(Int8Weights, split=True)])
@pytest.mark.parametrize("strange", [torch.nan, torch.inf])
def test_a_product_keeps_what_is_not_finite_in_its_row(
    weights: Callable[[Tensor, Tensor], FloatWeights | Int8Weights], strange: float
) -> None:
    rows = torch.ones(7, 32)
    rows[3, 5] = strange
    got = weights(torch.randn(70, 32), torch.zeros(70))(rows).log_softmax(1)
    assert torch.equal(got.isnan().any(1), ~rows.isfinite().all(1))
    assert got[3].isnan().all()
