"""What a training sees of the photos: squares decoded once, changed a little each time."""
