"""The control interface under ``/_control/`` for other processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import fields

from tests.fakes.github.messages import JSON, Rendering, Response, encode, message_response

if TYPE_CHECKING:
    from tests.fakes.github.messages import Request
    from tests.fakes.github.server import GitHub

_CONTROLS = frozenset(
    {
        *("user", "token", "revoke", "set_quota", "put", "put_list", "put_search", "delete"),
        *("private", "repository", "rename", "alias", "redirect", "yes_no", "statistics"),
        *("fault", "clear_faults", "reset_counts"),
    }
)


def _switches(github: GitHub) -> list[str]:
    return [a.name for a in fields(type(github)) if a.init]


def control_response(github: GitHub, request: Request) -> Response:
    try:
        value = _control(github, request)
    except Exception as e:
        return message_response(400, f"{type(e).__name__}: {e}")
    return Response(200, Rendering(encode(value, JSON), is_json=True), cache_control="no-store")


def _control(github: GitHub, request: Request) -> Any:
    """Execute a request under ``/_control/``; its body and its response are JSON.

    GET ``counts``, ``switches``, ``log?last=N``, ``waiting?path=P`` (absent: the gate of all);
    POST ``switches`` (an object of those to set), ``reset_counts``, ``hold``, ``open`` (each
    with ``path``, null for all) and any method of `_CONTROLS` (an object of its arguments).
    """
    name = request.path.removeprefix("/_control/")
    if request.method == b"GET":
        return _report(github, name, request.parameters)
    given = request.json()
    if name == "switches":
        for switch, value in given.items():
            if switch not in _switches(github):
                raise ValueError(f"no such switch: {switch}")
            setattr(github, switch, value)
        return _report(github, "switches", {})
    if name == "hold":
        github.hold(**given)
    elif name == "open":
        for barrier in [g for g in github.gates if g.path == given.get("path")]:
            barrier.open()
    elif name in _CONTROLS:
        getattr(github, name)(**given)
    else:
        raise ValueError(f"no such control: {name}")
    return {}


def _report(github: GitHub, name: str, parameters: dict[str, str]) -> Any:
    if name == "switches":
        return {switch: getattr(github, switch) for switch in _switches(github)}
    if name == "counts":
        return {
            "total_paid": github.total_paid,
            "total_free": github.total_free,
            "paid": [[requester, target, n] for (requester, target), n in github.paid.items()],
            "free": [[requester, target, n] for (requester, target), n in github.free.items()],
            "limited": github.limited,
            "in_flight": github.in_flight,
            "most_in_flight": github.most_in_flight,
            "most_points_in_minute": [
                [requester, kind, n]
                for (requester, kind), n in github.most_points_in_minute.items()
            ],
            "connections_made": github.connections_made,
            "connections": len(github.connections),
        }
    if name == "log":
        last = list(github.log)[-int(parameters.get("last", "100")) :]
        return [
            {
                "method": e.method.decode("latin-1"),
                "target": e.target.decode("latin-1"),
                "fields": [[k.decode("latin-1"), v.decode("latin-1")] for k, v in e.fields],
                "body": e.body.decode("latin-1"),
                "status": e.status,
                "at": e.at,
                "login": e.login,
            }
            for e in last
        ]
    if name == "waiting":
        gates = [g for g in github.gates if g.path == parameters.get("path")]
        return {"waiting": sum(barrier.waiting for barrier in gates)}
    raise ValueError(f"no such report: {name}")
