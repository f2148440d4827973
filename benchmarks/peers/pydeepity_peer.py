"""pydeepity: settling from the forward pass, the whole loop in C++."""

# pyright: reportMissingImports=false
from __future__ import annotations

from itertools import pairwise

import numpy as np
from deepity import Linear, SimplePCN, TanH

from worker import BATCH, LEARNING_RATE, RATE, SIZES, STEPS, serve

parts = []
for low, high in pairwise(SIZES):
    parts += [Linear(low, high), TanH()]
net = SimplePCN(*parts[:-1], batch_size=BATCH)
net.configure(learning_rate=LEARNING_RATE, inference_rate=RATE, lmbda=0.0, optimizer="ADAM", seed=0)
generator = np.random.default_rng(0)
x = generator.standard_normal((BATCH, SIZES[0]), dtype=np.float32).ravel()
y = np.eye(SIZES[-1], dtype=np.float32)[np.arange(BATCH) % SIZES[-1]].ravel()

serve(lambda: net.train_step_with_projection(x, y, STEPS), "pydeepity")
