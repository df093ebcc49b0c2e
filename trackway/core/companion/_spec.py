"""What the training process tells its companion through the lifeline.

One line of JSON; then nothing, until the lifeline ends. Only a lifeline that is closed on purpose
says goodbye before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from trackway.types import Settings

__all__ = ["GOODBYE", "CompanionSpec"]

GOODBYE: Final = b"."
"""Said before a lifeline is closed on purpose. An end without it means that the process is
ending, or that something closed descriptors it did not open."""


class CompanionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Which run to accompany, and how.

    Attributes:
        root: Folder that holds the projects; absolute.
        project: The run's project.
        run: The run's id.
        attempt: The run's attempt, for the header of the companion's log.
        pid: The training process.
        process_started: When it started, in seconds since 1970, so that a pid used again is not
            taken for it; None where that is not known.
        argv: The command line of the training.
        argv_truncated: Whether ``argv`` was shortened to fit the lifeline.
        cwd: Working directory of the training, where the search for git begins.
        script: The program's file; None in a notebook or at the prompt.
        settings: The fields of ``trackway.types.Settings``.
        withheld: Environment variables of the training that the companion must not start with.
            ``launch`` fills this in.
    """

    root: str
    project: str
    run: str
    pid: int
    attempt: int = 1
    process_started: float | None = None
    argv: list[str] = msgspec.field(default_factory=list)
    argv_truncated: bool = False
    cwd: str = ""
    script: str | None = None
    settings: dict[str, Any] = msgspec.field(
        default_factory=lambda: msgspec.structs.asdict(Settings())
    )
    withheld: dict[str, str] = msgspec.field(default_factory=dict)

    def encode(self) -> bytes:
        """One line of JSON, the line's end included.

        Raises:
            UnicodeEncodeError: A text holds half a character, as undecodable file names do.
        """
        return msgspec.json.encode(self) + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> CompanionSpec:
        """The spec of one line.

        Raises:
            msgspec.MsgspecError: The line is no spec.
        """
        return msgspec.json.decode(line, type=cls)

    def read_settings(self) -> Settings:
        """The settings; unknown fields are passed over.

        Raises:
            msgspec.MsgspecError: A field has a value of the wrong kind.
        """
        return msgspec.convert(self.settings, Settings)

    def environment(self, own: Mapping[str, str]) -> dict[str, str]:
        """The environment of the training, from the companion's own and what was withheld."""
        return {**own, **self.withheld}
