"""Run folders joined with the truth of their test photos: figures, differences, tables and the report page."""
