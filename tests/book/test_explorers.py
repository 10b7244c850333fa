"""The explorers in a page from a file: by keyboard and pointer, in both modes, on a telephone, in print and without JavaScript."""

import json
import re
from types import SimpleNamespace

import explored
import explorers
import jupytext
import nbformat
import numpy as np
import pages
import pytest
import torch
from matplotlib.figure import Figure

from dsgc import cam, correction, gmm
from dsgc.ptc import patch_token_contrast
from dsgc.scoring import diagnosis
from dsgc.teaching.explorer import Explorer

PICTURE = Figure((9, 3), dpi=100)
GENERATOR = torch.Generator().manual_seed(0)
BARS = [round(60 * np.exp(-(((n - 12) / 5) ** 2)) + 30 * np.exp(-(((n - 38) / 4) ** 2))) for n in range(50)]
MAP = torch.randint(0, 256, (16, 16), generator=GENERATOR, dtype=torch.uint8)
TRUTH = torch.tensor([0, 2, 255], dtype=torch.uint8)[torch.randint(3, (16, 16), generator=GENERATOR)]
CONFIDENCE = [round(0.02 + 0.039 * n, 3) for n in range(25)]
LABELS, DEGREES = [0] * 10 + [255] * 5 + [1] * 10, [10] * 15 + [90] * 10
TOKENS = [[0.9, 0.1], [0.5, 0.6], [0.2, 0.9], [0.7, 0.7], [-0.3, 0.8], [0.1, -1.0]]
DATA = {
    "em": {"maps": {"two humps": BARS, "a spike": [200, *[0] * 20, *[4] * 29], "one value": [0, 9, *[0] * 48]}},
    "rules": {"grids": {"a grid": {"confidence": CONFIDENCE, "labels": LABELS, "degrees": DEGREES}}, "high": 0.85, "low": 0.25, "tau": 0.7},
    "thresholds": {
        "image": torch.zeros(16, 16, 3, dtype=torch.uint8), "confidence": MAP, "strongest": torch.full_like(MAP, 2), "truth": TRUTH,
        "classes": ["background", "cat", "dog"], "low": 0.25, "high": 0.7,
    },
    "ptc": {"tokens": TOKENS, "labels": [0, 0, 1, 1, 2, 255], "rate": 1},
}  # fmt: skip
CONTAINERS = [Explorer(name, PICTURE, f"what {name} shows", data).html for name, data in DATA.items()]
SMALL = """() => [...document.querySelectorAll('.stage :is(button, select, input)')].filter((control) => {
    const box = control.getBoundingClientRect();
    return box.height < 32 || box.width < 32;
}).map((control) => control.outerHTML.slice(0, 80))"""
FETCHES = re.compile(r"\bfetch\(|^import |^export |XMLHttpRequest|https?://(?!www\.w3\.org/2000/svg)", re.MULTILINE)


@pytest.fixture(scope="module")
def browser():
    with explored.chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explorers")
    return {mode: explored.written(folder, CONTAINERS, mode) for mode in pages.MODES}


@pytest.fixture
def page(browser, address):
    """A page with the four explorers, fresh; no script of it may fail."""
    page, errors = browser.new_page(viewport=pages.SIZES["wide"]), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address["light"])
    yield page
    page.close()
    assert errors == []


def within(page, name):
    return page.locator(f'[data-explorer="{name}"]')


def numbers(locator):
    """The cells of a table's body as numbers."""
    return [float(text.removesuffix(" %")) for text in locator.locator("tbody td").all_inner_texts()]


@pytest.mark.parametrize("mode", pages.MODES)
def test_pages_are_accessible_and_fit_a_telephone(browser, address, mode):
    page, requests, errors = browser.new_page(viewport=pages.SIZES["wide"], color_scheme=mode), [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address[mode])
    assert page.locator(".explorer.live").count() == len(DATA) and not page.locator(".picture").first.is_visible()
    for size in pages.SIZES.values():
        page.set_viewport_size(size)
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        assert page.evaluate(SMALL) == []
        letters = page.evaluate("""() => [...document.querySelectorAll('.stage svg text')].map((text) =>
            parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a)""")
        assert letters and min(letters) >= 9  # pixels as shown
        facts = page.evaluate(pages.FACTS)
        assert facts["small"] == [] and facts["wide"] == []
    page.add_script_tag(content=pages.axe())
    found = page.evaluate(pages.AXE, "light")  # structure and contrast
    assert [(item["id"], node["html"][:150]) for item in found for node in item["nodes"]] == []
    assert errors == [] and all(url.startswith("file:") for url in requests if not url.startswith("data:"))
    page.close()


