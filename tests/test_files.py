"""Files: whole or not there, whatever happens on the way; and what is damaged is told by one kind of error."""

from __future__ import annotations

import contextlib
import io
import os
import random
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import ebm
from ebm import files

F64 = torch.float64
KILLED = """
import os, random, signal, sys, time
import torch, ebm
torch.set_num_threads(1)
path, rng = sys.argv[1], random.Random(5)
memory = ebm.ModernHopfield(torch.eye(400))
one, two = (ebm.infer(memory, torch.eye(400)[:n] + 0.1, steps=2) for n in (300, 200))
one.save(path)
began = time.perf_counter()
one.save(path)
took = time.perf_counter() - began
seen = set()
for _ in range(50):
    child = os.fork()
    if child == 0:
        while True:
            two.save(path)
            one.save(path)
    time.sleep(rng.uniform(0, 3 * took))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    seen.add(len(ebm.Solution.load(path)))
print(sorted(seen))
"""


class Net(ebm.Energy):
    """Rests at c; its latent is a named tuple that is nested in it."""

    class State(NamedTuple):
        first: Tensor
        second: dict[str, Tensor]

    def init_latent(self, c: Tensor, draw: ebm.Draw) -> Any:
        return Net.State(torch.zeros_like(c), {"deep": torch.ones_like(c)})

    def forward(self, z: Any, c: Tensor) -> Tensor:
        return (z.first - c).square().sum(1) + z.second["deep"].square().sum(1)


def settled(rows: int = 4) -> ebm.Solution:
    return ebm.infer(Net(), torch.arange(2.0 * rows, dtype=F64).view(rows, 2), steps=3, record=["energy"])


def same(one: ebm.Solution, two: ebm.Solution) -> bool:
    def leaves(tree: Any) -> Iterator[Any]:
        if isinstance(tree, Mapping):
            tree = tuple(tree.items())
        if isinstance(tree, (tuple, list)):
            for part in tree:
                yield from leaves(part)
        else:
            yield tree

    def parts_of(solution: ebm.Solution) -> tuple[Any, ...]:
        known = solution.provenance
        return tuple({**vars(solution), "provenance": known and known.source.plain()}.values())

    pairs = zip(leaves(parts_of(one)), leaves(parts_of(two)), strict=True)
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


def parts(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextlib.contextmanager
def limited(size: int) -> Iterator[None]:
    """A disk that takes files of so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path, old = tmp_path / "s.pt", settled()
    old.save(path)
    with limited(path.stat().st_size // 3), pytest.raises(OSError, match="too large"):
        settled(40).save(path)
    assert same(ebm.Solution.load(path), old) and parts(tmp_path) == ["s.pt"]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failure_at_the_end_leaves_the_old_file(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing takes the place before it was forced to the disk: so the order is write, fsync, replace."""
    path = tmp_path / "s.txt"
    files.write_text(path, "old")

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(KeyboardInterrupt):
        files.write_text(path, "new")
    assert path.read_text() == "old" and parts(tmp_path) == ["s.txt"]


def test_readers_and_writers_beside_each_other(tmp_path: Path) -> None:
    """Three writers of one path, and a reader: every load is one of what was written, whole."""
    path, written = tmp_path / "s.pt", [settled(rows) for rows in (2, 3, 4)]
    written[0].save(path)
    failed: list[BaseException] = []

    def work(solution: ebm.Solution) -> None:
        try:
            for _ in range(10):
                solution.save(path)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(each,)) for each in written]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found = ebm.Solution.load(path)
        assert same(found, written[len(found) - 2])
    assert not failed and parts(tmp_path) == ["s.pt"]


@pytest.mark.slow
def test_fifty_killed_writers_leave_a_whole_file(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "s.pt")], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[200, 300]", done.stderr


def test_links_are_followed_and_permissions_kept(tmp_path: Path) -> None:
    path, link = tmp_path / "s.txt", tmp_path / "link.txt"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)
    files.write_text(link, "new")
    assert link.is_symlink() and path.read_text() == "new" and stat.S_IMODE(path.stat().st_mode) == 0o640


