from __future__ import annotations

import math
import struct
from typing import Any
from zlib import crc32

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackway.backend.file.format import (
    EVENT,
    EVENT_HEAD,
    FRAME,
    HEADER,
    HEADER_HEAD,
    KEYSET,
    KEYSET_HEAD,
    MAGIC,
    MAX_PAYLOAD,
    ROW,
    ROW_HEAD,
    Event,
    Header,
    Keyset,
    big_integer,
    decode_event,
    decode_header,
    decode_keyset,
    encode_event,
    encode_header,
    encode_keyset,
    encode_row,
    frame,
    unpack,
)
from trackway.errors import FormatError

from . import given as sample
from .given import HEADER as SAMPLE

pack = msgspec.msgpack.encode


def payload_of(data: bytes) -> bytes:
    """The payload of one sound frame."""
    length, checksum = FRAME.unpack_from(data)
    payload = data[FRAME.size :]
    assert (length, checksum) == (len(payload), crc32(payload))
    return payload


# -- frames ----------------------------------------------------------------------------------------


def test_a_frame_is_length_checksum_payload() -> None:
    """The bytes of a frame are what docs/format/log.md says."""
    assert (
        frame(b"\x0fabc")
        == bytes.fromhex("04000000") + struct.pack("<I", crc32(b"\x0fabc")) + b"\x0fabc"
    )


@pytest.mark.parametrize("size", [0, MAX_PAYLOAD + 1])
def test_a_frame_of_an_impossible_size_is_refused(size: int) -> None:
    """Neither nothing nor more than 4 MiB goes into a frame."""
    with pytest.raises(FormatError, match=f"1 to {MAX_PAYLOAD} bytes, not {size}"):
        frame(bytes(size))


def test_the_largest_frame_is_allowed() -> None:
    """Exactly 4 MiB fit."""
    assert len(frame(bytes(MAX_PAYLOAD))) == MAX_PAYLOAD + 8


# -- what is encoded comes back --------------------------------------------------------------------


def test_a_header_comes_back() -> None:
    """Every field, and those a later version adds."""
    header = Header(
        run="r",
        project="p",
        writer="w",
        generation="g",
        role="worker",
        attempt=3,
        host="h",
        pid=2**22,
        process_started=None,
        created=1.5,
        software="s",
        extra={"rank": 5, "later": [1, "x"]},
    )
    assert decode_header(payload_of(encode_header(header))) == header


def test_a_header_of_few_fields_is_read() -> None:
    """What is missing and has a default takes it."""
    fields = {"run": "r", "project": "p", "writer": "w", "generation": "g"}
    payload = HEADER_HEAD.pack(HEADER, MAGIC, 1) + pack(fields)
    assert decode_header(payload) == Header("r", "p", "w", "g")


NAMES = [
    "",
    " ",
    "train/loss",
    "a b/c d/",
    "/",
    "\n",
    "tab\tand\r\nline",
    "\x00",
    "🦦/κόσμος/é",
    "e\u0301",
    '"quoted", \\back',
    "x" * 10_000,
]


def test_names_of_every_kind_come_back() -> None:
    """Slashes, spaces, emoji, newlines, NUL, the empty name, decomposed letters: as they were."""
    keyset = Keyset(2**32 - 1, tuple(NAMES), "fib" * 4, "system")
    assert decode_keyset(payload_of(encode_keyset(keyset))) == keyset


def test_a_keyset_without_names_comes_back() -> None:
    """n may be 0."""
    assert decode_keyset(payload_of(encode_keyset(Keyset(0, (), "")))) == Keyset(0, (), "")


def test_a_lone_surrogate_is_no_name() -> None:
    """UTF-8 has no bytes for it, so it cannot be encoded, and says so."""
    with pytest.raises(UnicodeEncodeError):
        encode_keyset(Keyset(0, ("\ud800",), "f"))


PATTERNS = [
    "0000000000000000",  # 0.0
    "0000000000000080",  # -0.0
    "0100000000000000",  # the smallest denormal
    "ffffffffffff0f80",  # the largest denormal, negative
    "000000000000f07f",  # inf
    "000000000000f0ff",  # -inf
    "000000000000f87f",  # the usual NaN
    "010000000000f87f",  # a NaN with a payload
    "efbeadde0000f8ff",  # a negative NaN with a payload
    "000000000000f43f",  # 1.25
    "ffffffffffffef7f",  # the largest finite
]


