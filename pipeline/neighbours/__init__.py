"""Photos that look like a photo: the rows of cached vectors that are nearest to it."""
