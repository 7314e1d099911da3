"""The few signed S3 requests the test servers need, with the standard library only.

    s3.py make-bucket ENDPOINT ACCESS SECRET BUCKET SECONDS   waits until the server answers
    s3.py make-locked-bucket ENDPOINT ACCESS SECRET BUCKET DAYS
    s3.py make-lockable-bucket ENDPOINT ACCESS SECRET BUCKET
    s3.py version-bucket ENDPOINT ACCESS SECRET BUCKET
    s3.py rob ENDPOINT ACCESS SECRET BUCKET                   overwrites everything, deletes every second object
    s3.py rot ENDPOINT ACCESS SECRET BUCKET PREFIX            flips a bit of the first object there; prints its key

A second, independent implementation of AWS Signature Version 4 (AWS General
Reference, "Signature Version 4 signing process"), so the servers are set up
without the code under test.
"""
import datetime
import hashlib
import hmac
import http.client
import re
import sys
import time
import urllib.parse

REGION = "us-east-1"


def request(endpoint, access, secret, method, path, query="", body=b"", headers=None):
    """Sends one signed request; returns (status, body)."""
    url = urllib.parse.urlsplit(endpoint)
    now = datetime.datetime.now(datetime.timezone.utc)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    digest = hashlib.sha256(body).hexdigest()
    signed = {"host": url.netloc, "x-amz-content-sha256": digest, "x-amz-date": stamp}
    signed.update({k.lower(): v for k, v in (headers or {}).items()})
    names = ";".join(sorted(signed))
    lines = "".join(f"{k}:{signed[k]}\n" for k in sorted(signed))
    canonical = "\n".join([method, path, query, lines, names, digest])
    scope = f"{day}/{REGION}/s3/aws4_request"
    to_sign = "\n".join(
        ["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()]
    )
    key = ("AWS4" + secret).encode()
    for part in (day, REGION, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
    signed["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    connection = http.client.HTTPConnection(url.netloc, timeout=10)
    try:
        target = path + ("?" + query if query else "")
        connection.request(method, target, body=body, headers=signed)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def expect_ok(what, answer):
    status, body = answer
    if status not in (200, 204):
        sys.exit(f"{what}: status {status}: {body[:500]!r}")


def make_bucket(endpoint, access, secret, bucket, seconds):
    """A fresh server refuses connections, then answers 5xx, then works."""
    deadline = time.monotonic() + float(seconds)
    last = "nothing was tried"
    while time.monotonic() < deadline:
        try:
            status, body = request(endpoint, access, secret, "PUT", f"/{bucket}")
            if status == 200 or (status == 409 and b"BucketAlreadyOwnedByYou" in body):
                # The first object proves that volumes can be written, not only that HTTP is up.
                status, body = request(endpoint, access, secret, "PUT", f"/{bucket}/ready", body=b"ready")
                if status == 200:
                    expect_ok("delete", request(endpoint, access, secret, "DELETE", f"/{bucket}/ready"))
                    return
            last = f"status {status}: {body[:300]!r}"
        except OSError as error:
            last = str(error)
        time.sleep(0.2)
    sys.exit(f"no bucket after {seconds} s; last answer: {last}")


def version_bucket(endpoint, access, secret, bucket):
    body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    expect_ok("versioning", request(endpoint, access, secret, "PUT", f"/{bucket}", "versioning=", body))


def make_lockable_bucket(endpoint, access, secret, bucket):
    lock = {"x-amz-bucket-object-lock-enabled": "true"}
    expect_ok("bucket", request(endpoint, access, secret, "PUT", f"/{bucket}", headers=lock))


def make_locked_bucket(endpoint, access, secret, bucket, days):
    make_lockable_bucket(endpoint, access, secret, bucket)
    body = (
        "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule>"
        f"<DefaultRetention><Mode>COMPLIANCE</Mode><Days>{int(days)}</Days></DefaultRetention>"
        "</Rule></ObjectLockConfiguration>"
    ).encode()
    expect_ok("lock", request(endpoint, access, secret, "PUT", f"/{bucket}", "object-lock=", body))


def rot(endpoint, access, secret, bucket, prefix):
    quoted = urllib.parse.quote(prefix, safe="")
    status, listing = request(endpoint, access, secret, "GET", f"/{bucket}", f"list-type=2&prefix={quoted}")
    keys = re.findall(r"<Key>([^<]+)</Key>", listing.decode())
    if status != 200 or not keys:
        sys.exit(f"no object under {prefix}: status {status}: {listing[:500]!r}")
    path = f"/{bucket}/{urllib.parse.quote(keys[0])}"
    status, body = request(endpoint, access, secret, "GET", path)
    if status != 200:
        sys.exit(f"reading {path}: status {status}")
    body = bytearray(body)
    body[len(body) // 2] ^= 1
    expect_ok("rot", request(endpoint, access, secret, "PUT", path, body=bytes(body)))
    print(keys[0])


def rob(endpoint, access, secret, bucket):
    keys, more, token = [], True, ""
    while more:
        status, listing = request(endpoint, access, secret, "GET", f"/{bucket}", "list-type=2" + token)
        if status != 200:
            sys.exit(f"listing {bucket}: status {status}: {listing[:500]!r}")
        text = listing.decode()
        keys += re.findall(r"<Key>([^<]+)</Key>.*?<Size>([0-9]+)</Size>", text, re.S)
        more = "<IsTruncated>true" in text
        if more:
            after = urllib.parse.quote(keys[-1][0], safe="")
            token = f"&start-after={after}"
    for number, (key, size) in enumerate(keys):
        path = f"/{bucket}/{urllib.parse.quote(key)}"
        rubbish = (hashlib.sha256(key.encode()).digest() * (int(size) // 32 + 1))[: int(size)]
        expect_ok("rob", request(endpoint, access, secret, "PUT", path, body=rubbish))
        if number % 2:
            expect_ok("rob", request(endpoint, access, secret, "DELETE", path))


COMMANDS = {
    "make-bucket": make_bucket,
    "make-lockable-bucket": make_lockable_bucket,
    "version-bucket": version_bucket,
    "make-locked-bucket": make_locked_bucket,
    "rob": rob,
    "rot": rot,
}

if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    COMMANDS[sys.argv[1]](*sys.argv[2:])
