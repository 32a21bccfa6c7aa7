"""The store that is Amazon S3: what is wanted, as requests; S3's answers, as versions, bytes and errors."""

import hashlib
import os
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from urllib.parse import quote, unquote_plus, urlsplit

from botocore.credentials import Credentials
from botocore.httpsession import ProxyConfiguration, get_cert_path
from botocore.utils import get_environ_proxies

from fleet_pipeline.aws.clients import Aws, doing
from fleet_pipeline.aws.store.signing import UNSIGNED, Signer
from fleet_pipeline.aws.store.transfers import GONE, GOOD, PATIENCE_S, PRECONDITION_FAILED, Answer, Request, Transfers
from fleet_pipeline.aws.store.versions import NULL_VERSION, ObjectVersion, maker
from fleet_pipeline.model.errors import AwsRefused, AwsUnavailable, OverwritesUnasked
from fleet_pipeline.model.partitions import AWS, PARTITIONS

_ENTRY = re.compile(
    "<Version><Key>([^<]*)</Key><VersionId>([^<]*)</VersionId><IsLatest>([^<]*)</IsLatest><LastModified>([^<]*)</LastModified>"
    '<ETag>(?:&quot;|")([^<&"]*)(?:&quot;|")</ETag>(?:<Checksum[A-Z][a-z]+>[^<]*</Checksum[A-Z][a-z]+>)*<Size>([0-9]+)</Size>'
)
"""A version as S3 writes it, in the order in which S3 writes it."""
_FIELDS = [
    re.compile(f"<{name}>([^<]*)</{name}>") for name in ("Key", "VersionId", "IsLatest", "LastModified", "ETag", "Size")
]
_DOMAIN = "|".join(re.escape(partition.domain) for partition in (AWS, *PARTITIONS.values()))
_S3 = re.compile(rf"s3[a-z0-9.-]*\.({_DOMAIN})")
_AMAZONS = re.compile(rf"\.({_DOMAIN})$")
_PLAIN = re.compile(r"[A-Za-z0-9_./-]*")
_PROOF_KEY = "_create-only"
"""The object that proves what a write on a condition is worth here.

Readers of tables pass over names that begin with `_`.
"""
_PROOF = (
    b"Written on the condition that it does not exist, by each process of fleet_pipeline that writes here: a store "
    b"that takes it twice overwrites.\n"
)
_proven: set[tuple[str, str]] = set()
"""Buckets, by address and name, that were seen to refuse such a write: once for each process, as a bucket's versioning
may be changed.
"""
_ROOT = re.compile(r"(<\?xml[^>]*\?>\s*)?<List(Bucket)?VersionsResult[\s>]")
_COMMON_PREFIX = re.compile(r"<CommonPrefixes>\s*<Prefix>([^<]*)</Prefix>\s*</CommonPrefixes>")
_NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_REFERENCE = re.compile(r"&(#[0-9]+|#[xX][0-9a-fA-F]+|amp|lt|gt|quot|apos);")
_DELETE_MARKER = re.compile("<DeleteMarker>.*?</DeleteMarker>", re.DOTALL)
_request, _version = maker(Request), maker(ObjectVersion)


