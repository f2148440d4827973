"""fabricpc: its own jitted training step."""

# pyright: reportMissingImports=false
from __future__ import annotations

from itertools import pairwise

import jax
import jax.numpy as jnp
import optax
from fabricpc import setup_jax
from fabricpc.core.activations import TanhActivation
from fabricpc.core.inference import InferenceSGD
from fabricpc.core.topology import Edge
from fabricpc.graph_assembly import TaskMap, graph
from fabricpc.graph_initialization import initialize_params
from fabricpc.nodes import IdentityNode, Linear
from fabricpc.training import make_train_step

from worker import BATCH, LEARNING_RATE, RATE, SIZES, STEPS, serve

setup_jax(platform="cpu")
nodes = [IdentityNode(shape=(SIZES[0],), name="x")]
nodes += [Linear(shape=(size,), activation=TanhActivation(), name=f"h{k}") for k, size in enumerate(SIZES[1:-1])]
nodes += [Linear(shape=(SIZES[-1],), name="y")]
net = graph(
    nodes=nodes,
    edges=[Edge(source=low, target=high.slot("in")) for low, high in pairwise(nodes)],
    task_map=TaskMap(x=nodes[0], y=nodes[-1]),
    inference=InferenceSGD(eta_infer=RATE, infer_steps=STEPS),
)
optimiser = optax.adam(LEARNING_RATE)
params = initialize_params(net, jax.random.PRNGKey(0))
state = {"params": params, "memory": optimiser.init(params)}
step = make_train_step(net, optimiser, algorithm="pc")
batch = {
    "x": jax.random.normal(jax.random.PRNGKey(1), (BATCH, SIZES[0])),
    "y": jax.nn.one_hot(jnp.arange(BATCH) % SIZES[-1], SIZES[-1]),
}
key = jax.random.PRNGKey(2)


def update():
    state["params"], state["memory"], *_ = step(state["params"], state["memory"], batch, key)
    jax.block_until_ready(state["params"])


serve(update, "fabricpc", "jax")
