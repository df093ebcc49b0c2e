"""What is said where no run is called so, or where the folder is no root."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api.conftest import Record
from trackway.api import Api
from trackway.errors import NotFoundError


@pytest.mark.usefixtures("sweep")
@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("lr0.1-seed11", "; did you mean 'lr0.1-seed1' or "),
        ("digits/rum00003", "; did you mean 'run00003' or "),
        ("digits", ": it is a project, and not a run; the newest are: lr0.001-seed2, "),
        ("ru", "; the beginning of an id has at least 3 letters"),
        ("nobody", "; the newest are: lr0.001-seed2, "),
    ],
)
def test_what_could_have_been_meant(api: Api, root: Path, which: str, message: str) -> None:
    """Names and ids that look alike are named; a project and a short prefix are told as such."""
    with pytest.raises(NotFoundError) as told:
        api.run(which)
    assert str(told.value).startswith(f"no run {which!r} in {root}{message}")


def test_a_project_is_no_root(record: Record, root: Path) -> None:
    """A project's folder, or a run's, given as the root is said to be one, with its root."""
    record().end()
    inside = root / "digits"
    for ask in (
        lambda: Api(inside).runs(),
        lambda: Api(inside).run("abc12345"),
        lambda: Api(inside).run("digits/abc12345"),
        lambda: Api(inside).runs("digits"),
        lambda: Api(inside).group("name", project="digits"),
    ):
        with pytest.raises(NotFoundError) as told:
            ask()
        assert str(told.value) == f"{inside} is a project; its root is {root}"
    with pytest.raises(NotFoundError) as told:
        Api(inside / "abc12345").runs()
    assert str(told.value) == f"{inside / 'abc12345'} is a run; its root is {root}"


def test_a_root_whose_runs_were_deleted_is_one(record: Record, api: Api) -> None:
    """A root without runs is empty, and nothing else."""
    record().end()
    api.run("abc12345").delete()
    assert len(api.runs()) == 0
