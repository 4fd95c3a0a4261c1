"""The catalogue as a map: every photo a point, similar photos side by side, coloured by what is known of them."""
