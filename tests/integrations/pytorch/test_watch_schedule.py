"""When something is read: the first step, and then as often as the budget allows."""

from __future__ import annotations

from trackway.integrations.pytorch._schedule import Schedule

KINDS = ("norms", "ratios", "histograms", "parameters")


def simulate(
    costs: dict[str, float], step_s: float, steps: int, budget: float = 0.01
) -> tuple[dict[str, list[int]], float]:
    """The steps at which each kind is read, and the share of the time that this takes."""
    schedule = Schedule(tuple(costs), None, budget)
    read: dict[str, list[int]] = {kind: [] for kind in costs}
    spent, last = 0.0, 0
    for step in range(1, steps + 1):
        if step < schedule.next:
            continue
        if last:
            schedule.took(step_s, step - last)
        last = step
        due = schedule.due(step)
        for kind in due:
            read[kind].append(step)
            cold = 10 if len(read[kind]) == 1 else 1
            schedule.cost(kind, costs[kind] * cold)
            spent += costs[kind] * cold
        schedule.passed(step, due)
        schedule.adapt()
    return read, spent / (steps * step_s)


def test_every_is_exact() -> None:
    """With ``every`` everything is read at its multiples, and parameters at ten times that."""
    schedule = Schedule(KINDS, 3, 0.01)
    read: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for step in range(1, 61):
        due = schedule.due(step) if step >= schedule.next else set()
        for kind in due:
            read[kind].append(step)
            schedule.cost(kind, 1.0)
        schedule.passed(step, due)
        assert not schedule.adapt()
    assert read["norms"] == [1, *range(3, 61, 3)]
    assert read["histograms"] == read["norms"]
    assert read["parameters"] == [1, 30, 60]


def test_cheap_readings_come_each_tenth_step() -> None:
    """Where the budget is not reached each tenth step is read."""
    read, _ = simulate({"norms": 1e-5, "histograms": 1e-5}, 1.0, 100)
    assert read["norms"] == [1, *range(10, 101, 10)]
    assert read["histograms"] == [1, *range(20, 101, 10)]


def test_the_budget_is_kept() -> None:
    """Whatever it costs, it stays within the budget; and something is read all the same."""
    for factor in (0.01, 0.1, 1.0, 10.0):
        costs = {"norms": 0.2e-3, "ratios": 0.6e-3, "histograms": 4e-3, "parameters": 4e-3}
        costs = {kind: cost * factor for kind, cost in costs.items()}
        read, share = simulate(costs, 10e-3, 100_000)
        assert share <= 0.0101, factor
        assert all(len(steps) >= 5 for steps in read.values())


def test_nothing_asked() -> None:
    """A schedule of nothing is never due."""
    assert Schedule((), None, 0.01).next > 1 << 60