def test_em_goes_step_by_step_as_the_package_does(page):
    box, x = within(page, "em"), ((torch.arange(50).double() + 0.5) / 50)[None]
    count = torch.tensor(BARS).double()[None]
    every = x.repeat_interleave(torch.tensor(BARS), 1)
    start = gmm.fit(every, max_iter=0)
    assert numbers(box) == pytest.approx([float(v) for k in (0, 1) for v in (start.mean[0, k], start.variance[0, k] ** 0.5, 0.5)], abs=6e-4)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    button = box.get_by_role("button", name="E-step")
    assert button.evaluate("(button) => button === document.activeElement")
    page.keyboard.press("Enter")
    low = [float(bar.get_attribute("height")) for bar in box.locator(".bar.low").all()]
    high = [float(bar.get_attribute("height")) for bar in box.locator(".bar.high").all()]
    posterior = gmm.e_step(x, *start[:3])[0][0, 0].tolist()
    shares = [a / (a + b) if a + b else None for a, b in zip(low, high, strict=True)]
    assert all(share is None or abs(share - g) < 1e-9 for share, g in zip(shares, posterior, strict=True))
    assert "M-step" in page.evaluate("document.activeElement.textContent")  # the same button is the next step
    page.keyboard.press("Enter")
    one = gmm.fit(every, max_iter=1, tolerance=-torch.inf)
    expected = [float(v) for k in (0, 1) for v in (one.mean[0, k], one.variance[0, k] ** 0.5, one.weight[0, k])]
    assert numbers(box) == pytest.approx(expected, abs=6e-4)
    assert box.get_by_role("status").inner_text().startswith("Iteration 1:")
    box.get_by_role("button", name="To the end").click()
    end = gmm.fit(every, max_iter=2000, tolerance=1e-10)
    assert numbers(box)[0::3] == pytest.approx(end.mean[0].tolist(), abs=6e-4) and int(count.sum()) == every.shape[1]
    box.get_by_role("combobox", name="values").select_option("a spike")
    box.get_by_role("button", name="To the end").click()
    assert numbers(box)[1] == 0.001  # the floor
    box.get_by_role("combobox", name="values").select_option("one value")
    box.get_by_role("button", name="To the end").click()
    assert numbers(box) == [0.03, 0.001, 0.0, 0.03, 0.001, 1.0] and "nothing to split" in box.get_by_role("status").inner_text()


def test_a_histogram_can_be_drawn_by_pointer_and_by_keyboard(page):
    box = within(page, "em")
    picture = box.get_by_role("img").first
    before = picture.get_attribute("aria-label")
    frame = picture.bounding_box()
    page.mouse.move(frame["x"] + 0.9 * frame["width"], frame["y"] + 0.3 * frame["height"])
    page.mouse.down()
    page.mouse.move(frame["x"] + 0.95 * frame["width"], frame["y"] + 0.3 * frame["height"], steps=8)
    page.mouse.up()
    drawn = picture.get_attribute("aria-label")
    values = int(re.search(r"(\d+) values", drawn)[1])
    assert values > int(re.search(r"(\d+) values", before)[1]) + 50
    box.get_by_label("how many values").focus()
    page.keyboard.press("Home")
    fewer = int(re.search(r"(\d+) values", picture.get_attribute("aria-label"))[1])
    assert fewer < values
    box.get_by_label("at confidence").focus()
    page.keyboard.press("ArrowLeft")
    box.get_by_label("how many values").focus()
    page.keyboard.press("End")
    assert int(re.search(r"(\d+) values", picture.get_attribute("aria-label"))[1]) > fewer


def corrected(labels, confidence, degrees, **limits):
    x, angle = torch.tensor([confidence]).double(), torch.tensor(degrees).view(1, 1, 5, 5).deg2rad()
    noise = gmm.noise_probability(x, gmm.fit(x, max_iter=1000, tolerance=1e-9)).view(1, 5, 5)
    features = torch.cat([angle.cos(), angle.sin()], 1)
    return correction.correct(torch.tensor(labels).view(1, 5, 5), noise, features, **limits).flatten().tolist()


