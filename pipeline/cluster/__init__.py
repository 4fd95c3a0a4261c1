"""One pass over more photos than one process can see: parts for many machines, and the engine that is a cluster."""
