"""Photos to cached vectors: the frozen backbone, the one pass over the photos, and which vectors an experiment uses."""
