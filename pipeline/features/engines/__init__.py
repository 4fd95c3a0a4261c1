"""What computes the vectors that the cache lacks: this process (`local`), or whatever else keeps the contract."""
