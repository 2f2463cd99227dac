"""From a phrase to the tokens of the text encoder."""

import gzip
import zlib
from itertools import count
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

START, END = "<|startoftext|>", "<|endoftext|>"

# Words, single digits and runs of other characters, and the endings of English contractions.
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

# The number of merges of the public vocabulary; its file has more, which CLIP does not use.
_NUM_MERGES = 49152 - 256 - 2


class PhraseTooLong(ValueError):
    """A phrase has more tokens than the text encoder takes."""


class PhraseTokenizer:
    """The byte-pair encoding of CLIP, with the start and end tokens.

    Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021).
    """

    def __init__(self, tokenizer: Tokenizer, *, context_length: int) -> None:
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._context_length = context_length

    @classmethod
    def load(cls, path: Path, *, context_length: int) -> "PhraseTokenizer":
        """Read ``tokenizer.json``, or the list of merges that CLIP published (``.txt`` or ``.txt.gz``).

        Raises OSError if the file cannot be read, ValueError if it is no vocabulary.
        """
        if path.suffix == ".json":
            with path.open("rb"):
                pass  # so that a missing file is an OSError
            try:
                tokenizer = Tokenizer.from_file(str(path))
            except Exception as error:  # the library raises plain exceptions
                raise ValueError(f"{path.name} is no vocabulary: {error}") from error
            return cls(tokenizer, context_length=context_length)
        data = path.read_bytes()
        try:
            text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
            lines = text.split("\n")[1 : _NUM_MERGES + 1]
            merges = [(first, second) for first, second in (line.split() for line in lines if line)]
            if not merges:
                raise ValueError("it has no merges")
        except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path.name} is no vocabulary: {error}") from error
        return cls(_byte_pairs(merges), context_length=context_length)

    @classmethod
    def of_bytes(cls, *, context_length: int) -> "PhraseTokenizer":
        """A vocabulary without merges, whose tokens are bytes, for untrained models."""
        return cls(_byte_pairs([]), context_length=context_length)

    @property
    def size(self) -> int:
        """The number of tokens of the vocabulary."""
        return int(self._tokenizer.get_vocab_size())

    def encode(self, phrase: str) -> list[int]:
        """The tokens of a phrase.  Raises PhraseTooLong with their number if there are too many."""
        tokens: list[int] = self._tokenizer.encode(phrase).ids
        if len(tokens) > self._context_length:
            raise PhraseTooLong(f"the phrase has {len(tokens)} tokens, at most {self._context_length} fit")
        return tokens


def _byte_pairs(merges: list[tuple[str, str]]) -> Tokenizer:
    symbols = [*_byte_symbols(), *(symbol + "</w>" for symbol in _byte_symbols())]
    symbols += [first + second for first, second in merges]
    vocabulary = {symbol: index for index, symbol in enumerate([*symbols, START, END])}
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token=END, continuing_subword_prefix="", end_of_word_suffix="</w>")
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(START, vocabulary[START]), (END, vocabulary[END])],
    )
    return tokenizer


def _byte_symbols() -> list[str]:
    """One printable character for each byte, in the order of the vocabulary: printable bytes as themselves
    first, then the others from U+0100 on.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)]
    others = count(256)
    return [chr(byte) for byte in printable] + [
        chr(next(others)) for byte in range(256) if byte not in printable
    ]
