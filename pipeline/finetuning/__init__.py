"""Training a network on pixels before it is frozen: photos, network, objective, epochs, checkpoints, its own heads."""
