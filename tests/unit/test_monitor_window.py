"""The quiet window: within a twentieth of the true minimum for loads of many shapes, seen through noise."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import accumulate

import pytest

from cumulet.core.errors import UsageError
from cumulet.monitor.ring import SECONDS, Bin
from cumulet.monitor.window import DAY, WEEK, find_window

Shape = Callable[[int, float], float]
"""Weekday (0 to 6) and hour (0 to 24) -> load in percent."""
FIRST = 1_800_000_000 // (WEEK * SECONDS) * (WEEK * SECONDS)
"""The begin of a week, as bins are counted."""


def bump(hour: float, at: float, width: float) -> float:
    """A smooth hill around an hour; the day is a circle."""
    away = min(abs(hour - at), 24 - abs(hour - at))
    return math.exp(-((away / width) ** 2))


SHAPES: dict[str, Shape] = {
    "a valley at night": lambda _, hour: 10 + 60 * (1 - bump(hour, 3.5, 5)),
    "a narrow valley at noon": lambda _, hour: 55 - 40 * bump(hour, 12.5, 0.8),
    "office hours, and a quiet Sunday": lambda day, hour: 8 if day == 3 else 12 + 70 * bump(hour, 11, 4),
    "a shop that opens late on one day": lambda day, hour: 15 + 60 * bump(hour, 15 if day != 5 else 19, 4),
    "two rush hours": lambda _, hour: 12 + 50 * bump(hour, 8, 1.5) + 55 * bump(hour, 17.5, 2),
    "night shifts from Monday to Thursday": lambda day, hour: (
        20 + (60 * bump(hour, 2, 4) if day in (4, 5, 6, 0) else 25)
    ),
    "almost the same all the time": lambda _, hour: 40 + 3 * bump(hour, 14, 5),
    "a job at every full hour": lambda _, hour: 25 + (50 if hour % 1 < 0.25 else 0) - 8 * bump(hour, 4, 3),
    "a step down in the evening": lambda _, hour: 18 if hour >= 21.5 or hour < 1 else 60,
    "one quiet hour in the week": lambda day, hour: 5 if day == 2 and 13 <= hour < 15 else 50,
    "stairs": lambda _, hour: 10 + 10 * (int(hour / 4) % 6),
    "nearly nothing at night": lambda _, hour: 2 + 50 * (1 - bump(hour, 3, 6)) ** 2,
}


def load_at(shape: Shape, number: int) -> float:
    return shape(number // DAY % 7, number % DAY * 24 / DAY)


def record(shape: Shape, days: float, noise: float, seed: int, until: int) -> list[Bin]:
    """What a recorder would have seen until bin `until`: every bin off by chance, some of them missing."""
    chance = random.Random(seed)
    bins = []
    for number in range(until - int(days * DAY), until):
        if chance.random() < 0.02:
            continue
        load = max(0.0, load_at(shape, number) * chance.gauss(1, noise))
        bins.append(Bin(number * SECONDS, 5, (load, 0.0, 0.0, load)))
    return bins


def true_mean(shape: Shape, start: int, length: int) -> float:
    return sum(load_at(shape, start + step) for step in range(length)) / length


def true_minimum(shape: Shape, length: int) -> float:
    """Over all stretches of a week."""
    sums = [0.0, *accumulate(load_at(shape, number) for number in range(WEEK + length))]
    return min((sums[start + length] - sums[start]) / length for start in range(WEEK))


@pytest.mark.parametrize("minutes", [30, 120])
@pytest.mark.parametrize("name", SHAPES)
def test_the_stretch_is_within_a_twentieth_of_the_true_minimum(name: str, minutes: int) -> None:
    shape, length = SHAPES[name], minutes * 60 // SECONDS
    least = true_minimum(shape, length)
    for seed in range(3):
        now = FIRST // SECONDS + 777 * seed
        window = find_window(record(shape, 14, 0.1, seed, now), minutes * 60, now * SECONDS)
        assert window.basis == "weekdays"
        assert now * SECONDS <= window.start < (now + WEEK) * SECONDS
        assert true_mean(shape, window.start // SECONDS, length) <= 1.05 * least
        assert window.load == pytest.approx(least, rel=0.15, abs=1)


@pytest.mark.parametrize("name", ["a valley at night", "two rush hours", "a step down in the evening", "stairs"])
def test_a_new_site_goes_by_its_days(name: str) -> None:
    shape = SHAPES[name]
    now = FIRST // SECONDS
    window = find_window(record(shape, 2.5, 0.1, 1, now), 3600, now * SECONDS)
    assert window.basis == "days"
    assert true_mean(shape, window.start // SECONDS, 12) <= 1.05 * true_minimum(shape, 12)


@pytest.mark.parametrize(("offset", "clock"), [(0, "02:00"), (8 * 3600, "18:00"), (-5 * 3600, "07:00")])
def test_a_site_that_knows_nothing_takes_its_night(offset: int, clock: str) -> None:
    bins = record(SHAPES["stairs"], 0.2, 0.1, 1, FIRST // SECONDS)
    window = find_window(bins, 1800, float(FIRST), utc_offset=offset)
    assert (window.basis, window.load, window.usual) == ("night", None, None)
    assert f"{window.start % 86400 // 3600:02}:00" == clock
    assert FIRST <= window.start < FIRST + 86400
    assert find_window([], 1800, float(FIRST + 3 * 3600)).start == FIRST + 26 * 3600


def test_weeks_that_were_half_recorded_are_filled_from_other_days() -> None:
    shape = SHAPES["a valley at night"]
    now = FIRST // SECONDS
    bins = [each for each in record(shape, 14, 0.05, 4, now) if each.start // SECONDS // DAY % 7 != 6]
    window = find_window(bins, 3600, now * SECONDS)
    assert window.basis == "weekdays"
    assert true_mean(shape, window.start // SECONDS, 12) <= 1.05 * true_minimum(shape, 12)


def test_a_gpu_that_is_busy_counts_like_a_cpu() -> None:
    now = FIRST // SECONDS
    bins = [
        Bin(number * SECONDS, 5, (5.0, 80.0 if 8 <= number % DAY / 12 < 20 else 10.0, 0.0, 5.0))
        for number in range(now - WEEK, now)
    ]
    window = find_window(bins, 3600, now * SECONDS)
    assert not 8 <= window.start % 86400 / 3600 < 20
    assert window.usual == pytest.approx(45, abs=1)


def test_the_same_load_all_week_means_now() -> None:
    now = FIRST // SECONDS
    bins = [Bin(number * SECONDS, 5, (30.0, 0.0, 0.0, 30.0)) for number in range(now - 2 * WEEK, now)]
    window = find_window(bins, 1800, now * SECONDS + 1.5)
    assert (window.start, window.load) == ((now + 1) * SECONDS, pytest.approx(30))
    assert window.basis == "weekdays"


@pytest.mark.parametrize("seconds", [0, -5, 86401])
def test_a_window_has_a_length_that_makes_sense(seconds: int) -> None:
    with pytest.raises(UsageError, match=f"a window of {seconds} s: it is more than nothing and at most a day"):
        find_window([], seconds, float(FIRST))
