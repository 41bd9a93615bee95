"""Two engines under one recipe; `table` lists them."""
