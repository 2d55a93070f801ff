"""What touches tables, once more on PostgreSQL: the very tests of the other modules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient
from tests.federated_dp_llm.api.conftest import House, config_in, house_in
from tests.federated_dp_llm.api.test_administration import (
    test_a_grant_raises_one_users_cap_and_says_who_and_why,
    test_a_lifetime_cap_changes_with_a_reason_and_reaches_open_accounts,
    test_the_budget_in_a_token_decides_nothing,
    test_unusual_spending_is_an_alert_once_a_day,
)
from tests.federated_dp_llm.api.test_inference import (
    test_a_budget_that_ended_refuses_and_says_how_much_is_left,
    test_every_answer_is_in_the_audit_trail_without_its_words,
)
from tests.privacy_finetuner.jobs.conftest import schema_url

__all__ = [
    "test_a_budget_that_ended_refuses_and_says_how_much_is_left",
    "test_a_grant_raises_one_users_cap_and_says_who_and_why",
    "test_a_lifetime_cap_changes_with_a_reason_and_reaches_open_accounts",
    "test_every_answer_is_in_the_audit_trail_without_its_words",
    "test_the_budget_in_a_token_decides_nothing",
    "test_unusual_spending_is_an_alert_once_a_day",
]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    url, drop = schema_url()
    home = tmp_path_factory.mktemp("postgres") / "home"
    config = config_in(home, store={"home": str(home), "database": url})
    made = house_in(home, config=config)
    yield made
    made.service.close()
    drop()


@pytest.fixture(scope="module")
def client(house: House) -> Iterator[TestClient]:
    with TestClient(house.app) as made:
        yield made
