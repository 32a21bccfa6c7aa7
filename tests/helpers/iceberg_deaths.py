"""A catalog that dies with its process: at a chosen write of a metadata file, or at the commit, before it or just
after.
"""

from pyiceberg.catalog.sql import SqlCatalog

from fleet_pipeline.lake.iceberg import files, tables


class Killed(BaseException):
    """As SIGKILL: nothing that cleans up after errors runs, since nothing catches it."""


class Life:
    """Counts the deeds of a process, and ends at one of them."""

    left = -1
    deeds = 0

    @classmethod
    def of(cls, deeds):
        cls.left, cls.deeds = deeds, 0

    @classmethod
    def deed(cls):
        cls.deeds += 1
        cls.left -= 1
        if cls.left == 0:
            raise Killed


class DyingFiles(files.StoreFiles):
    def new_output(self, location):
        Life.deed()  # before it is written; the next deed is after it
        return super().new_output(location)


class DyingCatalog(SqlCatalog):
    def create_table(self, *arguments, **named):
        made = super().create_table(*arguments, **named)
        Life.deed()
        return made

    def commit_table(self, *arguments):
        Life.deed()
        done = super().commit_table(*arguments)
        Life.deed()
        return done


def dying(of):
    """Return the same tables through a catalog that dies."""
    properties = {**of.catalog.properties, "py-io-impl": f"{DyingFiles.__module__}.{DyingFiles.__qualname__}"}
    return tables.Tables(of.fleet, of.aws, DyingCatalog(tables.NAME, **properties), of.store)
