"""Pages of source share their side bar: it is made once for each depth of folders, and by every other page itself."""

import sidebar


def test_it_is_made_once_for_all_pages_of_source_that_stand_as_deep():
    made = []

    def context(page):
        return {"toctree": lambda **options: made.append(page) or f"of {page}, {options}"}

    shared, bars = sidebar.Shared(), {}
    for page in ("book/intro", "book/parts", "_modules/test_cam", "_modules/index", "_modules/dsgc/cam", "_modules/dsgc/ptc"):
        of_page = context(page)
        shared.share(None, page, "page.html", of_page, None)
        bars[page] = [of_page["toctree"](maxdepth=depth) for depth in (1, 1, 4)]
    assert bars["_modules/index"] == bars["_modules/test_cam"] != bars["_modules/dsgc/cam"] == bars["_modules/dsgc/ptc"]
    assert bars["book/intro"] != bars["book/parts"]
    assert made == ["book/intro"] * 3 + ["book/parts"] * 3 + ["_modules/test_cam"] * 2 + ["_modules/dsgc/cam"] * 2  # for each way of asking


def test_a_page_without_one_is_left_as_it_is():
    nothing = {}
    sidebar.Shared().share(None, "_modules/index", "page.html", nothing, None)
    assert nothing == {}
