"""Options that commands of several parts share, so that they are written and called alike everywhere."""

from __future__ import annotations

from pathlib import Path

import click

site_option = click.option(
    "-f", "--file", "site_path", type=click.Path(path_type=Path), default=Path("site.yaml"),
    help="The site. [default: ./site.yaml]",
)  # fmt: skip
kubeconfig_option = click.option(
    "--kubeconfig", type=click.Path(path_type=Path), help="Reach the cluster by this, without site.yaml."
)
namespace_option = click.option("--namespace", default="default", help="[default: default]")
engine_option = click.option(
    "--engine", type=click.Choice(["shards", "dask"]), default="shards", help="Of super containers. [default: shards]"
)
keep_option = click.option(
    "--keep", type=click.Choice(["taken", "stored"]), default="taken",
    help="Members of super containers end once the result is fetched, or once it is in the task's data.output. "
    "[default: taken]",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
