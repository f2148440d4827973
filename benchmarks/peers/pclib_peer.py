"""pclib: observation and label pinned, its energy differentiated by autograd, Adam."""

# pyright: reportMissingImports=false
from __future__ import annotations

import os

import torch
from pclib.nn.models import FCPCN
from pclib.utils.functional import format_y

from worker import BATCH, LEARNING_RATE, RATE, SIZES, STEPS, serve

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
torch.manual_seed(0)
net = FCPCN(
    sizes=list(reversed(SIZES)),
    steps=STEPS,
    bias=True,
    symmetric=True,
    actv_fn=torch.nn.functional.tanh,
    gamma=RATE,
    temp_k=0.0,  # its default adds noise
    inverted=True,
)
optimiser = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
x, y = torch.randn(BATCH, SIZES[0]), format_y(torch.arange(BATCH) % SIZES[-1], SIZES[-1])


def update():
    optimiser.zero_grad()
    _, state = net(obs=x, y=y, pin_obs=True, pin_target=True, steps=STEPS)
    net.vfe(state).backward()
    optimiser.step()


serve(update, "pclib", "torch")
