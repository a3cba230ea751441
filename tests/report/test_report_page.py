"""The page: complete, readable when something fails, self-contained, and the same bytes every time."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from report_cases import COUNTERS, GATES, Case, case

from seg1b.report import sections
from seg1b.report.page import SitePoints, report_page, write_report

VOID = {"meta", "br"}


class Outline(HTMLParser):
    """Fails on tags that do not match; collects headings, ids, addresses and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.unlabelled: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open a tag and look at its attributes."""
        given = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("h1", "h2", "h3"):
            self.headings.append(tag)
        if "id" in given:
            self.ids.append(str(given["id"]))
        self.addresses += [
            str(value) for name, value in attrs if name in ("href", "src", "xlink:href", "srcset")
        ]
        if tag == "svg" and not given.get("aria-label") and given.get("aria-hidden") != "true":
            self.unlabelled.append(str(given))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A tag that closes itself (SVG)."""
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost tag."""
        assert self.open, f"</{tag}> without a start"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect text outside of the style sheet."""
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        """All text, one space between words."""
        return " ".join(" ".join(self.words).split())


def page_of(given: Case) -> str:
    """The page of a case."""
    return report_page(*given.arguments())


def outline_of(page: str) -> Outline:
    """The page, parsed to its end."""
    outline = Outline()
    outline.feed(page)
    outline.close()
    assert outline.open == []
    return outline


def cells_of(page: str, title: str) -> str:
    """The table row whose head begins with `title`."""
    found = re.search(rf"<tr><th[^>]*>{re.escape(title)}.*?</tr>", page, re.DOTALL)
    assert found is not None, f"no row {title!r}"
    return found.group(0)


def test_same_certificate_same_bytes() -> None:
    """Nothing in the page depends on when or how often it is written."""
    written: list[tuple[str, bytes]] = []
    for _ in range(2):
        write_report(lambda name, data: written.append((name, data)), *case().arguments())
    assert [name for name, _ in written] == ["report/index.html"] * 2
    assert written[0][1] == written[1][1]


def test_the_page_is_well_formed_and_its_parts_are_named() -> None:
    """Tags match, there is one first-level heading, ids are unique, and every picture has words."""
    outline = outline_of(page_of(case()))
    assert outline.headings.count("h1") == 1
    assert outline.headings.count("h2") >= 9
    assert len(outline.ids) == len(set(outline.ids))
    assert outline.unlabelled == []


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ((), "Gates, parameters, seeds and world are those packaged with seg1b."),
        (("world",), "Earned with other world than those packaged with seg1b"),
        (
            ("gates", "parameters", "seeds"),
            "Earned with other gates, parameters and seeds than those packaged",
        ),
    ],
    ids=["packaged", "own world", "own policies"],
)
def test_the_header_says_what_the_grade_was_earned_with(own: tuple[str, ...], words: str) -> None:
    """A grade by lowered gates or on a world of one's own must not look like any other."""
    header = page_of(case(own=own)).split("<main>")[0]
    assert words in outline_of(header.split("<body>")[1]).text
    assert ("<strong>Earned" in header) == bool(own)


def test_nothing_is_loaded_from_elsewhere() -> None:
    """Addresses are data or places in the page, the style sheet imports nothing, and there is no script."""
    page = page_of(case())
    assert all(a.startswith(("data:image/png;base64,", "#")) for a in outline_of(page).addresses)
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "<script" not in page
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\'' in page


def test_every_seed_gate_and_counter_metric_is_there() -> None:
    """A column per seed and the pool, a row per gate and counter-metric."""
    page = page_of(case())
    for seed in (42, 7, 101, 202):
        assert f">Seed {seed}<" in page
    assert ">Pooled<" in page
    for name in [*GATES, "bootstrap_upper.country_gini", "region_floor.Europe", "structural.duplicate_keys"]:
        assert f'title="{name}"' in page
    for name, surface, *_ in COUNTERS:
        assert f'title="{name if surface is None else f"{name}@{surface}"}"' in page
    assert "✕" not in cells_of(page, "Inequality of countries")


