"""What has to work where nothing but Trackway is installed; run by ``make bare``."""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
import tempfile
from pathlib import Path

import trackway as tw
from trackway.integrations._versions import FRAMEWORKS

OPTIONAL = ("duckdb", "fastapi", "numba", "pandas", "polars", "pyarrow", "uvicorn")


def check_bare() -> None:
    """No framework and no optional package is here."""
    names = {m for framework in FRAMEWORKS.values() for m in framework.modules} | {*OPTIONAL}
    found = sorted(name for name in names if importlib.util.find_spec(name))
    assert not found, f"this environment is not bare: {found}"
    size = sum(1 for _ in importlib.metadata.distributions())
    print(f"bare: {size} distributions")


def check_run(root: Path) -> None:
    """A run is recorded and read back to the bit."""
    tw.autolog()
    with tw.init(project="bare", dir=root, config={"lr": 1e-3}) as run:
        for step in range(100):
            run.log({"loss": 1 / (step + 1)})
    stored = tw.Api(root).run(f"bare/{run.id}")
    assert stored.state == "finished"
    assert stored.history("loss")["loss"].values.tolist() == [1 / (n + 1) for n in range(100)]


def check_integrations() -> None:
    """Each integration is there, imports nothing, and says how to install what it needs."""
    for name, framework in FRAMEWORKS.items():
        module = importlib.import_module(f"trackway.integrations.{name}")
        for public in module.__all__:
            try:
                getattr(module, public)
            except tw.MissingExtraError as error:
                told = str(error)
            else:
                raise AssertionError(f"{name}.{public} is there without {framework.modules}")
            wanted = f"needs {framework.distributions[0]}: pip install 'trackway[{name}]'"
            assert told == f"trackway.integrations.{name} {wanted}", told


def check_commands(root: Path) -> None:
    """The command line works, and a plain script runs under ``trackway run``."""
    trackway = str(Path(sys.executable).with_name("trackway"))
    script = root / "plain.py"
    script.write_text("import sys; print(sys.argv[1]); sys.exit(7)")
    for arguments, code in (
        (["--dir", str(root), "ls", "bare"], 0),
        (["--dir", str(root), "verify"], 0),
        (["integrations"], 0),
        (["run", str(script), "argument"], 7),
    ):
        done = subprocess.run([trackway, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)


def main() -> None:
    """Check everything."""
    check_bare()
    with tempfile.TemporaryDirectory() as folder:
        check_run(Path(folder))
        check_integrations()
        check_commands(Path(folder))
    print("The bare install works; every framework that is missing says how to get it.")


if __name__ == "__main__":
    main()
