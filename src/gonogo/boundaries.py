"""The places at which a process can die with a different consequence, each named once.

Nothing of the pipeline knows this module: `gonogo.testing` wraps the objects of one sandbox where
its boundaries are wanted, so that they cost nothing where they are not.
"""

from __future__ import annotations

from enum import StrEnum


class Step(StrEnum):
    """A transaction that moves a call."""

    ENQUEUE = "enqueue"
    APPROVE = "approve"
    APPLY = "apply"
    TICK = "tick"
    CLAIM = "claim"
    ADMIT = "admit"
    SETTLE = "settle"
    RETRY = "retry"
    RELEASE = "release"
    KEEP = "keep"
    RECOVER = "recover"
    LOOK = "look"
    RESOLVE = "resolve"


class Boundary(StrEnum):
    """A place to die: around each `Step`, around the effect, around the verifier.

    ``before-``: nothing of the step is written. ``inside-``: all of it is, and not committed.
    ``after-``: it is committed, and nobody has heard of it yet.
    """

    BEFORE_ENQUEUE = "before-enqueue"
    INSIDE_ENQUEUE = "inside-enqueue"
    AFTER_ENQUEUE = "after-enqueue"
    BEFORE_APPROVE = "before-approve"
    INSIDE_APPROVE = "inside-approve"
    AFTER_APPROVE = "after-approve"
    BEFORE_APPLY = "before-apply"
    INSIDE_APPLY = "inside-apply"
    AFTER_APPLY = "after-apply"
    BEFORE_TICK = "before-tick"
    INSIDE_TICK = "inside-tick"
    AFTER_TICK = "after-tick"
    BEFORE_CLAIM = "before-claim"
    INSIDE_CLAIM = "inside-claim"
    AFTER_CLAIM = "after-claim"
    BEFORE_ADMIT = "before-admit"
    INSIDE_ADMIT = "inside-admit"
    AFTER_ADMIT = "after-admit"
    EFFECT_BEGINS = "effect-begins"
    EFFECT_HAPPENED = "effect-happened"
    PERFORMED = "performed"
    BEFORE_SETTLE = "before-settle"
    INSIDE_SETTLE = "inside-settle"
    AFTER_SETTLE = "after-settle"
    INSIDE_RETRY = "inside-retry"
    AFTER_RETRY = "after-retry"
    BEFORE_RELEASE = "before-release"
    INSIDE_RELEASE = "inside-release"
    AFTER_RELEASE = "after-release"
    BEFORE_KEEP = "before-keep"
    INSIDE_KEEP = "inside-keep"
    AFTER_KEEP = "after-keep"
    BEFORE_RECOVER = "before-recover"
    INSIDE_RECOVER = "inside-recover"
    AFTER_RECOVER = "after-recover"
    BEFORE_LOOK = "before-look"
    INSIDE_LOOK = "inside-look"
    AFTER_LOOK = "after-look"
    VERIFIER_ASKED = "verifier-asked"
    VERIFIER_ANSWERED = "verifier-answered"
    BEFORE_RESOLVE = "before-resolve"
    INSIDE_RESOLVE = "inside-resolve"
    AFTER_RESOLVE = "after-resolve"


def before(step: Step) -> Boundary:
    """The boundary at which nothing of ``step`` is written."""
    return Boundary(f"before-{step}")


def inside(step: Step) -> Boundary:
    """The boundary at which ``step`` is written and not committed."""
    return Boundary(f"inside-{step}")


def after(step: Step) -> Boundary:
    """The boundary at which ``step`` is committed, and nobody has heard of it."""
    return Boundary(f"after-{step}")
