"""The command line: which benchmarks, how thoroughly, and where the figures go."""

from __future__ import annotations

import argparse
import compileall
import json
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Final

from benchmarks._figures import Figure, circumstances, table
from benchmarks._trackers import PEERS, ROOT

NAMES: Final = (
    "log_call",
    "loop",
    "startup",
    "memory",
    "disk",
    "read",
    "kill",
    "index",
    "integrations",
)


def main() -> None:
    """Run the named benchmarks, or all, and print a table for each; ``data`` writes data."""
    if sys.argv[1:2] == ["data"]:
        return import_module("benchmarks.data").main(sys.argv[2:])  # type: ignore[no-any-return]
    options = _options()
    compileall.compile_dir(str(ROOT / "trackway"), quiet=2)  # as an installation does
    about = circumstances()
    print("   ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    peers = tuple(name for name in PEERS if name in options.peers.split(","))
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="trackway-benchmarks-", dir=options.dir) as folder:
        for name in options.names or NAMES:
            module = import_module(f"benchmarks.{name}")
            title = (module.__doc__ or name).partition("\n")[0]
            found = module.measure(Path(folder), quick=options.quick, peers=peers)
            figures += found
            print(f"\n{name}: {title}\n\n{table(found)}", flush=True)
    print(f"\nload at the end: {circumstances()['load']}")
    if options.json:
        report = {"circumstances": about, "figures": [figure.as_dict() for figure in figures]}
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"{', '.join(NAMES)}; or: data --help"
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds, rougher figures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument(
        "--peers", default=",".join(PEERS), help="which peers (default: %(default)s)"
    )
    parser.add_argument(
        "--dir", type=Path, help="where runs are recorded (default: a temporary folder)"
    )
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {', '.join(NAMES)}")
    return options


if __name__ == "__main__":
    main()
