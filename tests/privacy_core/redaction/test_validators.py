from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.redaction import validators as v
from privacy_core.redaction.recognizers.national_ids import SCHEMES

# right numbers and where they are published; the last digit changed must be wrong
PUBLISHED = [
    (v.gb_nino, "AB123456C", "AB123456E", "HMRC NIM39110"),
    (v.ru_snils, "112-233-445 95", "112-233-445 96", "Russian pension fund, example"),
    (v.sg_nric, "S1234567D", "S1234567E", "weights 2 7 6 5 4 3 2, series S"),
    (v.sg_nric, "F1234567N", "F1234567M", "series F"),
    (v.tw_id, "A123456789", "A123456788", "Taiwan, specimen"),
    (v.us_npi, "1234567893", "1234567894", "CMS, NPI check digit example"),
    (v.us_dea, "AB1234563", "AB1234564", "DEA check digit"),
    (v.us_mbi, "1EG4-TE5-MK73", "1EG4-TE5-MKA3", "CMS, MBI specimen"),
    (v.us_ssn, "078-05-1120", "000-05-1120", "area 000 was never assigned"),
    (v.us_ssn, "219-09-9999", "666-09-9999", "area 666 was never assigned"),
    (v.routing_number, "021000021", "021000022", "ABA, JPMorgan Chase"),
    (v.luhn, "79927398713", "79927398710", "ISO/IEC 7812-1 annex"),
]


@pytest.mark.parametrize(("check", "right", "wrong", "source"), PUBLISHED)
def test_published_numbers_pass_and_their_neighbours_do_not(check, right, wrong, source) -> None:  # type: ignore[no-untyped-def]
    assert check(right), source
    assert not check(wrong), source


# examples of the IBAN registry (ISO 13616)
IBANS = """
AD1200012030200359100100 AT611904300234573201 BE68539007547034 BG80BNBG96611020345678
CH9300762011623852957 CY17002001280000001200527600 CZ6508000000192000145399
DE89370400440532013000 DK5000400440116243 EE382200221020145685 ES9121000418450200051332
FI2112345600000785 FR1420041010050500013M02606 GB29NWBK60161331926819
GR1601101250000000012300695 HU42117730161111101800000000 IE29AIBK93115212345678
IL620108000000099999999 IS140159260076545510730339 IT60X0542811101000000123456
LI21088100002324013AA LT121000011101001000 LU280019400644750000 LV80BANK0000435195001
MT84MALT011000012345MTLCAST001S NL91ABNA0417164300 NO9386011117947 PL61109010140000071219812874
PT50000201231234567890154 RO49AAAA1B31007593840000 SE4550000000058398257466
SI56263300012039086 SK3112000000198742637541 SM86U0322509800000000270100
TR330006100519786457841326 SA0380000000608010167519 AE070331234567890123456
""".split()  # noqa: SIM905 -- a registry is read as a block


@pytest.mark.parametrize("number", IBANS)
def test_registered_ibans_pass_and_one_changed_digit_does_not(number: str) -> None:
    assert v.iban(number)
    changed = number[:-1] + ("1" if number[-1] != "1" else "2")
    assert not v.iban(changed)


@pytest.mark.parametrize(
    ("digits", "issuer"),
    [
        ("4111111111111111", "visa"),
        ("5555555555554444", "mastercard"),
        ("2223003122003222", "mastercard"),
        ("378282246310005", "american express"),
        ("30569309025904", "diners"),
        ("6011111111111117", "discover"),
        ("3530111333300000", "jcb"),
        ("6200000000000005", "unionpay"),
        ("9111111111111111", None),
    ],
)
def test_issuers_are_known_by_prefix_and_length(digits: str, issuer: str | None) -> None:
    assert v.card_issuer(digits) == issuer
    assert issuer is None or v.luhn(digits)


@given(st.text(max_size=24), st.sampled_from(sorted(SCHEMES)))
def test_no_checksum_raises_whatever_it_reads(text: str, scheme: str) -> None:
    assert v.passes_checksum(scheme, text) in (True, False)


@given(st.text(alphabet="0123456789", min_size=18, max_size=18))
def test_strings_of_eighteen_digits_raise_nowhere(text: str) -> None:
    assert v.passes_checksum("cn.ric", text) in (True, False)
    assert v.iban(text) is False


@given(st.text(max_size=30))
def test_own_checks_never_raise(text: str) -> None:
    for check in (v.iban, v.gb_nino, v.ru_snils, v.sg_nric, v.tw_id, v.us_npi, v.us_dea, v.us_mbi):
        assert check(v.compact(text)[:30]) in (True, False)
    v.ip_address(text)
