"""Checks of captions: each is a function of the splits that yields findings."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import combinations

import numpy as np

from harness.data.content import SHOWN, Content
from harness.data.regions import Ints
from harness.data.tokens import Tokens, plain
from harness.errors import Location
from harness.preparation.findings import Finding, Severity, findings_of
from harness.preparation.region_scan import Doubles

Contents = Mapping[str, Content]
MANY = 0.1  # the share of a split's captions that stand in another one, from which on it is hardly by chance
LONG = 250  # words of a caption, from which on it is a paragraph
STRANGE = 0.3  # the share of unknown words from which on a split is hardly of the language of the vocabulary
OTHER = 0.1  # the difference of these shares from which on test is hardly of the kind of val
FAR = 5.0  # standard errors of a difference that is not by chance
WORD = re.compile(r"\w+")
WORDS = re.compile(r"[^\W_]{2}|(?=[\u2e80-\U0003ffff])[^\W_]")  # two letters, or one of those that are words alone
ENTITY = re.compile(r"&(?:[a-zA-Z]{2,8}|#\d{1,6}|#x[0-9a-fA-F]{1,5});")
MOJIBAKE = re.compile("Ã[\x80-\xbf©¨¯±¼¶¤]|â€|â\x80|Â[\x80-\xbf°£]|ï»¿|\N{REPLACEMENT CHARACTER}")
BYTES = re.compile(r"""^b(['"]).*\1$""")


def same(caption: str) -> str:
    """What captions share that every method reads as the same words and marks in the same order."""
    return " ".join(plain(caption).lower().split())


def spoken(caption: str) -> str:
    """What captions of the same words in the same order share, whatever their marks; of one without words, itself."""
    return " ".join(WORD.findall(plain(caption).casefold())) or same(caption)


def twice_at_an_image(contents: Contents) -> Iterator[Finding]:
    for split, content in contents.items():
        seen: set[tuple[int, str]] = set()
        twice = []
        for image, caption in content.pairs.tolist():
            text = same(content.captions[caption])
            if (image, text) in seen:
                twice.append(caption)
            seen.add((image, text))
        message = "captions stand twice at their image"
        yield from findings_of(Severity.NOTE, "caption-twice-at-image", message, _places(content, twice), split)


def of_several_images(contents: Contents) -> Iterator[Finding]:
    for split, content in contents.items():
        images: dict[str, set[int]] = defaultdict(set)
        first: dict[str, int] = {}
        for image, caption in content.pairs.tolist():
            text = same(content.captions[caption])
            images[text].add(image)
            first.setdefault(text, caption)
        shared = [first[text] for text, own in images.items() if len(own) > 1]
        message = "texts are captions of several images: exact ties, which count against every method"
        yield from findings_of(Severity.NOTE, "caption-of-several-images", message, _places(content, shared), split)


def in_two_splits(contents: Contents) -> Iterator[Finding]:
    texts = {split: [*map(spoken, content.captions)] for split, content in contents.items()}
    for one, other in combinations(contents, 2):
        known = set(texts[one])
        shared = [number for number, text in enumerate(texts[other]) if text in known]
        share = len(shared) / max(1, len(texts[other]))
        severity = Severity.WARNING if share >= MANY else Severity.NOTE
        message = f"captions of {other}, {100 * share:.1f} %, stand in {one} too, but for case and punctuation"
        message += "; are these splits of one release?" if share >= MANY else ", as common captions do"
        yield from findings_of(severity, "caption-in-two-splits", message, _places(contents[other], shared), other)


def of_texts(
    is_odd: Callable[[str], object], severity: Severity, code: str, message: str, contents: Contents
) -> Iterator[Finding]:
    for split, content in contents.items():
        numbers = [number for number, text in enumerate(content.captions) if is_odd(text)]
        yield from findings_of(severity, code, message, _places(content, numbers), split)


def is_unprintable(text: str) -> bool:
    return not text.isprintable()


def is_long(text: str) -> bool:
    return len(text) > 2 * LONG and len(text.split()) > LONG


def is_wordless(text: str) -> bool:
    return bool(text.strip()) and not WORDS.search(text)


def is_normalised(text: str) -> bool:
    return plain(text) != text


NORMALISED = (
    "captions have letters or marks of several forms and are read in the plain one: composed, straight, visible"
)
TOO_LONG = f"captions have more than {LONG} words: every batch with one is as long; cut them, or take them out"
WORDLESS = "captions have no word of two letters: they can hardly retrieve an image; write them, or take them out"
AS_BYTES = "captions are written as Python's b'…': whoever made the file did not decode it; decode it"
WITH_HTML = "captions hold HTML entities, which become words; unescape the file, or accept it"
GARBLED = "captions look as if UTF-8 had been read as another encoding; get the file again"
UNPRINTABLE = "captions hold characters that cannot be printed; take them out"
CHECKS: tuple[Callable[[Contents], Iterator[Finding]], ...] = (
    partial(of_texts, BYTES.search, Severity.WARNING, "caption-as-bytes", AS_BYTES),
    in_two_splits,
    twice_at_an_image,
    of_several_images,
    partial(of_texts, is_long, Severity.WARNING, "caption-long", TOO_LONG),
    partial(of_texts, is_wordless, Severity.NOTE, "caption-without-word", WORDLESS),
    partial(of_texts, is_normalised, Severity.NOTE, "caption-normalised", NORMALISED),
    partial(of_texts, ENTITY.search, Severity.NOTE, "caption-with-html", WITH_HTML),
    partial(of_texts, MOJIBAKE.search, Severity.NOTE, "caption-garbled", GARBLED),
    partial(of_texts, is_unprintable, Severity.NOTE, "caption-unprintable", UNPRINTABLE),
)


def of_no_known_word(split: str, content: Content, tokens: Tokens) -> Iterator[Finding]:
    numbers = unknown_only(tokens, np.arange(len(tokens)))
    message = "captions hold no word of the vocabulary: to every method they are the same"
    yield from findings_of(Severity.WARNING, "caption-of-no-known-word", message, _places(content, numbers), split)


def unknown_shares(tokens: Tokens) -> Doubles:
    """The share of unknown words of every caption that has a word, (m,)."""
    ids, specials = tokens.ids, tokens.special_ids
    unknown, words = (
        np.diff(np.concatenate([[0], np.cumsum(is_one)])[tokens.starts])
        for is_one in (ids == specials.unknown, ~np.isin(ids, specials.specials))
    )
    shares: Doubles = unknown[words > 0] / words[words > 0]
    return shares


def of_unknown_words(shares: Mapping[str, Doubles]) -> Iterator[Finding]:
    """Splits whose words the vocabulary lacks, as of another language or form, and test where it differs from val."""
    code, advice = "unknown-words", "another language, spelling or encoding? see to the captions"
    means = {split: float(own.mean()) for split, own in shares.items() if len(own)}
    for split, mean in means.items():
        if mean > STRANGE and mean > 3 * min(means.values()):
            message = f"{100 * mean:.1f} % of the words of {split} are not in the vocabulary, {_others(means, split)}"
            yield Finding(Severity.WARNING, code, f"{message}: {advice}", Location("", f"split {split}"), split=split)
    if {"val", "test"} <= set(means) and max(means["val"], means["test"]) <= STRANGE:
        error = float(np.sqrt(sum(shares[split].var() / len(shares[split]) for split in ("val", "test"))))
        if abs(means["val"] - means["test"]) > max(OTHER, FAR * error):
            message = (
                f"{100 * means['test']:.1f} % of the words of test are not in the vocabulary, {_others(means, 'test')}"
            )
            yield Finding(Severity.WARNING, code, f"{message}: {advice}", Location("", "split test"), split="test")


def _others(means: Mapping[str, float], split: str) -> str:
    return " and ".join(f"{100 * mean:.1f} % of those of {name}" for name, mean in means.items() if name != split)


def unknown_only(tokens: Tokens, numbers: Ints) -> list[int]:
    """Which of some captions hold no known word; `tokens` are theirs. Halves without one are not looked into."""
    if not tokens.unknown_only:
        return []
    if len(numbers) == 1:
        return [int(numbers[0])]
    middle = len(numbers) // 2
    halves = np.arange(middle), np.arange(middle, len(numbers))
    return [number for half in halves for number in unknown_only(tokens.take(half), numbers[half])]


def _places(content: Content, numbers: list[int]) -> list[tuple[Location, str]]:
    return [(content.location("caption", number), repr(content.captions[number][:SHOWN])) for number in numbers]
