"""What the example jobs share: data, networks, training."""
