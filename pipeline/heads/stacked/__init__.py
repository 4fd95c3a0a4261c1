"""Many heads trained as one: parameters with a leading configuration axis, on one reading of the features."""
