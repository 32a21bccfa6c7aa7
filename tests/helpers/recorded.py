"""Commands of `fleet`, each HTTP request of which to AWS on this machine goes through a proxy that notes which IAM action it is: whichever library sent it."""

import re
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from json import dumps, loads
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

from aws_proxy import Call, Proxy, _Handler, _Server
from botocore.session import get_session
from serving import serving

TARGETS = {"AWSGlue": "glue", "DynamoDB_20120810": "dynamodb", "Logs_20140328": "logs", "TrentService": "kms"}
"""What the header X-Amz-Target begins with, and the service's prefix in IAM."""

UNLIKE_THE_CALL = {
    "s3:DeleteObjects": "s3:DeleteObject",
    "s3:GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "s3:GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "s3:PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "s3:DeleteBucketLifecycle": "s3:PutLifecycleConfiguration",
    "s3:GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
    "s3:ListBucketInventoryConfigurations": "s3:GetInventoryConfiguration",
    "s3:ListObjectVersions": "s3:ListBucketVersions",
    "s3:ListObjects": "s3:ListBucket",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:CreateMultipartUpload": "s3:PutObject",
    "s3:CompleteMultipartUpload": "s3:PutObject",
    "s3:UploadPart": "s3:PutObject",
    "s3:PutBucketEncryption": "s3:PutEncryptionConfiguration",
    "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
}
"""Actions that are not named as their call is. Source: Service Authorization Reference, Amazon S3."""

BY_VERSION = {"s3:GetObject": "s3:GetObjectVersion", "s3:DeleteObject": "s3:DeleteObjectVersion"}


@dataclass
class Recorded:
    """The actions since `made` was last cleared."""

    made: set[str] = field(default_factory=set)


@contextmanager
def recording(fleet, local_aws):
    """Let the fleet's home name a proxy instead of the server, and yield what goes through it."""
    server = _Noting(("127.0.0.1", 0), _Note)
    address = f"http://127.0.0.1:{server.server_address[1]}"
    server.upstream, server.trouble = urlsplit(local_aws.url).netloc, lambda _call: None
    server.seen, server.recorded = Proxy(address, [], []), Recorded()
    with serving(server):
        _name(fleet, local_aws, address)
        yield server.recorded


def _name(fleet, local_aws, address):
    """Make a folder of the server in the fleet's home that has all that the server's own has, and another address."""
    theirs, ours = Path(local_aws.ca_path).parent, Path(fleet.home) / "local-aws"
    ours.unlink()
    ours.mkdir(mode=0o700)
    for each in theirs.iterdir():
        if each.name != "server.json":
            (ours / each.name).symlink_to(each)
    said = loads((theirs / "server.json").read_text())
    (ours / "server.json").write_text(dumps(said | {"url": address}))


class _Noting(_Server):
    recorded: Recorded


class _Note(_Handler):
    server: _Noting

    def forward(self, call, *, lost):
        if "Authorization" in self.headers:
            self.server.recorded.made.add(self._action(call))
            address, _, query = call.path.partition("?")
            spelled = urlencode(parse_qsl(query, keep_blank_values=True), quote_via=quote, safe="")
            call = replace(call, path=f"{address}?{spelled}" if query else address)  # as signatures are made of it
        super().forward(call, lost=lost)

    def signed_anew(self, call):
        """What nobody signed, such as the question how the server is, goes on as it came."""
        if "Authorization" in self.headers:
            return super().signed_anew(call)
        return {**dict(self.headers.items()), "Host": self.server.upstream}

    def _action(self, call: Call) -> str:
        service = self.headers["Authorization"].partition("Credential=")[2].split("/")[3]
        target = self.headers.get("X-Amz-Target", "")
        if target:
            return f"{TARGETS.get(target.split('.')[0], service)}:{target.rpartition('.')[2]}"
        if call.body.startswith(b"Action="):
            return f"{service}:{parse_qs(call.body.decode())['Action'][0]}"
        address = urlsplit(call.path)
        query = dict(parse_qsl(address.query, keep_blank_values=True))
        action = f"{service}:{_operation(service, call.method, address.path, frozenset(query.items()))}"
        action = UNLIKE_THE_CALL.get(action, action)
        return BY_VERSION.get(action, action) if "versionId" in query else action


def _operation(service: str, method: str, path: str, query: frozenset[tuple[str, str]]) -> str:
    """Return the operation of a REST service whose address this is; of several the one that says most of it."""
    fits = [
        (len(asked), len(form.pattern), name)
        for name, verb, form, asked in _operations(service)
        if verb == method and form.fullmatch(path) and _has(query, asked)
    ]
    return max(fits)[2]


def _has(query: frozenset[tuple[str, str]], asked: list[tuple[str, str]]) -> bool:
    names = {name for name, _ in query}
    return all((name, value) in query if value else name in names for name, value in asked)


@cache
def _operations(service: str):
    model, found = get_session().get_service_model(service), []
    for name in model.operation_names:
        operation = model.operation_model(name)
        http, shape = operation.http, operation.input_shape
        needed = [shape.members[each].serialization for each in shape.required_members] if shape else []
        if any("copy-source" in each.get("name", "") for each in needed):
            continue  # a copy, which its header tells from what is written anew; nobody here copies
        path, _, query = http["requestUri"].partition("?")
        asked = [each for each in parse_qsl(query, keep_blank_values=True) if each[0] != "x-id"]
        asked += [(each["name"], "") for each in needed if each.get("location") == "querystring"]
        form = re.sub(r"\\\{(\w+)(\\\+)?\\\}", lambda found: ".+" if found[2] else "[^/]+", re.escape(path))
        found.append((name, http["method"], re.compile(form + "/?"), asked))
    return found
