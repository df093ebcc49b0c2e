"""Tensors of every framework; and that a value on a device is never waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from trackway.api import StoredRun
from trackway.core import _devices
from trackway.core.run import Run

Begin = Callable[..., Run]
Stored = Callable[[Run], StoredRun]


def lasts(run: StoredRun) -> dict[str, Any]:
    """The last value of each metric."""
    return {key: metric.last for key, metric in run.metrics.items()}


def test_torch_scalars(begin: Begin, stored: Stored) -> None:
    """Every dtype, with gradients, of one element in any shape."""
    import torch

    values = {
        "f64": torch.tensor(0.1, dtype=torch.float64),
        "f32": torch.tensor(0.1),
        "bf16": torch.tensor(1.5, dtype=torch.bfloat16),
        "f16": torch.tensor(0.5, dtype=torch.float16),
        "i64": torch.tensor(2**62),
        "bool": torch.tensor(True),
        "grad": torch.tensor(2.0, requires_grad=True) * 2,
        "one": torch.ones(1, 1),
        "parameter": torch.nn.Parameter(torch.tensor(3.0)),
        "vector": torch.tensor([1.0, 2.0]),
    }
    run = begin()
    run.log(values)
    run.log({"loss": torch.tensor(0.5)})
    run.log({"loss": torch.tensor(0.25)})
    run.finish()
    back = lasts(stored(run))
    assert back.pop("f32") == torch.tensor(0.1).item()
    assert back == {
        "f64": 0.1,
        "bf16": 1.5,
        "f16": 0.5,
        "i64": 2**62,
        "bool": True,
        "grad": 4.0,
        "one": 1.0,
        "parameter": 3.0,
        "vector": [1.0, 2.0],
        "loss": 0.25,
    }


def test_torch_values_without_a_number_are_refused(
    begin: Begin, stored: Stored, capsys: pytest.CaptureFixture[str]
) -> None:
    """Meta and complex tensors are named once."""
    import torch

    run = begin()
    run.log({"meta": torch.empty(1, device="meta"), "z": torch.tensor(1j), "ok": 1.0})
    run.finish()
    told = capsys.readouterr().err
    assert "'meta' was not stored: a tensor on the meta device has no value" in told
    assert "'z' was not stored: a complex is not a real number" in told
    assert stored(run).keys() == ["ok"]


def test_a_replicated_dtensor_is_read_locally(begin: Begin, stored: Stored) -> None:
    """No collective: a replicated value is this rank's own, a sharded one is refused."""
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    store = dist.HashStore()  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        run = begin()
        run.log(
            {
                "same": distribute_tensor(torch.tensor([2.5]), mesh, [Replicate()]),
                "part": distribute_tensor(torch.tensor([2.5]), mesh, [Shard(0)]),
            }
        )
        run.finish()
    finally:
        dist.destroy_process_group()
    back = stored(run)
    assert lasts(back) == {"same": 2.5}
    assert back._told.refused == {"part": 1}


def test_jax_scalars(begin: Begin, stored: Stored) -> None:
    """Arrays of one element; a traced value is refused, and tracing goes on."""
    import jax
    import jax.numpy as jnp

    run = begin()

    @jax.jit
    def step(x: Any) -> Any:
        run.log({"traced": x})
        return x * 2

    run.log(
        {"x": step(jnp.float32(1.5)), "i": jnp.int32(3), "b": jnp.array(True), "v": jnp.ones(2)}
    )
    run.log({"bf16": jnp.bfloat16(1.5), "host": jnp.ones((1, 1))})
    run.finish()
    back = stored(run)
    assert lasts(back) == {"x": 3.0, "i": 3, "b": True, "v": [1.0, 1.0], "bf16": 1.5, "host": 1.0}
    assert back._told.refused == {"traced": 1}


def test_tensorflow_scalars(begin: Begin, stored: Stored) -> None:
    """Eager tensors and variables; a symbolic one is refused, and the graph is built."""
    import tensorflow as tf

    run = begin()

    @tf.function
    def step(x: Any) -> Any:
        run.log({"symbolic": x})
        return x * 2

    run.log({"x": step(tf.constant(1.5)), "v": tf.Variable(3), "b": tf.constant(True)})
    run.finish()
    back = stored(run)
    assert lasts(back) == {"x": 3.0, "v": 3, "b": True}
    assert back._told.refused == {"symbolic": 1}


class Mark:
    """Stands for a device's event: the GPU itself is what this machine lacks."""

    def __init__(self) -> None:
        self.passed = False

    def __call__(self) -> bool:
        """Whether the device has come this far."""
        return self.passed


