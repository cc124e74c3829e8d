"""Scripts with curl and wget have the same results through the mirror."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

from twisted.trial.unittest import TestCase

from tests.clients.compare import Side, Sides, Upstream, sides_of
from tests.clients.programs import output_of
from tests.clients.scene import TOKEN, furnish, furnish_limits, furnish_release
from tests.fakes.github import GitHub

LATEST = "$URL/repos/octo/hello/releases/latest"
SCRIPTS = {
    "the tag of the latest release, as installers have it": (
        f"""curl -fsSL {LATEST} | grep '"tag_name":' | sed -E 's/.*"([^"]+)".*/\\1/'"""
    ),
    "the same with wget": (
        f"""wget -qO- {LATEST} | grep '"tag_name":' | sed -E 's/.*"([^"]+)".*/\\1/'"""
    ),
    "by place": f"""curl -s {LATEST} | awk -F'"' '/tag_name/ {{ print $4 }}'""",
    "lines": f"curl -s {LATEST} | wc -l",
    "compressed": f"curl -s --compressed {LATEST}",
    "with a credential": f'curl -s -H "Authorization: Bearer $TOKEN" {LATEST}',
    "a list": ('curl -s -H "Authorization: Bearer $TOKEN" $URL/repos/octo/hello/issues?per_page=2'),
    "an empty list": 'curl -s -H "Authorization: Bearer $TOKEN" $URL/repos/octo/hello/forks',
    "what is not there": "curl -s $URL/repos/octo/none",
    "its status": "curl -s -o /dev/null -w '%{http_code} %{content_type}' $URL/repos/octo/none",
    "refused": 'curl -s -H "Authorization: Bearer unknown" $URL/user',
    "text": "curl -s $URL/zen",
    "a redirect": 'curl -sL -H "Authorization: Bearer $TOKEN" $URL/repos/octo/old',
    "where it leads": (
        "curl -s -o /dev/null -w '%{http_code} %{redirect_url}' "
        '-H "Authorization: Bearer $TOKEN" $URL/repos/octo/old'
    ),
    "its own tag": (
        f"""etag=$(curl -s -D - -o /dev/null {LATEST} | tr -d '\\r' | sed -n 's/^ETag: //p')
        curl -s -w '%{{http_code}}' -H "If-None-Match: $etag" {LATEST}"""
    ),
    "its own date": (
        f"""curl -s -w '%{{http_code}}' -z 'Mon, 05 Jan 2026 10:00:00 GMT' \\
        -H "Authorization: Bearer $TOKEN" {LATEST}"""
    ),
    "the head": f"curl -sI {LATEST} | grep -i '^content-type:'",
    "the length in the head": (
        f"""curl -sI {LATEST} | tr -d '\\r' | sed -n 's/^Content-Length: //p'
        curl -s {LATEST} | wc -c"""
    ),
    "a login and a token": "curl -s -u alice:$TOKEN $URL/user",
    "an offer of HTTP/2": f"curl -s --http2 {LATEST}",
    "HTTP/1.0": f"curl -s -0 {LATEST}",
    "a file": (
        'curl -s -H "Accept: application/vnd.github.raw" $URL/repos/octo/hello/contents/file '
        "| base64 -w0"
    ),
    "a part of it": (
        "curl -s -r 2-5 -w '%{http_code}' -H \"Accept: application/vnd.github.raw\" "
        "$URL/repos/octo/hello/contents/file"
    ),
    "a download": (
        "curl -s -o /dev/null -w '%{http_code} %{redirect_url}' "
        '-H "Accept: application/octet-stream" $URL/repos/octo/hello/releases/assets/7'
    ),
    "GraphQL": (
        'curl -s -H "Authorization: Bearer $TOKEN" '
        '-d \'{"query": "{ viewer { login } }"}\' $URL/graphql'
    ),
    "a large write": (
        'head -c 2000000 /dev/zero | curl -s -H "Authorization: Bearer $TOKEN" '
        "--data-binary @- $URL/_sink"
    ),
    "a large write in chunks": (
        'head -c 2000000 /dev/zero | curl -s -H "Authorization: Bearer $TOKEN" '
        "-X POST -T - $URL/_sink"
    ),
    "no content": (
        "curl -s -w '%{http_code}' -X PUT -H \"Authorization: Bearer $TOKEN\" "
        "$URL/user/starred/octo/hello"
    ),
    "yes or no": (
        "curl -s -w '%{http_code}' -H \"Authorization: Bearer $TOKEN\" $URL/user/starred/octo/hello"
    ),
    "a write": (
        'curl -s -H "Authorization: Bearer $TOKEN" -d \'{"name":"new"}\' '
        "$URL/repos/octo/hello/labels"
    ),
}


def furnish_more(github: GitHub) -> None:
    """Create all that the scripts request, and limits, too."""
    furnish(github)
    furnish_limits(github)
    furnish_release(github)
    github.put_list("/repos/octo/hello/forks", [])
    github.put(
        "/repos/octo/hello/contents/file",
        {"content": "UEs=", "url": f"{github.api_url}/repos/octo/hello/contents/file"},
        variants={"raw": bytes(range(32, 127)) + bytes(range(256))},
    )
    github.redirect("/repos/octo/hello/releases/assets/7", "https://objects.test/7?sig=s")
    github.yes_no("/user/starred/octo/hello", [])
    github.put_list("/repos/octo/hello/labels", [{"name": "bug"}])


async def run_scripts(side: Side, scripts: Mapping[str, str] = SCRIPTS) -> dict[str, str]:
    """Run scripts one after the other; return what each prints."""
    more = {"URL": side.url, "TOKEN": TOKEN}
    return {
        name: await output_of(["/bin/bash", "-c", script], more) for name, script in scripts.items()
    }


class Curl(TestCase):
    """GitHub indents JSON for these programs, and scripts count on it."""

    timeout: ClassVar[float] = 120

    sides: Sides

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.sides = await sides_of(self, furnish_more)

    async def test_scripts_print_the_same(self) -> None:
        """Each script prints the same, the first time and again."""
        # without a credential, GitHub counts a 304 as well
        for paid in ((32, 30), (32, 28)):
            both = await self.sides.run(run_scripts)
            assert both.report["the tag of the latest release, as installers have it"] == "v1.2.3\n"
            assert both.report["the same with wget"] == "v1.2.3\n"
            assert both.unexplained() == []
            assert both.paid == paid
            assert both.connections == (32, 32)

    async def test_rate_limits_are_printed_alike(self) -> None:
        """A limit is printed alike each time, though one request reaches GitHub for each."""
        limited = "curl -s -w '%{http_code}' -H \"Authorization: Bearer KIND\" $URL/user"
        scripts = {
            f"{kind} {n}": limited.replace("KIND", kind)
            for kind in ("primary-limit", "secondary-limit")
            for n in range(2)
        }
        both = await self.sides.run(partial(run_scripts, scripts=scripts))
        assert all(printed.endswith("}\n403") for printed in both.report.values())
        assert both.unexplained() == []
        assert both.upstream == (Upstream(4, 0), Upstream(2, 0))

    async def test_reading_scripts_work_while_github_fails(self) -> None:
        """While GitHub fails, the reading scripts print the same as before."""
        names = ("with a credential", "a list", "an empty list", "a login and a token")
        scripts = {name: SCRIPTS[name] for name in names}
        before = (await self.sides.run(partial(run_scripts, scripts=scripts))).report
        self.sides.each(lambda github: github.fault(None, "503", login="alice"))
        both = await self.sides.run(partial(run_scripts, scripts=scripts))
        assert both.mirrored_report == before
        assert {each.status for each in both.direct} == {503}
        assert all(each.values("x-from-cache") == ["1"] for each in both.mirrored)