def test_a_failing_gate_says_so_in_signs_and_words() -> None:
    """B only and failed differ without colour, carry the seed and the reason, and head the page with advice."""
    failed = case(
        grade="below_B",
        gates={7: {"country_gini": 0.65, "southern_hemisphere_share": 0.05}},
        counters={101: {"population_pit_mean": 0.03}},
        reasons=(
            "seed 7: southern_hemisphere_share",
            "seed 101: population_pit_mean@placement",
            "pooled: no result",
        ),
    )
    page = page_of(failed)
    gini, southern = cells_of(page, "Inequality of countries"), cells_of(page, "Southern hemisphere")
    assert "○ 0.650" in gini
    assert "○ B only" in gini
    assert "seed 7: 0.65 is not ≤ 0.6" in gini
    assert "✕ 5.00 %" in southern
    assert "✕ fails" in southern
    rank = cells_of(page, "Density rank of sites, mean")
    assert "seed 101: 0.03 is below 0.47" in rank
    text = outline_of(page).text
    assert "Grade below B" in text
    assert "Southern hemisphere (seed 7). Sites per country are fixed by the catalogue" in text
    assert "pooled: no result" in text


def test_a_grade_b_page_says_what_b_plus_would_need() -> None:
    """Between the grades the notice is about B+."""
    page = page_of(case(grade="B", gates={42: {"top1_share": 0.09}}, reasons=("seed 42: top1_share",)))
    assert "Why not B+" in page
    assert "Largest 1 % of countries</strong> (seed 42)" in page


def test_a_value_that_is_missing_is_a_failure_and_never_a_zero() -> None:
    """None shows as a dash with its reason, has no margin, and the seed without a row fails too."""
    given = case(grade="below_B", gates={7: {"nn_p99_p50_ratio": None}}, neighbours=False)
    given.document["seeds"][3]["gates"] = [
        row for row in given.document["seeds"][3]["gates"] if row["name"] != "top1_share"
    ]
    page = page_of(given)
    row = cells_of(page, "Isolation tail")
    assert "✕ –" in row
    assert "not_computable: the median nearest-neighbour distance is zero" in row
    assert "Room to the B+ threshold" not in row
    assert "✕ fails" in cells_of(page, "Largest 1 % of countries")
    assert "No site has a neighbour." in page
    assert "✕ CV not computable" in page
    outline_of(page)


def test_a_denylist_is_disclosed() -> None:
    """The countries are named, and that they stay in the denominators."""
    text = outline_of(page_of(case(denylist=("KP", "SY")))).text
    assert "No sites were placed in KP, SY" in text
    assert "stay in the denominators" in text
    assert "denylist" not in outline_of(page_of(case())).text


def test_one_seed_and_no_sites_are_still_a_page() -> None:
    """The smallest certifications draw too."""
    assert "once, from one random seed" in outline_of(page_of(case((5,)))).text
    outline_of(page_of(case((5,), sites=0, neighbours=False)))


def test_names_and_reasons_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A country, a town or a reason is text, never markup."""
    monkeypatch.setattr(sections, "ATLAS", ("SQ", "TI", "IS", "XX"))
    page = page_of(case(grade="below_B", reasons=("seed 7: the <i>replay</i> differs",)))
    for name in ("Square <b>", "<script>", "<i>"):
        assert name not in page
        assert name.replace("<", "&lt;").replace(">", "&gt;") in page
    outline_of(page)


def test_the_atlas_draws_the_countries_that_the_world_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """A map per country with its number of sites; a code that the world lacks is left out."""
    monkeypatch.setattr(sections, "ATLAS", ("SQ", "TI", "XX"))
    given = case(sites=300)
    page = page_of(given)
    expected = int((given.points[42].country == 2).sum())
    assert f"<strong>Square &lt;b&gt;</strong><span>{expected} sites</span>" in page
    assert page.count('aria-label="Map of ') == 2


def test_the_distortion_carries_the_weight_that_undoes_it() -> None:
    """Prior over certified share; a country without sites has none."""
    page = page_of(case())
    assert "× 0.67" in cells_of(page, "Isles &amp; Co")
    assert "<td>–</td>" in cells_of(page, "Nobody")


def test_the_map_shows_the_first_seed_of_the_certificate() -> None:
    """Other seeds' points change nothing."""
    given = case()
    expected = page_of(given)
    given.points = {42: given.points[42], 7: SitePoints(*(a[:5] for a in vars(given.points[42]).values()))}
    assert page_of(given) == expected


@pytest.mark.parametrize(
    "part", ["seg1b verify FOLDER", "Made by hand, with love.", "Made by hand.", "ab" * 32]
)
def test_provenance_and_verification_are_told(part: str) -> None:
    """How to check, whose data it is, and the digests."""
    assert part in outline_of(page_of(case())).text
