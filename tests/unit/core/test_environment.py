"""The capture of the environment: useful, complete, and nothing that was not asked for."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from trackway.core._redact import Masked, Redactor
from trackway.core.companion import _environment
from trackway.core.companion._environment import capture_environment, capture_packages


def capture(environ: dict[str, str], redactor: Redactor | None = None, **changed: Any) -> Any:
    """The captured fields; asserts that msgpack can hold them."""
    arguments: dict[str, Any] = {"argv": ["train.py"], "cwd": "/srv/work", "script": None}
    fields = capture_environment(
        **{**arguments, **changed}, environ=environ, redactor=redactor or Redactor()
    )
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(fields)) == fields
    return fields


def test_machine_and_interpreter() -> None:
    """Host, system, interpreter, CPUs and memory are those of this machine."""
    fields = capture({})
    assert fields["host"] == socket.gethostname()
    assert fields["executable"] == sys.executable
    assert fields["os"]["name"] == platform.system()
    assert fields["os"]["kernel"] == platform.release()
    assert fields["python"]["version"] == platform.python_version()
    assert fields["python"]["implementation"] == platform.python_implementation()
    assert fields["cpu"]["logical"] == os.cpu_count()
    assert 1 <= fields["cpu"]["usable"] <= fields["cpu"]["logical"]
    assert fields["cpu"]["model"]
    assert fields["memory"]["total"] == psutil.virtual_memory().total


def test_user_is_the_one_of_the_training() -> None:
    """The login name is taken from the training's environment, else from the system."""
    assert capture({"LOGNAME": "ada", "USER": "bob"})["user"] == "ada"
    assert capture({"USER": "bob"})["user"] == "bob"
    import pwd

    assert capture({})["user"] == pwd.getpwuid(os.getuid()).pw_name


def test_home_is_written_as_tilde() -> None:
    """Paths below the home folder do not name the user; others are complete."""
    fields = capture(
        {"HOME": "/home/ada", "PYTHONPATH": "/home/ada/lib:/opt/lib:/home/adamant"},
        cwd="/home/ada/work",
        script="/home/ada/work/train.py",
    )
    assert fields["cwd"] == "~/work"
    assert fields["script"] == "~/work/train.py"
    assert fields["variables"]["PYTHONPATH"] == "~/lib:/opt/lib:/home/adamant"
    assert capture({"HOME": "/home/ada"}, cwd="/home/ada")["cwd"] == "~"
    assert capture({"HOME": "/"}, cwd="/home/ada")["cwd"] == "/home/ada"
    assert capture({}, cwd="/home/ada")["cwd"] == "/home/ada"


def test_command_line_is_redacted() -> None:
    """A secret on the command line is masked, and everything else can be typed again."""
    redactor = Redactor()
    fields = capture({}, redactor, argv=["train.py", "--api-key", "hunter2", "--lr", "0.1"])
    assert fields["command"] == ["train.py", "--api-key", "[masked]", "--lr", "0.1"]
    assert redactor.masked() == [Masked("argv", "secret-name", 1)]


