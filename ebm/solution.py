"""What a call returns: the best answer so far, what it cost, how each sample ended, and all that is needed to go on."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from os import PathLike
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebm import files, rows
from ebm.coded import decode, encode
from ebm.files import FileError
from ebm.objective import Point
from ebm.provenance import Provenance, Source

__all__ = ["Carry", "InferenceError", "Origin", "Solution", "Status", "cat"]


class Status(IntEnum):
    """How a sample ended, each with its ``advice``.

    Example:
        >>> import ebm
        >>> ebm.Status.OUT_OF_STEPS.advice
        'Pass a larger `steps=`, or go on with `resume=`.'
    """

    RUNNING = 0
    CONVERGED = 1
    OUT_OF_STEPS = 2
    OUT_OF_TIME = 3
    OUT_OF_FLOPS = 4
    STALLED = 5
    STOPPED = 6
    NONFINITE = 7

    @property
    def advice(self) -> str:
        """What to do about a sample that ended so."""
        return _ADVICE[self]


_ADVICE = {
    Status.RUNNING: "The stream goes on: take the next item.",
    Status.CONVERGED: "Nothing to do: the stop rule is met.",
    Status.OUT_OF_STEPS: "Pass a larger `steps=`, or go on with `resume=`.",
    Status.OUT_OF_TIME: "Pass a larger `seconds=`, or go on with `resume=`.",
    Status.OUT_OF_FLOPS: "Pass a larger `flops=`, or go on with `resume=`.",
    Status.STALLED: "The solver can make no further progress: its schedule is over, or rounding stops it. Accept the answer, or try another solver or float64.",
    Status.STOPPED: "A callback or an interrupt ended the call: go on with `resume=`.",
    Status.NONFINITE: "The last finite latent was kept. Lower the step size, or bound the energy from below.",
}


class InferenceError(RuntimeError):
    """Raised by `Solution.raise_for_status`; the solution rides on it as ``error.solution``.

    Example:
        >>> import ebm
        >>> issubclass(ebm.InferenceError, RuntimeError)
        True
    """

    def __init__(self, message: str, solution: Solution) -> None:
        super().__init__(message)
        self.solution = solution


class Carry(NamedTuple):
    """Everything a sample needs to go on; a row tree, one row a sample.

    Attributes:
        point: the running point.
        best: the best point so far, or None where the last one is kept.
        rank: (B,), what ``best`` was judged by: its energy, or its residual where there is no energy.
        memory: the solver's memory.
        rest: the stop rule's memory.
        keys: int64 (B,), the noise key of each sample.
        status: int64 (B,), a `Status` each.
        steps: int64 (B,), steps taken, over all calls.
        evals: int64 (B,), evaluations asked for, over all calls.
        work: int64 (B,), FLOPs of those and of the stop rule's read-outs.
        packed: bool (B,), which samples are still computed together; bits of a product depend on it.
    """

    point: Point
    best: Point | None
    rank: Tensor | None
    memory: Any
    rest: Any
    keys: Tensor
    status: Tensor
    steps: Tensor
    evals: Tensor
    work: Tensor
    packed: Tensor


class Origin(NamedTuple):
    """Who made a carry, in words: a resumed call must come from the same model and solver."""

    model: str
    solver: str
    stop: str


@dataclass(frozen=True, eq=False)
class Solution:
    """The answer of `ebm.infer`, or an item of `ebm.stream`: usable, true and resumable at any time.

    Attributes:
        z: the kept latent, a row tree.
        answer: the model's read-out of it.
        energy: (B,), the energy *of* ``z``; None for an update, which has none.
        residual: (B,), root mean square of the force at ``z``; zero at rest.
        status: int64 (B,), a `Status` each.
        steps: int64 (B,), steps taken, earlier calls included.
        evals: int64 (B,), evaluations of the objective, earlier calls included.
        flops_per_sample: int64 (B,), FLOPs of those (one multiply-add is 2), earlier calls included.
        flops: FLOPs that this call executed: the fixed part, the samples' evaluations, and what was padded.
        fixed_flops: the part of ``flops`` for condition, start and read-out.
        uncounted: operations seen that have no formula, by name.
        seconds: duration of this call on its clock.
        trace: what ``record=`` asked for, each stacked over steps, of the running point; empty by default.
        carry: all that is needed to go on.
        origin: the model, solver and stop rule that made the carry.
        provenance: the weights and the observation that made it, so that `resume=` can tell whether they are the same.

    Example:
        >>> import torch, ebm
        >>> solution = ebm.infer(ebm.ModernHopfield(torch.eye(3), beta=0.6), torch.eye(3)[:2], steps=3)
        >>> solution
        Solution(2 samples: 2 OUT_OF_STEPS; steps 3-3; energy 0.33...; residual 0.00...)
    """

    z: Any
    answer: Any
    energy: Tensor | None
    residual: Tensor
    status: Tensor
    steps: Tensor
    evals: Tensor
    flops_per_sample: Tensor
    flops: int
    fixed_flops: int
    uncounted: Mapping[str, int]
    seconds: float
    carry: Carry = field(repr=False)
    origin: Origin = field(repr=False)
    trace: Mapping[str, Any] = field(default_factory=dict, repr=False)
    provenance: Provenance | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return self.status.shape[0]

    @property
    def converged(self) -> Tensor:
        """Which samples met the stop rule: bool (B,)."""
        return self.status == Status.CONVERGED

    @property
    def status_names(self) -> list[str]:
        """How each sample ended, by name.

        Example:
            >>> import torch, ebm
            >>> ebm.infer(ebm.ModernHopfield(torch.eye(3), beta=0.6), torch.eye(3)[:2], steps=3).status_names
            ['OUT_OF_STEPS', 'OUT_OF_STEPS']
        """
        return [Status(number).name for number in self.status.tolist()]

    @property
    def status_counts(self) -> dict[str, int]:
        """How many samples ended in each way, by name; those in which none did are left out."""
        counts = self.status.bincount(minlength=len(Status)).tolist()
        return {status.name: n for status, n in zip(Status, counts, strict=True) if n}

    def __repr__(self) -> str:
        ended = ", ".join(f"{n} {name}" for name, n in self.status_counts.items())
        said = [f"{len(self)} samples: {ended or 'none'}"]
        if len(self):
            said.append(f"steps {int(self.steps.min())}-{int(self.steps.max())}")
            said += [
                f"{name} {_span(each)}"
                for name, each in (("energy", self.energy), ("residual", self.residual))
                if each is not None
            ]
        return f"Solution({'; '.join(said)})"

    def __getitem__(self, samples: int | slice | list[int] | Tensor) -> Solution:
        """The solution of some samples alone, as `take`: a number gives a batch of one, so that it can be resumed.

        Raises:
            IndexError: a number outside the batch.
        """
        if isinstance(samples, slice):
            return self.take(list(range(len(self))[samples]))
        if isinstance(samples, Tensor) and samples.ndim:
            return self.take(samples)
        if isinstance(samples, list):
            return self.take(samples)
        number = range(len(self))[operator.index(samples)]
        return self.take([number])

    def raise_for_status(self) -> Solution:
        """Return the solution itself if no sample failed.

        Raises:
            InferenceError: some samples ended NONFINITE; the message names them, the solution rides on the error.
        """
        bad = (self.status == Status.NONFINITE).nonzero().flatten().tolist()
        if not bad:
            return self
        named = ", ".join(map(str, bad[:10])) + (", ..." if len(bad) > 10 else "")
        message = f"{len(bad)} of {len(self)} samples ended NONFINITE (rows {named}). {Status.NONFINITE.advice}"
        raise InferenceError(message, self)

    def take(self, samples: Tensor | list[int]) -> Solution:
        """The solution of some samples alone, resumable with their part of ``x``.

        Args:
            samples: row numbers (int64) or a mask (bool, (B,)).

        Returns:
            A solution whose ``flops`` is the sum over these samples; ``seconds`` stays that of the call, and the trace
            is left behind.
        """
        index = torch.as_tensor(samples, device=self.status.device)
        index = index.nonzero().flatten() if index.dtype == torch.bool else index.to(torch.int64)
        parts = {name: rows.take(getattr(self, name), index) for name in _PER_SAMPLE}
        known = self.provenance and self.provenance.take(index, self.state, (parts["z"], parts["carry"]))
        return replace(
            self, **parts, flops=int(parts["flops_per_sample"].sum()), fixed_flops=0, trace={}, provenance=known
        )

    @property
    def state(self) -> tuple[Any, Carry]:
        """Latents and carry: what a call goes on from."""
        return self.z, self.carry

    def z_to_go_on_from(self) -> Any:
        """The running latents; or ``z``, if the user has written into it since."""
        known = self.provenance
        written = known is not None and not known.untouched(self.state)
        return self.z if written else self.carry.point.z

    def save(self, path: str | PathLike[str]) -> None:
        """Write the solution to a file; `Solution.load` brings it back, ready to go on.

        The file takes the place of an old one all at once: whatever interrupts it, ``path`` holds the old solution or the new one.

        Raises:
            TypeError: something in it is no row tree of tensors and plain values, so that it could not be read back.
            OSError: the file cannot be written; an old one is as it was.
        """
        plain = {name: encode(getattr(self, name), name) for name in (*_PER_SAMPLE, *_PER_CALL)}
        known = self.provenance is not None and self.provenance.untouched(self.state)
        source = encode(self.provenance.source.plain(), "source") if self.provenance is not None and known else None
        files.save(path, {**plain, "origin": list(self.origin), "source": source, "version": 1})

    @staticmethod
    def load(path: str | PathLike[str], map_location: Any = None) -> Solution:
        """Read a solution written by `save`. No code in the file is run.

        Args:
            path: the file.
            map_location: where its tensors go, as for `torch.load`: ``"cpu"`` where the device that made it is missing.

        Raises:
            FileError: a ValueError: the file is damaged, of something else, or of a tuple type whose module is not imported yet.
            OSError: there is no such file, or it cannot be read.
        """
        plain = files.load(path, "`Solution.save`", 1, (*_PER_SAMPLE, *_PER_CALL, "origin"), map_location)
        try:
            parts = {name: decode(plain[name]) for name in (*_PER_SAMPLE, *_PER_CALL)}
            source = plain.get("source")
            known = None if source is None else Provenance(Source.read(decode(source)), (parts["z"], parts["carry"]))
            found = Solution(**parts, origin=Origin(*plain["origin"]), provenance=known)
            wrong = _inconsistent(found)
        except FileError:
            raise
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
        if wrong is not None:
            raise FileError(
                f"`Solution.load` wants a file as `Solution.save` wrote it; in {path}, {wrong}. Write it anew from the solution."
            )
        return found

    def to(self, device: torch.device | str) -> Solution:
        """The solution on another device, resumable with a model and ``x`` there.

        Args:
            device: as for `torch.Tensor.to`.
        """
        names = (*_PER_SAMPLE, "trace")
        parts = {name: _on(getattr(self, name), device) for name in names}
        there = parts["status"] is self.status  # numbers of another device are another model's: found out at `resume=`
        return replace(self, **parts, provenance=self.provenance if there else None)

    def cpu(self) -> Solution:
        """The solution on the CPU."""
        return self.to("cpu")


def _span(numbers: Tensor) -> str:
    low, high = (f"{float(end):.3g}" for end in numbers.detach().aminmax())
    return low if low == high else f"{low} to {high}"


_PER_SAMPLE = ("z", "answer", "energy", "residual", "status", "steps", "evals", "flops_per_sample", "carry")
_PER_CALL = ("flops", "fixed_flops", "uncounted", "seconds", "trace")


def cat(solutions: list[Solution]) -> Solution:
    """Join solutions of one model and solver into one batch, sample after sample; ``flops`` and ``seconds`` are summed.

    Args:
        solutions: at least one, all of one model, solver and stop rule.

    Raises:
        ValueError: no solution at all, or solutions of different models, solvers, stop rules or ``keep``.

    Example:
        >>> import torch, ebm
        >>> model, x = ebm.ModernHopfield(torch.eye(3), beta=0.6), torch.eye(3)
        >>> whole = ebm.infer(model, x, steps=2)
        >>> ebm.cat([whole.take([0]), whole.take([1, 2])])
        Solution(3 samples: 3 OUT_OF_STEPS; steps 2-2; energy 0.33...; residual 0.01...)
    """
    if not solutions:
        raise ValueError("`cat` joins at least one solution; got an empty list. Pass the solutions to join.")
    first = solutions[0]
    other = next((s for s in solutions if s.origin != first.origin), None)
    if other is not None:
        what = next(name for name in Origin._fields if getattr(other.origin, name) != getattr(first.origin, name))
        raise ValueError(
            f"`cat` joins solutions of one model, solver and stop rule; their {what} differs: "
            f"{getattr(first.origin, what)} and {getattr(other.origin, what)}. Join those of a kind."
        )
    if len({s.carry.best is None for s in solutions}) > 1:
        raise ValueError(
            "`cat` joins solutions of one `keep=`; got some that keep the best point and some that keep the last. "
            "Settle all with the same `keep=`."
        )
    parts: dict[str, Any] = {name: rows.cat([getattr(s, name) for s in solutions]) for name in _PER_SAMPLE}
    uncounted: dict[str, int] = {}
    for solution in solutions:
        uncounted.update(solution.uncounted)
    totals: dict[str, Any] = {
        name: sum(getattr(s, name) for s in solutions) for name in ("flops", "fixed_flops", "seconds")
    }
    known = Provenance.cat(
        [s.provenance for s in solutions], [s.state for s in solutions], (parts["z"], parts["carry"])
    )
    return Solution(**parts, **totals, uncounted=uncounted, origin=first.origin, provenance=known)


def _on(tree: Any, device: torch.device | str) -> Any:
    """A tree on a device, with what no sample owns: `rows.map_rows` would leave that behind."""
    if isinstance(tree, rows.Shared):
        return rows.Shared(_on(tree.value, device))
    if isinstance(tree, Mapping):
        return {key: _on(part, device) for key, part in tree.items()}
    if isinstance(tree, (tuple, list)):
        parts = [_on(part, device) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree.to(device) if isinstance(tree, Tensor) else tree


def _inconsistent(solution: Solution) -> str | None:
    """What keeps the parts of a solution from belonging together, or None."""
    fields = [getattr(part, "_fields", None) for part in (solution.carry, getattr(solution.carry, "point", None))]
    if fields != [Carry._fields, Point._fields]:
        return f"`carry` is {type(solution.carry).__name__}"
    if not all(isinstance(words, str) for words in solution.origin):
        return "`origin` is not in words"
    status = solution.status
    if not isinstance(status, Tensor) or status.dtype != torch.int64 or status.ndim != 1:
        return "`status` is not one whole number a sample"
    if len(status) and not 0 <= int(status.min()) <= int(status.max()) < len(Status):
        return "`status` holds numbers that name nothing"
    parts = {name: getattr(solution, name) for name in _PER_SAMPLE if name != "carry"}
    parts.update({f"carry.{name}": part for name, part in solution.carry._asdict().items()})
    for name, part in parts.items():
        sizes = {leaf.shape[0] if leaf.ndim else "a scalar" for leaf in rows.leaves(part)}
        if sizes - {len(status)}:
            return f"`{name}` has {', '.join(map(str, sorted(sizes, key=str)))} rows, and `status` {len(status)}"
    for name in ("residual", "steps", "evals", "flops_per_sample"):
        if not isinstance(parts[name], Tensor) or parts[name].ndim != 1:
            return f"`{name}` is not one number a sample"
    return None
