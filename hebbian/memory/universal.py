"""The universal Hopfield network: every single-shot associative memory as similarity, separation and projection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ebm.engine.stop import AtRest, Stop
from ebm.models.binary import check_patterns, check_query, hold
from ebm.noise import Draw
from ebm.objective import Update
from hebbian.memory.similarity import Separation, Similarity, Softmax, dot

__all__ = ["UniversalHopfield"]

_SOFTMAX = Softmax()


class UniversalHopfield(Update):
    r"""A memory by choice of similarity and separation, autoassociative or heteroassociative.

    With the patterns as the rows of X, what they project to as the rows of P (X itself, unless ``values`` are given), and an output
    function g (none, or a sign):

    .. math:: q \leftarrow g\bigl(X^T \text{sep}(\text{sim}(X, q))\bigr), \qquad \text{answer} = g\bigl(P^T \text{sep}(\text{sim}(X, q))\bigr)

    ==========  ================  ==============  ================================================
    similarity  separation        g               is
    ==========  ================  ==============  ================================================
    `dot`       `Linear()`        `torch.sign`    the Hopfield network, all units at once
    `dot`       `Power(n)`        `torch.sign`    a dense associative memory, all units at once
    `dot`       `Softmax(beta)`   none            the modern Hopfield network: attention
    any         `TopK(1)`         none            the nearest pattern
    ==========  ================  ==============  ================================================

    An update costs two products with the patterns (`manhattan` one pass of N x D differences for the first). With ``values`` the
    answer of a settled state costs two more. There is no energy in general; `ModernHopfield` and `DenseMemory` have theirs. Not every
    choice comes to rest: updating all units at once can end in a cycle of two, which `Picard(0.5)` does not mend for signs.

    Args:
        patterns: (N, D), one a row. A parameter stays one; any other tensor becomes a buffer.
        similarity: `dot`, `cosine`, `euclidean`, `manhattan`, or your own.
        separation: `Softmax`, `Linear`, `Power`, `TopK`, or your own.
        values: (N, E), what each pattern stands for; None answers with the state.
        output: g, a function of (B, D) and (B, E), number by number; None for none.

    Raises:
        ValueError: patterns or values of another shape; at the call, a query of another shape.
        TypeError: a similarity, separation or output that cannot be called.

    Example:
        >>> import torch, ebm
        >>> from hebbian.memory import Softmax, UniversalHopfield, manhattan
        >>> memory = UniversalHopfield(torch.eye(4), manhattan, Softmax(8.0))
        >>> ebm.infer(memory, torch.tensor([[0.9, 0.1, 0.0, 0.2]])).z.round(decimals=2)
        tensor([[1., 0., 0., 0.]])

    Source: Millidge, Salvatori, Song, Lukasiewicz and Bogacz (2022), Universal Hopfield networks. They project once; here the state may go round
    as often as the budget allows, and the last round projects.
    """

    default_steps = 100
    patterns: Tensor

    def __init__(
        self,
        patterns: Tensor,
        similarity: Similarity = dot,
        separation: Separation = _SOFTMAX,
        *,
        values: Tensor | None = None,
        output: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        patterns = check_patterns("UniversalHopfield(patterns)", patterns, binary=False)
        parts: dict[str, Any] = {"similarity": similarity, "separation": separation, "output": output}
        for name, part in parts.items():
            if isinstance(part, type) or (not callable(part) and not (name == "output" and part is None)):
                raise TypeError(
                    f"`UniversalHopfield({name}=...)` must be callable; got {type(part).__name__}. Pass `dot` and `Softmax(8.0)`, say."
                )
        hold(self, "patterns", patterns)
        if values is not None:
            values = check_patterns("UniversalHopfield(values=...)", values, binary=False)
            if len(values) != len(patterns):
                raise ValueError(
                    f"`UniversalHopfield(values=...)` wants a row a pattern, {len(patterns)}; got {len(values)}. Repeat or drop some."
                )
            hold(self, "values", values)
        else:
            self.values = None
        self.similarity, self.separation, self.output = similarity, separation, output

    def condition(self, x: Tensor) -> dict[str, Any]:
        """The query."""
        check_query("UniversalHopfield", x, self.patterns.shape[1])
        return {"query": x}

    def init_latent(self, c: Any, draw: Draw) -> Tensor:
        """The query itself."""
        return c["query"]

    def forward(self, z: Tensor, c: Any) -> Tensor:
        """The next state."""
        return self._projected(z, self.patterns)

    def readout(self, z: Tensor, c: Any) -> Tensor:
        """The state, or what it stands for."""
        return z if self.values is None else self._projected(z, self.values)

    def _projected(self, z: Tensor, values: Tensor) -> Tensor:
        found = self.separation(self.similarity(z, self.patterns)) @ values
        return found if self.output is None else self.output(found)

    def default_stop(self) -> Stop:
        """At rest to 1e-5."""
        return AtRest(1e-5)


def signs(field: Tensor, own: Tensor, scale: Tensor) -> Tensor:
    """The signs of fields; a unit whose field is zero, to the rounding of numbers of size ``scale``, keeps its own state."""
    slack = torch.finfo(field.dtype).eps * scale
    return torch.where(field.abs() > slack, field.sign(), torch.where(field.isnan(), field, own))
