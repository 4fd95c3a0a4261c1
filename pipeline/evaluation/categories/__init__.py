"""Figures that go by the category of a photo, in catalogues where attributes apply to some categories only."""