def test_only_listed_variables_are_taken() -> None:
    """Of the environment nothing is stored but what decides the numbers or names the job."""
    fields = capture(
        {
            "AWS_SECRET_ACCESS_KEY": "x1",
            "DATABASE_URL": "postgres://u:p@h/x",
            "MY_SETTING": "y2",
            "SLURM_JOB_ID": "17",
            "SLURM_ARRAY_TASK_ID": "3",
            "SLURM_JWT": "z3",
            "TF_VAR_password": "w4",
            "TF_TOKEN_app_terraform_io": "v5",
            "PYTHONHASHSEED": "0",
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
            "OMP_NUM_THREADS": "4",
            "NCCL_DEBUG": "INFO",
            "TF_DETERMINISTIC_OPS": "1",
            "XLA_FLAGS": "--xla_gpu_deterministic_ops=true",
            "JAX_ENABLE_X64": "1",
            "CUDA_VISIBLE_DEVICES": "0,1",
        }
    )
    assert fields["job"] == {"slurm": {"SLURM_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "3"}}
    assert fields["variables"] == {
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "CUDA_VISIBLE_DEVICES": "0,1",
        "JAX_ENABLE_X64": "1",
        "NCCL_DEBUG": "INFO",
        "OMP_NUM_THREADS": "4",
        "PYTHONHASHSEED": "0",
        "TF_DETERMINISTIC_OPS": "1",
        "XLA_FLAGS": "--xla_gpu_deterministic_ops=true",
    }
    for secret in ("x1", "u:p", "y2", "z3", "w4", "v5"):
        assert secret not in repr(fields)


def test_variables_are_redacted_and_bounded() -> None:
    """A secret in a listed variable is masked, and a long value is cut."""
    redactor = Redactor()
    fields = capture({"NCCL_AUTH_TOKEN": "hunter2", "JAX_X": "a" * 9000}, redactor)
    assert fields["variables"] == {"NCCL_AUTH_TOKEN": "[masked]", "JAX_X": "a" * 4000}
    assert redactor.masked() == [Masked("environment.NCCL_AUTH_TOKEN", "secret-name", 1)]


@pytest.mark.parametrize(
    ("environ", "job"),
    [
        ({}, {}),
        ({"RANK": "1", "WORLD_SIZE": "2"}, {"ranks": {"RANK": "1", "WORLD_SIZE": "2"}}),
        ({"TORCHELASTIC_RUN_ID": "a"}, {"torchrun": {"TORCHELASTIC_RUN_ID": "a"}}),
        ({"PBS_JOBID": "4.pbs"}, {"pbs": {"PBS_JOBID": "4.pbs"}}),
        ({"LSB_JOBID": "5", "JOB_NAME": "x"}, {"lsf": {"LSB_JOBID": "5"}}),
        (
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "POD_NAME": "p-0", "SLURM_NTASKS": "2"},
            {"kubernetes": {"POD_NAME": "p-0"}},
        ),
    ],
)
def test_jobs(environ: dict[str, str], job: dict[str, dict[str, str]]) -> None:
    """Each scheduler and launcher is known by its own variable."""
    assert capture(environ)["job"] == job


@pytest.mark.parametrize(
    ("environ", "container"),
    [
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, {"kind": "kubernetes"}),
        ({"SINGULARITY_CONTAINER": "a.sif"}, {"kind": "apptainer", "image": "a.sif"}),
        (
            {"APPTAINER_CONTAINER": "/images/torch.sif"},
            {"kind": "apptainer", "image": "torch.sif"},
        ),
    ],
)
def test_container_hints(environ: dict[str, str], container: dict[str, str]) -> None:
    """A container is known by what it leaves in the environment."""
    assert capture(environ)["container"] == container


def test_python_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual environment is called by its project where its own name says nothing."""
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(sys, "prefix", "/home/ada/digits/.venv")
    fields = capture({"HOME": "/home/ada"})
    assert fields["python"]["environment"] == {
        "kind": "virtualenv",
        "name": "digits",
        "path": "~/digits/.venv",
    }
    monkeypatch.setattr(sys, "prefix", "/opt/conda/envs/torch")
    environ = {"CONDA_PREFIX": "/opt/conda/envs/torch", "CONDA_DEFAULT_ENV": "torch"}
    assert capture(environ)["python"]["environment"]["kind"] == "conda"
    assert capture(environ)["python"]["environment"]["name"] == "torch"
    monkeypatch.setattr(sys, "prefix", "/usr")
    assert capture({})["python"]["environment"] is None


def test_control_groups_limit_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tightest limit of the own group and those above it holds, in both versions."""
    told, mounted = tmp_path / "cgroup", tmp_path / "mounted"
    told.write_text("4:memory:/job\n3:cpu,cpuacct:/job\n0::/a/b\n")
    files = {
        "a/b/cpu.max": "max 100000\n",
        "a/cpu.max": "150000 100000\n",
        "cpu.max": "400000 100000\n",
        "a/b/memory.max": "max\n",
        "a/memory.max": "2000000\n",
        "cpu,cpuacct/job/cpu.cfs_quota_us": "-1\n",
        "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
        "cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
        "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        "memory/job/memory.limit_in_bytes": "3000000\n",
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
    }
    for name, text in files.items():
        (mounted / name).parent.mkdir(parents=True, exist_ok=True)
        (mounted / name).write_text(text)
    original = _environment._cgroup
    monkeypatch.setattr(
        _environment, "_cgroup", lambda one, name: original(one, name, told, mounted)
    )
    fields = capture({})
    assert (fields["cpu"]["quota"], fields["cpu"]["usable"]) == (0.5, 1)
    assert fields["memory"]["limit"] == 2_000_000
    (mounted / "cpu,cpuacct/cpu.cfs_quota_us").write_text("-1\n")
    assert capture({})["cpu"]["quota"] == 1.5
    told.unlink()
    assert capture({})["cpu"]["quota"] is None
    assert capture({})["memory"]["limit"] is None