class S3Store:
    """One bucket.

    Every request names the account that must own it. A store serves one thread; its listings may each have their own.
    """

    def __init__(self, aws: Aws, bucket: str, patience_s: float = PATIENCE_S) -> None:
        self.bucket = bucket
        self._aws = aws
        self._patience_s = patience_s
        self._base, self._root = address(aws.endpoint_url or aws.s3.meta.endpoint_url, bucket)
        self._etags: dict[str, str] = {}
        """Of each object of which bytes were read."""
        self._connected: list[Transfers] = []
        self._listers: deque[Transfers] = deque()
        self._beside: dict[str, S3Store] = {}
        self._transfers = self._connect()

    def beside(self, bucket: str) -> "S3Store":
        """Return another bucket of the account: the same one when it is asked for again. It is closed with this one,
        and its requests are counted with this one's.
        """
        if bucket not in self._beside:
            self._beside[bucket] = S3Store(self._aws, bucket, self._patience_s)
        return self._beside[bucket]

    def forget(self) -> None:
        """Forget which objects were read: what is read next of one may be of another that took its place."""
        self._etags.clear()
        for store in self._beside.values():
            store.forget()

    def close(self) -> None:
        """Close the store's connections; nothing more can be asked of it. What it has sent is still known."""
        for transfers in self._connected:
            transfers.close()
        for store in self._beside.values():
            store.close()

    @property
    def requests(self) -> Counter[str]:
        """How many requests were sent so far, by kind (GET, LIST, PUT, DELETE), repeated ones included: S3 charges by
        them.
        """
        own = sum((transfers.sent for transfers in self._connected), Counter[str]())
        return sum((store.requests for store in self._beside.values()), own)

    def versions(self, prefix: str, after: str = "", until: str = "") -> Iterator[list[ObjectVersion]]:
        """Yield pages of the versions of all keys with a prefix, in the order of keys, newest first, where `after` <
        key < `until`.

        Costs one request for a thousand versions within the limits, whatever lies outside them. Deletions are passed
        over.
        """
        marker = {"key-marker": after} if after else {}
        with self._lister() as transfers:
            while True:
                query = _query({"encoding-type": "url", "prefix": prefix, "versions": ""} | marker)
                page = Page()
                self._done(transfers.one(Request(self._root, query, kind="LIST", check=page.read)), f"list {prefix}")
                found, marker = page.versions, page.following
                if found and found[0].key <= after:  # Ceph's RGW begins with the marker itself
                    found = [version for version in found if version.key > after]
                if until and found and found[-1].key >= until:
                    found = [version for version in found if version.key < until]
                yield found
                if not marker or (until and marker["key-marker"] >= until):
                    return

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield what keys with a prefix begin with up to the next slash after it, that slash included, in their order:
        also those of which every key is deleted, since versions of it may be there.

        Costs one request for a thousand of them.
        """
        marker = dict[str, str]()
        with self._lister() as transfers:
            while True:
                asked = {"delimiter": "/", "encoding-type": "url", "prefix": prefix, "versions": ""}
                page = Page()
                answer = transfers.one(Request(self._root, _query(asked | marker), kind="LIST", check=page.read))
                yield from _folders(self._done(answer, f"list {prefix}").decode())
                marker = {name: value for name, value in page.following.items() if value}
                if not marker:
                    return

    def bodies(self, versions: Iterable[ObjectVersion | None]) -> Iterator[tuple[int, bytes]]:
        """Yield the bytes of every version and its place among them, as they come, at one GET each.

        None among the versions has no place: it says that the next one is to be asked for after another body has come.
        """
        places = count()
        for request, answer in self._transfers.all(
            version and self._get(next(places), version) for version in versions
        ):
            yield (
                request.mark,
                answer.body if answer.status in GOOD else self._done(answer, f"read {unquote_plus(request.path)}"),
            )

    def spans(self, wanted: Iterable[tuple[ObjectVersion, int, int] | None]) -> Iterator[tuple[int, bytes]]:
        """Yield the bytes `[start, stop)` of versions and the place of each among them, as they come, at one GET each.

        None has no place, as in `bodies`.
        """
        places = count()
        for request, answer in self._transfers.all(each and self._span(next(places), *each) for each in wanted):
            yield request.mark, self._done(answer, f"read {unquote_plus(request.path)}")

    def read(self, key: str, start: int, stop: int) -> bytes:
        """Return the bytes `[start, stop)` of an object.

        Raises AwsUnavailable where it was replaced since this store read other bytes of it.
        """
        before = self._etags.pop(key, "")
        headers = {"range": f"bytes={start}-{stop - 1}"} | ({"if-match": before} if before else {})
        answer = self._transfers.one(
            Request(self._root + _quoted(key), headers=headers, expected_bytes=stop - start, span=(start, stop))
        )
        body, etag = self._done(answer, f"read {key}"), answer.headers.get("etag", "")
        if before and etag != before:
            raise AwsUnavailable(
                f"read {key} in bucket {self.bucket}", "Replaced", "it was replaced between two reads of it"
            )
        self._etags[key] = etag
        return body

    def put_new(self, key: str, body: bytes | Path) -> bool:
        """Write an object if its key is free, and say whether it was.

        False may also mean that it was this very body: S3 wrote it, its answer was lost, and the repeated request found
        the key taken. Raises OverwritesUnasked, and writes nothing, where `prove` does.
        """
        self.prove()
        return _written(self._put(key, body))

    def prove(self) -> None:
        """Return when this bucket refuses to write an object whose key is taken, if that is asked for; raise
        OverwritesUnasked otherwise.

        Amazon S3 does. Elsewhere an object, `_create-only`, is written on that condition: once where it is there
        already, and then it stays; twice where it was not. Asked again in the same process, nothing is sent.
        """
        if (self._base, self.bucket) in _proven or amazons(self._base):
            return
        first = self._put(_PROOF_KEY, _PROOF)
        if _written(first) and _written(second := self._put(_PROOF_KEY, _PROOF)):
            self._forget(first, second)
            raise OverwritesUnasked(self.bucket, self._base)
        _proven.add((self._base, self.bucket))

    def _put(self, key: str, body: bytes | Path) -> Answer:
        """Return the answer to a write on the condition that its key is free: that it was written, or that the
        condition does not hold.
        """
        put = Request(
            self._root + _quoted(key), kind="PUT", headers={"if-none-match": "*"}, body=body, payload_hash=_sha256(body)
        )
        answer = self._transfers.one(put)
        if _written(answer):
            self._done(answer, f"write {key}")
        return answer

    def _forget(self, *proofs: Answer) -> None:
        """Delete what a proof that failed has written, where that is allowed: it is of no use, and would be one more
        with each process.
        """
        for version in {answer.headers.get("x-amz-version-id", "") for answer in proofs}:
            with suppress(AwsRefused):
                self._transfers.one(
                    Request(self._root + _PROOF_KEY, _query({"versionId": version} if version else {}), kind="DELETE")
                )

    def delete(self, versions: Iterable[ObjectVersion]) -> None:
        """Remove these very versions for good. One that is gone already is no error."""
        wanted = (
            Request(self._root + _quoted(version.key), _query({"versionId": version.id}), kind="DELETE")
            for version in versions
        )
        for request, answer in self._transfers.all(wanted):
            self._done(answer, f"delete {unquote_plus(request.path)}")

    @contextmanager
    def _lister(self) -> Iterator[Transfers]:
        """Lend a listing connections of its own: those of one that has ended, if there is any."""
        try:
            transfers = self._listers.pop()
        except IndexError:
            transfers = self._connect()
        try:
            yield transfers
        finally:
            self._listers.append(transfers)

    def _connect(self) -> Transfers:
        owner = {"x-amz-expected-bucket-owner": self._aws.account}
        fetched = partial(self._credentials, fresh=True)
        signer = Signer(self._credentials(), self._aws.region, urlsplit(self._base).netloc, owner, fetched=fetched)
        proxy = "" if self._aws.endpoint_url else proxy_of(self._base)
        self._connected.append(
            Transfers(
                self._base,
                signer,
                ca_bundle(self._aws),
                proxy=proxy,
                elsewhere=self._elsewhere,
                patience_s=self._patience_s,
            )
        )
        return self._connected[-1]

    def _elsewhere(self, region: str) -> str:
        """Return the bucket's address in a region: another at Amazon S3, and the same where an endpoint is set."""
        with doing(f"find region {region} of bucket {self.bucket}"):
            endpoint = self._aws.endpoint_url or self._aws.session.client("s3", region_name=region).meta.endpoint_url
        return address(endpoint, self.bucket)[0]

    def _credentials(self, *, fresh: bool = False) -> Credentials:
        """Return credentials, from where they come from if they must be fresh: a session keeps those that it found
        first.
        """
        found = (replace(self._aws) if fresh else self._aws).session.get_credentials()
        if found is None:
            raise AwsRefused(
                f"let anyone use {self.bucket}",
                "NoCredentials",
                "no credentials were found; set AWS_PROFILE or AWS_ACCESS_KEY_ID",
            )
        return found

    def _get(self, place: int, version: ObjectVersion) -> Request:
        # Without versions the key may be overwritten between listing and reading: the answer must be what was listed.
        key, number, size, etag, *_ = version
        same = {"if-match": etag} if number == NULL_VERSION else None
        path, query = self._root + _quoted(key), f"versionId={_quoted_value(number)}"
        return _request((path, query, "GET", same, size, place, b"", UNSIGNED, etag.strip('"'), None, None))

    def _span(self, place: int, version: ObjectVersion, start: int, stop: int) -> Request:
        whole = self._get(place, version)
        if (start, stop) == (0, version.size):
            return whole
        headers = {"range": f"bytes={start}-{stop - 1}"} | (whole.headers or {})
        return whole._replace(headers=headers, expected_bytes=stop - start, etag="", span=(start, stop))

    def _done(self, answer: Answer, action: str) -> bytes:
        """Return the body of an answer that says yes."""
        if answer.status in GOOD:
            return answer.body
        text = answer.body.decode(errors="replace")
        code, message = (_text(name, text) for name in ("Code", "Message"))
        kind = AwsUnavailable if answer.status == PRECONDITION_FAILED or code in GONE else AwsRefused
        raise kind(
            f"{action} in bucket {self.bucket}",
            code or str(answer.status),
            (message or "no reason given") + _remedy(answer, text),
        )


