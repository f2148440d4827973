"""jpc with the whole update in one compiled program: faster than as documented, and our own doing."""

# pyright: reportMissingImports=false
import equinox

from jpc_update import one, run
from worker import serve

fused = equinox.filter_jit(one)
serve(lambda: run(fused), "jpc", "jax")
