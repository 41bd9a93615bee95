"""What Android's boot loaders want to be given: boot images and sparse images."""

BBIMPORTS = ["bootimg", "sparse"]
