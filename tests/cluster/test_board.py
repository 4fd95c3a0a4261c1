"""Units: cut evenly, given out, done again, halved; a photo that ends its workers is found, and none is lost."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cluster.board import Board, Patience
from pipeline.cluster.units import UNIT_PHOTOS, cut, unit_photos
from pipeline.errors import BackboneError
from pipeline.features.engines.jobs import Job


def counter():
    numbers = itertools.count()
    return lambda count: [next(numbers) for _ in range(count)]


def board_of(photos, size, **patience):
    numbers = counter()
    jobs = [Job(np.arange(photos), ("pooled",), ("identity",))]
    return Board(cut(jobs, size, numbers), numbers, Patience(**patience))


def test_units_are_even_and_no_larger_than_a_shard():
    jobs = [Job(np.arange(2100), ("pooled",), ("identity",)), Job(np.arange(2100, 2103), ("grid",), ("hflip",))]
    units = cut(jobs, 1024, counter())
    assert [(unit.number, len(unit.rows), unit.blocks) for unit in units] == [
        *((number, 700, ("pooled",)) for number in range(3)),
        (3, 3, ("grid",)),
    ]
    assert np.concatenate([unit.rows for unit in units]).tolist() == list(range(2103))
    assert [unit_photos(n, 4) for n in (10, 10_000, 10_000_000)] == [64, 313, UNIT_PHOTOS]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 4), st.data())
def test_whatever_ends_its_workers_is_found_and_all_else_is_done(photos, size, workers, data):
    poison = data.draw(st.sets(st.integers(0, photos - 1), max_size=3))
    board, done, refused, failures = board_of(photos, size, in_a_row=10_000), [], [], 0
    held = {}
    for worker in itertools.cycle(range(workers)):
        if board.finished:
            break
        if worker not in held:
            if (unit := board.take(worker, 0.0)) is not None:
                held[worker] = unit
            continue
        unit = held.pop(worker)
        if poison & set(unit.rows.tolist()):
            failures += 1
            if (bad := board.failed(worker, unit.number, "ended")) is not None:
                refused += bad.rows.tolist()
        else:
            done += board.done(unit.number, 1.0).rows.tolist()
    assert sorted(done) == sorted(set(range(photos)) - poison)
    assert sorted(refused) == sorted(poison)
    assert failures <= len(poison) * (2 + size.bit_length())


def test_a_unit_is_done_once_more_before_it_is_halved():
    board = board_of(8, 8)
    unit = board.take(0, 0.0)
    assert board.failed(0, unit.number, "preempted") is None
    again = board.take(1, 0.0)
    assert (again.number, again.rows.tolist()) == (unit.number, unit.rows.tolist())
    assert board.done(again.number, 1.0) is again
    assert board.finished


def test_a_late_receipt_counts_once_wherever_the_unit_is_by_then():
    board = board_of(24, 8, first=10.0, least=5.0, times=2.0)
    slow, second = board.take(0, 0.0), board.take(1, 0.0)
    assert board.overdue(9.0) == []
    assert board.overdue(11.0) == [(0, slow.number), (1, second.number)]
    for worker, unit in ((0, slow), (1, second)):
        assert board.failed(worker, unit.number, "late") is None
    assert board.done(slow.number, 11.0) is not None, "it waits again, and need not any more"
    third, again = board.take(2, 12.0), board.take(3, 12.0)
    assert again.number == second.number
    assert board.done(second.number, 12.0) is again, "while another does it"
    assert board.done(second.number, 12.0) is None
    assert board.failed(3, second.number, "gone") is None
    assert board.done(third.number, 1.0) is third
    assert board.finished


def test_a_worker_that_stays_away_is_given_up_once_and_one_that_came_back_is_not():
    board = board_of(16, 8, first=10.0)
    units = [board.take(worker, 0.0) for worker in (0, 1)]
    for worker, number in board.overdue(11.0):
        board.failed(worker, number, "late")
    board.back(1)
    board.done(units[1].number, 12.0)
    assert board.given_up(20.0) == []
    assert board.given_up(22.0) == [0]
    assert board.given_up(99.0) == []


def test_what_fails_whatever_it_is_given_ends_the_job():
    board = board_of(4096, 8, in_a_row=20)
    with pytest.raises(BackboneError, match="20 units failed one after the other; the last one's worker: no memory"):
        while True:
            board.failed(0, board.take(0, 0.0).number, "no memory")
    board = board_of(50, 1, refused=3, in_a_row=10_000)
    with pytest.raises(BackboneError, match="4 photos ended their workers, so it is not the photos; last: no memory"):
        while True:
            board.failed(0, board.take(0, 0.0).number, "no memory")
