"""Phrases to tokens, with small vocabularies in both file formats."""

import gzip
import json
from pathlib import Path

import pytest

from tracker_svc.compute.tokenizer import PhraseTokenizer, PhraseTooLong

# Merges in the form of CLIP's file, whose first line is a version.
MERGES = ["#version: 0.2", "r e", "re d</w>", "c u", "cu p</w>"]
FIRST_MERGE = 512
START, END = FIRST_MERGE + 4, FIRST_MERGE + 5


@pytest.fixture(params=["txt", "gz"])
def merges(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    text = "\n".join(MERGES).encode()
    path = tmp_path / f"merges.{'txt' if request.param == 'txt' else 'txt.gz'}"
    path.write_bytes(text if request.param == "txt" else gzip.compress(text))
    return path


def test_words_are_merged_between_start_and_end(merges: Path) -> None:
    tokenizer = PhraseTokenizer.load(merges, context_length=32)
    assert tokenizer.encode("red cup") == [START, FIRST_MERGE + 1, FIRST_MERGE + 3, END]


def test_case_and_white_space_do_not_matter(merges: Path) -> None:
    tokenizer = PhraseTokenizer.load(merges, context_length=32)
    assert tokenizer.encode("  RED \n\t Cup ") == tokenizer.encode("red cup")


def test_characters_outside_the_vocabulary_are_bytes(merges: Path) -> None:
    tokenizer = PhraseTokenizer.load(merges, context_length=32)
    assert len(tokenizer.encode("杯")) == 2 + 3
    assert all(token < 512 for token in tokenizer.encode("x1!é")[1:-1])


def test_tokenizer_json_is_read_without_its_padding(merges: Path, tmp_path: Path) -> None:
    made = PhraseTokenizer.load(merges, context_length=32)
    content = json.loads(made._tokenizer.to_str())
    content["truncation"] = {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    content["padding"] = {
        "strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "!",
    }  # fmt: skip
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    read = PhraseTokenizer.load(path, context_length=32)
    assert read.encode("red cup in a cup") == made.encode("red cup in a cup")


def test_long_phrases_are_refused_with_their_length() -> None:
    tokenizer = PhraseTokenizer.of_bytes(context_length=8)
    assert len(tokenizer.encode("x" * 6)) == 8
    with pytest.raises(PhraseTooLong, match="has 9 tokens, at most 8 fit"):
        tokenizer.encode("x" * 7)


OTHER_FILES = {
    "tokenizer.json": b"{}",
    "merges.txt": b"#version\nthree words here\n",
    "empty.txt": b"",
    "cut.txt.gz": gzip.compress(b"x" * 100, mtime=0)[:20],
    "binary.txt": b"#v\n\xff\xfe a\n",
}


@pytest.mark.parametrize("name", OTHER_FILES)
def test_other_files_are_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(OTHER_FILES[name])
    with pytest.raises(ValueError, match=f"{name} is no vocabulary"):
        PhraseTokenizer.load(path, context_length=32)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    for name in ("tokenizer.json", "merges.txt"):
        with pytest.raises(FileNotFoundError):
            PhraseTokenizer.load(tmp_path / name, context_length=32)
