"""One experiment: its rows and targets, the candidates fitted on them, and the run folder they leave."""
