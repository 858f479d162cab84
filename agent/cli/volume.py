"""`ecgw volume`: what the APPs keep."""

from __future__ import annotations

from agent.cli.rows import details, listing
from agent.cli.screen import Column
from agent.cli.verb import Verb, arg

NAME = arg("name", help="name of the volume, as `volume list` says it")
LIST = listing(Column("name"), Column("instance"), empty="no volumes")

VERBS = (
    Verb(
        "list",
        "Volumes of all instances, or of one.",
        (arg("instance", help="only this instance's", nargs="?"),),
        "volume.list",
        LIST,
    ),
    Verb("show", "One volume.", (NAME,), "volume.show", details),
    Verb(
        "remove", "Remove a volume and its data; refused while an instance uses it.", (NAME,), "volume.remove", job=True
    ),
)
