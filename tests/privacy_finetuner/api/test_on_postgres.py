"""What touches tables, once more on PostgreSQL: the very tests of the other modules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient
from tests.privacy_finetuner.api.test_audit_trail import (
    test_an_organisation_sees_its_own_and_no_other,
    test_the_chain_verifies,
)
from tests.privacy_finetuner.api.test_auth import (
    test_a_recovery_code_counts_once,
    test_a_spent_refresh_token_ends_the_session,
    test_too_many_failures_wait,
)
from tests.privacy_finetuner.api.test_budgets import (
    test_a_request_is_approved_by_another_person_and_that_is_the_grant,
    test_history_and_timeline_tell_the_same_story,
    test_the_same_key_grants_once,
)
from tests.privacy_finetuner.api.test_compliance import test_a_request_from_receipt_to_answer
from tests.privacy_finetuner.api.test_keys import (
    test_a_key_is_shown_once_and_works_until_it_is_revoked,
)
from tests.privacy_finetuner.api.test_signals import (
    test_an_attack_in_a_name_is_noticed_and_changes_nothing,
)
from tests.privacy_finetuner.api.test_training import (
    test_a_start_that_is_sent_twice_is_one_job,
    test_accounts_are_the_organisation_s_own,
    test_starts_at_the_same_moment_under_one_key_are_one_job,
)
from tests.privacy_finetuner.api.test_users import (
    test_a_lowered_role_counts_at_once,
    test_pages_hold_every_user_once,
)
from tests.privacy_finetuner.api.test_webhooks import test_change_rotate_test_and_remove
from tests.privacy_finetuner.api.town import Town, town_in
from tests.privacy_finetuner.jobs.conftest import schema_url

__all__ = [
    "test_a_key_is_shown_once_and_works_until_it_is_revoked",
    "test_a_lowered_role_counts_at_once",
    "test_a_recovery_code_counts_once",
    "test_a_request_from_receipt_to_answer",
    "test_a_request_is_approved_by_another_person_and_that_is_the_grant",
    "test_a_spent_refresh_token_ends_the_session",
    "test_a_start_that_is_sent_twice_is_one_job",
    "test_accounts_are_the_organisation_s_own",
    "test_an_attack_in_a_name_is_noticed_and_changes_nothing",
    "test_an_organisation_sees_its_own_and_no_other",
    "test_change_rotate_test_and_remove",
    "test_history_and_timeline_tell_the_same_story",
    "test_pages_hold_every_user_once",
    "test_starts_at_the_same_moment_under_one_key_are_one_job",
    "test_the_chain_verifies",
    "test_the_same_key_grants_once",
    "test_too_many_failures_wait",
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Town, TestClient]]:
    url, drop = schema_url()
    with town_in(tmp_path_factory.mktemp("postgres") / "home", database=url) as made:
        yield made
    drop()


@pytest.fixture
def house(running: tuple[Town, TestClient]) -> Town:
    running[0].move_on()
    return running[0]


@pytest.fixture
def client(running: tuple[Town, TestClient]) -> TestClient:
    return running[1]


def test_the_tables_are_those_of_postgresql(house: Town) -> None:
    service = house.service

    assert not service.jobs.store.database.is_sqlite
    assert not service.identity.store.database.is_sqlite
