"""Histograms: the same counts on every path, and on a GPU nothing that would wait for it."""

from __future__ import annotations

import collections
import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from trackway.integrations.pytorch import _bits, _read
from trackway.integrations.pytorch._bits import BINS, count, count_there, nonfinite, pieces
from trackway.integrations.pytorch._read import Entry, flat, measure, norms, pack, prepare
from trackway.integrations.pytorch._together import Together


def naive(values: Sequence[float]) -> dict[int, int]:
    """The bins of singles, one by one, from their bytes."""
    found: collections.Counter[int] = collections.Counter()
    for value in values:
        (bits,) = struct.unpack("<I", struct.pack("<f", value))
        found[bits >> 21] += 1
    return dict(found)


def occupied(row: Any) -> dict[int, int]:
    """The occupied bins of a row."""
    return {int(b): int(row[b]) for b in np.flatnonzero(row)}


def there(flats: list[Tensor]) -> Any:
    """The counts as the path for devices makes them, in the order of the tensors."""
    rows, order = count_there(flats)
    found = np.zeros((len(flats), BINS), np.int64)
    found[order] = rows.numpy()
    return found


SINGLES = st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True)


@hypothesis_settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(SINGLES, max_size=40), min_size=1, max_size=6))
def test_counts_are_those_of_the_bits(data: list[list[float]]) -> None:
    """Both paths count what a reading of each single's bytes counts."""
    flats = [torch.tensor(values, dtype=torch.float32) for values in data]
    expected = [naive(flat.tolist()) for flat in flats]
    assert [occupied(row) for row in count(flats)] == expected
    assert [occupied(row) for row in there(flats)] == expected


@hypothesis_settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(width=16), min_size=1, max_size=40))
def test_narrow_types(data: list[float]) -> None:
    """Half precision counts as the single it is; of bfloat16 the bits are those of a single."""
    for dtype in (torch.float16, torch.bfloat16):
        values = torch.tensor(data).to(dtype)
        expected = naive(values.float().tolist())
        assert occupied(count([values])[0]) == expected
        assert occupied(there([values])[0]) == expected


@pytest.mark.parametrize("size", [_bits.SMALL - 1, _bits.SMALL, _bits.SMALL + 1, 100_003])
def test_sizes(size: int) -> None:
    """Tensors are counted alike whether each by itself or several together."""
    generator = torch.Generator().manual_seed(size)
    values = torch.randn(size, generator=generator)
    values[:3] = torch.tensor([math.nan, -math.inf, 0.0])
    others = [torch.randn(n, generator=generator) for n in (0, 1, 5, 20_000)]
    flats = [others[0], values, *others[1:]]
    expected = [
        np.bincount(f.numpy().view(np.uint32) >> 21, minlength=BINS).tolist() for f in flats
    ]
    assert count(flats).tolist() == expected
    assert there(flats).tolist() == expected
    assert nonfinite(count(flats)).tolist() == [0, 2, 0, 0, 0]
    bad, order = _bits.bad(flats)
    assert dict(zip(order, bad.tolist(), strict=True)) == {0: 0, 1: 2, 2: 0, 3: 0, 4: 0}


def test_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is counted in parts is counted once."""
    monkeypatch.setattr(_bits, "CHUNK", 10_000)
    values = torch.randn(45_678, generator=torch.Generator().manual_seed(1))
    expected = np.bincount(values.numpy().view(np.uint32) >> 21, minlength=BINS).tolist()
    assert count([values])[0].tolist() == expected
    assert there([values])[0].tolist() == expected


def test_doubles() -> None:
    """What only a double can hold counts as the largest or smallest single, and as finite."""
    values = torch.tensor([1e300, -1e300, 1e-300, math.inf, math.nan, 1.0], dtype=torch.float64)
    row = count([values])[0]
    assert nonfinite(row[None])[0] == 2
    assert row[1019] == 1
    assert row[2043] == 1
    assert row[0] == 1


def test_pieces() -> None:
    """Pieces hold every count at its place; short gaps are written as zeros."""
    row = np.zeros(BINS, np.int64)
    row[[0, 500, 501, 504, 1300]] = [1, 2, 3, 4, 5]
    row[[9, 14]] = [6, 7]
    last = np.zeros(BINS, np.int64)
    last[[1, BINS - 1]] = 8
    found = pieces(np.stack([last, row, np.zeros(BINS, np.int64), last]))
    assert found[1] == [(0, [1]), (9, [6]), (14, [7]), (500, [2, 3, 0, 0, 4]), (1300, [5])]
    assert found[0] == found[3] == [(1, [8]), (BINS - 1, [8])]
    assert found[2] == []
    assert pieces(np.zeros((1, BINS), np.int64)) == [[]]
    assert pieces(np.zeros((0, BINS), np.int64)) == []


@hypothesis_settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(SINGLES, max_size=40), min_size=1, max_size=6))
def test_together(data: list[list[float]]) -> None:
    """Small tensors beside each other have the counts and norms that each has by itself."""
    flats = [torch.tensor(values * 7, dtype=torch.float32) for values in data]
    together = Together([flat.shape for flat in flats])
    for _ in range(2):
        together.load(flats)
        assert together.counts().tolist() == count(flats).tolist()
        assert together.norms() == pytest.approx(
            [float(np.linalg.norm(flat.numpy().astype(np.float64))) for flat in flats],
            rel=1e-6,
            abs=1e-150,
            nan_ok=True,
        )


def test_together_in_batches() -> None:
    """However many there are, each is counted in its own row."""
    generator = torch.Generator().manual_seed(3)
    sizes = [9_999, 0, 10_000, *[10_000] * 7, *range(70), *[1] * 70]
    flats = [torch.randn(size, generator=generator) for size in sizes]
    together = Together([flat.shape for flat in flats])
    together.load(flats)
    assert together.counts().tolist() == count(flats).tolist()


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(3, 4, 5, 6).to(memory_format=torch.channels_last),
        torch.randn(4, 5).t(),
        torch.randn(4, 6)[:, ::2],
        torch.randn(3, dtype=torch.complex64).conj(),
        torch.randn(4).to(torch.float8_e4m3fn),
        torch.tensor(3.0),
    ],
)
def test_layouts(tensor: Tensor) -> None:
    """Every layout and type has one dimension and the norm that it had."""
    values = flat(tensor)
    assert values.dim() == 1
    whole = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    truth = float(whole.float().double().square().sum().sqrt())
    assert float(norms([values])[0]) == pytest.approx(truth, rel=1e-6)
    assert int(count([values]).sum()) == whole.numel()


# -- on a device ---------------------------------------------------------------------------


class Census(TorchDispatchMode):
    """Counts operations, those that only change a view aside."""

    VIEWS = frozenset(
        "device view detach split slice alias _reshape_alias select unsqueeze permute t expand "
        "_unsafe_view as_strided split_with_sizes".split()
    )
    WAITS = frozenset("_local_scalar_dense nonzero masked_select bincount item equal".split())

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels: collections.Counter[str] = collections.Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count one."""
        name = func._schema.name.split("::")[1]
        if name not in self.VIEWS:
            self.kernels[name] += 1
        return func(*args, **(kwargs or {}))


