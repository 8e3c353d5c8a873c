"""Reading parallel text: every form, streamed, and nothing in a file ends a run."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.training.errors import DataError
from worker.training.files import DataFile, Keys, parse_data_file, read_rows

ROWS = [("Good day", "Bonjour"), ('café, "x"', "[œuf]")]
FORMS = {
    "a.tsv": "".join(f"{source}\t{target}\n" for source, target in ROWS),
    "a.jsonl": "".join(json.dumps({"source_key": s, "target_key": t}) + "\n\n" for s, t in ROWS),
    "a.json": json.dumps([{"source_key": s, "target_key": t} for s, t in ROWS], indent=1),
}


def rows_of(path: Path, keys: Keys | None = None) -> tuple[list[tuple[str, str]], Counter[str]]:
    """The rows of a file and what was bad."""
    bad: Counter[str] = Counter()
    return list(read_rows(str(path), keys or Keys(), bad)), bad


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("is_gzipped", [False, True])
def test_all_forms_give_the_same_rows(name: str, is_gzipped: bool, tmp_path: Path) -> None:
    """TSV, a JSON list and JSON lines, gzipped or not."""
    data = FORMS[name].encode()
    path = tmp_path / (name + ".gz" * is_gzipped)
    path.write_bytes(gzip.compress(data) if is_gzipped else data)
    assert rows_of(path) == (ROWS, Counter())


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("is_gzipped", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_no_text(name: str, encoding: str, is_gzipped: bool, tmp_path: Path) -> None:
    """It tells the encoding, as spreadsheets and shells write it, and costs no row; also of files that were joined."""
    data = FORMS[name].replace("\n", "\r\n").encode(encoding)
    path = tmp_path / (name.upper() + ".GZ" * is_gzipped)
    for times in (1, 2):
        path.write_bytes(gzip.compress(data * times) if is_gzipped else data * times)
        assert rows_of(path) == (ROWS * times, Counter())


def test_a_broken_object_costs_itself(tmp_path: Path) -> None:
    """The rows behind it in a list are read, however many; each broken one counts."""
    rows = [("x " * 50, f"y{number}") for number in range(3_000)]
    values = [json.dumps({"source_key": source, "target_key": target}) for source, target in rows]
    values[1] = '{"source_key": broken, "target_key": "y"}'
    values[2_000] = '{"source_key" "x", "target_key": "y"}'
    path = tmp_path / "a.json"
    path.write_text(f"[{','.join(values)}]")
    assert rows_of(path) == ([rows[0], *rows[2:2_000], *rows[2_001:]], Counter({"no JSON": 2}))


def test_a_long_json_list_is_read_across_chunks(tmp_path: Path) -> None:
    """Values may lie across the borders of what is read at a time."""
    rows = [(f"word {i} " * 20, f"mot {i}") for i in range(1500)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"en": source, "fr": target} for source, target in rows]))
    assert rows_of(path, Keys("en", "fr")) == (rows, Counter())


@pytest.mark.parametrize(
    ("name", "text", "reason", "count"),
    [
        ("a.tsv", "one column\nx\ty\n\n", "fewer than two columns", 2),
        ("a.jsonl", '{"source_key": 1}\n[2]\n{"source_key": "x", "target_key": "y"}\n', "no text under", 2),
        ("a.jsonl", '{"broken"\n{"source_key": "x", "target_key": "y"}\n', "no JSON", 1),
        ("a.json", '[{"source_key": "x", "target_key": "y"}, {"bro', "no JSON", 1),
    ],
)
def test_bad_rows_are_counted(name: str, text: str, reason: str, count: int, tmp_path: Path) -> None:
    """They are left out and counted by the reason; the good row beside them is there."""
    path = tmp_path / name
    path.write_text(text)
    rows, bad = rows_of(path)
    assert rows == [("x", "y")]
    assert [(name.startswith(reason), number) for name, number in bad.items()] == [(True, count)]


def test_a_cut_gzip_gives_what_is_there(tmp_path: Path) -> None:
    """The loss of the rest is counted once."""
    path = tmp_path / "a.tsv.gz"
    path.write_bytes(gzip.compress(b"x\ty\n" * 5000)[:-10])
    rows, bad = rows_of(path)
    assert set(rows) <= {("x", "y")}
    assert bad == {"damaged gzip, the rest is lost": 1}


@given(st.text(), st.sampled_from(["a.tsv", "a.json", "a.jsonl"]))
def test_no_content_is_fatal(text: str, name: str) -> None:
    """Whatever a file holds, reading it ends."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        rows_of(path)


@pytest.mark.parametrize(
    ("text", "to", "expected"),
    [
        ("a.tsv@fr", None, DataFile("a.tsv", "fr")),
        ("a.tsv@German:2", "fr", DataFile("a.tsv", "de", 2.0)),
        ("a.tsv:0.5", "fr", DataFile("a.tsv", "fr", 0.5)),
        ("dir@2/a.tsv", "fr", DataFile("dir@2/a.tsv", "fr")),
        ("dir/a.en-de.tsv.gz:2", None, DataFile("dir/a.en-de.tsv.gz", "de", 2.0)),
        ("a.en-de.jsonl", "fr", DataFile("a.en-de.jsonl", "de")),
        ("a.en-de.tsv@fr", None, DataFile("a.en-de.tsv", "fr")),
    ],
)
def test_file_names_carry_language_and_weight(text: str, to: str | None, expected: DataFile) -> None:
    """`FILE[@LANG][:WEIGHT]`; an @ in the name of a folder is no tag. A tag goes before a name, a name before --to."""
    assert parse_data_file(text, to) == expected


@pytest.mark.parametrize(("text", "said"), [("a.tsv", "--to fr"), ("a.tsv@fr:0", "above 0"), ("a@fr:-1", "above 0")])
def test_a_file_without_language_or_weight_is_refused(text: str, said: str) -> None:
    """The message tells the remedy."""
    with pytest.raises(DataError, match=said):
        parse_data_file(text, None)
