"""The profile of a task: what it runs, what it needs, declared by a person and corrected by what was measured.

One declaration gives the type, the default, the check and the documented field.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cumulet.core.documents import Value, load_document, parse_versioned, validate_whole
from cumulet.core.errors import Problem
from cumulet.core.quantities import parse_seconds, parse_size

MOST_REPLICAS = 500


def _check_name(text: str) -> str:
    # Pods are named after it, with some letters behind.
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", text):
        raise ValueError(f"{text!r} is not a name: use lower-case letters, digits and '-', up to 40")
    return text


def _check_size(text: str) -> str:
    parse_size(text)
    return text


def _check_seconds(text: str) -> str:
    parse_seconds(text)
    return text


def _check_model(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9._/-]*[a-z0-9])?@sha256:[0-9a-f]{64}", text):
        raise ValueError(f"{text!r} is no model; write it like yolo@sha256:..., as `cumulet model push` shows it")
    return text


def _check_path(text: str) -> str:
    if not text.startswith("/") or ".." in text.split("/"):
        raise ValueError(f"{text!r} is not an absolute path")
    return text


Name = Annotated[str, AfterValidator(_check_name)]
Size = Annotated[str, AfterValidator(_check_size)]
Duration = Annotated[str, AfterValidator(_check_seconds)]
ModelName = Annotated[str, AfterValidator(_check_model)]
FolderPath = Annotated[str, AfterValidator(_check_path)]


class Part(BaseModel):
    """Base of every part of the document: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Data(Part):
    """Folders of the node that the task sees."""

    input: FolderPath | None = Field(None, description="Folder to read from; /data/in in the container")
    output: FolderPath | None = Field(None, description="Folder for results; /data/out in the container")


class Replicas(Part):
    """How many containers do the same work."""

    least: int = Field(1, ge=1, le=MOST_REPLICAS)
    most: int | None = Field(None, ge=1, le=MOST_REPLICAS, description="If given, their number follows the load")
    target: int = Field(70, ge=10, le=95, description="Percent of the CPU asked for that each should use")
    calm: Duration = Field("5m", description="So long the load must be low before there are fewer")

    @property
    def limit(self) -> int:
        """The most there may be."""
        return self.most if self.most is not None else self.least


class Check(Part):
    """How it is found out whether a model is good: a command in the task's image, with the model mounted.

    It writes `{"accuracy": 0.93, "latency": 12.5}` into /dev/termination-log and ends with 0.
    """

    command: tuple[str, ...] = Field(min_length=1)
    accuracy: float | None = Field(None, ge=0, le=1, description="The least that is good enough")
    latency: float | None = Field(None, gt=0, description="The most milliseconds for one answer")
    limit: Duration = Field("2m", description="The check must be done after so long")


class Measured(Part):
    """What was seen while it ran. It counts more than what was declared."""

    cpu: float = Field(ge=0, description="Percent of the node's CPU, the highest of the samples but for 5 % of them")
    gpu: float = Field(0, ge=0, description="Percent of the node's GPU, the same way")
    memory: Size = Field(description="The most memory at once")
    cpus: int = Field(ge=1, description="Processors of the node that it was measured on")
    node: str = Field("", description="Where it was measured")
    seconds: int = Field(ge=1, description="How long it was watched")
    gpu_seen: bool = Field(False, description="Whether the GPU's driver tells what it does; if not, gpu is declared")


class TaskProfile(Part):
    """A task."""

    version: Literal[1]
    task: Name
    image: str = Field(min_length=1, description="Container image, best with its digest")
    command: tuple[str, ...] = Field((), description="Default: what the image says")
    environment: dict[str, str] = {}
    model: ModelName | None = Field(None, description="NAME@sha256:..., mounted at /models/NAME")
    mount: Literal["image", "store"] = Field("image", description="How the model is kept on nodes")
    check: Check | None = Field(None, description="How a new model is checked before it is kept")
    cpu: float = Field(gt=0, le=100000, description="Percent of a node's CPU, the site's usual one")
    gpu: float = Field(0, ge=0, le=100000, description="Percent of a node's GPU")
    memory: Size = "256MiB"
    data: Data = Data()
    runs: Literal["always", "once"] = "always"
    deadline: Duration | None = Field(None, description="It is given up after so long; for what runs once")
    replicas: Replicas = Replicas()
    mergeable: bool = Field(False, description="May be spread over several nodes and its results merged")
    measured: Measured | None = None


def load_profile(path: Path) -> TaskProfile:
    """The profile in a file. Raises UsageError with every problem, each with file, line and column."""
    return _check(load_document(path, kind="task"))


def parse_profile(text: str, file: str) -> TaskProfile:
    """The profile in a text; `file` names it in messages. Raises UsageError as `load_profile` does."""
    return _check(parse_versioned(text, file, kind="task"))


def _check(document: Value) -> TaskProfile:
    return validate_whole(TaskProfile, document, "task", find_problems)


def find_problems(profile: TaskProfile, document: Value) -> list[Problem]:
    """What is wrong with the document as a whole."""
    problems = []
    for name in ("cpu", "gpu"):
        percent, value = getattr(profile, name), document.at((name,))
        if percent > 100 and not profile.mergeable and value is not None:
            hint = "mergeable: true lets it be spread over several nodes; its results must then be merged"
            problems.append(value.place.problem(f"{name}: {percent:g} % is more than a whole node", hint))
    replicas = document.at(("replicas",)) or document
    if profile.replicas.limit < profile.replicas.least:
        message = f"replicas.most {profile.replicas.most} is less than replicas.least {profile.replicas.least}"
        problems.append(replicas.place.problem(message))
    if profile.runs == "once" and profile.replicas.limit > 1:
        problems.append(replicas.place.problem("what runs once has no replicas", "runs: always"))
    if profile.deadline is not None and profile.runs == "always":
        place = (document.at(("deadline",)) or document).place
        problems.append(place.problem("only what runs once has a deadline", "runs: once"))
    return problems


def make_profile(name: str, image: str, command: tuple[str, ...] = ()) -> TaskProfile:
    """A profile of which only the beginning is known: it is to be measured. Raises UsageError for a wrong name."""
    text = json.dumps({"version": 1, "task": name, "image": image, "command": command, "cpu": 1})
    return parse_profile(text, "the command line")


def write_profile(profile: TaskProfile) -> str:
    """The document as YAML, without what is the default anyway."""
    import yaml  # noqa: PLC0415 - slow to import

    values = profile.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump({"version": 1, **values}, sort_keys=False, width=110)
