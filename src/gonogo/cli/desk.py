"""Looking at the whole: check, status, limits, decisions; and the alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import click

from gonogo.cli.base import Command, Group, Session, by, pass_session, reason
from gonogo.cli.exits import OF_VERDICT, Exit
from gonogo.cli.finding import alert_id
from gonogo.cli.views import control_view, decision_view, liveness, plan_view, standing, when
from gonogo.clock import iso
from gonogo.durations import spell_duration
from gonogo.errors import NotFound
from gonogo.lines import clean
from gonogo.records import Call, PlanState, Severity, State, Verdict

if TYPE_CHECKING:
    from gonogo.orchestrator import SandboxOrchestrator
    from gonogo.readiness import Readiness

_WAITING = (PlanState.READY, PlanState.APPROVED)
_NOT_QUEUED = {State.DISCARDED.value: "planned and never queued"}
"""Rows that a plan left out, because there was nothing to do, are no cause for alarm."""

_LISTED = 20
"""Calls that wait for a yes and are told of at most."""

_limit = click.option(
    "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="At most."
)


@click.command(cls=Command, example="gonogo check --group call")
@click.option(
    "--group",
    metavar="NAME",
    help="Only the checks of a group: call (gates direct calls), worker (gates jobs), system.",
)
@pass_session
def check(session: Session, group: str | None) -> Exit:
    """Give the verdict and the evidence for it.

    Exits with 0 only on GO, with 4 on NO-GO, with 5 on HOLD.
    """
    readiness = session.sandbox.readiness_checker.evaluate(group)
    rows = [
        ("ok" if r.ok else "NO", r.name, r.evidence + ("" if r.critical else " (not critical)"))
        for r in readiness.evidence
    ]
    session.out.table(
        _readiness_view(readiness), ("ok", "check", "evidence"), rows, empty="no checks"
    )
    if not session.out.json:
        session.out.data(None, [f"{readiness.verdict.value}{_why(readiness)}"])
    return OF_VERDICT[readiness.verdict]


def _why(readiness: Readiness) -> str:
    names = [result.name for result in readiness.failing]
    return "" if readiness.verdict is Verdict.GO else f": {', '.join(names)}"


def _readiness_view(readiness: Readiness) -> dict[str, Any]:
    return {
        "verdict": readiness.verdict.value,
        "at": iso(readiness.at),
        "checks": [
            {
                "name": result.name,
                "ok": result.ok,
                "critical": result.critical,
                "evidence": result.evidence,
                "at": iso(result.at),
                "seconds": result.seconds,
            }
            for result in readiness.evidence
        ],
    }


@click.command(cls=Command, example="gonogo status")
@pass_session
def status(session: Session) -> None:
    """Show everything at a glance.

    The verdict, the switches people set, calls by state, plans that wait, workers, open alerts.
    """
    document = _status(session.sandbox)
    session.out.data(document, _status_lines(document))


def _status(sandbox: SandboxOrchestrator) -> dict[str, Any]:
    now = sandbox.clock.now()
    controls = sandbox.store.read(lambda tx: tx.controls.all())
    beats = sandbox.store.read(lambda tx: tx.beats.all())
    alerts = [a for a in sandbox.alert_system.alerts if a["state"] != "resolved"]
    return {
        **_readiness_view(sandbox.readiness_checker.evaluate()),
        "ledger": sandbox.ledger,
        "dry_run": sandbox.dry_run_lock.dry_run,
        "controls": [control_view(c) for c in controls.values() if c.active(now)],
        "calls": {state.value: n for state, n in sandbox.counts().items()},
        "calls_waiting": [
            {"id": c.id, "action": c.action, "key": c.key} for c in _unapproved(sandbox)
        ],
        "plans_waiting": [
            {**plan_view(p), "standing": standing(sandbox, p)}
            for p in sandbox.plans(*_WAITING)
            if p.expires_at > now
        ],
        "processes": [
            {
                "name": b.name,
                "kind": b.kind,
                "state": liveness(b, now, sandbox.settings),
                "last_beat": iso(b.at),
                "seconds_ago": now - b.at,
            }
            for b in beats
        ],
        "alerts": {s.value: sum(a["severity"] == s for a in alerts) for s in Severity},
    }


def _unapproved(sandbox: SandboxOrchestrator) -> list[Call]:
    """The newest calls that wait for a person's yes to each of them, and not to their plan."""
    return sandbox.calls(states=(State.PLANNED,), alone=True, limit=_LISTED)


def _status_lines(status: dict[str, Any]) -> list[str]:
    failing = [c["name"] for c in status["checks"] if c["critical"] and not c["ok"]]
    doubt = status["calls"].get(State.UNKNOWN.value, 0)
    lines = [
        f"verdict   {status['verdict']}{': ' + ', '.join(failing) if failing else ''}",
        f"ledger    {status['ledger']}",
        f"lock      {'locked (dry-run)' if status['dry_run'] else 'LIVE: unlocked'}",
    ]
    for control in status["controls"]:
        end = f", until {control['until']}" if control["until"] else ""
        said = f"{control['name']} by {control['actor']}: {control['reason']}{end}"
        lines.append(f"switch    {clean(said)}")
    counts = ", ".join(f"{n:,} {_NOT_QUEUED.get(s, s)}" for s, n in status["calls"].items())
    lines.append(f"calls     {counts or 'none'}")
    lines += [
        f"call      {c['id']} {clean(c['key'] or c['action'])} waits for a yes: gonogo approve"
        for c in status["calls_waiting"]
    ]
    if doubt:
        lines.append(f"in doubt  {doubt:,}: gonogo calls list --state unknown")
    lines += [
        f"plan      {p['id']} {clean(p['name'])} is {p['standing']}"
        for p in status["plans_waiting"]
    ]
    lines += [
        f"{p['kind']:<9} {clean(p['name'])}, {spell_duration(max(0.0, p['seconds_ago']))} ago"
        f"{', silent' if p['state'] == 'silent' else ''}"
        for p in status["processes"]
    ]
    alerts = ", ".join(f"{n:,} {severity}" for severity, n in status["alerts"].items() if n)
    lines.append(f"alerts    {alerts or 'none'}")
    return lines


