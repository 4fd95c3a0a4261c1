"""What is counted and measured, for Prometheus, in a registry of its own."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from pipeline.serving.refused import Reason

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_PHOTOS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Safe from any thread.

    Args:
        queue: The most photos that may be in the server at a time.
    """

    def __init__(self, queue: int) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "selvedge_requests", "Requests that were answered.", ["path", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "selvedge_request_seconds", "From the head of a request to predict to its answer.", buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self.predicted = Counter("selvedge_photos", "Photos that were predicted.", ["model"], registry=registry)
        self.rejects = Counter(
            "selvedge_rejects", "Photos and requests that were refused.", ["reason"], registry=registry
        )
        self.queue = Gauge("selvedge_queue_photos", "Photos in the server now.", registry=registry)
        Gauge("selvedge_queue_limit", "Most photos in the server at a time.", registry=registry).set(queue)
        self.batches = Histogram(
            "selvedge_batch_photos", "Photos that shared a forward pass.", buckets=_PHOTOS, registry=registry
        )
        self.decode_seconds = Histogram(
            "selvedge_decode_seconds", "Decoding one photo.", buckets=_SECONDS, registry=registry
        )
        self.forward_seconds = Histogram(
            "selvedge_forward_seconds", "One forward pass with its heads.", buckets=_SECONDS, registry=registry
        )
        self.ready = Gauge("selvedge_ready", "Whether photos can be predicted: 1 or 0.", registry=registry)
        self.reloads = Counter("selvedge_reloads", "Reloads of the model files.", ["result"], registry=registry)

    def measure(self, waiting: Callable[[], int], ready: Callable[[], bool]) -> None:
        """Have what is only known when it is asked for asked of these."""
        self.queue.set_function(waiting)
        self.ready.set_function(lambda: float(ready()))

    def rejected(self, reason: Reason) -> None:
        """Count one photo or request that was refused."""
        self.rejects.labels(reason).inc()

    def totals(self) -> tuple[int, int]:
        """Photos that were predicted, and photos and requests that were refused."""
        counted = [
            sum(
                sample.value for metric in each.collect() for sample in metric.samples if sample.name.endswith("_total")
            )
            for each in (self.predicted, self.rejects)
        ]
        return int(counted[0]), int(counted[1])

    def text(self) -> bytes:
        """All of it, in the text format of Prometheus."""
        return generate_latest(self.registry)
