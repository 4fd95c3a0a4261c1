"""Fitted models behind HTTP: photos of many clients share batches, and a page shows what they are."""
