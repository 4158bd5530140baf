"""Which errors of the driver blame a record, and which the store."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from adapters.postgres.errors import unavailable_on_outage
from domain.errors import Unavailable


@pytest.mark.parametrize(
    "error",
    [
        errors.ReadOnlySqlTransaction,
        errors.IdleInTransactionSessionTimeout,
        errors.UndefinedTable,
        errors.UndefinedColumn,
        errors.InsufficientPrivilege,
        errors.FeatureNotSupported,
        errors.QueryCanceled,
        errors.DiskFull,
        errors.AdminShutdown,
        psycopg.InterfaceError,
    ],
)
def test_a_store_that_cannot_work_now_is_unavailable(error: type[psycopg.Error]):
    with pytest.raises(Unavailable), unavailable_on_outage():
        raise error("x")


@pytest.mark.parametrize(
    "error",
    [
        errors.UntranslatableCharacter,
        errors.NumericValueOutOfRange,
        errors.CheckViolation,
        errors.UniqueViolation,
        errors.CardinalityViolation,
        psycopg.ProgrammingError,
    ],
)
def test_a_value_that_can_never_work_is_not(error: type[psycopg.Error]):
    with pytest.raises(error), unavailable_on_outage():
        raise error("x")
