"""pcn-torch: its training loop over one batch. The task is named regression, since for classification it settles ten times over."""

# pyright: reportMissingImports=false
from __future__ import annotations

import os

import torch
from pcn_torch import PredictiveCodingNetwork, TrainCallback, TrainConfig, train_pcn
from torch.nn.functional import one_hot

from worker import BATCH, LEARNING_RATE, RATE, SIZES, STEPS, serve

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
torch.manual_seed(0)
net = PredictiveCodingNetwork(dims=list(SIZES[:-1]), activation="tanh", output_dim=SIZES[-1], mode="classification")
batches = [(torch.randn(BATCH, SIZES[0]), one_hot(torch.arange(BATCH) % SIZES[-1], SIZES[-1]).float())]
settings = TrainConfig(
    task="regression",
    T_infer=STEPS,
    T_learn=1,
    lr_infer=RATE,
    lr_learn=LEARNING_RATE,
    num_epochs=1,
    use_mixed_precision=False,
    callback=TrainCallback(),
)

serve(lambda: train_pcn(net, batches, settings), "pcn-torch", "torch")
