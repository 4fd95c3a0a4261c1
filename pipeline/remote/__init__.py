"""Photos that lie on other machines: http(s) servers and object stores (S3, Google, Azure)."""

from pipeline.remote.ahead import Ahead
from pipeline.remote.listing import ask, list_photos
from pipeline.remote.photo import RemotePhoto, RemotePhotos, Stamp
from pipeline.remote.urls import SCHEMES, Place, clean, home_of, is_bucket, is_http, is_url, local_path, place_of

__all__ = [
    "SCHEMES",
    "Ahead",
    "Place",
    "RemotePhoto",
    "RemotePhotos",
    "Stamp",
    "ask",
    "clean",
    "home_of",
    "is_bucket",
    "is_http",
    "is_url",
    "list_photos",
    "local_path",
    "place_of",
]
