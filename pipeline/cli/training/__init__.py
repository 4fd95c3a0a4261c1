"""`train`: from photos and labels to a model, as the commands that a user would type one after the other."""
