"""The size budget of a recipe: what passes it, and who is to blame."""

from __future__ import annotations

from cumulet.core.errors import TargetError
from cumulet_builder.recipe.model import SizeBudget, parse_size
from cumulet_builder.report.sizes import Limits, Sizes
from cumulet_builder.report.text import make_size

BLAMED = 5
HINT = "drop packages or features, trim more (trim.drop), or raise size_budget.{name} in the recipe"


def make_limits(budget: SizeBudget) -> Limits:
    """The recipe's budget in bytes."""
    return Limits(
        root=parse_size(budget.root) if budget.root else None,
        disk=parse_size(budget.disk) if budget.disk else None,
    )


def budget_problems(sizes: Sizes) -> list[str]:
    """One sentence for each limit that is passed; empty if the image keeps to its budget."""
    used = {"root": (sizes.root, sizes.limits.root), "disk": (sizes.disk, sizes.limits.disk)}
    return [
        f"{name} takes {make_size(size)}, {make_size(size - limit)} more than its budget of {make_size(limit)}"
        for name, (size, limit) in used.items()
        if limit is not None and size > limit
    ]


def check_budget(sizes: Sizes) -> None:
    """Raise TargetError if the image is over its budget, naming sizes and the biggest packages."""
    problems = budget_problems(sizes)
    if not problems:
        return
    biggest = ", ".join(f"{row.package} {make_size(row.compressed)}" for row in sizes.rows[:BLAMED])
    names = [problem.partition(" ")[0] for problem in problems]
    raise TargetError(
        f"{sizes.image}: {'; '.join(problems)}\nbiggest packages, compressed: {biggest}",
        hint=HINT.format(name=" and size_budget.".join(names)),
    )
