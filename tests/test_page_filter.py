"""The page: filters and their suggestions."""

from __future__ import annotations

from web import (
    KIND,
    NEEDS_BROWSER,
    Page,
    expect,
    first_ids,
    state,
    tiles,
    wait_for_pictures,
)

pytestmark = NEEDS_BROWSER


def test_a_filter_is_suggested_applied_and_kept_in_the_address(page: Page) -> None:
    wait_for_pictures(page)
    page.keyboard.press("/")
    expect(page.locator("#suggestions li code")).to_have_text(["path", "width", "height", "size", "time", "label"])
    page.keyboard.type("wid")
    expect(page.locator("#suggestions li code")).to_have_text(["width"])
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.keyboard.type(">= 160 and label = ")
    page.locator("#suggestions li", has_text=KIND).click()
    page.keyboard.press("Enter")
    expect(page.locator("#summary")).to_contain_text("of 204 pictures")
    assert state(page)["where"] == f"width >= 160 and label = {KIND}"
    tiles(page).first.locator(".picture").click()  # the filter stays
    expect(page.locator("#summary")).to_contain_text("nearest first")
    assert {text.split(" · ")[-1] for text in page.locator("#grid .tile:visible .label").all_inner_texts()} == {KIND}
    page.get_by_role("button", name="Clear the filter").click()
    expect(page.locator("#summary")).to_have_text("203 pictures, nearest first")


SUGGESTED = {  # what is written -> what is offered next
    "": ["path", "width", "[my kind]"],
    "wi": ["width"],
    "width ": [">=", "<=", "=", "!=", "<", ">"],
    "path ": ["=", "!=", "~", "in"],
    "[my kind] = ": ["a b", "or", "it's"],
    "[my kind] = o": ["or"],
    "[my kind] in (x, ": ["a b", "or", "it's"],
    "width >= 3 ": ["and", "or"],
    "width >= 3 and not (": ["path", "width", "[my kind]"],
}


def test_suggestions_know_what_comes_next(page: Page) -> None:
    columns = [
        {"name": "path", "kind": "text", "values": []},
        {"name": "width", "kind": "number", "values": []},
        {"name": "[my kind]", "kind": "text", "values": ["a b", "or", "it's"]},
    ]
    script = """([text, columns]) => import("/assets/filter_suggestions.js").then(
        ({ suggest }) => suggest(text, text.length, columns))"""
    for written, offered in SUGGESTED.items():
        options = page.evaluate(script, [written, columns])["options"]
        assert [option["label"] for option in options] == offered, written
        for option in options:
            if (
                offered[0] in ("a b", "or") and "my kind" in written
            ):  # values are written so that they are read as values
                assert option["insert"].strip().startswith('"')


def test_a_filter_that_is_wrong_is_told_in_place(page: Page, server: str) -> None:
    before = first_ids(page)
    page.locator("#where").fill("colour = red")
    page.keyboard.press("Enter")
    expect(page.locator("#where-error")).to_contain_text("unknown column colour")
    expect(page.locator("#where")).to_have_attribute("aria-invalid", "true")
    assert first_ids(page) == before
    page.goto(f"{server}#where=width+>")
    page.reload()
    expect(page.locator("#pictures-message h2")).to_have_text("The filter is not valid")
    expect(page.locator("#where-error")).to_be_visible()
    page.locator("#pictures-message").get_by_role("button", name="Clear the filter").click()
    wait_for_pictures(page)
