"""Limits of ingest, from the settings."""

from __future__ import annotations

from domain.quotas import Quota
from domain.rates import Budgets, Limit
from ingest.http.auth import Strangers
from ingest.http.media import MediaLimits
from runtime.media_settings import Media
from runtime.settings import RateLimits, factors_of
from schemas.fields import ACTIONS


def budgets(given: RateLimits) -> Budgets:
    """Return the limits of the settings."""
    values = given.model_dump()
    limits = {action: Limit.per_minute(values[f"{action}_per_minute"], values[f"{action}_burst"]) for action in ACTIONS}
    return Budgets(limits, factors_of(given.factors))


def strangers(given: RateLimits) -> Strangers:
    """Return the bound of callers without a valid token."""
    return Strangers(Limit.per_minute(given.strangers_per_minute, given.strangers_burst))


def media_limits(media: Media) -> MediaLimits:
    """Return the limits of files that the settings ask for."""
    return MediaLimits(
        quota=Quota(media.daily_bytes, media.stored_bytes, media.uploads_per_user),
        abandoned_s=media.abandoned_after_s,
        unattached_s=media.unattached_after_s,
    )
