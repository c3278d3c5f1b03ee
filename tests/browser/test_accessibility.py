"""axe-core finds no fault in any state of the page, light and dark."""

from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.test_page import refuse, summarize, view, words

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"


def faults(page: Page) -> list[tuple[str, str]]:
    """Rule and place of everything that is serious or worse."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found: dict[str, Any] = page.evaluate("axe.run()")
    assert found["passes"]
    return [
        (fault["id"], node["html"])
        for fault in found["violations"]
        for node in fault["nodes"]
        if fault["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_no_serious_fault(open_page: Open, scheme: Literal["light", "dark"], width: int) -> None:
    page = open_page(color_scheme=scheme, viewport={"width": width, "height": 900})
    expect(page.locator("#text")).not_to_have_value("")
    page.locator("#options summary").click()
    assert faults(page) == []
    summarize(page)
    assert faults(page) == []
    words(page, "summary").nth(4).click()
    assert faults(page) == []
    for name in ("words", "matrix"):
        view(page, name)
        assert faults(page) == []
    refuse(page, 503, **{"Retry-After": "7"})
    page.locator("#run").click()
    expect(page.locator("#notice")).to_be_visible()
    assert faults(page) == []
