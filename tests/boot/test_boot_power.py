"""Power: a first boot that is cut off anywhere, a disk that is kept, a QEMU that is killed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError
from cumulet_qemu.machine import Options
from cumulet_qemu.nodefile import make_document
from cumulet_qemu.published import Published, load_published
from cumulet_qemu.vm import VirtualMachine

pytestmark = [pytest.mark.boot, pytest.mark.timeout(1800)]
MOUNTED = re.compile("cumulet: root mounted")
GROWING = re.compile("EXT4-fs .*: resizing filesystem from")
SECONDS = 600.0
FACTS = (
    "cat /etc/machine-id; cat /sys/class/block/vda4/size; df -k --output=size /data | tail -1; "
    "cat /proc/sys/kernel/tainted"
)


@pytest.fixture
def published(build: Callable[..., Path]) -> Published:
    """The smallest image, for this computer's own architecture."""
    return load_published(build("base-amd64", "base-amd64"))


@pytest.mark.parametrize(
    ("line", "seconds"),
    [(MOUNTED, 0.0), (MOUNTED, 6.0), (GROWING, 0.0), (GROWING, 0.2)],
)
def test_a_first_boot_that_was_cut_off_is_finished_by_the_next(
    published: Published, tmp_path: Path, line: re.Pattern[str], seconds: float
) -> None:
    # The kernel says when it begins to enlarge the file system, unless it is told to be quiet.
    options = Options(keep=tmp_path / "kept", node=make_document(published, []))
    with VirtualMachine(published, replace(options, arguments=("loglevel=7",))) as vm:
        vm.wait_line(line, "the moment", Deadline.after(SECONDS))
        Deadline.after(seconds + 1).sleep(seconds)
        vm.kill()
    with VirtualMachine(published, options) as vm:
        vm.wait_state("running", Deadline.after(SECONDS))
        shell = vm.open_shell(Deadline.after(SECONDS))
        identifier, sectors, blocks, tainted = shell.check_run(FACTS, Deadline.after(60)).split()
        assert re.fullmatch("[0-9a-f]{32}", identifier)
        assert tainted == "0", "the kernel has met a bug"
        assert int(sectors) * 512 > 6 << 30
        assert int(blocks) * 1024 > 6 * 10**9
        assert shell.check_run("systemctl --failed --no-legend --plain", Deadline.after(60)) == ""


def test_a_killed_machine_is_an_error_with_its_last_lines(published: Published) -> None:
    with VirtualMachine(published, Options()) as vm:
        vm.wait_line(MOUNTED, "root", Deadline.after(SECONDS))
        vm.kill()
        with pytest.raises(TargetError) as caught:
            vm.wait_state("running", Deadline.after(60))
    text = str(caught.value)
    assert "QEMU was killed by SIG" in text
    assert "cumulet: root mounted" in text
