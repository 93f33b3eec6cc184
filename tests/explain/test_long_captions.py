"""A caption of thousands of words is not drawn word by word: what is too long is refused at once, with its length."""

from __future__ import annotations

import pytest
from finished_projects import Finish
from tiny_project import Call

from harness.errors import UsageError
from harness.explain.explanation import MOST_WORDS, Word, chosen

IMAGE = "test-0001b"
RUN = ("run", "--here", "-q", "--methods", "vsepp,scan_t2i")


def caption(words: int) -> str:
    return " ".join(["red", "square"] * (words // 2) + ["circle"] * (words % 2))


@pytest.mark.parametrize("flags", [("--method", "scan_t2i"), ("--methods", "scan_t2i,vsepp")])
def test_a_caption_too_long_to_draw_is_refused_with_its_length_and_the_flag_that_chooses_words(
    finish: Finish, call: Call, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]
) -> None:
    folder = finish(RUN)
    ask = ("explain", *flags, "--dataset", "tiny", "--image", IMAGE, "--caption")
    capsys.readouterr()
    assert call(*ask, caption(3000)) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"--words: the caption has 3,000 words, and {MOST_WORDS} can be shown; choose some with --words" in said
    assert not [*folder.glob("explain-*")]
    assert call(*ask, caption(3001), "--words", "circle") == 0, "of a long caption some words are shown"
    assert call(*ask, caption(3000), "--words", "square") == 2
    assert "these stand in the caption as 1,500 words" in " ".join(capsys.readouterr().err.split())


def test_as_many_words_as_can_be_shown_are_chosen_and_one_more_is_not() -> None:
    words = [Word("red", True, (1.0,))] * MOST_WORDS
    assert len(chosen(words, "red")) == MOST_WORDS
    with pytest.raises(UsageError, match=rf"--words: .* {MOST_WORDS + 1} words"):
        chosen([*words, words[0]], "red")