def test_the_rules_follow_what_is_edited_by_keyboard(page):
    box, limits = within(page, "rules"), {"high": 0.85, "low": 0.25, "tau": 0.7}
    labels, confidence, degrees = [*LABELS], [*CONFIDENCE], [*DEGREES]

    def shown():
        return [int(cell.get_attribute("data-label")) for cell in box.locator("div.place").all()]

    assert shown() == corrected(labels, confidence, degrees, **limits) and set(shown()) == {0, 1, 255}
    box.locator("button.place[tabindex='0']").focus()  # row 3, column 4
    for key in ("ArrowUp", "ArrowUp", "ArrowUp", "ArrowRight"):  # the last of those upwards leads nowhere
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("row 1, column 5: background")
    assert box.locator("button.place[aria-pressed='true']").count() == 1
    box.get_by_role("combobox", name="label").select_option("class 2")
    labels[4] = 2
    box.get_by_role("slider", name="feature").focus()
    for _ in range(6):
        page.keyboard.press("PageUp")
    degrees[4] = int(box.get_by_role("slider", name="feature").input_value())
    box.get_by_role("slider", name="confidence").focus()
    page.keyboard.press("End")
    confidence[4] = 1.0
    assert degrees[4] > 40 and shown() == corrected(labels, confidence, degrees, **limits)
    box.get_by_label("τ").focus()
    page.keyboard.press("Home")
    limits["tau"] = -1.0
    assert shown() == corrected(labels, confidence, degrees, **limits)
    box.get_by_label("θ_l").focus()
    page.keyboard.press("End")
    assert box.get_by_label("θ_h").input_value() == "1"  # it is never below the other
    limits |= {"low": 1.0, "high": 1.0}
    assert shown() == corrected(labels, confidence, degrees, **limits) == labels
    box.get_by_role("button", name="Start again").click()
    assert shown() == corrected(LABELS, CONFIDENCE, DEGREES, high=0.85, low=0.25, tau=0.7)


def test_thresholds_show_what_the_label_is_worth(page):
    box = within(page, "thresholds")
    for keys, low, high in (((), 0.25, 0.7), (("ArrowRight",) * 5, 0.3, 0.7), (("End",), 1.0, 1.0)):
        box.get_by_label("label_low").focus()
        for key in keys:
            page.keyboard.press(key)
        maps = torch.zeros(1, 2, 16, 16, dtype=torch.float64)
        maps[0, 1] = MAP.double() / 255
        labels = cam.patch_labels(maps, torch.ones(1, 2), low, high)
        worth = diagnosis.worth(labels, TRUTH[None].long(), 3)
        found = numbers(box)
        assert [found[0], found[-1], found[-2]] == pytest.approx(list(worth.values()), abs=0.051)
    box.get_by_role("button", name="preset").click()
    assert box.get_by_label("label_low").input_value() == "0.25"


def loss(tokens, labels):
    return float(patch_token_contrast(torch.tensor(tokens).T.reshape(1, 2, 1, -1), torch.tensor(labels).view(1, 1, -1)))


