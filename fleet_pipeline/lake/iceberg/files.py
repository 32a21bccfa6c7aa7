"""The files of Iceberg's metadata in the lake's bucket, as PyIceberg reads and writes them: through our store, which
overwrites nothing.
"""

import io
import threading
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from pyiceberg.io import FileIO, InputFile, OutputFile
from pyiceberg.typedef import EMPTY_DICT, Properties

from fleet_pipeline.aws.clients import Aws
from fleet_pipeline.aws.store import S3Store
from fleet_pipeline.aws.store.transfers import GONE
from fleet_pipeline.lake.reading import Remote
from fleet_pipeline.model.errors import AwsRefused, AwsUnavailable

_NAMES = ("region", "account", "endpoint", "secret")


class StoreFiles(FileIO):
    """The objects of S3, by their `s3://` addresses, under this package's rules of who may be asked and how often.

    PyIceberg's own would write without the condition that the key is free, which the lake's bucket policy refuses.
    Nothing is deleted: a commit of which the answer was lost is taken for failed, and what it wrote may be the table.
    `maintenance` removes what nobody refers to.
    """

    def __init__(self, properties: Properties = EMPTY_DICT) -> None:
        super().__init__(properties)
        self._stores = _stores(*(str(properties.get(f"fleet-pipeline.{name}", "")) for name in _NAMES))

    def store(self, bucket: str) -> S3Store:
        """Return the store of a bucket that is this thread's own."""
        return self._stores.of(bucket)

    def new_input(self, location: str) -> InputFile:
        """Return an object that is there."""
        return _Input(self, location)

    def new_output(self, location: str) -> OutputFile:
        """Return an object that is to be written."""
        return _Output(self, location)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Leave it where it is: see above."""


def properties_of(aws: Aws) -> dict[str, str]:
    """Return what a catalog of PyIceberg is given to reach files through `StoreFiles`. On this machine it holds the
    secret.
    """
    reached = {"region": aws.region, "account": aws.account, "endpoint": aws.endpoint_url or "", "secret": aws.secret}
    return {"py-io-impl": f"{StoreFiles.__module__}.{StoreFiles.__qualname__}"} | {
        f"fleet-pipeline.{name}": value for name, value in reached.items()
    }


def place(location: str) -> tuple[str, str]:
    """Return bucket and key of an address `s3://bucket/key`."""
    parts = urlsplit(location)
    return parts.netloc, location.partition(f"//{parts.netloc}/")[2]


class _Stores(threading.local):
    """The stores of one thread, by their buckets: a store serves one thread, and PyIceberg reads with many."""

    def __init__(self, aws: Aws) -> None:
        super().__init__()
        self._aws, self._known = aws, dict[str, S3Store]()

    def of(self, bucket: str) -> S3Store:
        if bucket not in self._known:
            self._known[bucket] = S3Store(self._aws, bucket)
        return self._known[bucket]


@cache
def _stores(region: str, account: str, endpoint: str, secret: str) -> _Stores:
    """Return the stores of an account. PyIceberg makes a `FileIO` for each load of a table, and connections are worth
    keeping.
    """
    return _Stores(Aws(region, account, endpoint or None, secret))


class _Object:
    """What is asked of an object whether it is read or written."""

    def __init__(self, files: StoreFiles, location: str) -> None:
        self._files, self._location = files, location
        self._bucket, self._key = place(location)

    @property
    def location(self) -> str:
        return self._location

    @property
    def _size(self) -> int | None:
        found = (version for page in self._files.store(self._bucket).versions(self._key) for version in page)
        return next((version.size for version in found if version.latest and version.key == self._key), None)

    def exists(self) -> bool:
        return self._size is not None

    def __len__(self) -> int:
        if (size := self._size) is None:
            raise FileNotFoundError(self._location)
        return size


class _Input(_Object, InputFile):
    def open(self, seekable: bool = True) -> Any:  # noqa: FBT001, FBT002, ARG002 (PyIceberg's)
        return Remote(self._read, len(self))

    def _read(self, start: int, stop: int) -> bytes:
        try:
            return self._files.store(self._bucket).read(self._key, start, stop)
        except AwsRefused as error:
            if error.code in GONE:  # since its size was asked for
                raise FileNotFoundError(self._location) from error
            raise


class _Output(_Object, OutputFile):
    def create(self, overwrite: bool = False) -> Any:  # noqa: FBT001, FBT002, ARG002 (PyIceberg's)
        """Return a file that is written as it is closed. Nothing is overwritten, whatever is asked: names are new."""
        return _Written(self)

    def to_input_file(self) -> InputFile:
        return _Input(self._files, self._location)

    def put(self, body: bytes) -> None:
        store = self._files.store(self._bucket)
        # A taken key is our own: an earlier try of this request, of which the answer was lost.
        if not store.put_new(self._key, body) and store.read(self._key, 0, len(body)) != body:
            raise AwsUnavailable(f"write {self._location}", "Taken", "another object has this name")


class _Written(io.BytesIO):
    def __init__(self, into: _Output) -> None:
        super().__init__()
        self._into = into

    def close(self) -> None:
        if not self.closed:
            body = self.getvalue()
            super().close()
            self._into.put(body)