def _written(answer: Answer) -> bool:
    """Say whether a write was carried out or refused, and not left undone as its condition does not hold."""
    return answer.status != PRECONDITION_FAILED


def ca_bundle(aws: Aws) -> str:
    """Return the file of the certificate authorities that botocore trusts: AWS_CA_BUNDLE, the profile's,
    REQUESTS_CA_BUNDLE, or its own.
    """
    configured = aws.session._session.get_config_variable("ca_bundle")  # noqa: SLF001 (boto3 has no other way to the profile's)
    return str(configured or os.environ.get("REQUESTS_CA_BUNDLE") or get_cert_path(verify=True))


def proxy_of(url: str) -> str:
    """Return the proxy that botocore uses for an address; nothing where it uses none."""
    return ProxyConfiguration(get_environ_proxies(url)).proxy_url_for(url) or ""


def _remedy(answer: Answer, text: str) -> str:
    """Say what to do about a refusal that names it."""
    if answer.code in GONE:
        return "; it was listed before and is gone: something deleted it meanwhile, and the next run lists anew"
    if answer.elsewhere:
        named = _text("Endpoint", text) or urlsplit(answer.headers.get("location", "")).netloc
        there = " in ".join(filter(None, (named, answer.region))) or "another endpoint"
        remedy = (
            "set FLEET_REGION to the bucket's region, or AWS_ENDPOINT_URL_S3 to your store's address (that of a "
            "redirect is never followed)"
        )
        return f"; the bucket is served by {there}: {remedy}"
    return ""


