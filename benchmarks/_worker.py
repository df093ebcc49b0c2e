"""The child's side of a contest: ``python -m benchmarks._worker FD JOB WHO ARGUMENTS``.

Loads next to nothing, because memory and imports of this process are measured.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["Channel"]


class Channel:
    """Requests in, answers out."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        os.set_inheritable(fd, False)

    def send(self, **answer: Any) -> None:
        """Answer."""
        os.write(self._fd, json.dumps(answer).encode() + b"\n")

    def requests(self) -> Iterator[dict[str, Any]]:
        """Every request, until the parent hangs up."""
        for line in sys.stdin:
            yield json.loads(line)

    def wait(self) -> None:
        """Wait for a request that says nothing but: go on."""
        sys.stdin.readline()


def main() -> None:
    """Do one job as one contestant."""
    from benchmarks import _jobs

    fd, job, who, arguments = sys.argv[1:5]
    getattr(_jobs, job)(Channel(int(fd)), who, **json.loads(arguments))


if __name__ == "__main__":
    main()
