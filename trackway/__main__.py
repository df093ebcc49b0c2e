"""``python -m trackway``: the ``trackway`` command, where it is not on the path."""

from __future__ import annotations

from trackway.cli import main

if __name__ == "__main__":
    main()
