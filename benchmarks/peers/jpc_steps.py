"""jpc, as documented: one dispatch a step of inference."""

# pyright: reportMissingImports=false
from jpc_update import update
from worker import serve

serve(update, "jpc", "jax")
