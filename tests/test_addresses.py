"""Addresses with a secret in every place where one may stand: shown without it, and still of use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.addresses import shown, without_secrets, words_without_secrets

SECRET = "s3cr+et"
HOLDING = {
    "http://me:s3cr+et@host:5000/x": "http://host:5000/x",
    "http://:s3cr+et@host": "http://host",
    "https://s3cr+et@host/x": "https://host/x",
    "postgresql+psycopg2://u:s3cr+et@host/db": "postgresql+psycopg2://host/db",
    "mysql://u:s3cr+et@host:3306/db?charset=utf8": "mysql://host:3306/db?charset=utf8",
    "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Ds3cr+et": "mssql+pyodbc:///?odbc_connect=***",
    "http://u:a/s3cr+et@host/x": "http://host/x",
    "http://u:a#s3cr+et@host:5": "http://host:5",
    "http://u:a?s3cr+et@host/p": "http://host/p",
    "http://u:a@s3cr+et@host/p": "http://host/p",
    "http://host?token=s3cr+et": "http://host?token=***",
    "http://host/p?v=1&password=s3cr+et": "http://host/p?v=1&password=***",
    "http://host/p?anything=s3cr+et&x": "http://host/p?anything=***&***",
    "http://host?s3cr+et": "http://host?***",
    "http://host/p;token=s3cr+et": "http://host/p;token=***",
    "https://a.blob/x?sv=2020&sig=s3cr+et": "https://a.blob/x?sv=***&sig=***",
    "s3://b/k?X-Amz-Signature=s3cr+et&X-Amz-Credential=s3cr+et": "s3://b/k?X-Amz-Signature=***&X-Amz-Credential=***",
    "https://host/#access_token=s3cr+et": "https://host/#access_token=***",
    "//u:s3cr+et@host/x": "//host/x",
    "host=h password=s3cr+et user=x": "host=h password=*** user=x",
}
HARMLESS = (
    *("sqlite:////tmp/a@b/mlflow.db?mode=ro", "sqlite:///relative/mlflow.db", "http://[::1]:5000/a@b", "databricks"),
    *("https://cocodataset.org/#download", "http://host:5000", "https://h/uc?export=download&id=1x", "/tmp/mlruns"),
)


@pytest.mark.parametrize("address", HOLDING)
def test_an_address_is_shown_without_its_secret(address: str) -> None:
    assert shown(address) == HOLDING[address]
    assert shown(shown(address)) == shown(address)


@pytest.mark.parametrize("address", HARMLESS)
def test_an_address_without_a_secret_is_shown_as_it_is(address: str) -> None:
    assert shown(address) == address


@pytest.mark.parametrize("address", [one for one in HOLDING if "?s3cr" not in one and not one.startswith("host=")])
def test_an_error_that_holds_it_in_whole_or_in_part_is_cleaned(address: str) -> None:
    text = f"request to '{address}' failed: {address}: no login with s3cr+et, s3cr%2Bet at host; see http://help.org/x"
    clean = without_secrets(text, address)
    assert "s3cr" not in clean
    assert clean.endswith("at host; see http://help.org/x")


@pytest.mark.parametrize("address", [one for one in HOLDING if "://" in one])
def test_a_command_is_shown_without_it_however_the_key_is_given(address: str) -> None:
    for words in (["-s", f"tracking.uri={address}"], [f"-stracking.uri={address}"], [f"--set=tracking.uri={address}"]):
        clean = words_without_secrets(["run", *words, "--methods", "a@b"])
        assert SECRET not in " ".join(clean) and clean[0] == "run" and clean[-1] == "a@b"


@pytest.mark.parametrize("text", ["external:Their@x is no row", "R@1 of 2:3@x", "12:30@noon", "a token: 5", "x // y@z"])
def test_other_text_is_left_alone(text: str) -> None:
    assert without_secrets(text) == text


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=40))
def test_no_text_is_too_odd(text: str) -> None:
    for address in (text, f"http://{text}", f"http://u:{text}@host"):
        assert isinstance(without_secrets(shown(address), address), str)
