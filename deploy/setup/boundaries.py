"""Two kinds of boundary for import-linter that it does not bring itself. Both bind rooms that are added later, too.

`only_in`: some packages may be imported by the named modules alone (docker by agent.engine, say). Its own kind of contract
for that lists who must *not*, so that a new room would be free to.
`imports_only`: a room may import what is listed and nothing else, the standard library included.
"""

import abc
import sys

import grimp
from importlinter import Contract, ContractCheck, fields, output


def _within(module: str, packages: set[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _names(value: object) -> set[str]:
    # The library puts the parsed value, a set or None, where the class declares the field.
    return {str(name) for name in value} if isinstance(value, set) else set()


class _Direct(Contract):
    """What both share: they look at single imports, and say which line breaks the rule.

    `granted` lists exceptions as "importer -> imported"; one that nobody needs any more breaks the contract, too.
    """

    granted = fields.SetField(subfield=fields.StringField(), required=False)

    @abc.abstractmethod
    def judge(self, graph: grimp.ImportGraph) -> list[tuple[str, str]]:
        """The imports (importer, imported) that break the rule."""

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:
        """Called by import-linter."""
        del verbose
        lines: list[str] = []
        found = self.judge(graph)
        granted = {tuple(grant.split(" -> ")) for grant in _names(self.granted)}
        # Only in a house that has the room: the tests' small one does not have every module.
        lines += [
            f"{a} no longer imports {b}; take it off the list" for a, b in granted - set(found) if a in graph.modules
        ]
        for importer, imported in sorted(set(found) - granted):
            where = graph.get_import_details(importer=importer, imported=imported)
            at = ", ".join(f"l.{detail['line_number']}" for detail in where)
            lines.append(f"{importer} imports {imported} ({at})")
        return ContractCheck(kept=not lines, metadata={"lines": lines})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Called by import-linter."""
        for line in check.metadata["lines"]:
            output.print_error(f"- {line}", bold=False)
        output.new_line()


class OnlyIn(_Direct):
    """`packages` are imported by `importers` (and what lies inside them) only."""

    type_name = "only_in"
    packages = fields.SetField(subfield=fields.StringField())
    importers = fields.SetField(subfield=fields.StringField())

    def judge(self, graph: grimp.ImportGraph) -> list[tuple[str, str]]:
        """Every import of one of the packages by somebody else."""
        packages = _names(self.packages)
        allowed = packages | _names(self.importers)
        return [
            (importer, imported)
            for imported in graph.modules
            if _within(imported, packages)
            for importer in graph.find_modules_that_directly_import(imported)
            if not _within(importer, allowed)
        ]


class ImportsOnly(_Direct):
    """`room` imports itself, `allowed` packages, and the standard library less `not_stdlib`."""

    type_name = "imports_only"
    room = fields.StringField()
    allowed = fields.SetField(subfield=fields.StringField(), required=False)
    not_stdlib = fields.SetField(subfield=fields.StringField(), required=False)

    def judge(self, graph: grimp.ImportGraph) -> list[tuple[str, str]]:
        """Every import out of the room that is on no list."""
        room = {str(self.room)}
        allowed = room | _names(self.allowed)
        allowed |= set(sys.stdlib_module_names) - _names(self.not_stdlib)
        return [
            (importer, imported)
            for importer in graph.modules
            if _within(importer, room)
            for imported in graph.find_modules_directly_imported_by(importer)
            # The top package itself holds the version and nothing else.
            if not _within(imported, allowed) and imported != importer.split(".")[0]
        ]
