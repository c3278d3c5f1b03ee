"""A model that copies the first words of its source and attends to each as it copies it."""

import numpy as np
import torch

from app.models.base import ModelInfo, StepOutput
from tests.fakes import END, VOCABULARY, FakeModel, Row

COPIED = 3


class CopyingModel(FakeModel):
    """`astray` shifts the attention by so many words from where it should be."""

    def __init__(self, info: ModelInfo | None = None, astray: int = 0) -> None:
        super().__init__(info)
        self._astray = astray

    def run_step(self, rows: list[Row]) -> StepOutput:
        probabilities = np.full((len(rows), len(VOCABULARY)), 1e-6, np.float32)
        attention = np.zeros((len(rows), max(len(row.source) for row in rows)), np.float32)
        for number, row in enumerate(rows):
            written = len(row.prefix) - 1  # the start token is not written
            place = min(written, len(row.source) - 1)
            probabilities[number, row.source[place] if written < COPIED else END] = 1
            attention[number, (place + self._astray) % len(row.source)] = 1
        logs = np.log(probabilities / probabilities.sum(1, keepdims=True))
        return StepOutput(torch.from_numpy(logs), torch.from_numpy(attention), torch.ones(len(rows)))
