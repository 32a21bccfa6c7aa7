"""A bucket in a dict, for tests that need many. `test_store.py` holds it to the same contract as S3."""

import hashlib
import threading
from collections import Counter
from pathlib import Path

from fleet_pipeline.aws.store import NULL_VERSION, ObjectVersion

PAGE = 1000


class DictStore:
    def __init__(self, *, versioned=True, page=PAGE):
        self.requests = Counter()
        self._counting = threading.Lock()
        self.objects: dict[str, list[tuple[ObjectVersion, bytes]]] = {}
        self._versioned, self._page, self._clock = versioned, page, 0
        self._beside = {}

    def beside(self, bucket):
        if bucket not in self._beside:
            self._beside[bucket] = DictStore(page=self._page)
            self._beside[bucket].requests = self.requests
        return self._beside[bucket]

    def put(self, key, body):
        """Write as a rule does: over whatever the key held."""
        self._clock += 1
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        name = f"v{self._clock}" if self._versioned else NULL_VERSION
        version = ObjectVersion(key, name, len(body), etag, f"2026-11-23T10:00:00.{self._clock:06d}Z", latest=True)
        older = (
            [(old._replace(latest=False), held) for old, held in self.objects.get(key, [])] if self._versioned else []
        )
        self.objects[key] = [(version, body), *older]
        return version

    def versions(self, prefix, after="", until=""):
        found = [
            version
            for key in sorted(self.objects)
            if key.startswith(prefix) and key > after and (not until or key < until)
            for version, _ in self.objects[key]
        ]
        for start in range(0, max(len(found), 1), self._page):
            with self._counting:  # listings may each have a thread of their own
                self.requests["LIST"] += 1
            yield found[start : start + self._page]

    def folders(self, prefix):
        self.requests["LIST"] += 1
        below = {key[len(prefix) :] for key in self.objects if key.startswith(prefix)}
        yield from sorted({prefix + rest.partition("/")[0] + "/" for rest in below if "/" in rest})

    def bodies(self, versions):
        for place, version in enumerate(version for version in versions if version):
            self.requests["GET"] += 1
            yield place, next(body for held, body in self.objects[version.key] if held.id == version.id)

    def spans(self, wanted):
        for place, (version, start, stop) in enumerate(each for each in wanted if each):
            self.requests["GET"] += 1
            yield place, next(body for held, body in self.objects[version.key] if held.id == version.id)[start:stop]

    def read(self, key, start, stop):
        self.requests["GET"] += 1
        return self.objects[key][0][1][start:stop]

    def put_new(self, key, body):
        self.requests["PUT"] += 1
        if key in self.objects:
            return False
        self.put(key, body.read_bytes() if isinstance(body, Path) else body)
        return True

    def delete(self, versions):
        for version in list(versions):
            self.requests["DELETE"] += 1
            left = [(held, body) for held, body in self.objects.pop(version.key, []) if held.id != version.id]
            if left:
                self.objects[version.key] = left
