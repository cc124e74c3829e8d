"""The status page in a real browser, of a real mirror with real traffic behind it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ghmirror_tw import __version__
from tests.harness.redis_servers import RedisServer, free_port
from tests.harness.runbook import sections_for
from tests.harness.running import Sections
from tests.page.browser import Browser, Page
from tests.page.scene import Scene, StandIn, busy, mirror_of, send

SHOWN = "!document.getElementById('figures').hidden"
HOSTILE = "/<img/src=x/onerror=document.title='owned'><b>x</b>"
LONG = "/" + "a" * 500

#: Of all texts that can be seen: the least contrast with what is behind them (WCAG 2.2, 1.4.3).
CONTRAST = """
(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const [r, g, b, a = 1] = parse(getComputedStyle(at).backgroundColor);
      if (a) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const seen = [...document.querySelectorAll('body *')].filter((element) =>
    [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())
    && element.checkVisibility());
  return Math.min(...seen.map((element) => {
    const both = [parse(getComputedStyle(element).color), ground(element)].map(light);
    return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
  }));
})()
"""

#: What sticks out of the window to the right.
WIDE = """
[...document.querySelectorAll('body *')].filter((element) =>
  element.checkVisibility() && element.getBoundingClientRect().right > innerWidth + 0.5)
  .map((element) => element.outerHTML.slice(0, 80))
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as made:
        yield made


@pytest.fixture(scope="module")
def github() -> Iterator[StandIn]:
    with StandIn() as made:
        yield made


@pytest.fixture(scope="module")
def scene(github: StandIn) -> Iterator[Scene]:
    """A mirror that has been busy, and whose paths are as bad as paths get."""
    with mirror_of(github) as mirror:
        made = Scene(github, mirror)
        busy(made)
        for target in (HOSTILE, LONG):
            for _ in range(3):
                made.get(target)
        yield made


@pytest.fixture(scope="module")
def quiet(github: StandIn) -> Iterator[Scene]:
    """A mirror without any request so far, on a port that another one can have after it."""
    with mirror_of(github, {"server": {"admin_listen": at(free_port())}}) as mirror:
        yield Scene(github, mirror)


def at(port: int) -> str:
    return f"tcp:{port}:interface=127.0.0.1"


