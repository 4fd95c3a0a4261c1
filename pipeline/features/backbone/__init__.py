"""From the bytes of one photo to the features of a frozen network, and everything that names them."""