def test_a_row_holds_every_bit_of_its_values() -> None:
    """Signed zeros, denormals, infinities and the payloads of NaNs survive."""
    values = [struct.unpack("<d", bytes.fromhex(pattern))[0] for pattern in PATTERNS]
    payload = payload_of(encode_row(7, -(2**63), math.inf, values))
    assert ROW_HEAD.unpack_from(payload) == (ROW, 7, -(2**63), math.inf)
    assert payload[ROW_HEAD.size :].hex() == "".join(PATTERNS)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.lists(st.floats(allow_nan=True, allow_subnormal=True), max_size=20),
)
@settings(max_examples=50, deadline=None)
def test_a_row_is_an_array_behind_a_head(keyset: int, step: int, values: list[float]) -> None:
    """The row of docs/format/log.md, whatever it holds."""
    payload = payload_of(encode_row(keyset, step, 2.5, values))
    assert payload == struct.pack(f"<BIqd{len(values)}d", 3, keyset, step, 2.5, *values)


@pytest.mark.parametrize("step", [2**63, -(2**63) - 1])
def test_a_step_beyond_64_bits_is_no_row(step: int) -> None:
    """It is refused rather than wrapped around."""
    with pytest.raises(struct.error):
        encode_row(0, step, 0.0, [1.0])


FIELDS: dict[str, Any] = {
    "none": None,
    "true": True,
    "text": "🦦\n\x00",
    "bytes": b"\x00\xff",
    "small": -1,
    "largest": 2**64 - 1,
    "smallest": -(2**63),
    "float": -0.0,
    "nested": {"a": [1, {"b": []}], "": {}},
}


def test_an_event_comes_back() -> None:
    """Every value MessagePack knows."""
    back = decode_event(payload_of(encode_event("config", 1.5, FIELDS)))
    assert back == Event("config", 1.5, FIELDS)
    assert math.copysign(1, back.fields["float"]) == -1


def test_integers_of_any_size_come_back() -> None:
    """Within 64 bits as MessagePack integers, beyond as the extension, exactly."""
    small = [0, 2**53 + 1, -(2**63), 2**64 - 1]
    large = [-(2**63) - 1, 2**64, -(2**64), 10**100, -(7**9999)]
    stored = [big_integer(number) for number in small + large]
    assert stored[:4] == small
    assert all(isinstance(one, msgspec.msgpack.Ext) for one in stored[4:])
    back = decode_event(payload_of(encode_event("value", 0.0, {"n": stored})))
    assert back.fields == {"n": small + large}


def test_a_large_integer_is_its_hexadecimal_form() -> None:
    """Extension 1 holds what ``hex`` gives."""
    assert pack(big_integer(-(2**64))) == b"\xc7\x14\x01-0x10000000000000000"


def test_an_extension_of_a_later_version_passes_through() -> None:
    """An unknown extension is kept as it is, not an error."""
    unknown = msgspec.msgpack.Ext(42, b"later")
    assert unpack(pack([unknown])) == [unknown]


# -- what others wrote -----------------------------------------------------------------------------

Decoder = Any
DECODERS: list[Any] = [
    pytest.param(decode_header, HEADER_HEAD.pack(HEADER, MAGIC, 1), id="header"),
    pytest.param(decode_keyset, KEYSET_HEAD.pack(KEYSET, 0), id="keyset"),
    pytest.param(decode_event, EVENT_HEAD.pack(EVENT, 0.0), id="event"),
]
WHOLE = [
    encode_header(SAMPLE),
    encode_keyset(Keyset(0, tuple(NAMES), "f" * len(NAMES))),
    encode_event("config", 1.5, {**FIELDS, "big": big_integer(2**70)}),
]


def refuses_or_decodes(decode: Decoder, payload: bytes) -> None:
    """Either a value of the promised type or a FormatError; nothing else comes out."""
    try:
        found = decode(payload)
    except FormatError:
        return
    check_types(found)


def check_types(found: object) -> None:
    """The fields are of the types that readers rely on."""
    if isinstance(found, Header):
        texts = (found.run, found.project, found.writer, found.generation, found.role, found.host)
        assert {type(text) for text in (*texts, found.software)} == {str}
        assert type(found.attempt) is int
        assert type(found.pid) is int
        assert isinstance(found.created, float)
        assert isinstance(found.process_started, float | None)
        assert isinstance(found.extra, dict)
    elif isinstance(found, Keyset):
        assert {type(name) for name in found.names} <= {str}
        assert (type(found.types), type(found.space)) == (str, str)
        assert len(found.types) == len(found.names)
    else:
        assert isinstance(found, Event)
        assert type(found.type) is str
        assert isinstance(found.fields, dict)


@pytest.mark.parametrize("whole", WHOLE, ids=["header", "keyset", "event"])
def test_a_truncated_payload_is_refused(whole: bytes) -> None:
    """Cut at any byte, a payload gives FormatError and never a part of what it was."""
    payload = payload_of(whole)
    decode = {HEADER: decode_header, KEYSET: decode_keyset, EVENT: decode_event}[payload[0]]
    for size in [*range(min(len(payload), 400)), len(payload) - 1]:
        with pytest.raises(FormatError):
            decode(payload[:size])


