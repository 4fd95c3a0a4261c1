"""What to label next, and the way to people who label and back."""
