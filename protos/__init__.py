"""What machines say to each other: protocol definitions and the code generated from them."""
