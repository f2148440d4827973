"""pcx: the whole update in one jitted function, as in its tutorial."""

# pyright: reportMissingImports=false
from __future__ import annotations

from itertools import pairwise

import jax
import jax.numpy as jnp
import optax
import pcx
import pcx.functional as pxf
import pcx.nn as pxnn
import pcx.predictive_coding as pxc
import pcx.utils as pxu

from worker import BATCH, LEARNING_RATE, RATE, SIZES, STEPS, serve

pcx.RKG.seed(0)


class Net(pxc.EnergyModule):
    """Linear layers with a value node after each; the squared error is its default energy."""

    def __init__(self):
        super().__init__()
        self.layers = [pxnn.Linear(low, high) for low, high in pairwise(SIZES)]
        self.nodes = [pxc.Vode() for _ in self.layers]
        self.nodes[-1].h.frozen = True

    def __call__(self, x, y):
        for layer, node in zip(self.layers[:-1], self.nodes[:-1], strict=True):
            x = node(jnp.tanh(layer(x)))
        self.nodes[-1](self.layers[-1](x))
        if y is not None:
            self.nodes[-1].set("h", y)
        return self.nodes[-1].get("u")


values = pxu.M(pxc.VodeParam | pxc.VodeParam.Cache).to((None, 0))
free = pxu.M_hasnot(pxc.VodeParam, frozen=True)


@pxf.vmap(values, in_axes=(0, 0), out_axes=0)
def predict(x, y, *, model):
    return model(x, y)


@pxf.vmap(values, in_axes=(0,), out_axes=(None, 0), axis_name="batch")
def energy(x, *, model):
    out = model(x, None)
    return jax.lax.psum(model.energy(), "batch"), out


@pxf.jit()
def train(x, y, *, model, weights, latents):
    model.train()
    with pxu.step(model, pxc.STATUS.INIT, clear_params=pxc.VodeParam.Cache):
        predict(x, y, model=model)
    latents.init(free(model))
    for _ in range(STEPS):
        with pxu.step(model, clear_params=pxc.VodeParam.Cache):
            _, slope = pxf.value_and_grad(free.to([False, True]), has_aux=True)(energy)(x, model=model)
        latents.step(model, slope["model"])
    latents.clear()
    with pxu.step(model, clear_params=pxc.VodeParam.Cache):
        _, slope = pxf.value_and_grad(pxu.M(pxnn.LayerParam).to([False, True]), has_aux=True)(energy)(x, model=model)
    weights.step(model, slope["model"], scale_by=1.0 / BATCH)


x = jax.random.normal(jax.random.PRNGKey(1), (BATCH, SIZES[0]))
y = jax.nn.one_hot(jnp.arange(BATCH) % SIZES[-1], SIZES[-1])
model = Net()
with pxu.step(model, pxc.STATUS.INIT, clear_params=pxc.VodeParam.Cache):
    predict(jnp.zeros_like(x), None, model=model)  # shapes the nodes, so that nothing compiles twice
weights = pxu.Optim(lambda: optax.adam(LEARNING_RATE), pxu.M(pxnn.LayerParam)(model))
latents = pxu.Optim(lambda: optax.sgd(RATE))


def update():
    train(x, y, model=model, weights=weights, latents=latents)
    jax.block_until_ready([layer.nn.weight.get() for layer in model.layers])


serve(update, "pcx", "jax")
