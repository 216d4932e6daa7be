from pathlib import Path

import pytest

from scheduler import lexicon


def load(folder: Path, text: str, name: str = "lexicon.toml") -> lexicon.Lexicon:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return lexicon.Lexicon.load(path)


@pytest.mark.parametrize(
    ("entries", "text", "expected"),
    [
        ({"nuada": "noo-ah-da"}, "Nuada met nuada, NUADA.", "Noo-ah-da met noo-ah-da, Noo-ah-da."),
        ({"Reading": "Redding"}, "Reading in Reading, reading.", "Redding in Redding, reading."),
        ({"can": "kan"}, "can canned pecan can't can.", "kan canned pecan can't kan."),
        ({"anna": "ah-na"}, "Anna's hat", "Ah-na's hat"),
        ({"new": "noo", "new york": "noo york"}, "new York, new hat", "noo york, noo hat"),
        ({"New": "N", "new york": "ny"}, "New York and New", "Ny and N"),
        ({"a": "b", "b": "c"}, "a b", "b c"),
        ({"c++": "see plus plus"}, "C++ and c++.", "See plus plus and see plus plus."),
        ({"d'artagnan": "dartanyan"}, "d'Artagnan", "dartanyan"),
        (
            {"laugh": "laff", "time": "tyme"},
            '<laugh> laugh <break time="1s"/>',
            '<laugh> laff <break time="1s"/>',
        ),
        ({r"/(\d+)\s?km\b/": r"\1 kilometres"}, "5km or 10 km", "5 kilometres or 10 kilometres"),
        ({"x": "y", r"/(a)(b)?(c)/": r"\3\2\1", r"/(d)/": r"[\1]"}, "x ac abc d", "y ca cba [d]"),
        ({"gone": ""}, "gone now", " now"),
        ({}, "as it was", "as it was"),
        ({"straße": "strasse"}, "Die STRASSE, die Straße", "Die STRASSE, die Strasse"),
    ],
)
def test_respelling(entries: dict[str, str], text: str, expected: str) -> None:
    assert lexicon.Lexicon(entries).apply(text) == expected


def test_many_entries_find_the_same_as_few() -> None:
    words = {
        f"{first}{second}{third}ord": f"<{first}{second}{third}>"
        for first in "abcx"
        for second in "abcdefg"
        for third in "xyz"
    }
    words |= {"a": "one", "ab": "two", "abx": "three"}
    text = " ".join(words) + " abxord abxor ABXORD"

    expected = " ".join(words.values()) + " <abx> abxor <abx>"

    assert lexicon.Lexicon(words).apply(text) == expected


def test_a_long_text_is_respelled_throughout() -> None:
    words = lexicon.Lexicon({"one two": "12"})

    assert words.apply("one two. " * 1000) == "12. " * 1000


def test_toml(tmp_path: Path) -> None:
    words = load(tmp_path, '# names\nNuada = "noo-ah-da"\n"d’Artagnan" = "dartanyan"\n')

    assert words.entries == {"Nuada": "noo-ah-da", "d'Artagnan": "dartanyan"}


@pytest.mark.parametrize(("name", "delimiter"), [("words.tsv", "\t"), ("words.csv", ",")])
def test_columns(tmp_path: Path, name: str, delimiter: str) -> None:
    words = load(tmp_path, f"# names\n\nnuada{delimiter}noo-ah-da\n/k(m)/{delimiter}\\1\n", name)

    assert words.entries == {"nuada": "noo-ah-da", "/k(m)/": "\\1"}


@pytest.mark.parametrize(
    ("text", "name", "line", "word"),
    [
        ("a = 'b'\nc = = d\n", "l.toml", "line 2", "Invalid"),
        ("a = 'b'\nc = 5\n", "l.toml", "line 2", "respelling in quotes"),
        ("[a]\nb = 'c'\n", "l.toml", "", "respelling in quotes"),
        ("a = 'b'\n'/(/' = 'x'\n", "l.toml", "line 2", "no regular expression"),
        ("'/(a+)+b/' = 'x'\n", "l.toml", "line 1", "take for ever"),
        ("'/(a|ab)*c/' = 'x'\n", "l.toml", "line 1", "take for ever"),
        ("'/a*/' = 'x'\n", "l.toml", "line 1", "empty text"),
        (r"'/(a)\1/' = 'x'", "l.toml", "line 1", "back reference"),
        (r"'/(?i)a/' = 'x'", "l.toml", "line 1", "flag"),
        (r"'/(a)b/' = '\2'", "l.toml", "line 1", "no group"),
        ("'' = 'x'\n", "l.toml", "line 1", "no word"),
        ("a\tb\na\tc\n", "l.tsv", "line 2", "twice"),
        ("a\tb\tc\n", "l.tsv", "line 1", "two columns"),
        ('a,"b\n', "l.csv", "", ""),
        ("x", "l.yaml", "", "must end in"),
    ],
)
def test_mistakes_name_their_line(tmp_path: Path, text: str, name: str, line: str, word: str) -> None:
    if name == "l.csv":
        assert load(tmp_path, text, name).entries == {"a": "b"}  # an open quote at the end is let pass
        return
    with pytest.raises(lexicon.LexiconError) as caught:
        load(tmp_path, text, name)

    assert name in str(caught.value)
    assert line in str(caught.value)
    assert word in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(lexicon.LexiconError, match="No such file"):
        lexicon.Lexicon.load(tmp_path / "no.toml")


def test_the_digest_follows_the_entries() -> None:
    one = lexicon.Lexicon({"a": "b", "c": "d"})

    assert one.digest == lexicon.Lexicon({"c": "d", "a": "b"}).digest
    assert one.digest != lexicon.Lexicon({"a": "b", "c": "e"}).digest
