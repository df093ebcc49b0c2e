"""Where and with what a run was started: command line, machine, job, interpreter, packages.

Of the environment only variables that are named here are ever looked at: those that identify a
job, and those that change the numbers a training computes.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from importlib.metadata import Distribution

    from trackway.core._redact import Redactor

__all__ = ["capture_environment", "capture_packages"]

_VALUE_CHARACTERS: Final = 4000

# Which variables tell about a job, by the program that starts it. The first of each list is what
# a job of that kind always has.
_JOBS: Final[Mapping[str, tuple[str, ...]]] = {
    "slurm": (
        *("SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_JOB_PARTITION", "SLURM_JOB_ACCOUNT"),
        *("SLURM_JOB_QOS", "SLURM_JOB_NODELIST", "SLURM_JOB_NUM_NODES", "SLURM_NTASKS"),
        *("SLURM_NTASKS_PER_NODE", "SLURM_CPUS_PER_TASK", "SLURM_MEM_PER_NODE", "SLURM_PROCID"),
        *("SLURM_LOCALID", "SLURM_NODEID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"),
        *("SLURM_GPUS", "SLURM_GPUS_ON_NODE", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"),
        "SLURM_CLUSTER_NAME",
    ),
    "kubernetes": (
        *("KUBERNETES_SERVICE_HOST", "POD_NAME", "POD_NAMESPACE", "NODE_NAME"),
        *("JOB_COMPLETION_INDEX", "JOB_NAME"),
    ),
    "torchrun": (
        *("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS"),
        *("GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK", "ROLE_NAME"),
    ),
    "ranks": (
        *("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK"),
        *("MASTER_ADDR", "MASTER_PORT"),
    ),
    "mpi": ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"),
    "pmi": ("PMI_SIZE", "PMI_RANK"),
    "pbs": (
        *("PBS_JOBID", "PBS_JOBNAME", "PBS_QUEUE", "PBS_ARRAY_INDEX", "PBS_ARRAYID"),
        *("PBS_NUM_NODES", "PBS_NODENUM", "PBS_TASKNUM"),
    ),
    "lsf": ("LSB_JOBID", "LSB_JOBNAME", "LSB_JOBINDEX", "LSB_QUEUE", "LSB_DJOB_NUMPROC"),
    "sge": ("SGE_TASK_ID", "JOB_ID", "JOB_NAME", "QUEUE", "NSLOTS"),
    "flux": ("FLUX_JOB_ID", "FLUX_TASK_RANK", "FLUX_JOB_SIZE"),
    "ray": ("RAY_JOB_ID",),
    "aws-batch": ("AWS_BATCH_JOB_ID", "AWS_BATCH_JOB_ATTEMPT", "AWS_BATCH_JOB_ARRAY_INDEX"),
    "sagemaker": ("SM_TRAINING_ENV", "SM_CURRENT_HOST", "SM_HOSTS", "TRAINING_JOB_NAME"),
}
_DECISIVE: Final = frozenset(
    (
        "PYTHONHASHSEED PYTHONOPTIMIZE PYTHONPATH PYTHONDEVMODE CUDA_VISIBLE_DEVICES "
        "CUDA_DEVICE_ORDER CUDA_LAUNCH_BLOCKING CUDA_MODULE_LOADING CUDA_CACHE_DISABLE "
        "NVIDIA_VISIBLE_DEVICES NVIDIA_TF32_OVERRIDE HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES "
        "HSA_OVERRIDE_GFX_VERSION ONEAPI_DEVICE_SELECTOR ZE_AFFINITY_MASK CUBLAS_WORKSPACE_CONFIG "
        "CUBLASLT_WORKSPACE_SIZE OPENBLAS_NUM_THREADS NUMEXPR_NUM_THREADS VECLIB_MAXIMUM_THREADS "
        "BLIS_NUM_THREADS RAYON_NUM_THREADS TOKENIZERS_PARALLELISM LIBTPU_INIT_ARGS "
        "TPU_VISIBLE_CHIPS KERAS_BACKEND USE_TF USE_TORCH USE_FLAX HF_HUB_OFFLINE "
        "TRANSFORMERS_OFFLINE HF_DATASETS_OFFLINE LD_PRELOAD TZ LANG LC_ALL"
    ).split()
)
_DECISIVE_PREFIXES: Final = (
    *("OMP_", "MKL_", "KMP_", "GOMP_", "NCCL_", "RCCL_", "GLOO_", "UCX_", "TF_", "XLA_", "JAX_"),
    *("TORCH_", "TORCHINDUCTOR_", "TORCHDYNAMO_", "PYTORCH_", "TRITON_", "CUDNN_", "MIOPEN_"),
    *("ACCELERATE_", "FSDP_", "FLASH_ATTENTION_", "NVTE_", "MALLOC_"),
)
# Terraform's variables begin like TensorFlow's, and hold its secrets.
_NOT_DECISIVE_PREFIXES: Final = ("TF_VAR_", "TF_TOKEN_", "TF_CLI_", "TF_HTTP_", "TF_LOG")


def capture_environment(
    *,
    argv: Sequence[str],
    cwd: str,
    script: str | None,
    environ: Mapping[str, str],
    redactor: Redactor,
) -> dict[str, object]:
    """The fields of the ``environment`` event; what cannot be found out is None.

    Sizes are in bytes. The home folder is written ``~`` in the paths.

    Args:
        argv: Command line of the training, as in ``sys.argv``.
        cwd: Its working folder.
        script: Its program file, if it has one.
        environ: Its environment, of which only variables listed in this module are taken.
        redactor: Masks secrets in the command line and in the variables.
    """
    home = environ.get("HOME") or environ.get("USERPROFILE") or ""

    def shown(path: str | None) -> str | None:
        return None if path is None else redactor.text(_tilde(path, home), "environment.path")

    return {
        "command": redactor.argv(argv),
        "executable": shown(sys.executable or None),
        "script": shown(script),
        "cwd": shown(cwd),
        "host": socket.gethostname(),
        "user": environ.get("LOGNAME") or environ.get("USER") or _login(),
        "os": _system(),
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "environment": _python_environment(environ, home),
        },
        "cpu": _cpu(),
        "memory": _memory(),
        "container": _container(environ),
        "job": _job(environ, redactor),
        "variables": _variables(environ, home, redactor),
    }


def capture_packages(path: Sequence[str] | None = None) -> dict[str, str]:
    """The installed distributions: name as in PEP 503, and version, in order of their names.

    An editable installation is marked ``1.0 (editable)``, one from a repository with its commit,
    ``1.0 (git 0123456789ab)``. A distribution without readable metadata is left out.

    Args:
        path: Folders to look in, the first of which wins; ``sys.path`` if None.
    """
    from importlib.metadata import distributions

    found: dict[str, str] = {}
    given = distributions() if path is None else distributions(path=list(path))
    for distribution in given:
        # Metadata are files of anybody's making: missing, unreadable, not UTF-8, without a name.
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            told = distribution.metadata
            if "Name" not in told:
                continue
            name = re.sub(r"[-_.]+", "-", told["Name"]).lower()
            if name and name not in found:
                version = (told.get_all("Version") or ["?"])[0]
                found[name] = version + _origin(distribution)
    return dict(sorted(found.items()))


def _origin(distribution: Distribution) -> str:
    """How the distribution came here, where that is not from an index."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        told = json.loads(distribution.read_text("direct_url.json") or "{}")
        if told.get("dir_info", {}).get("editable"):
            return " (editable)"
        vcs = told.get("vcs_info", {})
        if "commit_id" in vcs:
            return f" ({vcs.get('vcs', 'vcs')} {vcs['commit_id'][:12]})"
    return ""