def table(page: Page, name: str) -> list[list[str]]:
    """Return the texts of a table's rows."""
    rows: list[list[str]] = page.value(
        f"[...document.getElementById('{name}').tBodies[0].rows]"
        ".map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    return rows


def facts(page: Page, name: str) -> dict[str, list[str]]:
    """Return the text beside each name of a list."""
    rows: list[list[str]] = page.value(
        f"[...document.getElementById('{name}').children]"
        ".map((row) => [...row.children].map((each) => each.textContent))"
    )
    return {row[0]: row[1:] for row in rows}


def port_of(url: str) -> int | None:
    """Return the port of a URL."""
    return urlsplit(url).port


def notice_of(page: Page) -> str:
    """Return the text of the notice."""
    text: str = page.value("document.getElementById('notice').textContent")
    return text


def seen(page: Page) -> Page:
    page.until(SHOWN)
    return page


def test_page_shows_the_status_document(browser: Browser, scene: Scene) -> None:
    """The page shows the values of the status document."""
    document = scene.figures
    page = seen(browser.open(scene.url))
    tiles, hour = facts(page, "tiles"), document["hour"]
    free = f"{100 * hour['saved'] / (hour['saved'] + hour['spent']):.1f} % free"
    assert tiles["Saved in the last hour"] == [
        str(hour["saved"]),
        f"{free}; {document['quota']['saved']} in total",
    ]
    assert tiles["Spent in the last hour"][0] == str(hour["spent"])
    assert tiles["Requests in the last hour"][0] == str(hour["requests"])
    state = facts(page, "state-tiles")
    assert state["GitHub"][0] == "available"
    assert state["Store"] == ["memory", "available"]
    assert state["Rate limits"][0] == "1"
    assert state["Rate limits"][1].startswith("in force, next ends in ")
    assert state["Snapshots"] == ["none", "a restart costs quota"]
    outcomes = {row[0]: (row[2], row[3]) for row in table(page, "outcomes")}
    assert outcomes == {
        name: (str(document["hour"]["outcomes"][name]), str(count))
        for name, count in document["requests"]["outcomes"].items()
    }
    users = {row[0]: row[1:3] for row in table(page, "users")}
    assert users == {
        each["user"]: [str(each["saved"]), str(each["spent"])]
        for each in document["quota"]["users"]
    }
    (stop,) = table(page, "stops")
    assert stop[:2] == ["user2", "primary limit of search"]
    assert stop[2].startswith("in ")
    left = {(row[0], row[1]): row[2] for row in table(page, "quotas")}
    assert left["user2", "search"] == "0 of 30"
    assert left["user0", "core"].endswith(" of 5,000")
    assert len(table(page, "latencies")) == 6
    assert table(page, "latencies")[0][-1] == str(document["requests"]["total"])
    assert facts(page, "store")["Kind"] == ["memory"]
    assert facts(page, "snapshots")["Target"][0].startswith("none")
    for name, kind in (("paths", "busiest"), ("paid", "paid")):
        key = {"busiest": "path", "paid": "operation"}[kind]
        shown = document["paths"][kind][:10]
        assert {row[2] for row in table(page, name)} == {each[key] for each in shown}
    bars = page.value("document.querySelectorAll('#chart rect').length")
    minutes = document["hour"]["minutes"]
    assert bars == sum(len(each["outcomes"]) for each in minutes)
    head = page.value("document.querySelector('header').innerText")
    assert f"version {__version__}" in head
    assert f"{document['replica']}:{port_of(scene.url)}" in head
    assert "sharing on" in head
    assert page.value("document.getElementById('state').textContent") == "ready"
    assert page.value("document.title").startswith(f"{document['replica']}:{port_of(scene.url)} ")
    page.close()


def focused(page: Page) -> str:
    """Return what has the focus; it can be seen."""
    assert page.value("getComputedStyle(document.activeElement).outlineStyle") != "none"
    text: str = page.value("document.activeElement.textContent")
    return text


def test_page_is_updated(browser: Browser, scene: Scene) -> None:
    """The page updates itself in place, without blocked or external requests."""
    page = seen(browser.open(scene.url))
    page.press("Tab")
    page.press("Enter")
    page.until("document.activeElement.id === 'figures'")
    page.press("Tab")
    assert focused(page) == "As a table"
    before = int(facts(page, "tiles")["Saved in the last hour"][0])
    scene.get("/repos/bench/repo-1?page=1", 1)
    page.until(f"document.querySelector('#tiles .figure').textContent === '{before + 1}'")
    assert focused(page) == "As a table"
    assert page.requested_urls.count(f"{scene.url}status.json") > 1
    own = ("", "page.css", "page.js", "page.svg", "status.json")
    assert set(page.requested_urls) <= {scene.url + each for each in own}
    assert page.complaints == []
    page.close()


@pytest.mark.parametrize(
    "attempt",
    [
        "document.body.innerHTML = '<b>x</b>'",
        "document.body.setAttribute('onclick', 'x()')",
        "document.body.append(Object.assign(document.createElement('script'), {text: 'x()'}))",
    ],
)
def test_no_text_becomes_a_script(browser: Browser, scene: Scene, attempt: str) -> None:
    """The browser runs no injected script, even with an error in the page's own script."""
    page = seen(browser.open(scene.url))
    message = page.value(f"(() => {{ try {{ {attempt} }} catch (e) {{ return String(e) }} }})()")
    assert "Trusted" in message
    page.close()


def test_page_cannot_send_data_elsewhere(browser: Browser, scene: Scene) -> None:
    """The page sends no data to other hosts, and no other page can frame it."""
    page = seen(browser.open(scene.url))
    elsewhere = f"fetch('{scene.mirror.url}/zen', {{mode: 'no-cors'}})"
    assert page.value(f"{elsewhere}.then(() => 'sent', () => 'refused')") == "refused"
    assert any("Content Security Policy" in each for each in page.complaints)
    page.value(
        """
        new Promise((done) => {
          const frame = document.createElement('iframe');
          frame.onload = done;
          frame.src = '/';
          document.body.append(frame);
        })
        """
    )
    assert page.value("document.querySelector('iframe').contentDocument") is None
    page.close()


def test_hostile_paths_are_text(browser: Browser, scene: Scene) -> None:
    """Paths with markup are shown as text."""
    page = seen(browser.open(scene.url))
    shown = [row[2] for row in table(page, "paths")]
    assert HOSTILE in shown
    assert page.value("document.querySelectorAll('main img, main b').length") == 0
    assert "owned" not in page.value("document.title")
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_of_texts(browser: Browser, scene: Scene, scheme: str) -> None:
    """In the light and the dark scheme each text has a contrast of 4.5 or more."""
    page = seen(browser.open(scene.url, scheme=scheme))
    red, *_ = json.loads(
        page.value("getComputedStyle(document.body).backgroundColor").replace("rgb(", "[")[:-1]
        + "]"
    )
    assert (red > 128) == (scheme == "light")
    assert page.value(CONTRAST) >= 4.5
    page.close()


@pytest.mark.parametrize("width", [320, 700, 1000, 1600])
def test_page_fits_its_width(browser: Browser, scene: Scene, width: int) -> None:
    """From the width of a small phone on there is no horizontal scrolling."""
    page = seen(browser.open(scene.url, width=width))
    page.value("document.querySelector('details').open = true")
    assert page.value("document.documentElement.scrollWidth") <= width
    assert page.value(WIDE) == []
    page.close()


def test_page_can_be_used_by_keyboard(browser: Browser, scene: Scene) -> None:
    """The focus follows the reading order, and Enter activates each control."""
    page = seen(browser.open(scene.url))
    order = []
    for _ in range(6):
        page.press("Tab")
        order.append(focused(page))
    links = ["metrics", "status.json", "healthz", "readyz"]
    assert order == ["Skip to the status", *links, "As a table"]
    page.press("Enter")
    page.until("document.querySelector('details').open")
    total = page.value(
        "[...document.querySelectorAll('#steps tbody td')]"
        ".reduce((sum, cell) => sum + Number(cell.textContent), 0)"
    )
    assert total == scene.figures["hour"]["requests"]
    page.close()


def test_page_has_landmarks_and_names(browser: Browser, scene: Scene) -> None:
    """There are landmarks; all tables and the chart have names, and the chart a text."""
    page = seen(browser.open(scene.url))
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]

    def named(role: str) -> list[str]:
        return [
            each.get("name", {}).get("value", "")
            for each in nodes
            if not each["ignored"] and each["role"]["value"] == role
        ]

    for landmark in ("banner", "main", "navigation", "contentinfo"):
        assert len(named(landmark)) == 1
    tables = named("table")
    assert len(tables) == 7  # and one that is closed
    assert all(tables)
    assert all(named("columnheader"))
    assert all(named("region"))
    (chart,) = named("image") or named("img")
    document = scene.figures["hour"]
    assert f"{document['requests']} requests: " in chart
    assert f"{document['outcomes']['shared']} shared" in chart
    assert named("heading")[0] == "ghmirror"
    assert page.value("document.querySelectorAll('[aria-live], [role=status]').length") == 1
    page.close()