def distribution(folder: Path, name: str, metadata: bytes, **files: str) -> None:
    """A distribution's metadata as an installer leaves them."""
    place = folder / f"{name}.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_bytes(metadata)
    for file, text in files.items():
        (place / file.replace("__", ".")).write_text(text)


def test_packages(tmp_path: Path) -> None:
    """Names are normal and sorted, editable and git installations marked, broken ones left out."""
    url = json.dumps({"url": "file:///src", "dir_info": {"editable": True}})
    commit = "0123456789abcdef0123"
    vcs = json.dumps({"url": "https://u:p@h", "vcs_info": {"vcs": "git", "commit_id": commit}})
    distribution(tmp_path, "zeta-1", b"Name: Zeta.Lib_x\nVersion: 1.0\n")
    distribution(tmp_path, "alpha-2", b"Name: alpha\nVersion: 2.0\n", direct_url__json=url)
    distribution(tmp_path, "beta-3", b"Name: beta\nVersion: 3.0\n", direct_url__json=vcs)
    distribution(tmp_path, "gamma-4", b"Name: gamma\nVersion: 4.0\n", direct_url__json="{")
    distribution(tmp_path, "delta-5", b"Name: delta\nVersion: 5.0\n", direct_url__json="[1]")
    distribution(tmp_path, "noversion", b"Name: noversion\n")
    distribution(tmp_path, "nameless", b"Version: 1\n")
    distribution(tmp_path, "binary", b"\xff\xfe\0")
    distribution(tmp_path, "empty", b"")
    (tmp_path / "nothing.dist-info").mkdir()
    (tmp_path / "folder.dist-info/METADATA").mkdir(parents=True)
    assert capture_packages([str(tmp_path), str(tmp_path / "gone")]) == {
        "alpha": "2.0 (editable)",
        "beta": "3.0 (git 0123456789ab)",
        "delta": "5.0",
        "gamma": "4.0",
        "noversion": "?",
        "zeta-lib-x": "1.0",
    }
    assert list(capture_packages([str(tmp_path)])) == sorted(capture_packages([str(tmp_path)]))


def test_first_folder_wins(tmp_path: Path) -> None:
    """Of a distribution that is there twice, the one that is imported counts."""
    distribution(tmp_path / "a", "x-1", b"Name: x\nVersion: 1\n")
    distribution(tmp_path / "b", "x-2", b"Name: X\nVersion: 2\n")
    assert capture_packages([str(tmp_path / "a"), str(tmp_path / "b")]) == {"x": "1"}


def test_packages_of_this_interpreter() -> None:
    """Without folders, the packages are those this interpreter imports."""
    assert capture_packages()["pytest"] == pytest.__version__


def test_import_is_light() -> None:
    """Neither psutil nor importlib.metadata is loaded by the import."""
    code = (
        "import sys, trackway.core.companion._environment\n"
        "print([m for m in ('psutil', 'importlib.metadata', 'pwd_') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.stdout == "[]\n"