def test_a_tensor_on_a_fake_cuda_device_is_never_waited_for(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under FakeTensorMode every reading on the host raises: log() does none, and the row waits."""
    import torch
    from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

    mark = Mark()
    monkeypatch.setattr(_devices, "device_mark", lambda torch, device: mark)
    run = begin()
    with FakeTensorMode():
        loss = torch.ones((), device="cuda") * 3
        other = torch.ones((), device="cuda", dtype=torch.bfloat16)
        with pytest.raises(DataDependentOutputException):
            loss.item()
        for step in range(3):
            run.log({"loss": loss, "acc": loss + 1, "half": other, "lr": 0.1}, step=step)
    assert len(run._pending) == 3
    assert run.flush() is False
    run.finish(timeout_s=0.05)
    err = capsys.readouterr().err
    assert "3 rows of run" in err
    assert "their device did not answer in time" in err


def test_rows_are_written_when_their_copies_arrive(
    begin: Begin, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of the calls, each with the step and time of its own."""
    import torch

    marks: list[Mark] = []

    def device_mark(torch: Any, device: Any) -> Mark:
        marks.append(Mark())
        return marks[-1]

    monkeypatch.setattr(_devices, "device_mark", device_mark)
    monkeypatch.setattr("trackway.core.run.sort_values", _as_if_on_a_device)
    run = begin()
    run.log({"loss": torch.tensor(1.0), "lr": 0.5}, step=0)
    run.log({"loss": torch.tensor(2.0), "lr": 0.5}, step=1)
    run.log({"host": 1.0})
    assert stored(run).keys() == ["host"]
    marks[1].passed = True
    run.log({"host": 2.0})
    assert stored(run).keys() == ["host"]
    marks[0].passed = True
    run.log({"host": 3.0})
    back = stored(run).history(["loss", "lr"], order="arrival")
    assert (back["loss"].steps.tolist(), back["loss"].values.tolist()) == ([0, 1], [1.0, 2.0])
    assert back["lr"].values.tolist() == [0.5, 0.5]
    assert back["loss"].times[0] < back["loss"].times[1] < stored(run).history()["host"].times[0]


def test_the_last_arrival_is_the_last_call_whatever_the_device_does(
    begin: Begin, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host value logged after a device value of the same step is written after it."""
    import torch

    mark = Mark()
    monkeypatch.setattr(_devices, "device_mark", lambda torch, device: mark)
    monkeypatch.setattr("trackway.core.run.sort_values", _as_if_on_a_device)
    run = begin()
    run.log({"x": 0.0}, step=0)
    run.log({"x": torch.tensor(111.0)}, step=1)
    run.log({"x": 2.0}, step=1)
    run.log({"x": 3.0}, step=2)
    mark.passed = True
    run.finish()
    assert stored(run).history("x")["x"].values.tolist() == [0.0, 2.0, 3.0]


def _as_if_on_a_device(flat: dict[str, Any]) -> Any:
    """Sorts like ``sort_values``, taking every tensor for one on a device."""
    from trackway.core._values import Sorted

    found = Sorted()
    for name, value in flat.items():
        if hasattr(value, "detach"):
            found.devices[name] = value
        else:
            found.put(name, value)
    return found


def test_a_device_that_cannot_be_asked_costs_only_its_own_values(
    begin: Begin,
    stored: Stored,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No events, or an error behind the copy: those values are refused, the row is stored."""
    import torch

    with pytest.raises(RuntimeError, match="cannot be read without waiting"):
        _devices.device_mark(torch, torch.device("xla:0"))

    def refuses(torch: Any, device: Any) -> Any:
        raise RuntimeError("no events here")

    def fails() -> bool:
        raise RuntimeError("device-side assert triggered")

    monkeypatch.setattr("trackway.core.run.sort_values", _as_if_on_a_device)
    run = begin()
    monkeypatch.setattr(_devices, "device_mark", refuses)
    run.log({"a": torch.tensor(1.0), "lr": 0.5})
    monkeypatch.setattr(_devices, "device_mark", lambda torch, device: fails)
    run.log({"b": torch.tensor(1.0), "lr": 0.25})
    run.finish()
    back = stored(run)
    assert back.history("lr")["lr"].values.tolist() == [0.5, 0.25]
    assert back._told.refused == {"a": 1, "b": 1}
    told = capsys.readouterr().err
    assert "'a' was not stored: no events here" in told
    assert "'b' was not stored: device-side assert triggered" in told
