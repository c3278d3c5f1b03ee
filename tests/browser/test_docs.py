"""The interactive description: it renders, and its requests are answered."""

from playwright.sync_api import expect

from tests.browser.conftest import Open


def test_the_description_renders_and_try_it_out_answers(open_page: Open) -> None:
    page = open_page("/docs")
    operation = page.locator("#operations-Summaries-summarize")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table .response")
    expect(answer.locator(".response-col_status")).to_contain_text("200")
    expect(answer).to_contain_text('"summary"')
