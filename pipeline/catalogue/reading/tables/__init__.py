"""Files of rows and columns (CSV, Excel, Parquet) as tables of text."""