def test_what_is_no_regular_file_is_written_in_place(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    thread = threading.Thread(target=lambda: read.append(pipe.read_text()))
    thread.start()
    files.write_text(pipe, "words")
    thread.join()
    assert read == ["words"] and stat.S_ISFIFO(pipe.stat().st_mode)


def flipped(content: bytes, place: int, bit: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    return bytes(changed)


def told_or_right(path: Path, content: bytes, right: ebm.Solution) -> bool:
    """Whether a damaged file is refused; if not, what it gives must be right."""
    path.write_bytes(content)
    try:
        assert same(ebm.Solution.load(path), right)
    except ebm.FileError:
        return True
    return False


def test_flipped_bits_and_lost_ends_are_refused(tmp_path: Path) -> None:
    """Padding between parts holds nothing, so a flip there may pass, if the answer is right."""
    path, right, rng = tmp_path / "s.pt", settled(), random.Random(3)
    right.save(path)
    content = path.read_bytes()
    flips = [
        told_or_right(path, flipped(content, rng.randrange(len(content)), rng.randrange(8)), right) for _ in range(150)
    ]
    assert sum(flips) > 50
    at = content.index(right.z.first.numpy().tobytes())
    assert told_or_right(path, flipped(content, at + 7, 2), right)
    assert all(told_or_right(path, content[:length], right) for length in range(0, len(content), 331))


@pytest.mark.slow
def test_flipped_bytes_everywhere_are_refused_or_harmless(tmp_path: Path) -> None:
    path, right, rng = tmp_path / "s.pt", settled(), random.Random(4)
    right.save(path)
    content = path.read_bytes()
    for place in range(rng.randrange(8), len(content), 8):
        told_or_right(path, flipped(content, place, rng.randrange(8)), right)


def test_checksums_are_written_even_where_torch_was_told_not_to(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        solution = settled()
        solution.save(tmp_path / "s.pt")
        assert torch.serialization.get_crc32_options() is False
    finally:
        torch.serialization.set_crc32_options(True)
    assert same(ebm.Solution.load(tmp_path / "s.pt"), solution)


@pytest.mark.parametrize("content", [b"", b"energy: 3\n", b"\x80\x04N.", b"PK\x03\x04"])
def test_what_is_no_file_of_torch_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "s.pt").write_bytes(content)
    with pytest.raises(ebm.FileError, match=r"written by `Solution.save` is wanted; .*s.pt is none"):
        ebm.Solution.load(tmp_path / "s.pt")


class Runs:
    """What pickle would call when it reads it."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("/nowhere/was-run",)


def _without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda plain: plain.pop(name) and None


def _set(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda plain: plain.update({name: value})


def _carry_lost_a_field(plain: dict[str, Any]) -> None:
    plain["carry"][1].pop()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without("energy"), "it lacks energy"),
        (_set("version", 7), "it is of version 7"),
        (_set("origin", ["Net", "Adam"]), "missing 1 required positional argument: 'stop'"),
        (_set("z", torch.ones(4, 2)), "too many values"),
        (_set("z", ["leaf", torch.ones(3, 2)]), "`z` has 3 rows, and `status` 4"),
        (_set("status", ["leaf", torch.ones(9, dtype=torch.int64)]), "has 4 rows, and `status` 9"),
        (_set("status", ["leaf", torch.full((4,), 8)]), "numbers that name nothing"),
        (_set("status", ["leaf", torch.ones(4)]), "not one whole number a sample"),
        (_set("residual", ["leaf", None]), "`residual` is not one number a sample"),
        (_set("carry", ["leaf", None]), "`carry` is NoneType"),
        (_carry_lost_a_field, "a Carry has 10 fields, not 11"),
        (_set("seconds", Runs()), "which was not run"),
    ],
)
def test_a_file_whose_parts_do_not_belong_together_is_refused(
    change: Callable[[dict[str, Any]], None], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "s.pt"
    settled().save(path)
    plain = torch.load(path, weights_only=True)
    change(plain)
    torch.save(plain, path)
    with pytest.raises(ebm.FileError, match=words):
        ebm.Solution.load(path)
    assert issubclass(ebm.FileError, ValueError)


def test_named_tuples_inside_a_class_go_on_from_a_file(tmp_path: Path) -> None:
    part = settled()
    part.save(tmp_path / "s.pt")
    loaded = ebm.Solution.load(tmp_path / "s.pt", map_location="cpu")
    assert type(loaded.z) is Net.State and same(loaded, part)
    x = torch.arange(8.0, dtype=F64).view(4, 2)
    assert torch.equal(
        ebm.infer(Net(), x, steps=2, resume=loaded).z.first, ebm.infer(Net(), x, steps=2, resume=part).z.first
    )


@dataclass
class Answer:
    best: Tensor


def test_what_could_not_be_read_back_is_refused_when_it_is_saved(tmp_path: Path) -> None:
    class Local(NamedTuple):
        first: Tensor

    class Says(Net):
        answers: Any = None

        def readout(self, z: Any, c: Any) -> Any:
            return self.answers(z.first)

    model, path = Says(), tmp_path / "s.pt"
    path.write_text("old")
    for answers, words in (
        (Answer, "`answer` holds Answer. Return a NamedTuple"),
        (Local, "Local of .*not in a function"),
    ):
        model.answers = answers
        with pytest.raises(TypeError, match=words):
            ebm.infer(model, torch.ones(4, 2, dtype=F64), steps=1).save(path)
    assert path.read_text() == "old"


def test_a_file_is_put_on_a_device(tmp_path: Path) -> None:
    settled().save(tmp_path / "s.pt")
    seen: list[str] = []
    ebm.Solution.load(tmp_path / "s.pt", map_location=lambda storage, place: seen.append(place) or storage)
    assert set(seen) == {"cpu"}
    whole = settled()
    there = whole.to("meta")
    leaves = [*ebm.rows.leaves(there.carry), *ebm.rows.leaves(there.trace["energy"]), there.z.first, there.status]
    assert {leaf.device.type for leaf in leaves} == {"meta"}
    assert same(whole.cpu(), whole)


def test_some_samples_of_a_solution() -> None:
    whole = settled()
    assert [len(one) for one in whole] == [1] * 4
    assert torch.equal(whole[-1].z.first, whole.z.first[3:])
    assert torch.equal(whole[1:3].z.first, whole.z.first[1:3])
    assert torch.equal(whole[torch.tensor([False, False, True, True])].z.first, whole.z.first[2:])
    assert torch.equal(whole[[2, 0]].z.first, whole.z.first[[2, 0]])
    with pytest.raises(IndexError):
        whole[4]
    assert whole.status_names == ["OUT_OF_STEPS"] * 4 and whole.status_counts == {"OUT_OF_STEPS": 4}


def test_a_figure_without_an_ending_is_a_png(tmp_path: Path) -> None:
    class Figure:
        def savefig(self, file: io.BufferedWriter, **given: Any) -> None:
            file.write(given["format"].encode())

    files.write_figure(tmp_path / "plain", Figure(), 50)
    files.write_figure(tmp_path / "drawn.svg", Figure(), 50)
    assert (tmp_path / "plain.png").read_text() == "png" and (tmp_path / "drawn.svg").read_text() == "svg"
