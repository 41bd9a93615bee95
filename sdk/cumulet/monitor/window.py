"""The quietest stretch: when a site will have the least load, by what its weekdays have been like. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean
from typing import Literal

from cumulet.core.errors import UsageError
from cumulet.monitor.ring import SECONDS, Bin

DAY = 86400 // SECONDS
WEEK = 7 * DAY
# Bins are counted from Thursday, the first of January 1970; it does not matter where a week begins.
COVERED = 0.8
"""So much of a day, or of a week, must have been seen before its shape is believed."""
NIGHT_HOURS = 2
"""Where nothing is known yet: two o'clock at night."""
SOON = 0.01
"""A stretch that is so little busier than the quietest one is taken if it comes sooner."""
LONGEST = 24 * 3600
NEAR = 6
"""Half an hour before and after: over so many bins a weekday's own load is told from chance."""
SURE = 4
"""It must be twice as far from that of all days as chance would bring it."""
Basis = Literal["weekdays", "days", "night"]


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time. Seconds since 1970; loads in percent.

    `load` is what is expected then, `usual` the mean over a week; both are None where nothing is known. `basis` says
    what it rests on: this weekday's shape, that of all days together, or nothing but that it is night.
    """

    start: int
    seconds: int
    load: float | None
    usual: float | None
    basis: Basis


def find_window(bins: Sequence[Bin], seconds: int, now: float, *, utc_offset: int = 0) -> Window:
    """The quietest stretch of `seconds` that begins within the next week.

    `utc_offset`: how far the site's clock is ahead of UTC, in seconds. Raises UsageError for a length of nothing or
    of more than a day.
    """
    if not 0 < seconds <= LONGEST:
        raise UsageError(f"a window of {seconds} s: it is more than nothing and at most a day", hint="--for 30m")
    week = sort_into_week(bins)
    profile, basis = make_week(week)
    if profile is None:
        return _find_night(seconds, now, utc_offset)
    length = -(-seconds // SECONDS)
    first = int(-(-now // SECONDS))
    ahead = [profile[(first + step) % WEEK] for step in range(WEEK + length)]
    sums = [0.0, *accumulate(ahead)]
    loads = [(sums[step + length] - sums[step]) / length for step in range(WEEK)]
    least = min(loads)
    chosen = next(step for step, load in enumerate(loads) if load <= least * (1 + SOON))
    slots = [(first + chosen + step) % WEEK for step in range(length)]
    # The profile is careful about what may be chance; what is expected then is what has been then.
    load = fmean(fmean(week[slot]) if week[slot] else profile[slot] for slot in slots)
    return Window((first + chosen) * SECONDS, seconds, load, fmean(profile), basis)


def sort_into_week(bins: Sequence[Bin]) -> list[list[float]]:
    """The loads that were seen in every bin of a week, by its number modulo a week."""
    week: list[list[float]] = [[] for _ in range(WEEK)]
    for each in bins:
        week[each.start // SECONDS % WEEK].append(make_load(each))
    return week


def make_week(week: Sequence[Sequence[float]]) -> tuple[list[float] | None, Basis]:
    """The load to count with in every bin of a week, from those that were seen; None if they are too few."""
    by_time = [[load for day in range(7) for load in week[day * DAY + time]] for time in range(DAY)]
    if sum(bool(loads) for loads in by_time) < COVERED * DAY:
        return None, "night"
    day = _fill([fmean(loads) if loads else None for loads in by_time])
    if sum(bool(loads) for loads in week) < COVERED * WEEK:
        return _smooth(day * 7), "days"
    own = [fmean(loads) - day[slot % DAY] if loads else 0.0 for slot, loads in enumerate(week)]
    trust = _find_trust(week, own)
    return _smooth([day[slot % DAY] + trust[slot] * own[slot] for slot in range(WEEK)]), "weekdays"


@dataclass(frozen=True, slots=True)
class Hour:
    """The mean load of an hour, in percent; None if nothing was recorded."""

    start: int
    load: float | None


def summarize_day(bins: Sequence[Bin], now: float) -> list[Hour]:
    """The 24 hours before `now`, the running one last."""
    last = int(now // 3600)
    loads: dict[int, list[float]] = {hour: [] for hour in range(last - 23, last + 1)}
    for each in bins:
        loads.get(each.start // 3600, []).append(make_load(each))
    return [Hour(hour * 3600, fmean(found) if found else None) for hour, found in loads.items()]


def make_load(each: Bin) -> float:
    """What counts of a bin of a site's load: CPU or GPU, whichever is busier."""
    return max(each.values[0], each.values[1])


def _find_trust(week: Sequence[Sequence[float]], own: Sequence[float]) -> list[float]:
    """How much counts, in every bin, what its weekday has of its `own`: the difference to all days together.

    There are but two of each weekday, so that is mostly chance if weekdays do not differ. How much they do is seen by
    comparing two weeks: what differs between weekdays but not between weeks is the weekday. One that differs for an
    hour only is seen by looking at that hour.
    """
    pairs = [loads for loads in week if len(loads) > 1]
    chance = fmean([(loads[0] - loads[1]) ** 2 / 4 for loads in pairs]) if pairs else 0.0
    between = fmean([each**2 for each in own])
    everywhere = max(0.0, 1 - chance / between) if between else 0.0
    width = 2 * NEAR + 1
    trust = []
    for slot in range(WEEK):
        here = (fmean(own[(slot + step) % WEEK] for step in range(-NEAR, NEAR + 1))) ** 2
        trust.append(max(everywhere, 1 - SURE * chance / width / here) if here else everywhere)
    return trust


def _smooth(profile: Sequence[float]) -> list[float]:
    """Each bin with its neighbours, so that one lucky bin does not look like a valley."""
    size = len(profile)
    return [
        (profile[slot - 2] + 2 * profile[slot - 1] + 3 * profile[slot] + 2 * profile[(slot + 1) % size]
         + profile[(slot + 2) % size]) / 9
        for slot in range(size)
    ]  # fmt: skip


def _fill(values: Sequence[float | None]) -> list[float]:
    """Gaps closed with the nearest value before them."""
    last = next(value for value in reversed(values) if value is not None)
    filled = []
    for value in values:
        last = value if value is not None else last
        filled.append(last)
    return filled


def _find_night(seconds: int, now: float, utc_offset: int) -> Window:
    local = now + utc_offset
    start = local // 86400 * 86400 + NIGHT_HOURS * 3600
    if start < local:
        start += 86400
    return Window(int(start - utc_offset), seconds, None, None, "night")
