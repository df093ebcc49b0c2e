"""Runs of a sweep as people have them: configurations, outcomes, and what a companion captures.

Everything follows from the run's own generator: run n is the same, however many others there are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["Plan", "curves", "environment", "flat", "git", "metric_names", "packages", "plan"]

Floats = npt.NDArray[np.float64]
Random = np.random.Generator

SPREAD_S: Final = 180 * 86400.0
"""The runs of a sweep were created over half a year."""

OPTIMIZERS: Final = ("adamw", "adamw", "adam", "sgd", "lion", "adafactor", "rmsprop")
MODELS: Final = ("resnet18", "resnet50", "vit-small", "vit-base", "convnext-tiny", "mixer")
DATASETS: Final = ("digits", "cifar10", "cifar100", "imagenet-100")
ACTIVATIONS: Final = ("relu", "gelu", "silu")
TAGS: Final = ("baseline", "ablation", "long", "debug", "paper", "fp8", "best", "rerun")
BRANCHES: Final = ("main", "main", "main", "schedule", "bigger-batch")
USERS: Final = ("ada", "emmy", "grace", "sofja")

STATES: Final = {
    "finished": 0.78,
    "failed": 0.09,
    "killed": 0.06,
    "interrupted": 0.03,
    "running": 0.03,
    "lost": 0.01,
}
"""``running``: no end is recorded, and the log was written just now. A reader calls such a run
lost once it has been silent for two minutes."""

ERRORS: Final = (
    ("RuntimeError", "CUDA out of memory. Tried to allocate 2.34 GiB"),
    ("ValueError", "loss is NaN at step 1412"),
    ("FileNotFoundError", "[Errno 2] No such file or directory: 'train.tar'"),
)

_FIRST: Final = (
    "amber brisk calm clever coral eager fabled gentle golden ivory lively lunar".split()
)
_LAST: Final = "acorn badger cedar comet falcon fjord garnet heron lagoon maple otter raven".split()
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_MIX: Final = 0x5DEECE66D
"""Odd, and so a bijection of 40 bits: no two numbers give one id."""

_CORE_METRICS: Final = (
    "train/loss",
    "train/accuracy",
    "val/loss",
    "val/accuracy",
    "lr",
    "grad_norm",
    "samples_per_s",
)


@dataclass
class Plan:
    """Everything about a run but its points.

    Attributes:
        id: Eight letters and digits.
        name: Such as ``brisk-otter-417``.
        state: One of STATES.
        created: Seconds since 1970.
        duration: Seconds.
        config: Nested.
        quality: Between 0 and 1, what its metrics tend to; it follows from the configuration.
    """

    id: str
    name: str
    state: str
    created: float
    duration: float
    host: str
    user: str
    pid: int
    group: str | None
    job_type: str
    tags: list[str]
    notes: str | None
    archived: bool
    commit: str
    branch: str
    config: dict[str, Any]
    quality: float
    exception: tuple[str, str] | None = field(default=None)


def _pick(random: Random, choices: tuple[Any, ...]) -> Any:
    return choices[int(random.random() * len(choices))]


def _log_uniform(random: Random, low: float, high: float) -> float:
    return float(f"{low * (high / low) ** random.random():.6g}")


def _id(number: int) -> str:
    mixed = (number + 1) * _MIX % (1 << 40)
    return "".join(_ALPHABET[mixed >> shift & 31] for shift in range(0, 40, 5))


def _config(random: Random, number: int, size: int) -> dict[str, Any]:
    """Nested values, ``size`` leaves (at least those that every run has)."""
    optimizer = _pick(random, OPTIMIZERS)
    config: dict[str, Any] = {
        "lr": _log_uniform(random, 1e-5, 1e-1),
        "batch_size": 2 ** int(random.integers(4, 10)),
        "epochs": _pick(random, (10, 30, 90, 300)),
        "seed": int(random.integers(0, 5)),
        "optimizer": {
            "name": optimizer,
            "weight_decay": _pick(random, (0.0, 1e-4, 1e-2, 0.05, 0.1)),
            "betas": [0.9, _pick(random, (0.95, 0.98, 0.999))],
            "nesterov": optimizer == "sgd",
        },
        "schedule": {
            "name": _pick(random, ("cosine", "linear", "constant", "step")),
            "warmup": int(random.integers(0, 2000)),
            "floor": _log_uniform(random, 1e-8, 1e-5),
        },
        "model": {
            "name": _pick(random, MODELS),
            "depth": int(random.integers(4, 49)),
            "width": 64 * int(random.integers(1, 17)),
            "dropout": round(0.1 * float(random.integers(0, 6)), 1),
            "activation": _pick(random, ACTIVATIONS),
            "norm": {"name": _pick(random, ("batch", "layer", "rms")), "eps": 1e-5},
            "pretrained": None if random.random() < 0.7 else f"s3://models/{number % 7}.pt",
        },
        "data": {
            "name": _pick(random, DATASETS),
            "workers": _pick(random, (2, 4, 8, 16)),
            "augment": {"flip": bool(random.random() < 0.5), "mixup": float(random.random())},
            "classes": ["cat", "dog", "frog"][: int(random.integers(1, 4))],
        },
        "amp": bool(random.random() < 0.6),
    }
    _fill(random, config, size - len(flat(config)))
    return config


def _fill(random: Random, config: dict[str, Any], missing: int) -> None:
    """Settings a block, as large configurations have them, until there are enough leaves."""
    numbers = random.random(max(0, missing)).tolist()
    for place, number in enumerate(numbers):
        block = config.setdefault("blocks", {}).setdefault(f"block_{place // 6:02d}", {})
        value: Any = round(number, 4)
        if place % 6 == 1:
            value = int(number * 512)
        elif place % 6 == 2:
            value = ACTIVATIONS[int(number * 3)]
        elif place % 6 == 3:
            value = number < 0.5
        elif place % 6 == 4 and number < 0.3:
            value = None
        block[("rate", "units", "activation", "bias", "scale", "drop")[place % 6]] = value


def flat(tree: dict[str, Any]) -> dict[tuple[str, ...], Any]:
    """The leaves of a nested configuration by path."""
    found: dict[tuple[str, ...], Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found.update({(name, *path): leaf for path, leaf in flat(value).items()})
        else:
            found[(name,)] = value
    return found


def plan(seed: int, number: int, *, config: int, until: float) -> Plan:
    """Run ``number`` of a sweep.

    Args:
        seed: Of the sweep.
        number: From 0.
        config: How many leaves its configuration has.
        until: No run is created later; seconds since 1970.
    """
    random = np.random.default_rng([seed, number])
    settings = _config(random, number, config)
    state = str(random.choice(list(STATES), p=list(STATES.values())))
    name = f"{_pick(random, tuple(_FIRST))}-{_pick(random, tuple(_LAST))}-{number}"
    fit = 1.0 - abs(np.log10(settings["lr"]) + 3.0) / 3.0
    group = f"{settings['model']['name']}/{settings['optimizer']['name']}"
    running = state == "running"
    duration = round(_log_uniform(random, 60.0, 200_000.0), 3)
    age = duration if running else duration + float(random.random()) * SPREAD_S
    commit = np.random.default_rng([seed, 1 << 20, number // 50]).bytes(20).hex()
    return Plan(
        id=_id(number),
        name=name,
        state=state,
        created=round(until - age, 6),
        duration=duration,
        host=f"gpu-node-{int(random.integers(1, 17)):02d}",
        user=_pick(random, USERS),
        pid=int(random.integers(1000, 60000)),
        group=group if random.random() < 0.8 else None,
        job_type=_pick(random, ("train", "train", "train", "finetune", "eval")),
        tags=sorted({_pick(random, TAGS) for _ in range(int(random.integers(0, 4)))}),
        notes=f"after run {number - 1}, warmup halved" if random.random() < 0.05 else None,
        archived=bool(random.random() < 0.02),
        commit=commit,
        branch=_pick(random, BRANCHES),
        config=settings,
        quality=float(np.clip(0.2 + 0.7 * fit + 0.05 * random.standard_normal(), 0.02, 0.99)),
        exception=_pick(random, ERRORS) if state == "failed" else None,
    )


@lru_cache(maxsize=8)
def metric_names(count: int) -> tuple[str, ...]:
    """So many names, those that every training has first."""
    more = (f"val/class_{n:04d}/{kind}" for n in range(count) for kind in ("f1", "recall"))
    return (*_CORE_METRICS, *more)[:count]


def curves(random: Random, names: int, points: int, quality: float) -> Floats:
    """Values of metrics that fall or rise towards what the run's quality allows; [points, names].

    The even ones fall as losses do, the odd ones rise as accuracies do.
    """
    progress = 1.0 - np.exp(-3.0 * np.arange(1, points + 1) / points)[:, None]
    reach = np.clip(quality + 0.05 * random.standard_normal(names), 0.01, 0.999)
    found = reach * progress + 0.01 * random.standard_normal((points, names))
    found[:, ::2] = 3.0 * (1.0 - 0.95 * np.clip(found[:, ::2], 0.0, 1.0))
    rounded: Floats = found.astype(np.float32).astype(np.float64)
    return rounded


# -- what a companion captures -----------------------------------------------------------------


def environment(run: Plan) -> dict[str, Any]:
    """The fields of an ``environment`` event."""
    lr = run.config["lr"]
    gpus = [
        {"index": i, "name": "NVIDIA A100-SXM4-80GB", "memory_bytes": 85_899_345_920}
        for i in range(1 + run.pid % 4)
    ]
    return {
        "command": ["python", "train.py", "--lr", f"{lr:g}", "--seed", str(run.config["seed"])],
        "executable": "/opt/conda/bin/python",
        "script": f"/home/{run.user}/vision/train.py",
        "cwd": f"/home/{run.user}/vision",
        "host": run.host,
        "user": run.user,
        "os": {"name": "Linux", "kernel": "6.1.0", "machine": "x86_64"},
        "python": {"version": "3.11.9", "implementation": "CPython"},
        "cpu": {"model": "AMD EPYC 7742", "physical": 64, "logical": 128, "usable": 32},
        "memory": {"total": 1_081_101_176_832, "limit": None},
        "container": {},
        "job": {"scheduler": "slurm", "id": str(100_000 + run.pid)},
        "variables": {"CUDA_VISIBLE_DEVICES": ",".join(str(gpu["index"]) for gpu in gpus)},
        "argv_truncated": False,
        "gpus": gpus,
        "gpus_reason": None,
    }


def git(run: Plan) -> dict[str, Any]:
    """The fields of a ``git`` event of a clean tree."""
    return {
        "found": True,
        "reason": None,
        "commit": run.commit,
        "branch": run.branch,
        "detached": False,
        "remote": "git@example.org:lab/vision.git",
        "dirty": False,
        "bare": False,
        "shallow": False,
        "root": f"/home/{run.user}/vision",
        "prefix": "",
        "patch": None,
        "untracked": [],
        "submodules": [],
    }


def packages(run: Plan) -> dict[str, Any]:
    """The fields of a ``packages`` event."""
    minor = int(run.commit[:2], 16) % 4
    some = {f"library-{n:02d}": f"{n % 5}.{(n * 7) % 13}.{minor}" for n in range(40)}
    return {"items": {"numpy": "2.1.3", "torch": f"2.{5 + minor}.1", **some}}