def test_tokens_are_dragged_turned_and_descend(page):
    box, labels = within(page, "ptc"), DATA["ptc"]["labels"]
    assert numbers(box)[2] == pytest.approx(loss(TOKENS, labels), abs=6e-4)
    here = torch.tensor(TOKENS).T.reshape(1, 2, 1, -1).requires_grad_()
    (slope,) = torch.autograd.grad(patch_token_contrast(here, torch.tensor(labels).view(1, 1, -1)), here)
    box.get_by_role("button", name="Gradient step").focus()
    page.keyboard.press("Enter")
    assert numbers(box)[2] == pytest.approx(loss((here - slope)[0, :, 0].T.tolist(), labels), abs=6e-4)
    box.get_by_role("button", name="Start again").click()
    circle = box.locator(".token .reach").nth(5).bounding_box()
    x, y = circle["x"] + circle["width"] / 2, circle["y"] + circle["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 60, y - 60, steps=4)
    page.mouse.up()
    assert "Token 6, none" in box.get_by_role("status").inner_text() and numbers(box)[2] == pytest.approx(loss(TOKENS, labels), abs=6e-4)
    box.get_by_role("combobox", name="token").select_option("1")
    box.get_by_label("direction").focus()
    page.keyboard.press("Home")
    box.get_by_label("length").focus()
    page.keyboard.press("End")
    assert numbers(box)[2] == pytest.approx(loss([[1.3, 0.0], *TOKENS[1:]], labels), abs=6e-4)


def test_a_picture_stands_in_print_and_where_no_script_runs(browser, address, page):
    page.emulate_media(media="print")
    assert within(page, "em").get_by_alt_text("what em shows").is_visible() and not page.locator(".stage").first.is_visible()
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(address["light"])
    assert all(plain.get_by_alt_text(f"what {name} shows").is_visible() for name in DATA)
    context.close()


def test_explorers_speak_the_language_of_their_page(browser, address):
    """What has no word there stays; values go to their places."""
    page = browser.new_page()
    words = {"Start again": "Von vorn", "Loss {0} after {1} steps. Token {2}, {3}: at {4}°, length {5}.": "Nach {1}: {0}; {2}, {3}."}
    page.add_init_script(f"globalThis.explore = {{ words: {json.dumps(words)} }}")
    page.goto(address["light"])
    assert page.get_by_role("button", name="Von vorn").count() == 3 and page.get_by_role("button", name="Start again").count() == 0
    assert re.match(r"Nach 0: [\d.]+; 1, label 0\.", page.locator("[data-explorer=ptc] [role=status]").inner_text())
    page.close()


def test_an_explorer_s_html_is_small_the_same_again_and_closed():
    given = {"name": "</script><b>", "bytes": np.arange(6, dtype=np.uint8).reshape(2, 3)}
    first, again = (Explorer("em", PICTURE, "a <picture>", given) for _ in range(2))
    html = first.html
    assert (html, {"words": []}) == again._repr_html_() and 'alt="a &lt;picture&gt;"' in html and 'width="900" height="300"' in html
    (data,) = re.findall(r'<script type="application/json">(.*)</script>', html)
    assert "<" not in data and json.loads(data) == {"name": "</script><b>", "bytes": {"shape": [2, 3], "bytes": "AAECAwQF"}}


@pytest.mark.parametrize("value", [torch.zeros(2), np.arange(3), object()])
def test_data_that_a_page_cannot_hold_is_refused(value):
    with pytest.raises(TypeError, match=r"an explorer's data has \w+ .*; give what JSON has, or uint8"):
        Explorer("em", PICTURE, "a picture", {"values": value})
    with pytest.raises(ValueError, match="JSON"):
        Explorer("em", PICTURE, "a picture", {"values": float("nan")})


def test_only_a_page_with_an_explorer_loads_the_scripts():
    added = []
    app = SimpleNamespace(add_css_file=added.append, add_js_file=lambda name, loading_method: added.append(name))
    explorers.add(app, "page", "page.html", {"body": "<p>nothing</p>"}, None)
    assert added == []
    explorers.add(app, "page", "page.html", {"body": CONTAINERS[0]}, None)
    assert added == ["explore/explore.css", *explorers.SCRIPTS] and "explore/em_widget.js" in added


def test_scripts_ask_for_nothing_and_are_short():
    for path in explorers.FOLDER.iterdir():
        text = path.read_text(encoding="utf-8")
        assert not FETCHES.search(text), path.name
        assert len(text.splitlines()) <= 300 and max(map(len, text.splitlines())) <= 132, path.name


def test_every_explorer_has_a_chapter_and_every_chapter_s_explorer_a_widget():
    placed = [name for path in sorted((pages.ROOT / "notebooks").glob("*.py")) for cell in jupytext.read(path).cells
              for name in re.findall(r'^Explorer\(\s*"(\w+)"', cell.source, flags=re.MULTILINE)]  # fmt: skip
    widgets = {path.name.removesuffix("_widget.js") for path in explorers.FOLDER.glob("*_widget.js")}
    assert sorted(placed) == sorted(widgets) == sorted(DATA)


def test_what_the_chapters_store_of_an_explorer_is_small():
    cells = [cell for path in (pages.ROOT / "notebooks").glob("*.ipynb") for cell in nbformat.read(path, 4).cells]
    htmls = [output.get("data", {}).get("text/html", "") for cell in cells for output in cell.get("outputs", [])]
    htmls = [html for html in htmls if "data-explorer" in html]
    assert len(htmls) == len(DATA) and max(map(len, htmls)) < 200_000
