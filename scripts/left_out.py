"""Says which tests cannot run on this machine, and how to change that. Silent when all can."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys

FRAMEWORKS = {
    "torch": "torch",
    "jax": "jax",
    "tensorflow": "tensorflow-cpu",
    "sklearn": "scikit-learn",
    "keras": "keras",
    "lightning": "lightning",
    "pytorch_lightning": "pytorch-lightning",
    "transformers": "transformers",
    "accelerate": "accelerate",
    "datasets": "datasets",
    "peft": "peft",
    "xgboost": "xgboost-cpu",
    "lightgbm": "lightgbm",
    "catboost": "catboost",
    "optuna": "optuna",
    "matplotlib": "matplotlib",
}


def left_out() -> dict[str, str]:
    """What is missing on this machine, and the command that brings it."""
    missing = {
        module: f"{sys.executable} -m pip install -c constraints.txt {distribution}"
        for module, distribution in FRAMEWORKS.items()
        if importlib.util.find_spec(module) is None
    }
    if shutil.which("git") is None:
        missing["git"] = "install it with your system's package manager, e.g. apt-get install git"
    if hasattr(os, "geteuid") and os.geteuid() != 0:
        missing["root"] = "these mount a small disk to fill it up; run them in a container as root"
    return missing


def main() -> None:
    """Print one line per kind of test that is left out."""
    for thing, remedy in left_out().items():
        print(f"Left out: the tests that need {thing}. To have them: {remedy}")


if __name__ == "__main__":
    main()