def address(endpoint: str, bucket: str) -> tuple[str, str]:
    """Return where a bucket is, and the path of its root: a host of its own at S3, below the endpoint where that is
    someone else's or a VPC's.
    """
    scheme, host, *_ = urlsplit(endpoint)
    return (f"{scheme}://{bucket}.{host}", "/") if _S3.fullmatch(host) else (endpoint.rstrip("/"), f"/{bucket}/")


def amazons(base: str) -> bool:
    """Say whether an address is Amazon S3's own: of a region, or of an endpoint in a VPC."""
    return bool(_AMAZONS.search(urlsplit(base).netloc))


class Page:
    """A page of a listing, as an answer has it."""

    def __init__(self) -> None:
        self.versions: list[ObjectVersion] = []
        """The versions that it names, in its order. Deletions are passed over."""
        self.following: dict[str, str] = {}
        """Where the next page begins; nothing when this one is the last."""

    def read(self, body: bytes) -> str:
        """Say what an answer lacks, or nothing once it was read.

        What is not whole is no page, least of all the last one.
        """
        try:
            page = body.decode().strip()
        except UnicodeDecodeError:
            return "a page of a listing that is not UTF-8"
        if lacks := _unlike_a_page(page):
            return lacks
        entries, versions = _ENTRY.findall(page), page.count("<Version>")
        if (
            not len(entries) == versions == page.count("</Version>") == page.count("<Key>")
        ):  # there are deletions, or the order is another
            if lacks := _unlike_entries(page):
                return lacks
            entries = entries if len(entries) == versions else _in_any_order(page)
        self.versions, self.following = _versions(page, entries), _next(page)
        return ""


