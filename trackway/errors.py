"""Every error Trackway raises on purpose.

    TrackwayError
    ├── ArgumentError (ValueError)     a bad argument, raised while something is being built
    ├── MissingExtraError (ImportError) an optional package is needed; carries the install command
    ├── NotFoundError (LookupError)    no such root, project, run or metric
    └── FormatError (ValueError)       bytes that are not a Trackway log, where one was promised

Once a run exists, nothing in the training process raises any of these: trouble is
counted and told in one sentence (see ``trackway.core._guard``).
"""

from __future__ import annotations

__all__ = ["ArgumentError", "FormatError", "MissingExtraError", "NotFoundError", "TrackwayError"]


class TrackwayError(Exception):
    """The base of every error Trackway raises on purpose."""


class ArgumentError(TrackwayError, ValueError):
    """A bad argument to a constructor or a reading call; the message says what to pass instead."""


class MissingExtraError(TrackwayError, ImportError):
    """An optional package is missing; the message holds the exact install command."""


class NotFoundError(TrackwayError, LookupError):
    """What was asked for does not exist; the message names what does."""


class FormatError(TrackwayError, ValueError):
    """The bytes are not a Trackway log of a version this release can read."""
