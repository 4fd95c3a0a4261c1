"""What `fuzz.py` is made of: a child that tries inputs, mutations of files, and a class per reader."""
