"""The loss is that of its formula, its gradients are those of autograd, and validation pays for none."""

from typing import Any

import pytest
import torch
from torch import Tensor

from training.loss import copy_loss

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # features, weight, bias, gate, copied
ROWS, SIZE, VOCABULARY = 300, 6, 11  # more than one block of rows


def inputs() -> tuple[Inputs, Tensor]:
    torch.manual_seed(0)
    given = (
        torch.randn(ROWS, SIZE, requires_grad=True),
        torch.randn(VOCABULARY, SIZE, requires_grad=True),
        torch.randn(VOCABULARY, requires_grad=True),
        torch.randn(ROWS, requires_grad=True),
        torch.rand(ROWS, requires_grad=True),
    )
    return given, torch.randint(VOCABULARY, (ROWS,))


def by_the_formula(given: Inputs, targets: Tensor) -> Tensor:
    features, weight, bias, gate, copied = given
    generated = torch.softmax(features @ weight.T + bias, dim=1).gather(1, targets.unsqueeze(1)).squeeze(1)
    share = torch.sigmoid(gate)
    return -(share * generated + (1 - share) * copied).log().sum()


def test_loss_and_gradients_are_those_of_the_formula() -> None:
    given, targets = inputs()
    loss, expected = copy_loss(*given, targets, torch.float32), by_the_formula(given, targets)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, given), torch.autograd.grad(expected, given))


def test_without_gradients_the_loss_is_the_same_at_a_third_of_the_products(monkeypatch: pytest.MonkeyPatch) -> None:
    given, targets = inputs()
    products, multiply = [0], torch.mm

    def counted(*arguments: Any) -> Tensor:
        products[0] += 1
        return multiply(*arguments)

    monkeypatch.setattr(torch, "mm", counted)
    learning = copy_loss(*given, targets, torch.float32)
    assert products.pop() == 6
    products.append(0)
    with torch.no_grad():
        assert torch.equal(copy_loss(*given, targets, torch.float32), learning)
    assert products == [2]