def test_page_without_requests(browser: Browser, quiet: Scene) -> None:
    """Before the first request no figure is shown that is not a number."""
    page = seen(browser.open(quiet.url))
    text = page.text
    for nonsense in ("NaN", "undefined", "null", "Infinity", "[object"):
        assert nonsense not in text
    assert "No requests yet." in text
    assert "No quota received yet." in text
    assert "Nothing has been charged yet." in text
    assert page.value("document.getElementById('limits-card').hidden") is True
    assert facts(page, "tiles")["Saved in the last hour"] == ["0", "no requests yet"]
    assert facts(page, "state-tiles")["Rate limits"] == ["none", "in force"]
    assert page.complaints == []
    page.close()


def test_failed_requests_have_a_notice(browser: Browser, github: StandIn, quiet: Scene) -> None:
    """Old figures stay in place and are marked; they update when the mirror is back."""
    page = seen(browser.open(quiet.url, motion="reduce"))
    port = int(quiet.mirror.admin_url.rpartition(":")[2])
    assert page.value("document.getElementById('notice').textContent") == ""
    quiet.mirror.stop()
    page.until("document.documentElement.classList.contains('late')")
    notice: Any = page.value("document.querySelector('[role=status]').textContent")
    assert notice.startswith("The mirror does not respond. Last update: ")
    assert page.value("document.getAnimations().length") == 0
    assert page.value("document.getElementById('state').textContent") == "no response"
    assert page.value("document.title").startswith("! ")
    with mirror_of(github, {"server": {"admin_listen": at(port)}}) as back:
        send(back.url, "/user", token="token0")
        page.until("document.querySelector('#outcomes .swatch')")
        page.until("!document.documentElement.classList.contains('late')")
        assert page.value("document.getElementById('notice').textContent") == ""
        assert page.value("document.getElementById('state').textContent") == "ready"
        page.until("!document.title.startsWith('!')")
    page.close()


