"""Which frameworks are served, from which version to which: the one table of them.

``pyproject.toml``, ``docs/integrations/README.md`` and ``trackway integrations`` say the same;
a test compares them. ``latest`` is what the whole test suite runs with.
"""

from __future__ import annotations

TYPE_CHECKING = False  # a plain class and no typing: ``autolog`` reads this in every program
if TYPE_CHECKING:
    from typing import Final

__all__ = ["FRAMEWORKS", "Framework"]


class Framework:
    """One framework.

    Attributes:
        name: The word people say; the folder in ``trackway.integrations`` and in
            ``docs/integrations``, and the extra that installs it.
        modules: What it is imported as; one of them is enough.
        distributions: What it is installed as; one of them is enough.
        lowest: The oldest version that is supported.
        latest: The newest version that was tried.
        triggers: The framework's modules in which ``autolog`` has its choke point.
    """

    __slots__ = ("distributions", "latest", "lowest", "modules", "name", "triggers")

    def __init__(
        self,
        name: str,
        modules: tuple[str, ...],
        distributions: tuple[str, ...],
        lowest: str,
        latest: str,
        triggers: tuple[str, ...],
    ) -> None:
        self.name = name
        self.modules = modules
        self.distributions = distributions
        self.lowest = lowest
        self.latest = latest
        self.triggers = triggers


FRAMEWORKS: Final[dict[str, Framework]] = {
    entry.name: entry
    for entry in (
        Framework("pytorch", ("torch",), ("torch",), "2.4", "2.13.0", ("torch.optim.optimizer",)),
        Framework(
            "lightning",
            ("lightning", "pytorch_lightning"),
            ("lightning", "pytorch-lightning"),
            "2.2",
            "2.6.6",
            ("lightning.pytorch.trainer.trainer", "pytorch_lightning.trainer.trainer"),
        ),
        Framework(
            "keras", ("keras",), ("keras",), "3.9", "3.15.1", ("keras.src.callbacks.callback_list",)
        ),
        Framework(
            "huggingface",
            ("transformers",),
            ("transformers",),
            "4.45",
            "5.23.0",
            ("transformers.trainer_callback", "transformers.integrations.integration_utils"),
        ),
        Framework(
            "accelerate",
            ("accelerate",),
            ("accelerate",),
            "1.15",
            "1.15.0",
            ("accelerate.tracking",),
        ),
        Framework("sklearn", ("sklearn",), ("scikit-learn",), "1.4", "1.9.1", ("sklearn.base",)),
        Framework(
            "xgboost",
            ("xgboost",),
            ("xgboost", "xgboost-cpu"),
            "2.0",
            "3.2.0",
            ("xgboost.callback",),
        ),
        Framework("lightgbm", ("lightgbm",), ("lightgbm",), "4.0", "4.7.0", ("lightgbm.engine",)),
        Framework("catboost", ("catboost",), ("catboost",), "1.2.2", "1.2.10", ("catboost.core",)),
        Framework("optuna", ("optuna",), ("optuna",), "3.6", "5.0.0", ("optuna.study.study",)),
    )
}
