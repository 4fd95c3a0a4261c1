"""Training a backbone on pixels: photos as squares, augmentation, what trains, the objective, epochs, checkpoints."""
