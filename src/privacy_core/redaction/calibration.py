"""What a score means: of the findings that a rule makes, the share that is what the label says.

Each rule (a form, a form in context, a form with its checksum) has one score. It is the mean of a
Beta posterior: a prior from what is known of the format (a checksum of modulus 97 beside the word
IBAN is hardly ever wrong), worth `PRIOR_WEIGHT` observations, and the counts of `precision_table`,
measured on development data by `scripts/calibrate_redaction.py`. So a threshold of 0.9 keeps the
rules that were right at least nine times of ten.

A rule that was never observed keeps its prior. The counts come from texts of particular kinds
(see the table's header); on other texts a precision may differ, in either direction.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, NamedTuple

from privacy_core.redaction.precision_table import COUNTS

PRIOR_WEIGHT: Final = 8.0
_CEILING: Final = 0.999
UNLISTED: Final = 0.5


class Rule(NamedTuple):
    """A rule's prior precision and its strength where findings overlap (see `overlaps`)."""

    prior: float
    strength: int


# rule | prior precision | strength
_TABLE: Final = """
email.address 0.98 3
email.spelt 0.90 2
username.handle 0.70 1
phone.international 0.98 3
phone.international_context 0.95 2
phone.international_possible 0.75 1
phone.context 0.92 2
phone.nanp 0.92 2
phone.nanp_form 0.75 1
phone.grouping 0.75 1
card.luhn_context 0.99 3
card.luhn 0.92 3
card.context 0.90 2
masked.ssn 0.97 2
masked.card 0.92 2
masked.account 0.85 2
masked.phone 0.80 2
iban.checksum 0.99 3
iban.context 0.90 2
bic.context 0.92 2
routing.checksum_context 0.90 2
wallet.ethereum 0.92 2
wallet.checksum 0.99 3
wallet.context 0.85 2
amount.currency 0.75 0
national_id.checksum_context 0.98 3
national_id.checksum_identity 0.88 2
national_id.checksum_grouping 0.86 3
url.scheme 0.98 3
url.domain 0.80 1
ip.v4 0.95 3
ip.v6 0.97 3
mac.form 0.95 3
date.words 0.97 2
date.figures 0.95 2
date.figures_short 0.88 1
date.figures_dots 0.70 1
date.figures_dashes 0.70 1
date.iso 0.96 2
date.compact 0.80 1
date.day_month 0.60 1
date.month_year 0.75 1
date.birth 0.90 2
date.year_context 0.85 0
date.year_brackets 0.75 0
date.year 0.45 0
date.month 0.75 0
date.weekday 0.60 0
time.clock 0.80 0
age.english 0.85 2
age.labelled 0.92 2
age.unit_of_age 0.90 2
age.unit 0.70 1
nationality.list 0.70 0
profession.list 0.65 0
secret.issuer 0.98 3
secret.private_key 0.99 3
secret.url_password 0.97 3
secret.bearer 0.90 2
secret.assigned 0.88 2
address.street 0.85 1
address.labelled 0.90 2
postal.state 0.90 1
postal.label 0.92 2
postal.town 0.70 1
postal.netherlands 0.60 1
postal.form 0.85 1
coordinates.pair 0.90 2
label.medical_record 0.92 2
label.health_plan 0.90 2
label.passport 0.93 2
label.driver_license 0.93 2
label.license_plate 0.88 2
label.vehicle_id 0.92 2
label.device_id 0.88 2
label.bank_account 0.92 2
label.national_id 0.90 2
label.us_ssn 0.92 2
label.tax_id 0.90 2
label.username 0.85 2
label.biometric_id 0.85 2
label.image_id 0.80 2
label.id_number 0.88 2
label.near 0.75 1
label.court_file 0.88 1
label.number_list 0.75 1
list.deny 0.99 4
name.propagated 0.75 1
"""

RULES: Final = MappingProxyType(
    {
        name: Rule(float(prior), int(strength))
        for name, prior, strength in (line.split() for line in _TABLE.strip().splitlines())
    }
)


def posterior(prior: float, right: int, seen: int) -> float:
    """Mean of Beta(prior, weight) after `right` of `seen` findings were what their label says."""
    return min(_CEILING, (right + prior * PRIOR_WEIGHT) / (seen + PRIOR_WEIGHT))


SCORES: Final = MappingProxyType(
    {name: posterior(rule.prior, *COUNTS.get(name, (0, 0))) for name, rule in RULES.items()}
)


def score(rule: str) -> float:
    """The calibrated precision of a rule; 0.5 for one that is not ours."""
    return SCORES.get(rule, UNLISTED)


def strength(rule: str) -> int:
    """How strong a rule is where findings overlap; a name tagger's rules are form alone."""
    known = RULES.get(rule)
    return 1 if known is None else known.strength
