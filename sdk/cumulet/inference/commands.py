"""`cumulet selftest`: the runtimes of this computer, measured on CPU and GPU."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cumulet.inference.verdict import Report, Verdict


@click.command("selftest")
@click.option("--runtime", "runtimes", multiple=True, help="Only this runtime. [default: all that are here]")
@click.option("--state", type=click.Path(path_type=Path), help="Where the result is kept. [default: /var/lib/cumulet]")
@click.option("--publish", is_flag=True, help="Write the result onto this node, as labels for the scheduler.")
@click.option("--publish-only", is_flag=True, help="Only write the result that was kept onto this node.")
@click.option("--need-gpu", is_flag=True, help="End with code 4 if no runtime may use a GPU.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def selftest(
    *, runtimes: tuple[str, ...], state: Path | None, publish: bool, publish_only: bool, need_gpu: bool, as_json: bool
) -> None:
    """Run a small model on CPU and GPU, compare results and speed, and refuse a GPU that is wrong.

    Ends with code 4 if a runtime is wrong even on the CPU.
    """
    from cumulet.core.errors import ToolError
    from cumulet.inference import RUNTIMES, STATE, run_selftest, save_report
    from cumulet.inference.labels import publish as publish_labels

    if publish_only:
        publish_kept(state or STATE)
        return
    known = click.Choice(list(RUNTIMES))
    report = run_selftest([known.convert(name, None, click.get_current_context()) for name in runtimes])
    if not report.verdicts:
        raise ToolError("no inference runtime on this computer", hint="features: [inference-ncnn], or another one")
    save_report(report, state or STATE)
    if as_json:
        click.echo(json.dumps(asdict(report), indent=1))
    else:
        show(report)
    if publish:
        click.echo(f"published on node {publish_labels(report)}", err=True)
    check(report, need_gpu)


def publish_kept(path: Path) -> None:
    """Write the result that was kept onto this node, if it is in a cluster."""
    from cumulet.core.errors import ToolError
    from cumulet.inference import load_report
    from cumulet.inference.labels import find_kubelet, publish

    report = load_report(path)
    if report is None:
        raise ToolError(f"{path}: no result of a self-test", hint="cumulet selftest")
    if find_kubelet() is None:
        click.echo("not in a cluster: nothing to write it onto")
        return
    click.echo(f"published on node {publish(report)}")


def show(report: Report) -> None:
    """Print the devices, and a line for every runtime."""
    for renderer in report.renderers:
        click.echo(f"Vulkan {renderer.api}: {renderer.name} ({renderer.kind})")
    for verdict in report.verdicts:
        click.echo(make_line(verdict))


def make_line(verdict: Verdict) -> str:
    """A runtime in one line."""
    cpu = f"CPU {verdict.cpu_seconds * 1000:.2f} ms" if verdict.cpu else f"no CPU: {verdict.cpu_why}"
    gpu = f"GPU {verdict.gpu_seconds * 1000:.2f} ms" if verdict.gpu else f"no GPU: {verdict.why}"
    return f"{verdict.runtime:<12} {verdict.version:<14} {cpu:<14} {gpu}"


def check(report: Report, need_gpu: bool) -> None:
    """Raise TargetError for what is wrong."""
    from cumulet.core.errors import TargetError

    broken = [each.runtime for each in report.verdicts if not each.cpu]
    if broken:
        raise TargetError(f"wrong or no results on the CPU: {', '.join(broken)}", hint="cumulet selftest --json")
    if need_gpu and not any(each.gpu for each in report.verdicts):
        raise TargetError("no runtime may use a GPU", hint="cumulet selftest says why")
