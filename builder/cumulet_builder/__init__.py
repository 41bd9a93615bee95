"""The build tool: a recipe becomes an image."""
