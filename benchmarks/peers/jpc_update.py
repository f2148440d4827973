"""What both jpc rows share: the update in its documented calls."""

# pyright: reportMissingImports=false
from __future__ import annotations

import equinox
import jax
import jax.numpy as jnp
import jpc
import optax

from worker import BATCH, LEARNING_RATE, RATE, SIZES, STEPS

x = jax.random.normal(jax.random.PRNGKey(1), (BATCH, SIZES[0]))
y = jax.nn.one_hot(jnp.arange(BATCH) % SIZES[-1], SIZES[-1])
latents = optax.sgd(RATE * BATCH)  # jpc divides the energy by the batch
weights = optax.adam(LEARNING_RATE)
model = jpc.make_mlp(
    jax.random.PRNGKey(0),
    input_dim=SIZES[0],
    width=SIZES[1],
    depth=len(SIZES) - 1,
    output_dim=SIZES[-1],
    act_fn="tanh",
    use_bias=True,
)
state = {"model": model, "weights": weights.init((equinox.filter(model, equinox.is_array), None))}


def one(model, memory, x, y):
    """Settle from the forward pass, then change the weights once."""
    activities = jpc.init_activities_with_ffwd(model=model, input=x)
    inner = latents.init(activities)
    for _ in range(STEPS):
        found = jpc.update_pc_activities(
            params=(model, None), activities=activities, optim=latents, opt_state=inner, output=y, input=x
        )
        activities, inner = found["activities"], found["opt_state"]
    found = jpc.update_pc_params(
        params=(model, None), activities=activities, optim=weights, opt_state=memory, output=y, input=x
    )
    return found["model"], found["opt_state"]


def run(step):
    """One update with this form of `one`, waited for."""
    state["model"], state["weights"] = step(state["model"], state["weights"], x, y)
    jax.block_until_ready(equinox.filter(state["model"], equinox.is_array))


def update():
    """One update, as documented."""
    run(one)
