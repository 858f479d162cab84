"""`ecgw network`: the bridges of APPs that have several services or ports."""

from __future__ import annotations

from agent.cli.rows import details, listing
from agent.cli.screen import Column
from agent.cli.verb import Verb, arg

LIST = listing(Column("name"), Column("instance"), Column("subnet"), Column("isolated"), empty="no networks")

VERBS = (
    Verb(
        "list",
        "Networks of all instances, or of one.",
        (arg("instance", help="only this instance's", nargs="?"),),
        "network.list",
        LIST,
    ),
    Verb("show", "One network.", (arg("name", help="name of the network"),), "network.show", details),
)
