"""What people see and do on the page, in a real browser on a real model."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Locator, Page, Request, Route, expect

from tests.browser.conftest import Held, Keyed, Open

LEAST_LIT = 0.02
HARD = (
    "<script>document.title = 'broken'</script> <img src=x onerror=alert(1)> 😀 said 'no' & \"yes\" \\ $HOME `id`.\n\n"
    "أعلنت الحكومة يوم الخميس عن خطة جديدة بقيمة 40 مليون دولار. 👩‍🚒 The minister said the plan begins in January."
)
LONG = "\n\n".join(f"The council of town number {number} voted on Monday for a new bridge." for number in range(60))


def summarize(page: Page, text: str | None = None) -> str:
    """Press the button, wait until all is shown."""
    if text is not None:
        page.locator("#text").fill(text)
    page.locator("#run").click()
    expect(page.locator("#status")).to_contain_text("Summary: ")
    return page.locator("#summary").inner_text()


def attention(address: str, text: str, **more: Any) -> dict[str, Any]:
    body = {"text": text, "model": "news-en", "parameters": {"num_beams": 1}, "level": "word", **more}
    answer: dict[str, Any] = httpx2.post(f"{address}/attention", json=body).json()
    return answer


def words(page: Page, of: str) -> Locator:
    return page.locator(f"#{of} [role=option]")


def lit(page: Page, of: str) -> list[str]:
    return page.locator(f"#{of} .lit").all_text_contents()


def sent_in(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(request.post_data or "")
    return body


def view(page: Page, name: str) -> None:
    page.locator(f"#views [value={name}]").check()


def refuse(page: Page, status: int, detail: str = "it is so", **headers: str) -> None:
    """Answer every request for work with an error."""
    problem = {"status": status, "detail": detail, "errors": []}

    def answer(route: Route) -> None:
        route.fulfill(status=status, json=problem, headers=headers)

    page.route("**/summarize", answer)
    page.route("**/attention", answer)


def need_key(page: Page, *paths: str) -> None:
    """Refuse requests without a key, as the service does when keys are on."""

    def check(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer secret":
            route.continue_()
        else:
            route.fulfill(status=401, json={"detail": "no key"}, headers={"WWW-Authenticate": "Bearer"})

    for path in paths:
        page.route(f"**/{path}", check)


def test_loading_and_summarizing_leave_nothing_in_the_console(page: Page) -> None:
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.reload()
    expect(page.locator("#text")).not_to_have_value("")
    summarize(page)
    words(page, "summary").first.click()
    assert said == []


def test_the_first_click_shows_a_summary_of_the_example(page: Page, address: str) -> None:
    text = page.locator("#text").input_value()
    shown = summarize(page)
    assert shown == attention(address, text)["summary"]
    expect(page.locator("#status")).to_have_text(f"Summary: {shown}")
    expect(page.locator("#facts")).to_contain_text("by itself")


def test_the_summary_is_watched_while_it_is_written(open_page: Open) -> None:
    page = open_page(reduced_motion="no-preference")
    expect(page.locator("#text")).not_to_have_value("")
    page.evaluate(
        """() => {
          window.seen = [];
          const look = () => seen.push([writing.textContent, document.querySelectorAll("#source .lit").length]);
          new MutationObserver(look).observe(writing, {childList: true});
        }"""
    )
    with page.expect_request("**/summarize") as sent:
        shown = summarize(page)
    assert sent_in(sent.value)["stream"] is True
    seen: list[tuple[str, int]] = [(text, count) for text, count in page.evaluate("seen") if text]
    assert all(shown.startswith(text) for text, _ in seen)
    assert len({text for text, _ in seen}) >= len(shown.split())
    assert all(count for _, count in seen)


def test_a_word_of_the_summary_lights_the_words_that_it_came_from(page: Page, address: str) -> None:
    told = attention(address, page.locator("#text").input_value())["attention"]
    summarize(page)
    for place in (0, 3):
        words(page, "summary").nth(place).hover()
        pairs = zip(told["source_tokens"], told["weights"][place], strict=True)
        assert lit(page, "source") == [token["text"] for token, weight in pairs if weight >= LEAST_LIT]
        expect(page.locator("#readout")).to_contain_text(told["summary_tokens"][place]["text"])


def test_a_word_of_the_text_lights_the_words_that_it_went_into(page: Page, address: str) -> None:
    told = attention(address, page.locator("#text").input_value())["attention"]
    summarize(page)
    place = max(range(len(told["coverage"])), key=told["coverage"].__getitem__)
    words(page, "source").nth(place).hover()
    pairs = zip(told["summary_tokens"], told["weights"], strict=True)
    assert lit(page, "summary") == [token["text"] for token, row in pairs if row[place] >= LEAST_LIT]


def test_a_stronger_weight_shines_stronger(page: Page, address: str) -> None:
    told = attention(address, page.locator("#text").input_value())["attention"]
    summarize(page)
    words(page, "summary").nth(1).hover()
    strengths = page.locator("#source [role=option]").evaluate_all(
        "all => all.map(word => word.matches('.lit') ? Number(word.style.getPropertyValue('--weight')) : 0)"
    )
    weights = told["weights"][1]
    assert max(range(len(weights)), key=weights.__getitem__) == max(range(len(weights)), key=strengths.__getitem__)
    order = sorted(range(len(weights)), key=weights.__getitem__)
    assert [strengths[place] for place in order] == sorted(strengths)


def test_copied_words_are_marked(page: Page, address: str) -> None:
    told = attention(address, page.locator("#text").input_value())["attention"]
    summarize(page)
    copied = [token["text"] for token in told["summary_tokens"] if token["copied"] >= 0.5]
    assert page.locator("#summary .copied").all_text_contents() == copied
    assert 0 < len(copied) < len(told["summary_tokens"])


def test_the_shares_of_the_sentences_sum_to_all(page: Page) -> None:
    summarize(page)
    shares = [int(share.removesuffix(" %")) for share in page.locator("#source .share").all_text_contents()]
    assert len(shares) == 7
    assert sum(shares) == pytest.approx(100, abs=len(shares) / 2)


def test_a_click_holds_a_word_and_escape_lets_it_go(page: Page) -> None:
    summarize(page)
    everywhere = lit(page, "source")
    words(page, "summary").nth(2).click()
    held = lit(page, "source")
    page.mouse.move(1, 1)
    assert lit(page, "source") == held != everywhere
    expect(words(page, "summary").nth(2)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Escape")
    page.mouse.move(2, 2)
    expect(page.locator("#summary [aria-selected=true]")).to_have_count(0)


def test_everything_is_done_by_keyboard_alone(page: Page) -> None:
    def tab_to(selector: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"the tab key never reaches {selector}")

    tab_to("#text")
    page.keyboard.press("Control+A")
    page.keyboard.type("The council of Lindau voted on Monday for a new bridge over the river, to open next spring.")
    tab_to("#run")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("Summary: ")
    tab_to("#summary [role=option]")
    first = page.locator("#readout").inner_text()
    page.keyboard.press("ArrowRight")
    assert page.locator("#readout").inner_text() != first
    page.keyboard.press("Enter")
    expect(page.locator("#summary [aria-selected=true]")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator("#summary [aria-selected=true]")).to_have_count(0)
    tab_to("[name=view]")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#view-words")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    tab_to("#source [role=option]")
    page.keyboard.press("End")
    expect(page.locator("#readout")).to_contain_text("“\u2068.\u2069”")


def test_text_is_text_whatever_stands_in_it(page: Page, address: str) -> None:
    told = attention(address, HARD)["attention"]
    summarize(page, HARD)
    assert "".join(page.locator("#source .line").all_text_contents()) == "".join(HARD.split("\n\n")).replace(". ", ".")
    assert page.title() == "Precis"
    assert page.locator("#source :is(script, img)").count() == 0
    assert words(page, "source").all_text_contents() == [token["text"] for token in told["source_tokens"]]
    assert words(page, "summary").all_text_contents() == [token["text"] for token in told["summary_tokens"]]


@pytest.mark.parametrize("odd", ["\ufeff", "\u200b", "\x1f", "\u2028", "\u0301"])
def test_odd_characters_leave_the_words_in_their_places(page: Page, address: str, odd: str) -> None:
    text = f"{odd}The council {odd} voted on Monday for a new bridge.{odd}\n\n{odd} It{odd}self. {odd}"
    told = attention(address, text)["attention"]
    summarize(page, text)
    assert words(page, "source").all_text_contents() == [token["text"] for token in told["source_tokens"]]
    words(page, "summary").first.dispatch_event("pointerover")  # it may be too thin to point at
    assert lit(page, "source")


def test_right_to_left_text_runs_from_right_to_left(page: Page) -> None:
    summarize(page, HARD)
    arabic = page.locator("#source .line", has_text="الحكومة")
    assert arabic.evaluate("line => getComputedStyle(line).direction") == "rtl"
    first, second = (words(page, "source").filter(has_text=word).bounding_box() for word in ("أعلنت", "الحكومة"))
    assert first is not None
    assert second is not None
    assert first["x"] > second["x"]


def test_chinese_has_an_example_and_words_of_its_own(page: Page, address: str) -> None:
    page.locator("#model").select_option("news-zh")
    text = page.locator("#text").input_value()
    told = attention(address, text, model="news-zh")["attention"]
    summarize(page)
    assert words(page, "source").all_text_contents() == [token["text"] for token in told["source_tokens"]]
    expect(page.locator("#source")).to_have_attribute("lang", "zh")


def test_beams_give_the_same_as_the_service(page: Page, address: str) -> None:
    page.locator("#num_beams").select_option("4")
    text = page.locator("#text").input_value()
    assert summarize(page) == attention(address, text, parameters={"num_beams": 4})["summary"]


def test_options_are_sent_and_defaults_are_not(page: Page) -> None:
    page.locator("#options summary").click()
    page.locator("#max_length").fill("5")
    page.locator("#numbers_from_source").uncheck()
    with page.expect_request("**/attention") as sent:
        summarize(page)
    parameters = {"num_beams": 1, "max_length": 5, "numbers_from_source": False}
    assert sent_in(sent.value)["parameters"] == parameters
    expect(page.locator("#facts")).to_contain_text("at its greatest length")


def test_what_was_cut_is_marked_and_can_be_read_in_parts(page: Page, address: str) -> None:
    used = attention(address, LONG)["source"]["used_characters"]
    summarize(page, LONG)
    expect(page.locator("#cut")).to_contain_text(f"{used:,} of {len(LONG):,} characters")
    assert page.locator("#unread .line").text_content() == LONG[used:].strip()
    page.locator("#cut button").click()
    expect(page.locator("#facts")).to_contain_text("parts")
    expect(page.locator("#unread")).to_be_hidden()
    expect(page.locator("#truncation")).to_have_value("chunk")


def test_the_tables_say_what_the_service_says(page: Page, address: str) -> None:
    told = attention(address, page.locator("#text").input_value())["attention"]
    summarize(page)
    view(page, "words")
    heads = page.locator("#words tbody th").all_text_contents()
    assert heads == [token["text"] for token in told["summary_tokens"]]
    view(page, "matrix")
    page.locator("#threshold").select_option("0")
    expect(page.locator("#matrix tbody tr")).to_have_count(len(told["source_tokens"]))
    cells = page.locator("#matrix tbody td").all_text_contents()
    width = len(told["summary_tokens"])
    for row, weights in enumerate(told["weights"]):
        for column, weight in enumerate(weights):
            shown = cells[column * width + row]
            assert float(shown or 0) == pytest.approx(100 * weight, abs=1.01)


@pytest.mark.parametrize("language", ["curl", "python", "javascript"])
@pytest.mark.parametrize("with_attention", [False, True])
def test_the_request_to_copy_really_works(page: Page, language: str, with_attention: bool) -> None:
    commands: dict[str, Callable[[str], list[str]]] = {
        "curl": lambda program: ["bash", "-c", program],
        "python": lambda program: [sys.executable, "-c", program],
        "javascript": lambda program: ["node", "--input-type=module", "-e", program],
    }
    shown = summarize(page, HARD)
    page.locator(f"#languages [value={language}]").check()
    page.locator("#with-attention").set_checked(with_attention)
    program = page.locator("#request").inner_text()
    done = subprocess.run(commands[language](program), capture_output=True, text=True, check=True)
    assert shown in done.stdout.replace('\\"', '"')
    assert ("/attention" in program) == with_attention


def test_a_file_is_opened(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "story.txt"
    file.write_text("The river rose by two metres. 🌊", encoding="utf-8")
    page.locator("#file").set_input_files(file)
    expect(page.locator("#text")).to_have_value("The river rose by two metres. 🌊")
    expect(page.locator("#count")).to_have_text("31 characters")


def test_a_dropped_file_is_opened(page: Page) -> None:
    dropped = page.evaluate_handle(
        """() => {
          const dropped = new DataTransfer();
          dropped.items.add(new File(["The river fell again."], "story.txt", {type: "text/plain"}));
          return dropped;
        }"""
    )
    page.locator("#text").dispatch_event("drop", {"dataTransfer": dropped})
    expect(page.locator("#text")).to_have_value("The river fell again.")


def test_summary_and_request_are_copied(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    shown = summarize(page)
    page.locator("#copy-summary").click()
    expect(page.locator("#copy-summary")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == shown
    page.locator("#copy-request").click()
    expect(page.locator("#copy-request")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#request").text_content()


def test_a_summary_can_be_watched_again(page: Page) -> None:
    shown = summarize(page)
    everywhere = lit(page, "source")
    view(page, "matrix")
    page.locator("#replay").click()
    expect(page.locator("#view-reading")).to_be_visible()
    expect(page.locator("#run")).to_have_text("Summarize")
    assert page.locator("#writing").text_content() == page.locator("#summary").inner_text() == shown
    page.mouse.move(1, 1)
    assert lit(page, "source") == everywhere


def test_a_full_queue_says_when_and_offers_another_try(open_page: Open, held: Held) -> None:
    page = open_page(at=held.address)
    expect(page.locator("#text")).not_to_have_value("")
    crowd = page.evaluate_handle(
        """() => Array.from({length: 40}, () => fetch("summarize", {method: "POST",
           headers: {"Content-Type": "application/json"}, body: JSON.stringify({text: "alpha bravo"})}))"""
    )
    page.evaluate("crowd => Promise.any(crowd.map(async (each) => { if ((await each).ok) throw 0; }))", crowd)
    page.locator("#run").click()
    notice = page.locator("#notice")
    expect(notice).to_contain_text("The service is busy")
    expect(notice).to_contain_text("There should be room")
    held.go_on()
    page.evaluate("async (crowd) => { await Promise.all(crowd); }", crowd)
    notice.get_by_role("button", name="Try again").click()
    expect(page.locator("#status")).to_contain_text("Summary: ")
    expect(notice).to_be_hidden()


def test_what_is_being_written_can_be_stopped(open_page: Open, held: Held) -> None:
    page = open_page(at=held.address)
    expect(page.locator("#text")).not_to_have_value("")
    text = page.locator("#text").input_value()
    page.locator("#run").click()
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#text")).to_be_visible()
    expect(page.locator("#text")).to_have_value(text)
    expect(page.locator("#notice")).to_be_hidden()
    held.go_on()
    assert summarize(page)


def test_a_missing_key_is_asked_for_and_then_sent(page: Page) -> None:
    need_key(page, "summarize", "attention")
    page.locator("#run").click()
    expect(page.locator("#notice")).to_contain_text("An API key is needed")
    expect(page.locator("#key")).to_be_focused()
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#notice")).to_contain_text("This API key is not accepted")
    page.locator("#key").fill("secret")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("Summary: ")
    expect(page.locator("#notice")).to_be_hidden()
    assert "Bearer $PRECIS_API_KEY" in page.locator("#request").inner_text()


def test_a_service_that_wants_a_key_opens_the_page_and_takes_the_key_from_it(open_page: Open, keyed: Keyed) -> None:
    page = open_page(at=keyed.address)
    expect(page.locator("#notice")).to_contain_text("An API key is needed")
    page.locator("#key").fill(keyed.key)
    assert summarize(page, "The council of Lindau voted on Monday for a new bridge over the river.")
    expect(page.locator("#notice")).to_be_hidden()


def test_a_key_that_even_the_models_need_is_asked_for_at_once(open_page: Open) -> None:
    page = open_page()
    need_key(page, "models")
    page.reload()
    expect(page.locator("#notice")).to_contain_text("An API key is needed")
    page.locator("#text").fill("The council of Lindau voted on Monday for a new bridge over the river.")
    page.locator("#key").fill("secret")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("Summary: ")


@pytest.mark.parametrize(
    ("status", "title"),
    [
        (404, "This model is not here any more"),
        (413, "The text is too long"),
        (422, "This cannot be done as asked"),
        (429, "You are asking faster than your key allows"),
        (500, "The model failed on this text"),
        (504, "It took too long"),
    ],
)
def test_every_refusal_is_told_kindly(page: Page, status: int, title: str) -> None:
    refuse(page, status, "<b>so it is</b>", **{"Retry-After": "7"})
    page.locator("#run").click()
    notice = page.locator("#notice")
    expect(notice.get_by_role("alert")).to_contain_text(title)
    expect(notice).to_contain_text("<b>so it is</b>")
    expect(notice).to_contain_text("There should be room in")
    expect(page.locator("#text")).to_be_visible()


def test_a_summary_is_shown_even_where_its_attention_is_refused(page: Page, address: str) -> None:
    text = page.locator("#text").input_value()
    page.route("**/attention", lambda route: route.fulfill(status=413, json={"detail": "too much of it"}))
    assert summarize(page) == attention(address, text)["summary"]
    expect(page.locator("#notice")).to_contain_text("too much of it")
    expect(page.locator("#source")).to_contain_text("coral reef")


def test_a_lost_network_is_told_and_survived(page: Page) -> None:
    page.context.set_offline(True)
    page.locator("#run").click()
    expect(page.locator("#notice")).to_contain_text("The service cannot be reached")
    page.context.set_offline(False)
    page.locator("#notice").get_by_role("button", name="Try again").click()
    expect(page.locator("#status")).to_contain_text("Summary: ")


def test_a_model_with_several_heads_lets_choose_among_them(page: Page, address: str) -> None:
    """The service has none: its answers are changed on their way."""
    sent: list[dict[str, Any]] = []

    def several(route: Route) -> None:
        answer = route.fetch().json()
        for model in answer["models"]:
            model["attention"] = {"layers": 6, "heads": 2, "default_layers": [4], "default_heads": [0, 1]}
        route.fulfill(json=answer)

    def attend(route: Route) -> None:
        sent.append(sent_in(route.request))
        plain = {name: value for name, value in sent[-1].items() if name not in ("layers", "heads", "drop_sinks")}
        answer = httpx2.post(f"{address}/attention", json=plain).json()
        for item in answer["attention"]["summary_tokens"]:
            item["dropped"] = 0.25
        route.fulfill(json=answer)

    page.locator("summary", has_text="More options").click()
    expect(page.locator("#attentions")).to_be_hidden()
    page.route("**/models", several)
    page.route("**/attention", attend)
    page.reload()
    page.locator("summary", has_text="More options").click()
    expect(page.locator("#layers option")).to_have_count(7)
    summarize(page)
    assert not {"layers", "heads", "drop_sinks"} & sent[-1].keys()
    page.locator("#layers").select_option("5")
    page.locator("#heads").select_option("0")
    page.locator("#drop_sinks").check()
    summarize(page)
    assert (sent[-1]["layers"], sent[-1]["heads"], sent[-1]["drop_sinks"]) == ([5], [0], True)
    expect(page.locator("#facts")).to_contain_text("25 % of the attention")
    page.locator("[name=language][value=python]").check()
    expect(page.locator("#request")).not_to_contain_text("layers")
    page.locator("#with-attention").check()
    expect(page.locator("#request")).to_contain_text('"layers": [5]')
    expect(page.locator("#request")).to_contain_text('"drop_sinks": True')


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_never_scrolls_sideways(open_page: Open, width: int) -> None:
    page = open_page(viewport={"width": width, "height": 700}, is_mobile=True, has_touch=True)
    expect(page.locator("#text")).not_to_have_value("")
    summarize(page, HARD + LONG)
    words(page, "summary").first.tap()
    for name in ("edit", "reading", "words", "matrix"):
        view(page, name)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