def _versions(page: str, entries: list[tuple[str, ...]]) -> list[ObjectVersion]:
    names = "".join([key + number for key, number, *_ in entries])
    if "%" in names or "+" in names or "&" in names:
        name = _names(page)
        entries = [(name(key), _unescaped(number), *others) for key, number, *others in entries]
    return [
        _version((key, number, int(size), f'"{etag}"', modified, latest == "true"))
        for key, number, latest, modified, etag, size in entries
    ]


def _unlike_a_page(page: str) -> str:
    """Say what shows that a text is no page of a listing, or half of one; nothing otherwise."""
    if not _ROOT.match(page) or not page.endswith(("</ListVersionsResult>", "</ListBucketVersionsResult>")):
        return f"a success that is no page of a listing, or half of one: {page[:200]!r}"
    more = _text("IsTruncated", page)
    if more not in {"true", "false"}:
        return "a page that does not say whether it is the last one"
    if more == "true" and not _text("NextKeyMarker", page):
        return "a page that does not say where the next one begins"
    return ""


def _unlike_entries(page: str) -> str:
    """Say which field some entry lacks, or nothing: counted rather than read."""
    versions = page.count("<Version>")
    named = versions + page.count("<DeleteMarker>")
    wanted = {
        "Version": versions,
        "ETag": versions,
        "Size": versions,
        "Key": named,
        "VersionId": named,
        "IsLatest": named,
        "LastModified": named,
    }
    lacking = [
        name for name, times in wanted.items() if not page.count(f"<{name}>") == page.count(f"</{name}>") == times
    ]
    return f"a page with a version that lacks {', '.join(lacking)}" if lacking else ""


def _in_any_order(page: str) -> list[tuple[str, ...]]:
    """Return the fields of a page's entries, whatever their order. S3 escapes every < within a value."""
    versions = _DELETE_MARKER.sub("", page)
    *others, etags, sizes = (field.findall(versions) for field in _FIELDS)
    return [*zip(*others, (_unescaped(etag).strip('"') for etag in etags), sizes, strict=True)]


def _next(page: str) -> dict[str, str]:
    """Return where the next page begins; nothing when this one is the last."""
    if _text("IsTruncated", page) != "true":
        return {}
    return {
        "key-marker": _names(page)(_text("NextKeyMarker", page)),
        "version-id-marker": _text("NextVersionIdMarker", page),
    }


def _names(page: str) -> Callable[[str], str]:
    """Return how the page writes keys.

    S3 encodes them as asked, so that any character may come; not every server does.
    """
    return (lambda key: unquote_plus(_unescaped(key))) if _text("EncodingType", page) == "url" else _unescaped


def _folders(page: str) -> list[str]:
    """Return the common prefixes of a page that was read."""
    name = _names(page)
    return [name(found) for found in _COMMON_PREFIX.findall(page)]


def _text(name: str, xml: str) -> str:
    found = f"<{name}>" in xml and re.search(
        f"<{name}>([^<]*)</{name}>", xml
    )  # to find a text alone is faster, and a page is long
    return _unescaped(found[1]) if found else ""


def _unescaped(text: str) -> str:
    """Return a text of XML as it was written. `html.unescape` knows names and numbers that are others in XML."""
    return _REFERENCE.sub(_character, text) if "&" in text else text


def _character(found: "re.Match[str]") -> str:
    name = found[1]
    if name.startswith("#"):
        return chr(int(f"0{name[1:]}", 16) if name[1] in "xX" else int(name[1:]))
    return _NAMED[name]


def _quoted(name: str) -> str:
    """Return a key as a path takes it. Nearly all need no change, and most of the time goes to these."""
    return name if _PLAIN.fullmatch(name) else quote(name)


def _quoted_value(value: str) -> str:
    """Return a value as a query takes it."""
    return value if _PLAIN.fullmatch(value) and "/" not in value else quote(value, safe="-_.~")


def _query(parameters: Mapping[str, str]) -> str:
    """Return a query string in the form in which it is signed: sorted and encoded."""
    return "&".join(f"{name}={_quoted_value(parameters[name])}" for name in sorted(parameters))


def _sha256(body: bytes | Path) -> str:
    if isinstance(body, bytes):
        return hashlib.sha256(body).hexdigest()
    with body.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
