"""Drawn garments for the sample catalogue."""