def entries(gradients: list[Tensor], parameters: list[Tensor]) -> list[Entry]:
    """As a reading makes them."""
    found = []
    for index, (gradient, parameter) in enumerate(zip(gradients, parameters, strict=True)):
        prepared = prepare(gradient)
        assert prepared is not None
        found.append(Entry(index, index, str(index), parameter, *prepared, False, True))
    return found


ALL = {"norms", "histograms", "parameters"}


@pytest.mark.parametrize("kinds", [{"norms"}, {"histograms"}, ALL])
def test_a_device_is_never_asked(kinds: set[str]) -> None:
    """On fake CUDA tensors, which have no values, a whole reading is made and packed.

    Anything that needs a value on the host raises there.
    """
    with FakeTensorMode():
        shapes: list[Any] = [(300, 300), (64, 64), (64,), (7,), (70_000,)]
        dtypes = [torch.float32, torch.float32, torch.float16, torch.bfloat16, torch.float64]
        gradients = [
            torch.empty(s, dtype=d, device="cuda") for s, d in zip(shapes, dtypes, strict=True)
        ]
        parameters = [torch.empty_like(g) for g in gradients]
        ratios = _read.Ratios()
        ratios.before(parameters)
        found = entries(gradients, parameters)
        found = [e._replace(key=id(p)) for e, p in zip(found, parameters, strict=True)]
        results = measure(found, kinds)
        results.tensors["moved"] = ratios.after(found)
        packed, layout = pack(results.tensors)
        assert packed.device.type == "cuda"
        assert {name for name, _, _ in layout} >= {"moved"}
        with pytest.raises(DataDependentOutputException):
            packed.sum().item()


def test_operations_on_a_device() -> None:
    """A reading is few operations, none of which waits: small tensors are done together."""
    with FakeTensorMode():
        gradients = [torch.empty(64, 64, device="cuda") for _ in range(400)]
        large = [torch.empty(300, 300, device="cuda") for _ in range(10)]
        for name, tensors, kinds, most in (
            ("norms of small ones", gradients, {"norms"}, 7 * 10 + 10),
            ("norms of large ones", large, {"norms"}, 5 * 10 + 10),
            ("histograms of small ones", gradients, {"histograms"}, 400 + 10 * 7),
            ("histograms of large ones", large, {"histograms"}, 6 * 10 + 10),
        ):
            found = entries(tensors, tensors)
            with Census() as census:
                pack(measure(found, set(kinds)).tensors)
            total = sum(census.kernels.values())
            assert not Census.WAITS & set(census.kernels), name
            assert total <= most, (name, total, census.kernels)


def test_packet_brings_everything_home() -> None:
    """What is packed on a device is unpacked as it was, rows of counts in their order."""
    generator = torch.Generator().manual_seed(0)
    gradients = [torch.randn(n, generator=generator) for n in (5, 20_000, 7, 30_000)]
    found = entries(gradients, gradients)
    host = measure(found, {"norms", "histograms"})
    rows, order = count_there([e.values for e in found])
    results = _read.Results(
        {"norms": host.tensors["norms"], "bad": host.tensors["bad"], "gradients": rows},
        {"gradients": order},
    )
    packet = _read.Packet.__new__(_read.Packet)
    packet._results = _read.Results({}, results.orders)
    packet._host, packet._layout = pack(results.tensors)
    packet._arrived = lambda: True
    arrays = packet.arrays()
    assert packet.ready()
    assert arrays["gradients"].tolist() == host.tensors["gradients"].tolist()
    assert arrays["norms"].tolist() == host.tensors["norms"].tolist()
    assert arrays["bad"].tolist() == [0, 0, 0, 0]