def test_unavailable_github_has_a_notice(browser: Browser, github: StandIn) -> None:
    """While GitHub is unavailable, the page begins with that, and with what follows from it."""
    with mirror_of(github) as mirror:
        scene = Scene(github, mirror)
        scene.get("/user")
        github.control("fault", path=None, kind="503")
        try:
            for number in range(3):
                for target in ("/user", f"/users/u{number}", f"/repos/o/r{number}"):
                    scene.get(target)
        finally:
            github.control("clear_faults")
        page = seen(browser.open(scene.url))
        assert notice_of(page) == (
            "GitHub is unavailable. Stored responses are sent as stale ones; other requests fail."
        )
        assert sections_for(notice_of(page)) == {"GhmirrorGitHubAway"}
        assert page.value("document.getElementById('state').textContent") == "degraded"
        tile = facts(page, "state-tiles")["GitHub"]
        assert tile[0] == "unavailable"
        assert tile[1].startswith("503, no status page, ")
        assert "failures in a row" in tile[1]
        assert facts(page, "github")["Reason"] == ["503"]
        assert page.value(CONTRAST) >= 4.5
        document = scene.figures
        assert document["requests"]["outcomes"]["stale"] > 0
        assert document["hour"]["saved"] == 0
        page.close()


@pytest.mark.parametrize("fallback", [True, False])
def test_unavailable_redis_has_a_notice(browser: Browser, github: StandIn, fallback: bool) -> None:
    """The page names the replacement of Redis, or that there is none."""
    with RedisServer() as redis:
        sections: Sections = {
            "cache": {"backend": "redis"},
            "redis": {"url": f"redis://127.0.0.1:{redis.port}", "fallback": fallback},
        }
        with mirror_of(github, sections) as mirror:
            scene = Scene(github, mirror)
            scene.get("/user")
            page = seen(browser.open(scene.url))
            page.until("document.getElementById('state-tiles').textContent.includes('in use')")
            redis.kill()
            scene.get("/user")
            page.until("document.getElementById('state').textContent === 'degraded'")
            shown = facts(page, "store")
            assert shown["Address"] == [f"127.0.0.1:{redis.port}"]
            assert "onnection" in shown["Reason"][0]
            assert shown["Unavailable since"][0].endswith(" s ago")
            why = rf"127\.0\.0\.1:{redis.port}: [^.]*onnection[^.]*\."
            assert scene.figures["state"] == "degraded"
            if fallback:
                assert sections_for(notice_of(page)) == {"GhmirrorRedisAway"}
                notice = rf"Redis is unavailable, memory stands in\. {why}"
                assert re.fullmatch(notice, notice_of(page))
                assert facts(page, "state-tiles")["Store"][0] == "memory"
            else:
                notice = r"Redis is unavailable, nothing is stored\. Each request costs quota\."
                assert re.fullmatch(f"{notice} {why}", notice_of(page))
                assert facts(page, "state-tiles")["Store"][0] == "none"
            page.close()


