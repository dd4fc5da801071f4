"""Whether a call is signed as "Create a signed AWS API request" says; written apart from what signs, straight from that page."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from urllib.parse import quote

from tests.fakes.ses_simulator.rules import Options

_SHAPE = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[\w/+=.-]+?)/(?P<date>\d{8})/(?P<region>[a-z0-9-]+)/ses/aws4_request, "
    r"SignedHeaders=(?P<names>[a-z0-9;-]+), Signature=(?P<signature>[0-9a-f]{64})"
)


def fault(method: str, path: str, headers: Mapping[str, str], body: bytes, options: Options) -> tuple[str, str] | None:
    """The kind of error and its text; None: it is well."""
    match = _SHAPE.fullmatch(headers.get("authorization", ""))
    if match is None:
        return "IncompleteSignature", "the Authorization header has not the shape it should have"
    if options.knows_keys and match["key"] != options.access_key_id:
        return "UnrecognizedClientException", "The security token included in the request is invalid."
    if options.knows_keys and headers.get("x-amz-security-token") != options.session_token:
        return "ExpiredTokenException", "The security token included in the request is expired"
    names = match["names"].split(";")
    if names != sorted(names) or not {"host", "x-amz-date"} <= set(names) or not _signs_all(headers, names):
        return "InvalidSignatureException", f"the signed headers are {names}"
    stamp = headers["x-amz-date"]
    if match["region"] != options.region or not stamp.startswith(match["date"]):
        return "InvalidSignatureException", "Credential should be scoped to another region or date"
    if not options.knows_keys:
        return None
    canonical = [method, quote(path, safe="/-_.~"), ""]
    canonical += [f"{name}:{headers[name].strip()}" for name in names]
    canonical += ["", ";".join(names), hashlib.sha256(body).hexdigest()]
    scope = f"{match['date']}/{match['region']}/ses/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256("\n".join(canonical).encode()).hexdigest()))
    key = b"AWS4" + options.secret_access_key.encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    if hmac.new(key, text.encode(), hashlib.sha256).hexdigest() != match["signature"]:
        return "InvalidSignatureException", "The request signature we calculated does not match the signature you provided."
    return None


def _signs_all(headers: Mapping[str, str], names: list[str]) -> bool:
    """What must be signed is: the content's type, and all of AWS's own."""
    return all(name in names for name in headers if name.startswith("x-amz-") or name == "content-type")
