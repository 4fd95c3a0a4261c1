"""What the columns of a table are: one value or several per cell, attributes or none, the products."""
