"""How the rows of a table name their photos: by a column, by several, by a pattern."""