OWNER = {"run": "r", "project": "p", "writer": "w", "generation": "g"}
WRONG: list[object] = [
    {},
    [],
    None,
    5,
    "run",
    ["run", "project", "writer"],
    [["a"], "ff", "metric"],
    [["a"], ["f"], "metric"],
    [[1], "f", "metric"],
    [[None], "f", "metric"],
    ["a", "f", "metric"],
    [{"a": 1}, "f", "metric"],
    [["a"], "f", 5],
    [["a"], "f"],
    [None, None, None],
    {"type": 5},
    {"type": None},
    {"type": [[]]},
    {**OWNER, "run": 1},
    {**OWNER, "generation": None},
    {**OWNER, "attempt": "2"},
    {**OWNER, "attempt": True},
    {**OWNER, "attempt": 2**70 // 2**8},
    {**OWNER, "attempt": 0},
    {**OWNER, "created": None},
    {**OWNER, "created": "1"},
    {**OWNER, "pid": 1.5},
    {**OWNER, "role": None},
    {**OWNER, "host": b"h"},
    {**OWNER, "process_started": []},
]
HOSTILE = {
    "nothing": b"",
    "a byte that MessagePack never uses": b"\xc1",
    "an array of four billion": b"\xdd\xff\xff\xff\xff",
    "a map of four billion": b"\xdf\xff\xff\xff\xff",
    "a text of four billion bytes": b"\xdb\xff\xff\xff\xff",
    "four billion bytes": b"\xc6\xff\xff\xff\xff",
    "an extension of four billion bytes": b"\xc9\xff\xff\xff\xff\x01",
    "an array of four billion within": b"\x93\xdd\xff\xff\xff\xff",
    "arrays without end": b"\x91" * 100_000,
    "maps without end": b"\x81\xa1a" * 100_000,
    "names nested 500 deep": b"\x93\x91" + b"\x91" * 500 + b"\x01" + b"\xa1f\xa6metric",
    "a type nested 500 deep": b"\x81\xa4type" + b"\x91" * 500 + b"\x01",
    "a key that is an array": b"\x81\x91\x01\x02",
    "a key that is a map": b"\x81\x81\x01\x01\x02",
    "a key that is a number": pack({1: 2, "type": "x", **OWNER}),
    "an integer that is none": b"\x81\xa4type\xc7\x03\x01xyz",
    "an integer with a NUL": b"\x81\xa4type\xc7\x03\x011\x002",
    "a date that is none": b"\x81\xa4type\xc7\x01\xffx",
    "a date": b"\x81\xa4type\xd6\xff\x00\x00\x00\x01",
    "text that is no UTF-8": b"\x81\xa4type\xa2\xff\xff",
    **{repr(value): pack(value) for value in WRONG},
}


@pytest.mark.parametrize(("decode", "head"), DECODERS)
@pytest.mark.parametrize("body", HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_payload_is_refused(decode: Decoder, head: bytes, body: bytes) -> None:
    """Lengths that lie, nesting without end and wrong types give FormatError and nothing else."""
    refuses_or_decodes(decode, head + body)


@pytest.mark.parametrize("name", ["created", "process_started"])
def test_a_whole_number_is_as_good_as_a_float(name: str) -> None:
    """Seconds that happen to be whole may have been written as an integer."""
    header = decode_header(HEADER_HEAD.pack(HEADER, MAGIC, 1) + pack({**OWNER, name: 7}))
    assert getattr(header, name) == 7
    check_types(header)


@pytest.mark.parametrize(("decode", "head"), DECODERS)
def test_trailing_bytes_are_refused(decode: Decoder, head: bytes) -> None:
    """A payload is one MessagePack value, to its last byte."""
    with pytest.raises(FormatError):
        decode(head + pack({"type": "x"}) + b"\x00")


@given(st.sampled_from([0, 1, 2]), st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_random_payloads_are_refused_or_decoded(which: int, body: bytes) -> None:
    """Any bytes at all give a value of the promised type or FormatError."""
    decode, head = DECODERS[which].values
    refuses_or_decodes(decode, head + body)
    refuses_or_decodes(decode, body)


@given(st.sampled_from([0, 1, 2]), st.data())
@settings(max_examples=150, deadline=None)
def test_changed_payloads_are_refused_or_decoded(which: int, data: st.DataObject) -> None:
    """A sound payload with some bytes exchanged gives the promised types or FormatError."""
    payload = bytearray(payload_of(WHOLE[which])[:600])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(payload) - 1))
        payload[at] = data.draw(st.integers(0, 255))
    refuses_or_decodes(DECODERS[which].values[0], bytes(payload))


def test_another_magic_is_refused() -> None:
    """The message says what the file begins with."""
    payload = payload_of(encode_header(SAMPLE)).replace(MAGIC, b"TRACKWAX")
    with pytest.raises(FormatError, match="it begins with b'TRACKWAX'"):
        decode_header(payload)


def test_the_sample_helpers_agree_with_struct() -> None:
    """What the tests compare by is the bytes of the float."""
    assert sample.bits(-0.0) == "0000000000000080"