def _tilde(path: str, home: str) -> str:
    home = home.rstrip("/")
    if home and (path == home or path.startswith(f"{home}/")):
        return f"~{path[len(home) :]}"
    return path


def _login() -> str | None:
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError, AttributeError):
        return None


def _system() -> dict[str, object]:
    distribution = None
    with contextlib.suppress(OSError):
        distribution = platform.freedesktop_os_release().get("PRETTY_NAME")
    if sys.platform == "darwin":
        distribution = f"macOS {platform.mac_ver()[0]}"
    return {
        "name": platform.system(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "distribution": distribution,
    }


def _python_environment(environ: Mapping[str, str], home: str) -> dict[str, str] | None:
    """What kind of Python environment it is, and where."""
    if environ.get("CONDA_PREFIX") and sys.prefix.startswith(environ["CONDA_PREFIX"]):
        name = environ.get("CONDA_DEFAULT_ENV") or Path(sys.prefix).name
        return {"kind": "conda", "name": _tilde(name, home), "path": _tilde(sys.prefix, home)}
    if sys.prefix != sys.base_prefix:
        # ".venv" says nothing: the folder it lies in does.
        folder = Path(sys.prefix)
        name = folder.parent.name if folder.name in ("venv", ".venv", "env") else folder.name
        return {"kind": "virtualenv", "name": name, "path": _tilde(sys.prefix, home)}
    return None


def _cpu() -> dict[str, object]:
    import psutil

    physical = logical = None
    with contextlib.suppress(OSError, NotImplementedError, RuntimeError):
        logical = psutil.cpu_count()
        physical = psutil.cpu_count(logical=False)
    usable: int | None = logical
    with contextlib.suppress(AttributeError, OSError):
        usable = len(os.sched_getaffinity(0))
    quota = _cpu_quota()
    if quota is not None:
        usable = max(1, min(usable or math.ceil(quota), math.ceil(quota)))
    return {
        "model": _cpu_model(),
        "physical": physical,
        "logical": logical,
        "usable": usable,
        "quota": quota,
    }


def _cpu_model() -> str | None:
    with contextlib.suppress(OSError):
        told = Path("/proc/cpuinfo").read_text("utf-8", "replace")
        if match := re.search(r"^(?:model name|Model|Hardware|cpu)\s*:\s*(.+)$", told, re.M):
            return " ".join(match[1].split())
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            told = subprocess.run(command, capture_output=True, text=True, timeout=5).stdout
            return told.strip() or None
    return platform.processor() or None


def _memory() -> dict[str, object]:
    import psutil

    total = None
    with contextlib.suppress(OSError, RuntimeError):
        total = psutil.virtual_memory().total
    limits = [int(limit) for limit in _cgroup("memory", "memory.max") if limit.isdigit()]
    limits += [
        int(limit) for limit in _cgroup("memory", "memory.limit_in_bytes") if limit.isdigit()
    ]
    limit = min(limits, default=None)
    # Without a limit, version 1 of the control groups tells a number near 2**63.
    return {"total": total, "limit": limit if limit and limit < 1 << 60 else None}


def _cpu_quota() -> float | None:
    """How many CPUs the control group may use, where it is limited."""
    quotas = []
    for told in _cgroup("cpu", "cpu.max"):
        share, _, period = told.partition(" ")
        if share.isdigit() and period.isdigit():
            quotas.append(int(share) / int(period))
    shares = list(_cgroup("cpu", "cpu.cfs_quota_us"))
    periods = list(_cgroup("cpu", "cpu.cfs_period_us"))
    for share, period in zip(shares, periods, strict=False):
        if share.isdigit() and period.isdigit() and int(period):
            quotas.append(int(share) / int(period))
    return round(min(quotas), 3) if quotas else None


def _cgroup(
    controller: str,
    name: str,
    told: Path = Path("/proc/self/cgroup"),
    mounted: Path = Path("/sys/fs/cgroup"),
) -> Iterator[str]:
    """The contents of one file in this process's control group and in those above it.

    Args:
        controller: Which tree of version 1 it belongs to; version 2 has only one.
        name: The file.
        told: Where the kernel says in which groups this process is.
        mounted: Where the groups are mounted. In a container this is often the own group, and
            the path that the kernel tells does not exist there.
    """
    try:
        lines = told.read_text("utf-8", "replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and controller not in controllers.split(","):
            continue
        top = mounted / controllers if controllers else mounted
        group = Path(path.lstrip("/"))
        for folder in (group, *group.parents):
            with contextlib.suppress(OSError, ValueError):
                yield (top / folder / name).read_text("ascii").strip()


def _container(environ: Mapping[str, str]) -> dict[str, str] | None:
    """Which kind of container this is, as far as it shows."""
    image = environ.get("APPTAINER_CONTAINER") or environ.get("SINGULARITY_CONTAINER")
    if image:
        return {"kind": "apptainer", "image": Path(image).name}
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return {"kind": "kubernetes"}
    for kind, mark in (("docker", "/.dockerenv"), ("podman", "/run/.containerenv")):
        with contextlib.suppress(OSError):
            if Path(mark).exists():
                return {"kind": kind}
    if environ.get("container"):
        return {"kind": environ["container"][:100]}
    return {"kind": "wsl"} if "microsoft" in platform.release().lower() else None


def _job(environ: Mapping[str, str], redactor: Redactor) -> dict[str, dict[str, object]]:
    return {
        kind: {
            name: _variable(name, environ[name], redactor)
            for name in names
            if name in environ and name not in ("KUBERNETES_SERVICE_HOST", "SM_TRAINING_ENV")
        }
        for kind, names in _JOBS.items()
        if names[0] in environ
    }


def _variables(environ: Mapping[str, str], home: str, redactor: Redactor) -> dict[str, object]:
    """The variables that change what a training computes."""
    found: dict[str, object] = {}
    for name in sorted(environ):
        if name in _DECISIVE or name.startswith(_DECISIVE_PREFIXES):
            if name.startswith(_NOT_DECISIVE_PREFIXES):
                continue
            value = ":".join(_tilde(part, home) for part in environ[name].split(":"))
            found[name] = _variable(name, value, redactor)
    return found


def _variable(name: str, value: str, redactor: Redactor) -> object:
    return redactor.value(name, value[:_VALUE_CHARACTERS], "environment")
