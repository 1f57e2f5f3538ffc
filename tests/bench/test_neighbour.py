"""What takes turns in one process, beside a neighbour who comes and goes."""

from __future__ import annotations

import pytest

from bench.measure.neighbour import Neighbour, take_turns


class Machine:
    """A clock, a core that is slowed down to `slow` in some seconds, and what runs on it."""

    def __init__(self, busy, slow=0.6):
        self.now, self.busy, self.slow = 0.0, busy, slow
        self.order = []

    @property
    def pace(self):
        return self.slow if self.busy(self.now) else 1.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    def subject(self, name, seconds):
        """Measures that take so long on an idle core, whose value is the time that they took."""

        def measure():
            self.order.append(name)
            took = seconds / self.pace
            self.now += took
            return took

        return measure

    def neighbour(self):
        return Neighbour(lambda: {"steps": self.pace}, {"steps": 1.0})


@pytest.fixture
def machine(monkeypatch):
    def of(busy):
        found = Machine(busy)
        monkeypatch.setattr("bench.measure.neighbour.time", found)
        return found

    return of


def test_turns_alternate_and_nothing_is_done_again_on_an_idle_core(machine):
    core = machine(lambda now: False)
    neighbour = core.neighbour()
    measures = [core.subject("one", 1.0), core.subject("two", 2.0)]
    one, two = take_turns(measures, 3, 10.0, neighbour)
    assert core.order == ["one", "two", "two", "one", "one", "two"]
    assert (one.values, two.values) == ([1.0] * 3, [2.0] * 3)
    assert one.peak_shares == [1.0] * 3


def test_disturbed_rounds_are_replaced_in_the_moments_without_a_neighbour(machine):
    core = machine(lambda now: now % 10 < 6)
    neighbour = core.neighbour()
    measures = [core.subject(name, 0.5) for name in ("one", "two")]
    subjects = take_turns(measures, 7, 10.0, neighbour)
    for subject in subjects:
        assert sorted(subject.values)[:6] == pytest.approx([0.5] * 6)
        assert sum(share == 1.0 for share in subject.peak_shares) >= 6
    assert core.now < 7 + 10.0 * 5


def test_where_a_neighbour_stays_the_time_for_it_ends(machine):
    core = machine(lambda now: True)
    neighbour = core.neighbour()
    [one] = take_turns([core.subject("one", 0.6)], 2, 1.0, neighbour)
    assert (one.values, one.peak_shares) == ([1.0, 1.0], [0.6, 0.6])
    assert 2 + 4 <= core.now <= 2 + 5.0 * 1.0  # of five subjects, but for a last second


def test_where_nobody_looks_for_neighbours_all_rounds_count(machine):
    core = machine(lambda now: True)
    [one] = take_turns([core.subject("one", 0.6)], 2, 1.0)
    assert (one.values, one.peak_shares) == ([1.0, 1.0], [1.0, 1.0])


def test_a_neighbour_who_was_there_from_the_start_is_noticed_when_he_leaves(machine):
    core = machine(lambda now: now < 6)
    neighbour = Neighbour(lambda: {"steps": core.pace})  # without the pace of an idle core
    [one] = take_turns([core.subject("one", 0.6)], 7, 10.0, neighbour)
    assert sorted(one.values) == pytest.approx([0.6] * 6 + [1.0])
    assert sorted(one.peak_shares) == [0.6] + [1.0] * 6 and one.repeats == 5
