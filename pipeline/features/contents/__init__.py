"""Which content a photo has, wherever it lies, and which contents are still to be computed."""
