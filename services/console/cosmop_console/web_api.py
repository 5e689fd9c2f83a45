"""What the labelling page asks for as it goes: the next images, the last labels, and the writing of one."""

from __future__ import annotations

import re
from typing import Annotated, Any

from cosmop_common.errors import InvalidInputError
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from cosmop_console import funnel, labelling
from cosmop_console.labels import Label
from cosmop_console.web import Web

Limit = Annotated[int, Query(ge=1, le=100)]


class LabelBody(BaseModel):
    """A label as the page sends it."""

    image: str
    labeller: str = Field(max_length=100)
    label: str = ""
    unsure: bool = False


def router(web: Web) -> APIRouter:
    """The routes of the API."""
    routes = APIRouter(prefix="/api/c/{name}")

    @routes.get("/queue")
    async def queue(name: str, labeller: str, after: str = "", limit: Limit = 24) -> dict[str, Any]:
        await web.runtime.collections.get(name)
        rows = labelling.queue(web.db, name, slug(labeller), after, limit)
        return {"images": [dict(row) for row in rows], "progress": vars(labelling.progress(web.db, name, slug(labeller)))}

    @routes.get("/history")
    async def history(name: str, labeller: str, limit: Limit = 100) -> dict[str, Any]:
        return {"labels": [dict(row) for row in labelling.history(web.db, name, slug(labeller), limit)]}

    @routes.post("/labels")
    async def put(name: str, body: LabelBody) -> dict[str, Any]:
        written = await web.labels.put(Label(name, body.image, slug(body.labeller), body.label, body.unsure))
        return {"ulid": written.ulid, "changed": written.changed}

    @routes.get("/funnel")
    async def counts(name: str) -> dict[str, Any]:
        await web.runtime.collections.get(name)
        return vars(funnel.count(web.db, name))

    return routes


def slug(name: str) -> str:
    """A labeller's name as a subject's token: ``Ann-Marie O.`` -> ``ann-marie-o``. Raises ``InvalidInputError``."""
    made = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63]
    if not made:
        raise InvalidInputError(f"{name!r} cannot name a labeller: use at least one letter or digit (a to z, 0 to 9)")
    return made
