"""What a run finds out by itself; and that no secret is among it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from trackway.backend.file.blobs import BlobStore

from .conftest import Program


def git(folder: Path, *arguments: str) -> bytes:
    """Run git there, with an identity of its own."""
    identity = ["-c", "user.name=Dev", "-c", "user.email=dev@example.org"]
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True
    ).stdout


def test_a_run_tells_how_to_repeat_it(program: Program) -> None:
    """Commit, patch and untracked files rebuild the very tree that was trained with."""
    code = "import trackway as tw, helper\nwith tw.init() as run: run.log({'x': helper.value})\n"
    git(program.folder, "init", "-q", "-b", "main")
    (program.folder / "helper.py").write_text("value = 1.0\n")
    (program.folder / "gone.py").write_text("gone\n")
    (program.folder / "train.py").write_text("committed\n")
    git(program.folder, "add", ".")
    git(program.folder, "commit", "-q", "-m", "first")
    git(program.folder, "remote", "add", "origin", "https://me:s3cr3tpw@example.org/a/b.git")
    (program.folder / "helper.py").write_text("value = 2.0  # changed\n")
    git(program.folder, "add", "helper.py")
    (program.folder / "helper.py").write_text("value = 3.0  # and again\n")
    (program.folder / "gone.py").unlink()
    (program.folder / "new file.py").write_text("untracked = True\n")
    exit_code, _, err = program.run(code, "--lr", "0.1")
    assert (exit_code, err) == (0, b"")

    run = program.settled(lambda run: run.git is not None and bool(run.packages))
    assert run.history("x")["x"].values.tolist() == [3.0]
    found = run.git
    assert found is not None
    assert found["commit"] == git(program.folder, "rev-parse", "HEAD").decode().strip()
    assert (found["branch"], found["dirty"]) == ("main", True)
    assert found["remote"] == "https://example.org/a/b.git"
    rebuilt = program.folder.parent / "rebuilt"
    git(program.folder.parent, "clone", "-q", str(program.folder), str(rebuilt))
    patch = run.patch()
    assert patch is not None
    subprocess.run(["git", "apply", "--binary"], cwd=rebuilt, input=patch, check=True)
    blobs = BlobStore(program.root)
    for entry in found["untracked"]:
        (rebuilt / entry["path"]).write_bytes(blobs.get(entry["blob"]))

    def tree(folder: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and not {".git", "__pycache__"} & set(path.parts)
        }

    assert tree(rebuilt) == tree(program.folder)

    told = run.environment
    assert told is not None
    assert "train.py" in str(told)
    assert "--lr" in str(told)
    assert run.packages["numpy"]


def test_no_secret_is_anywhere_in_the_folder(program: Program) -> None:
    """Planted in argv, environment, config, console, remote, diff, untracked file and traceback."""
    secrets = {
        "argv": "hf_" + "aB3dE5" * 6,
        "environ": "wandbkey" + "7f3a" * 8,
        "config": "sk-" + "Zx9Yw8" * 8,
        "nested": "hunter2-but-longer",
        "console": "ghp_" + "k1L2m3" * 6,
        "remote": "glpat-" + "Qw3rTy7UiOp1AsDf2GhJ",
        "diff": "AKIA" + "ABCDEFGH23456789",
        "untracked": "xoxb-" + "123456789012-abcdefGHIJKL",
        "error": "AIza" + "SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6q",
    }
    git(program.folder, "init", "-q")
    (program.folder / "settings.py").write_text("key = None\n")
    git(program.folder, "add", ".")
    git(program.folder, "commit", "-q", "-m", "first")
    git(
        program.folder,
        "remote",
        "add",
        "origin",
        f"https://oauth2:{secrets['remote']}@example.org/x",
    )
    (program.folder / "settings.py").write_text(f'aws_key = "{secrets["diff"]}"\n')
    (program.folder / "untracked.py").write_text(f'slack = "{secrets["untracked"]}"\n')
    program.run(
        f"""
        import os, sys
        import trackway as tw
        run = tw.init(config={{
            "openai": {{"api_key": {secrets["config"]!r}}},
            "db_password": {secrets["nested"]!r},
            "lr": 0.1, "max_tokens": 512}})
        run.log({{"note": "uses {secrets["config"]}", "x": 1.0}})
        print("logging in with {secrets["console"]}")
        raise RuntimeError("denied: {secrets["error"]}")
        """,
        "--hub-token",
        secrets["argv"],
        f"--secret={secrets['environ']}",
        MY_API_KEY=secrets["environ"],
        NCCL_SECRET_TOKEN=secrets["environ"],
        CUDA_VISIBLE_DEVICES="0",
    )
    run = program.settled(
        lambda run: run.git is not None and bool(run.packages) and run.state == "failed"
    )
    # The script itself is untracked and holds them all: what is stored of it is masked too.
    held = {
        path.relative_to(program.root): path.read_bytes()
        for path in program.root.rglob("*")
        if path.is_file()
    }
    for place, secret in secrets.items():
        for path, data in held.items():
            assert secret.encode() not in data, (place, path)
            assert secret.encode("utf-16-le") not in data, (place, path)
    assert run.config["lr"] == 0.1
    assert run.config["max_tokens"] == 512
    assert run.config["openai"]["api_key"] == "[masked]"
    masked = {entry["where"].split(".")[0] for entry in run.masked}
    assert {"config", "console", "exception", "log"} <= masked
    assert str(run.console()).count("logging in with [masked]") == 1


def test_the_users_own_rules_are_added(program: Program) -> None:
    """Names and patterns from the settings and from the environment mask, too."""
    program.run(
        """
        import trackway as tw
        run = tw.init(config={"mycorp_id": "plain-words", "lr": 1}, settings={
            "companion": False, "redact_names": ["mycorp_id"], "redact_patterns": [r"EMP-[0-9]+"]})
        print("badge EMP-12345 seen")
        """
    )
    run = program.stored()
    assert run.config == {"mycorp_id": "[masked]", "lr": 1}
    assert [line.text for line in run.console("out")] == ["badge [masked] seen"]


def test_console_output_is_recorded_and_unchanged(program: Program) -> None:
    """Both streams, progress bars as one line; the bytes are those without us."""
    code = """
        import sys
        from tqdm import tqdm
        WITH
        print("first")
        for _ in tqdm(range(50), desc="epoch", mininterval=0):
            pass
        print("last", file=sys.stderr)
    """
    without = program.run(code.replace("WITH", ""))
    with_us = program.run(code.replace("WITH", "import trackway as tw; run = tw.init()"))
    assert (without[0], without[1]) == (with_us[0], with_us[1]) == (0, b"first\n")
    run = program.stored()
    assert [line.text for line in run.console("out")] == ["first"]
    err = [line.text for line in run.console("err")]
    assert len(err) == 2
    assert err[0].startswith("epoch: 100%")
    assert err[1] == "last"


def test_every_capture_can_be_switched_off(program: Program) -> None:
    """With everything off, the log holds the header, what was logged and the end, no more."""
    program.run(
        """
        import trackway as tw
        run = tw.init(name="n")
        print("unseen")
        run.log({"x": 1.0})
        """,
        TRACKWAY_COMPANION="0",
        TRACKWAY_CONSOLE="0",
    )
    run = program.stored()
    types = [event.type for _, event in run._logs.events()]
    assert types == ["run", "end"]
    program.run(
        "import trackway as tw\nrun = tw.init(); run.log({'x': 1.0})\nimport time; time.sleep(1)",
        TRACKWAY_SYSTEM="0",
        TRACKWAY_GIT="0",
        TRACKWAY_PACKAGES="0",
        TRACKWAY_ENVIRONMENT="0",
        TRACKWAY_CONSOLE="0",
    )
    run = program.settled(lambda run: "death" in [event.type for _, event in run._logs.events()])
    found = {event.type for _, event in run._logs.events()}
    assert found <= {"run", "end", "heartbeat", "death"}
    assert len(run.system()) == 0


def test_system_metrics_cover_start_and_end(program: Program) -> None:
    """One sample at the start, one at the end, whatever the interval, with the process's memory."""
    program.run(
        """
        import time
        import trackway as tw
        run = tw.init()
        held = bytearray(80_000_000)
        time.sleep(1.2)
        run.finish()
        """,
        TRACKWAY_SYSTEM_INTERVAL_S="600",
    )
    run = program.settled(lambda run: "death" in [event.type for _, event in run._logs.events()])
    system = run.system()
    assert len(system["memory.used_bytes"]) == 2
    assert system["process.memory_rss_bytes"].values.max() > 80_000_000
    assert system["cpu.percent"].values.min() >= 0
    assert os.cpu_count() is not None