def test_failed_snapshots_are_shown(browser: Browser, github: StandIn, tmp_path: Path) -> None:
    """The tile names what failed, and the card why; snapshots of another secret are counted."""

    def sections(secret: str) -> Sections:
        return {
            "cache": {"credential_secret": secret * 40},
            "snapshot": {"target": f"file://{tmp_path}/copies", "interval": "1s"},
        }

    with mirror_of(github, sections("x")) as mirror:
        Scene(github, mirror).get("/user")
        page = seen(browser.open(f"{mirror.admin_url}/"))
        page.until("document.getElementById('snapshots').textContent.includes(' records in ')")
        assert facts(page, "snapshots")["Failures"] == ["none"]
        assert "failed" not in page.value("document.getElementById('state-tiles').textContent")
        page.close()
    with mirror_of(github, sections("y")) as mirror:
        page = seen(browser.open(f"{mirror.admin_url}/"))
        page.until("document.getElementById('snapshots').textContent.includes('Not used')")
        (other,) = facts(page, "snapshots")["Not used"]
        assert re.fullmatch(r"\d of another credential_secret", other)
        tile = facts(page, "state-tiles")["Snapshots"]
        assert re.fullmatch(r"\d not used: of another credential_secret", tile[1])
        assert sections_for(tile[1]) == {"GhmirrorSavesLess"}
        shutil.rmtree(tmp_path / "copies")
        (tmp_path / "copies").write_text("no folder")
        Scene(github, mirror).get("/user")
        page.until("document.getElementById('snapshots').textContent.includes('Save failed')")
        (error,) = facts(page, "snapshots")["Save failed"]
        assert f"file://{tmp_path}/copies cannot be written to" in error
        assert facts(page, "state-tiles")["Snapshots"][1].startswith("save failed: ")
        assert page.value(CONTRAST) >= 4.5
        page.close()


def test_failed_restore_is_shown(browser: Browser, github: StandIn, tmp_path: Path) -> None:
    """The tile has the reason, and that nothing is saved until the restore succeeds."""
    target = tmp_path / "copies"
    target.write_text("no folder")
    with mirror_of(
        github, {"snapshot": {"target": f"file://{target}", "interval": "1s"}}
    ) as mirror:
        Scene(github, mirror).get("/user")
        page = seen(browser.open(f"{mirror.admin_url}/", width=320))
        page.until("document.getElementById('snapshots').textContent.includes('Restore failed')")
        saved, beside = facts(page, "state-tiles")["Snapshots"]
        assert saved == "none yet"
        assert beside.startswith("restore failed: ")
        assert beside.endswith("; nothing is saved until it succeeds")
        assert sections_for(beside) == {"GhmirrorSnapshotFails"}
        assert facts(page, "snapshots")["Next"] == ["after the restore"]
        assert page.value(WIDE) == []
        target.unlink()
        page.until("document.getElementById('snapshots').textContent.includes(' records in ')")
        assert "failed" not in page.value("document.getElementById('state-tiles').textContent")
        page.close()


def test_full_quotas_are_hidden(browser: Browser, scene: Scene) -> None:
    """A quota that was reset since the last response is full, and is not shown."""
    page = seen(browser.open(scene.url))
    before = {tuple(row[:2]) for row in table(page, "quotas")}
    assert ("user2", "search") in before
    page.value(
        """
        (() => {
          const fetched = window.fetch;
          window.fetch = async (...given) => {
            const document = await (await fetched(...given)).json();
            for (const each of document.quota.remaining) {
              if (each.resource === 'search') each.resets_at = document.at - 1;
            }
            return new Response(JSON.stringify(document));
          };
        })()
        """
    )
    page.until("!document.getElementById('quotas').textContent.includes('search')")
    after = {tuple(row[:2]) for row in table(page, "quotas")}
    assert after == {row for row in before if row[1] != "search"}
    page.close()


def test_page_without_scripts_links_the_documents(browser: Browser, scene: Scene) -> None:
    """Without scripts the page links the documents with the figures."""
    page = browser.open(scene.url, scripts=False)
    assert page.value("document.getElementById('figures').hidden") is True
    assert "the page's\nscript does not run" in page.value(
        "document.getElementById('notice').textContent"
    )
    links = page.value("[...document.querySelectorAll('#notice a')].map((a) => a.pathname)")
    assert links == ["/status.json", "/metrics"]
    page.close()


def test_invalid_document_has_a_notice(browser: Browser, scene: Scene) -> None:
    """An invalid document is reported as such, not as an unreachable mirror."""
    page = seen(browser.open(scene.url))
    page.value(f'window.fetch = async () => new Response(\'{{"version": "{__version__}"}}\')')
    page.until("document.getElementById('notice').textContent.startsWith('This status cannot')")
    assert page.value("document.documentElement.classList.contains('late')") is False
    page.close()
