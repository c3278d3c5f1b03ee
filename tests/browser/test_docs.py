"""The interactive description: it renders, and its requests are answered."""

from playwright.sync_api import expect

from tests.browser.conftest import Keyed, Open


def test_the_description_renders_and_try_it_out_answers(open_page: Open) -> None:
    page = open_page("/docs")
    operation = page.locator("#operations-Summaries-summarize")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table .response")
    expect(answer.locator(".response-col_status")).to_contain_text("200")
    expect(answer).to_contain_text('"summary"')


def test_the_description_takes_a_key_where_one_is_wanted(open_page: Open, keyed: Keyed) -> None:
    page = open_page("/docs", at=keyed.address)
    page.get_by_role("button", name="Authorize").click()
    dialog = page.locator(".dialog-ux")
    dialog.locator("input").fill(keyed.key)
    dialog.get_by_role("button", name="Apply credentials").click()
    dialog.get_by_role("button", name="Close").click()
    operation = page.locator("#operations-Models-list_models")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table .response .response-col_status")).to_contain_text("200")
