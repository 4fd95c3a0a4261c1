"""Labels from outside the catalogue, laid over it: what somebody said of a photo, and who."""
