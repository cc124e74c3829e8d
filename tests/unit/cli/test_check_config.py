"""A configuration is checked before a mirror has to use it."""

from __future__ import annotations

from tests.harness.certificates import Authority
from tests.unit.cli.command_process import Operator


def test_a_good_one(operator: Operator) -> None:
    """The output confirms it, and the status is 0."""
    ended = operator.run("check-config")
    assert (ended.status, ended.out, ended.err) == (0, "Valid.\n", "")
    assert operator.run("check-config", "--json").json == {
        "valid": True,
        "faults": [],
        "warnings": [],
    }


def test_without_a_file_all_is_as_by_default(operator: Operator) -> None:
    """As it is for a mirror."""
    assert operator.bare("check-config").status == 0


def test_all_faults_at_once(operator: Operator) -> None:
    """A line each, on stdout; the status is 1."""
    operator.configure(
        {
            "cache": {"credential_secret": "short", "backend": "disk"},
            "server": {"lisen": "tcp:1"},
            "redis": {"password": "hunter2hunter2", "url": "redis://:hunter3@h"},
        }
    )
    ended = operator.run("check-config")
    assert (ended.status, ended.err) == (1, "")
    lines = ended.out.splitlines()
    assert lines[-1] == f"Not valid: {len(lines) - 1} faults."
    for start in (
        "fault: [server] lisen: unknown option; did you mean listen?",
        "fault: [cache] backend: 'disk' is not one of the choices",
        "fault: [redis] password: url has a password too",
    ):
        assert any(line.startswith(start) for line in lines), ended.out
    assert "hunter" not in ended.out
    fields = operator.run("check-config", "--json")
    assert fields.status == 1
    assert fields.json == {
        "valid": False,
        "faults": [line.removeprefix("fault: ") for line in lines[:-1]],
        "warnings": [],
    }


SHORT = (
    "[cache] credential_secret has fewer than 32 characters and could be guessed: use a"
    " longer one, such as the output of openssl rand -hex 32"
)


def test_warnings_are_no_faults(operator: Operator) -> None:
    """They are printed, and the status is 0."""
    operator.configure({"redis": {"pool_size": "2"}, "cache": {"credential_secret": "a"}})
    operator.more["GHMIRROR_PORT"] = "tcp://10.0.0.1:8080"
    ended = operator.run("check-config")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "warning: environment variable GHMIRROR_PORT is not an option; it is ignored",
        f"warning: {SHORT}",
        "warning: [redis] pool_size: not used while [cache] backend is memory",
        "Valid.",
    ]
    assert len(operator.run("check-config", "--json").json["warnings"]) == 3


def test_exposed_values_are_warned_about(operator: Operator) -> None:
    """Values that are right in some networks only are warnings of this command."""
    operator.configure(
        {"github": {"api_url": "http://ghe.example.org"}, "server": {"admin_listen": "tcp:8081"}}
    )
    api, admin, last = operator.run("check-config").out.splitlines()
    assert api.startswith("warning: [github] api_url is http: ")
    assert admin.startswith("warning: [server] admin_listen = tcp:8081: ")
    assert last == "Valid."


def test_the_environment_counts(operator: Operator) -> None:
    """As it does for a mirror: it wins over the file."""
    operator.more["GHMIRROR_CACHE_BACKEND"] = "disk"
    ended = operator.run("check-config")
    assert ended.status == 1
    assert "(environment variable GHMIRROR_CACHE_BACKEND)" in ended.out


def test_a_file_that_is_not_there(operator: Operator) -> None:
    """Is a fault like any other; for other commands, too, with their status."""
    for command, status in ((["check-config"], 1), (["snapshot", "list"], 2)):
        ended = operator.bare(*command, "--config", "nowhere.ini")
        assert ended.status == status
        assert "nowhere.ini: cannot be read (No such file or directory)" in ended.out + ended.err


def test_certificates_are_read(operator: Operator) -> None:
    """The files that a mirror would read at its start, before it serves."""
    path = operator.directory / "authority.pem"
    path.write_text(Authority.new().pem)
    operator.configure({"github": {"ca_path": path}})
    assert operator.run("check-config").status == 0
    pem = path.read_text()
    for content in ("nothing", f"für alle\n{pem}", f"{pem}-----END CERTIFICATE-----\n"):
        path.write_text(content)
        ended = operator.run("check-config")
        assert ended.status == 1
        assert ended.out.startswith("fault: [github] ca_path: ")


def test_other_commands_print_all_faults_too(operator: Operator) -> None:
    """On stderr, a line each, with status 2, and nothing is done."""
    operator.configure({"snapshot": {"keep": "0", "interval": "now"}})
    for command in ("list", "save", "restore", "verify"):
        ended = operator.run("snapshot", command)
        assert (ended.status, ended.out) == (2, "")
        lines = ended.err.splitlines()
        assert [line.partition(": ")[0] for line in lines] == ["error", "error"]
    fields = operator.run("snapshot", "list", "--json")
    assert (fields.status, fields.err) == (2, "")
    assert fields.json["error"]["code"] == "configuration"
    assert len(fields.json["error"]["faults"]) == 2


def test_no_target_no_snapshots(operator: Operator) -> None:
    """The message names the missing option."""
    operator.configure({"snapshot": {"target": ""}})
    for command in (["list"], ["save"], ["restore"], ["verify"], ["show", "name"]):
        ended = operator.run("snapshot", *command)
        assert (ended.status, ended.out) == (2, "")
        assert ended.err == (
            "error: [snapshot] target: it is empty; expected a directory or bucket for snapshots\n"
            "hint: name the configuration of the mirror by --config, or set this option there\n"
        )
