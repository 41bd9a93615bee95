"""Engine `dask`: the task gets a Client, whose workers are the other members."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from super_members import Group, make_settings, running, take_result
from super_tasks import distribute

from cumulet.core.errors import UsageError
from cumulet.supercontainer import Member

EXPECTED = sum(number * number for number in range(100))


@pytest.mark.parametrize("deaths", [{}, {0: "workers"}], ids=["no loss", "the merging member is lost"])
def test_a_function_runs_with_a_client_of_the_other_members(deaths: dict[int, str], tmp_path: Path) -> None:
    group = Group(make_settings(tmp_path, 3, engine="dask"), distribute, deaths, forget=True)
    with running(group):
        assert json.loads(take_result(group, 25)) == EXPECTED
        for index in (1, 2):
            group.processes[index].join(10)
        assert [group.processes[index].exitcode for index in (1, 2)] == [0, 0]
    assert group.killed == len(deaths)


def test_another_engine_has_no_client(tmp_path: Path) -> None:
    member = Member(make_settings(tmp_path, 2)[1], lambda event: None)
    with pytest.raises(UsageError, match=r"distribute\(\) needs the engine dask"):
        member.distribute(lambda client: None)
