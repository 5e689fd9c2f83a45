"""Settings of the dedup service."""

from __future__ import annotations

from cosmop_common.settings import ServiceSettings
from pydantic import Field, field_validator

ROLES = ("hash", "index")


class Settings(ServiceSettings):
    """Environment variables ``COSMOP_...``."""

    dedup_roles: str = "hash,index"
    """What this process does: ``hash`` (stateless, as many as you like), ``index`` (one process in all), or both."""
    dedup_publishers: int = Field(default=32, ge=1)
    """Decisions published at once, when one change re-decides many images."""

    @field_validator("dedup_roles")
    @classmethod
    def _roles_are_known(cls, value: str) -> str:
        roles = _split(value)
        if not roles or not roles <= set(ROLES):
            raise ValueError(f"{value!r}: name one or both of {', '.join(ROLES)}, separated by a comma")
        return ",".join(sorted(roles))

    @property
    def roles(self) -> frozenset[str]:
        """The roles of this process."""
        return frozenset(_split(self.dedup_roles))


def _split(value: str) -> set[str]:
    return {role.strip() for role in value.split(",") if role.strip()}
