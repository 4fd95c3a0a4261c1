"""URLs of photos: which there are, what may be said of them aloud, and how one is put together.

A URL is a secret where it has a user, a password or a signature in it. `clean` takes those out: what it leaves is the
photo's name in every output, finding and index.
"""

from __future__ import annotations

import hashlib
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import NotFetched, OptionError

HTTP = ("http://", "https://")
BUCKETS = ("s3://", "gs://", "az://", "memory://")
SCHEMES = (*HTTP, *BUCKETS, "file://")

_USER = re.compile(r"(?<=://)[^/?#]*@")
_SIGNED = re.compile(r"(?:^|&)(?:sig|signature|x-(?:amz|goog)-signature)=", re.IGNORECASE)
# What stands beside a signature of S3, CloudFront, Google and Azure, and changes with it.
_OF_SIGNATURE = re.compile(
    r"x-(?:amz|goog)-.*|sig(?:nature)?|expires|policy|key-pair-id|awsaccesskeyid|googleaccessid"
    r"|s[eiprstv]|sip|spr|srt|sk[estv]|skoid|sktid|saoid|suoid|sduoid|scid|sdd|ses|hdnts|response-content-.*",
    re.IGNORECASE,
)
_SECRET = re.compile(r".*(?:token|secret|passw(?:or)?d|pwd|api_?-?key|auth).*|key|x-(?:amz|goog)-.*", re.IGNORECASE)
# 64 bits: with 32, two of 100,000 photos told apart by such a field would most likely become one.
_DIGEST = re.compile(r"~[0-9a-f]{16}")
_ALLOWED = "%/:=&?~#+!$,;'@()*[]"


@dataclass(frozen=True)
class Place:
    """Where photos lie, told apart as far as one of them may fail without the others.

    Attributes:
        scheme: Such as s3 or https, in small letters.
        host: The bucket, or the host with its port; "" for any.
        path: What follows, without the slash between.
    """

    scheme: str
    host: str
    path: str = ""

    @property
    def home(self) -> str:
        """The bucket or host as it is said to a user."""
        return f"{self.scheme}://{self.host}"

    def __str__(self) -> str:
        return f"{self.home}/{self.path}" if self.path or self.host else self.home


def is_url(text: str) -> bool:
    """Whether a text names photos by one of `SCHEMES`, not by a path."""
    return text[:9].lower().startswith(SCHEMES)


def is_http(text: str) -> bool:
    """Whether it is a URL of a web server, which can be asked for a photo and not for a list of them."""
    return text[:8].lower().startswith(HTTP)


def is_bucket(text: str) -> bool:
    """Whether it is a URL of an object store, which can list what it holds."""
    return text[:9].lower().startswith(BUCKETS)


def has_user(url: str) -> bool:
    """Whether a URL states a user or a password."""
    return bool(_USER.search(url))


def clean(url: str) -> str:
    """A URL without user, password and signature; other texts as they are.

    The rest of a query stays, for it may be all that tells two photos apart; of a value that may be a secret a digest.
    """
    if "://" not in url:
        return url
    url = _USER.sub("", url, count=1)
    if not is_http(url):
        return url
    url, mark, fragment = url.partition("#")
    url, _, query = url.partition("?")
    fields = [each for each in query.split("&") if each]
    if _SIGNED.search(query):
        fields = [each for each in fields if not _OF_SIGNATURE.fullmatch(each.partition("=")[0])]
    asked = f"?{'&'.join(map(_hushed, fields))}" if fields else ""
    return url + asked + mark + fragment


def _hushed(field: str) -> str:
    name, _, value = field.partition("=")
    if not value or not _SECRET.fullmatch(name) or _DIGEST.fullmatch(value):
        return field
    return f"{name}=~{hashlib.sha256(value.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def place_of(url: str) -> Place:
    """The parts of a URL whose text is a prefix of photos' URLs.

    Raises:
        OptionError: It states a user, a password or a query, or no bucket where one is needed.
    """
    if has_user(url):
        raise OptionError(
            f"{clean(url)}: the URL has a user or password in it, which would stand in every output; leave it out and "
            "give credentials by the environment (docs/REMOTE.md)"
        )
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    if is_http(url) and set("?#") & set(rest):
        raise OptionError(f"{clean(url).partition('?')[0]}: a prefix of photos' URLs has no ? and no # in it")
    if not host and not is_http(url):
        raise OptionError(f"{url}: the bucket is missing; expected {scheme}://BUCKET/PREFIX")
    return Place(scheme.lower(), host.lower() if is_http(url) else host, path.strip("/") if is_bucket(url) else path)


def home_of(url: str) -> str:
    """The bucket or host of a URL, as it is said to a user."""
    scheme, _, rest = clean(url).partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def written(url: str) -> str:
    """An http(s) URL as it can be sent: what is neither ASCII nor allowed in it is written by its bytes."""
    return urllib.parse.quote(url, safe=_ALLOWED)


def joined(root: Place, name: str) -> str:
    """The URL of a file by its name under a prefix."""
    if root.scheme in ("http", "https"):
        base = str(root) if not root.path or root.path.endswith("/") else f"{root}/"
        return base + urllib.parse.quote(name)
    return f"{root.home}/{root.path}/{name}" if root.path else f"{root.home}/{name}"


def local_path(url: str) -> Path:
    """The file or folder of this machine that a file:// URL names.

    Raises:
        NotFetched: It names another machine's.
    """
    import urllib.request  # brings the web's whole client

    place = urllib.parse.urlsplit(url)
    if place.netloc not in ("", "localhost"):
        raise NotFetched(
            "a file:// URL names a file of this machine, as in file:///photos/a.jpg; found "
            f"{place.netloc.rpartition('@')[2]!r}"
        )
    return Path(urllib.request.url2pathname(place.path))
