"""Several threads compute what one would."""

import numpy as np
import pytest
import torch
from torch import Tensor

from app.models.lstm.network import NetworkConfig, Seq2Seq
from training.data import Batch, collate, end_to_end
from training.objective import Objective
from training.workers import Workers, split

SIZES = {"embedding_size": 32, "encoder_size": 32, "decoder_size": 32, "key_size": 32}
OBJECTIVE = Objective(torch.float32, attention_weight=0.1)


def batch_of(rows: int) -> Batch:
    random = np.random.default_rng(0)
    ids = [random.integers(3, 50, random.integers(4, 9)).astype(np.uint16) for _ in range(rows)]
    return collate(end_to_end(ids, ids), np.arange(rows))


def gradients(workers: int, rows: int, dropout: float = 0.0, seed: int = 1) -> tuple[list[Tensor], float, int]:
    torch.manual_seed(0)
    model = Seq2Seq(NetworkConfig(50, dropout=dropout, **SIZES))
    loss, tokens = Workers(model, workers).gradients(batch_of(rows), OBJECTIVE, seed)
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None], loss, tokens


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_two_workers_find_the_gradients_loss_and_tokens_of_one(rows: int) -> None:
    one, two = gradients(1, rows), gradients(2, rows)
    torch.testing.assert_close(two[0], one[0], atol=1e-6, rtol=1e-4)
    assert two[1] == pytest.approx(one[1], rel=1e-5)
    assert two[2] == one[2]


def test_equal_seeds_give_equal_bits_and_others_another_dropout() -> None:
    first, again, other = (gradients(2, 8, dropout=0.3, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(*pair) for pair in zip(first[0], again[0], strict=True))
    assert first[1] == again[1] != other[1]


def test_what_the_optimizer_changes_the_next_gradients_see() -> None:
    torch.manual_seed(0)
    model = Seq2Seq(NetworkConfig(50, dropout=0.0, **SIZES))
    workers, batch = Workers(model, 2), batch_of(6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = []
    for _ in range(5):
        losses.append(workers.gradients(batch, OBJECTIVE, 1)[0])
        optimizer.step()
    assert losses[-1] < losses[0]


def test_a_batch_is_split_without_losing_a_row() -> None:
    batch = batch_of(5)
    shares = split(batch, 2)
    assert [len(share.lengths) for share in shares] == [3, 2]
    assert torch.equal(torch.cat([share.source for share in shares]), batch.source)