@click.command(cls=Command, example="gonogo limits payment.cents --key EUR")
@click.argument("name", required=False)
@click.option("--key", metavar="VALUE", help="Of a limit that counts by key: this one's use.")
@pass_session
def limits(session: Session, name: str | None, key: str | None) -> None:
    """List the limits: used, allowed, window, room."""
    governor = session.sandbox.governor
    declared = governor.rate_limits
    if key is not None and name is None:
        raise click.UsageError("--key goes with the NAME of a limit")
    if name is not None and name not in declared:
        raise NotFound(f"there is no limit {name!r}; there are {', '.join(sorted(declared))}")
    if key is not None and declared[str(name)].key is None:
        raise click.UsageError(f"limit {name!r} does not count by key")
    names = list(declared) if name is None else [name]
    found = {limit: governor.get_status(limit, key) for limit in names}
    rows = []
    for limit, status in found.items():
        status["keyed"] = declared[limit].key is not None
        status["key"] = key
        unsaid = status["keyed"] and key is None
        used = "by key" if unsaid else f"{status['current_actions']:,}"
        rows.append(
            (
                limit if key is None else f"{limit}[{key}]",
                used,
                f"{status['max_actions']:,}",
                declared[limit].counted_in,
                spell_duration(status["retry_after"]) if status["retry_after"] else "",
            )
        )
    columns = ("limit", "used", "allowed", "window", "room in")
    session.out.table(list(found.values()), columns, rows, empty="no limits are declared")


@click.command(cls=Command, example="gonogo decisions --limit 20")
@click.option("--subject", help="Only about this call, plan or switch.", metavar="ID")
@_limit
@pass_session
def decisions(session: Session, subject: str | None, limit: int) -> None:
    """List who decided what, and why; newest first."""
    sandbox = session.sandbox
    if subject is None:
        found = sandbox.decisions(limit)
    else:
        of = sandbox.store.read(lambda tx: tx.decisions.of(subject))
        found = sorted(of, key=lambda d: (d.at, d.id), reverse=True)[:limit]
    rows = [(when(d.at), d.what, d.subject, d.actor, d.reason) for d in found]
    session.out.table(
        [decision_view(d) for d in found],
        ("at", "what", "about", "by", "reason"),
        rows,
        empty="nothing was decided yet",
    )


class _Alerts(Group):
    guesses: ClassVar = {"acknowledge": "ack"}


@click.group(cls=_Alerts, example="gonogo alerts list --severity error")
def alerts() -> None:
    """What a person should know: list, acknowledge, resolve."""


@alerts.command("list", example="gonogo alerts list --severity error")
@click.option("--severity", type=click.Choice([s.value for s in Severity]))
@click.option("--task", metavar="NAME", help="Only of this action or task.")
@click.option("--all", "resolved", is_flag=True, help="Also those that are resolved.")
@_limit
@pass_session
def list_alerts(
    session: Session, severity: str | None, task: str | None, resolved: bool, limit: int
) -> None:
    """List the alerts that are not resolved, last seen first."""
    system = session.sandbox.alert_system
    found = system.get_alerts(severity, task, limit if resolved else 100_000)
    found = [a for a in found if resolved or a["state"] != "resolved"][:limit]
    rows = [
        (
            a["id"],
            a["severity"],
            a["state"],
            a["count"],
            a["last_seen"][:19],
            a["task"],
            a["context"].get("key") or a["context"].get("call"),
            a["reason"],
        )
        for a in found
    ]
    columns = ("id", "severity", "state", "count", "last seen", "task", "last about", "reason")
    session.out.table(found, columns, rows, empty="no alerts")


@alerts.command("ack", example="gonogo alerts ack ID --by ops@example.com --reason 'looking'")
@click.argument("alert", metavar="ALERT")
@by()
@reason()
@pass_session
def acknowledge(session: Session, alert: str, by: str, reason: str) -> None:
    """Say that you know of an alert, and why it may wait.

    ALERT is its id, or the first characters of it.
    """
    sandbox = session.sandbox
    meant = alert_id(sandbox, alert)
    _tell(session, sandbox.alert_system.acknowledge(meant, by=by, reason=reason))


@alerts.command("resolve", example="gonogo alerts resolve ID --by ops@example.com --reason 'paid'")
@click.argument("alert", metavar="ALERT")
@by()
@reason()
@pass_session
def resolve_alert(session: Session, alert: str, by: str, reason: str) -> None:
    """Say that the matter is settled; if it happens again, that is a new alert.

    ALERT is its id, or the first characters of it.
    """
    sandbox = session.sandbox
    meant = alert_id(sandbox, alert)
    _tell(session, sandbox.alert_system.resolve(meant, by=by, reason=reason))


def _tell(session: Session, alert: dict[str, Any]) -> None:
    about = clean(f"{alert['task']}: {alert['reason']}")
    session.out.data(alert, [f"alert {alert['id']} is {alert['state']}: {about}"])
